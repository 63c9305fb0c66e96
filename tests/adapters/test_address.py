"""A virtual IP between two machines and a client that sees it move, on a real link; a name on a real name server."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

import dns.exception
import dns.message
import dns.query
import pytest

from failover.adapters.address import Addresses, KeptAddress
from failover.adapters.clock import SystemClock
from failover.adapters.dynamic_dns import DnsSettings, DynamicDns
from failover.ports import PortError
from lab.broker import installed
from lab.namespaces import Link, link, why_not
from lab.pair import Reservation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT_S = 30.0
ON_A_LINK = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
ADDRESSES = pytest.mark.parametrize("address", ["198.18.0.100/24", "2001:db8:18::100/64"])
# A supervisor, as far as it keeps an address: it does what it is told, line by line.
KEEPER = """
import asyncio, ipaddress, sys
from failover.adapters.address import KeptAddress, VirtualIp
from failover.adapters.clock import SystemClock

async def main():
    kept = KeptAddress(VirtualIp("eth0", ipaddress.ip_interface(sys.argv[1]), int(sys.argv[2])), SystemClock())
    asyncio.create_task(kept.run())
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        await getattr(kept, line)()
        print('>', kept.status()[0].held, kept.status()[0].error, flush=True)

asyncio.run(main())
"""
SPEAK = (
    "import socket, sys; f = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET; "
    "socket.socket(f, socket.SOCK_DGRAM).sendto(b'hello', (sys.argv[1], 9))"
)


class Keeper:
    def __init__(self, on: Link, machine: str, address: str, lifetime_s: int = 3) -> None:
        self.process = on.start(machine, KEEPER, address, str(lifetime_s))

    def do(self, what: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        while not (line := self.process.stdout.readline()).startswith("> "):
            assert line, "it has ended"
        return line[2:].strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def keeping(on: Link, address: str, *machines: str, lifetime_s: int = 3) -> Iterator[list[Keeper]]:
    keepers = [Keeper(on, machine, address, lifetime_s) for machine in machines]
    try:
        yield keepers
    finally:
        for one in keepers:
            one.kill()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@ON_A_LINK
@ADDRESSES
def test_a_client_sees_the_address_move(address: str) -> None:
    plain = address.split("/", maxsplit=1)[0]
    with link("one", "other", "client") as on, keeping(on, address, "one", "other") as (one, other):
        assert one.do("acquire") == "True None"
        assert one.do("acquire") == "True None"
        on.start("client", SPEAK, plain).communicate()
        until(lambda: on.neighbour("client", plain) == on.mac("one"))
        assert one.do("release") == "False None"
        assert one.do("release") == "False None"
        assert plain not in on.addresses("one")
        assert other.do("acquire") == "True None"
        until(lambda: on.neighbour("client", plain) == on.mac("other"))  # it asks nobody: it was told
        assert plain in on.addresses("other")


@ON_A_LINK
@ADDRESSES
def test_a_dead_supervisors_address_is_taken_away_by_the_kernel(address: str) -> None:
    plain = address.split("/", maxsplit=1)[0]
    with link("one", "other") as on, keeping(on, address, "one", lifetime_s=3) as (one,):
        assert one.do("acquire") == "True None"
        end = time.monotonic() + 5
        while time.monotonic() < end:  # longer than it lives without being renewed
            assert 0 < on.addresses("one")[plain] <= 3
            time.sleep(0.1)
        one.kill()
        began = time.monotonic()
        until(lambda: plain not in on.addresses("one"))
        assert time.monotonic() - began < 3 + 2  # the kernel counts in whole seconds


@ON_A_LINK
@ADDRESSES
def test_a_new_run_goes_on_without_a_gap_or_lets_it_go(address: str) -> None:
    plain = address.split("/", maxsplit=1)[0]
    with link("one", "other") as on:
        with keeping(on, address, "one", lifetime_s=60) as (one,):
            assert one.do("acquire") == "True None"
        with keeping(on, address, "one", lifetime_s=60) as (again,):
            assert again.do("acquire") == "True None"
            assert on.addresses("one")[plain] > 30
        with keeping(on, address, "one", lifetime_s=60):  # one that never leads
            until(lambda: plain not in on.addresses("one"))


@ON_A_LINK
def test_a_missing_interface_is_said() -> None:
    with link("one") as on:
        process = on.start("one", KEEPER.replace('"eth0"', '"eth9"'), "198.18.0.100/24", "3")
        told, _ = process.communicate("acquire\n\n", timeout=WAIT_S)
    assert "there is no interface eth9; see [address.virtual_ip]" in told


class NameServer:
    """A bind that takes updates for one zone, on loopback."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.key = folder / "key"
        self.key.write_text(subprocess.run(["tsig-keygen", "pair"], check=True, capture_output=True, text=True).stdout)
        (folder / "zone").write_text(
            "$TTL 60\n@ IN SOA ns.example. root.example. (1 60 60 60 60)\n@ IN NS ns.example.\nns IN A 127.0.0.1\n"
        )
        (folder / "named.conf").write_text(
            f'include "{self.key}";\noptions {{ directory "{folder}"; listen-on port {port} {{ 127.0.0.1; }}; '
            f"listen-on-v6 {{ none; }}; pid-file none; session-keyfile none; recursion no; }};\ncontrols {{ }};\n"
            f'zone "example" {{ type primary; file "zone"; update-policy {{ grant pair name api.example. ANY; }}; }};\n'
        )
        self.log = folder / "log"
        with self.log.open("ab") as log:
            program = installed("named", "bind9")
            assert program is not None
            self.process = subprocess.Popen([program, "-g", "-c", str(folder / "named.conf")], stdout=log, stderr=log)
        until(lambda: self._answers("ns.example.") == {"127.0.0.1"})

    def addresses(self) -> set[str]:
        return self._answers("api.example.")

    def _answers(self, name: str) -> set[str]:
        assert self.process.poll() is None, self.log.read_text()
        try:
            answer = dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", port=self.port, timeout=2)
        except (OSError, dns.exception.DNSException):
            return set()
        return {str(one) for rrset in answer.answer for one in rrset}


