"""`doctor` on a node whose machine lacks something: what is missing is found, and the remedy said."""

from __future__ import annotations

import os
import pty
import pwd
import subprocess
import sys
from typing import IO, TYPE_CHECKING

import pytest

from failover import certificates
from lab.broker import Mosquitto, installed
from lab.pair import Reservation
from tests.cli.test_config import GOOD, write

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

needs_mosquitto = pytest.mark.skipif(
    installed("mosquitto", "mosquitto") is None, reason="there is no mosquitto, and it cannot be installed"
)
RENEW = "renew them with `kine-failover certs`, copy them here, and `kine-failover reload`"


@pytest.fixture
def port() -> Iterator[int]:
    reserved = Reservation(1)
    yield reserved.ports[0]
    reserved.release()


def found(
    folder: Path, what: str, sections: str, *,
    with_rights: Sequence[str] = (), text: str = GOOD, stdin: IO[bytes] | None = None,
) -> list[str]:  # fmt: skip
    """Return what the command says of `what`, each finding with its remedy."""
    file = write(folder, text + sections)
    argv = [*with_rights, sys.executable, "-m", "failover.cli.main", "doctor", "--config", str(file)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, stdin=stdin)
    assert done.returncode == 1, done.stderr  # no Postgres runs here
    findings = done.stdout.replace("\n    ", " -> ").splitlines()
    return [one for one in findings if one.partition(":")[0][4:] == what]


def tls(folder: Path, certificate: str = "node-0", key: str = "node-0") -> str:
    return f'[link.tls]\nauthority = "{folder}/ca.crt"\ncertificate = "{folder}/{certificate}.crt"\nkey = "{folder}/{key}.key"\n'


@pytest.mark.parametrize(("days", "ok"), [(400, True), (29, False)])
def test_a_certificate_that_ends_soon(tmp_path: Path, days: int, ok: bool) -> None:
    certificates.create(tmp_path / "pki", "shop", days=days)
    newest = found(tmp_path, "TLS", tls(tmp_path / "pki"))[-1]
    assert newest.startswith("ok  TLS: good for " if ok else "BAD TLS: good for ")
    assert newest.endswith(f"days -> {RENEW}") is not ok


def test_a_certificate_that_has_ended_is_of_another_key_or_is_not_there(tmp_path: Path) -> None:
    pki = tmp_path / "pki"
    certificates.create(pki, "shop", days=0)
    ended = found(tmp_path, "TLS", tls(pki))[-1]
    assert ended.startswith("BAD TLS: ")
    assert "expired" in ended
    assert ended.endswith("-> renew them: see docs/security.md")
    mixed = found(tmp_path, "TLS", tls(pki, key="node-1"))[-1]
    assert mixed.startswith("BAD TLS: ")
    assert "mismatch" in mixed.lower()
    absent = found(tmp_path, "TLS", tls(pki, certificate="none"))
    assert f"BAD TLS: {pki}/none.crt cannot be read -> see `kine-failover certs`" in absent


def test_a_virtual_ip_needs_capabilities(tmp_path: Path) -> None:
    section = '[address.virtual_ip]\naddress = "198.18.0.100/24"\ninterface = "lo"\n'
    # Root loses them for the command, others have none.
    without = ["setpriv", "--bounding-set", "-net_admin,-net_raw"] if os.geteuid() == 0 else []
    said = found(tmp_path, "virtual IP", section, with_rights=without)
    remedy = "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW in a drop-in of the unit: see docs/address.md"
    who = "this user (the supervisor does not run)"
    assert said == [f"BAD virtual IP: {who} lacks CAP_NET_ADMIN and CAP_NET_RAW -> {remedy}"]
    if os.geteuid() == 0:
        only_one = found(tmp_path, "virtual IP", section, with_rights=["setpriv", "--bounding-set", "-net_raw"])
        assert "lacks CAP_NET_RAW -> " in only_one[0]
        assert found(tmp_path, "virtual IP", section)[0].startswith("ok  virtual IP: ")


def test_a_folder_of_somebody_else(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    # Root may write everywhere, unless it gives that up.
    without = ["setpriv", "--bounding-set", "-dac_override"] if os.geteuid() == 0 else []
    node = f'[node]\ncluster = "shop"\nnumber = 0\nstate_dir = "{closed}/state"\nrun_dir = "{tmp_path}/run"\n'
    terminal, other_end = pty.openpty()  # as a person has one; in a container nobody has logged in there
    try:
        with open(other_end, "rb", buffering=0) as stdin:  # noqa: PTH123 - a descriptor
            text = GOOD.replace(GOOD[: GOOD.index("[link]")], node)
            said = found(tmp_path, "folder", "", with_rights=without, text=text, stdin=stdin)
    finally:
        os.close(terminal)
    who = pwd.getpwuid(os.geteuid()).pw_name
    assert said[0] == f"BAD folder: {closed}/state cannot be written -> make it, owned by {who}"
    assert said[1].startswith(f"ok  folder: {tmp_path}/run, ")


@needs_mosquitto
def test_a_broker_that_is_not_there_or_lets_nobody_in(tmp_path: Path, port: int) -> None:
    section = f'[mqtt]\nbroker = "127.0.0.1:{port}"\nusername = "node"\npassword_file = "{tmp_path}/password"\nrelay = false\n'
    word = tmp_path / "password"
    word.write_text("wrong\n", encoding="utf-8")
    word.chmod(0o600)
    remedy = (
        "start it, open the port, or correct [mqtt] broker: nothing is told to it, and it is no path between the nodes"
    )
    assert found(tmp_path, "MQTT broker", section) == [f"BAD MQTT broker: 127.0.0.1:{port} refused -> {remedy}"]
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(users), "node", "right"], check=True)
    users.chmod(0o600)
    broker = Mosquitto(tmp_path / "mosquitto", port, f"password_file {users}\nallow_anonymous false")
    broker.start()
    try:
        told = found(tmp_path, "MQTT broker", section)
        assert told[0].startswith(f"BAD MQTT broker: 127.0.0.1:{port} does not let this node in: ")
        assert "authori" in told[0].lower()
        assert told[0].endswith(
            "-> correct [mqtt] username, password_file and [mqtt.tls], or the broker's users and certificate"
        )
        word.write_text("right\n", encoding="utf-8")
        assert found(tmp_path, "MQTT broker", section) == [f"ok  MQTT broker: 127.0.0.1:{port} lets this node in"]
        word.unlink()
        assert "password_file" in found(tmp_path, "MQTT broker", section)[0]
    finally:
        broker.kill()