@pytest.fixture
def name_server(tmp_path: Path) -> Iterator[NameServer]:
    if installed("named", "bind9") is None:
        pytest.skip("there is no named (bind9), and it cannot be installed")
    reserved = Reservation(1)
    server = NameServer(tmp_path, reserved.ports[0])
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait()
        reserved.release()


def a_name(at: NameServer, own: str, **changes: object) -> DynamicDns:
    told = {
        "server": ("127.0.0.1", at.port), "zone": "example", "name": "api.example.", "own": own, "ttl_s": 5,
        "key_file": at.key, "timeout_s": 1.0, **changes,
    }  # fmt: skip
    return DynamicDns(DnsSettings(**told))  # type: ignore[arg-type]


async def test_a_name_follows_the_leader(name_server: NameServer) -> None:
    one, other = a_name(name_server, "198.18.0.1"), a_name(name_server, "198.18.0.2")
    await one.take()
    assert name_server.addresses() == {"198.18.0.1"}
    await other.take()  # the one that leads now replaces what a dead one has left
    await one.drop()  # and a late release takes nothing from it
    assert name_server.addresses() == {"198.18.0.2"}
    await other.drop()
    await other.drop()
    assert name_server.addresses() == set()


async def test_a_wrong_key_or_name_is_said(name_server: NameServer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    text = subprocess.run(["tsig-keygen", "pair"], check=True, capture_output=True, text=True).stdout  # noqa: ASYNC221
    wrong.write_text(text)
    for changes, said in (
        ({"key_file": wrong}, "api.example. at"),
        ({"name": "other.example."}, r"refuses the update \(REFUSED\)"),
        ({"key_file": tmp_path / "none"}, r"\[address.dns\] key_file"),
        ({"key_file": name_server.log}, "not what tsig-keygen prints"),
        ({"server": ("127.0.0.1", 9)}, "no update"),
    ):
        with pytest.raises(PortError, match=said):
            await a_name(name_server, "198.18.0.1", **changes).take()


async def test_a_name_server_that_is_down_holds_nobody_up(name_server: NameServer) -> None:
    name_server.process.kill()
    name_server.process.wait()
    kept = KeptAddress(a_name(name_server, "198.18.0.1"), SystemClock())
    addresses = Addresses([kept])
    task = asyncio.create_task(addresses.run())
    async with asyncio.timeout(20):
        await addresses.acquire()  # raises nothing
        assert addresses.status()[0].wanted
        while addresses.status()[0].error is None:
            await asyncio.sleep(0.02)
        assert not addresses.status()[0].held
    task.cancel()
    await asyncio.wait({task})
