"""The configuration: an error names file, key, value and remedy, exits with 2 and changes nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from failover import config
from failover.adapters.postgres_setup import SETTINGS
from failover.core.timing import FAST
from failover.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

GOOD = """
[node]
cluster = "shop"
number = 0
state_dir = "{folder}/state"
run_dir = "{folder}/run"
[link]
listen = ["127.0.0.1:7480"]
peer = ["127.0.0.1:7481"]
[postgres]
own = "dbname=kine"
peer = "host=127.0.0.1 port=5433 password=secret"
[kine]
own = "postgres://kine@127.0.0.1/kine"
peer = "postgres://kine:secret@127.0.0.1:5433/kine"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text.replace("{folder}", str(folder)), encoding="utf-8")
    return path


def test_a_good_file(tmp_path: Path) -> None:
    settings = config.load(write(tmp_path, GOOD))
    assert settings.postgres.peer_endpoints() == (("127.0.0.1", 5433),)
    assert "secret" not in settings.model_dump_json()


def test_the_environment_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINE_FAILOVER__TIMING__PRESET", "fast")
    monkeypatch.setenv("KINE_FAILOVER__NODE__NUMBER", "1")
    settings = config.load(write(tmp_path, GOOD))
    assert settings.timing.timing() == FAST
    assert settings.node.number == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("number = 0", "number = 2"), "node.number = 2"),
        (('"127.0.0.1:7480"', '"127.0.0.1"'), "is not host:port, for instance"),
        (('"127.0.0.1:7480"', '"0.0.0.0:7480"'), "make certificates with `kine-failover certs`"),
        (("[node]", "[timing]\npromote_after_s = 1.6\n[node]"), "= 1.7 - 1.6 = 0.1 s must be greater than"),
        (("[node]", '[node]\nclustre = "x"'), "node.clustre = 'x'"),
        (("[kine]", "[kine]\nanswer_s = 4"), "canary_s and answer_s together are at most 4 s"),
        (('own = "dbname=kine"', 'own = "dbname="x="'), "config.toml"),
        (('own = "dbname=kine"', 'own = "nonsense"'), "postgres.own: not a connection string"),
    ],
)  # fmt: skip
def test_an_error_names_file_key_value_and_remedy(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = write(tmp_path, GOOD.replace(*change, 1))
    with pytest.raises(ConfigError) as refused:
        config.load(path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["config", "check"], 0), (["status"], 3), (["run"], 1), (["config", "check", "--nonsense"], 2)],
)
def test_exit_codes(tmp_path: Path, arguments: list[str], code: int) -> None:
    path = write(tmp_path, GOOD)
    done = subprocess.run(
        [sys.executable, "-m", "failover.cli.main", *arguments, "--config", str(path)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_file_exits_with_2(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "failover.cli.main", "run", "--config", str(tmp_path / "none.toml")],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "there is no such file" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [[], ["--ends-with-machine"]])
def test_a_supervisor_starts_without_the_command_line(tmp_path: Path, more: list[str]) -> None:
    """What is loaded is told by Python itself, over the change from the command to the supervisor too."""
    missing = tmp_path / "none.toml"
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1", "KINE_FAILOVER_CONFIG": str(missing)}
    loaded = {}
    for asked in (["run", *more], ["run", *more, "--config", str(missing)]):
        done = subprocess.run(
            [sys.executable, "-m", "failover.start", *asked],
            capture_output=True, text=True, check=False, timeout=120, env=environment,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr[-2000:]
        assert f"{missing}: there is no such file" in done.stderr
        loaded[len(asked)] = set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))
    plain, by_the_command_line = loaded.values()
    assert "failover.app" in plain & by_the_command_line
    assert {"typer", "failover.cli.main"} <= by_the_command_line - plain


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('[api]\nlisten = ["10.0.0.1:7481"]', "api"),
        ('[api]\nlisten = ["0.0.0.0:7481"]', "api"),
        ('[api]\nlisten = ["[::]:7481"]', "api"),
        ('[api]\nlisten = ["127.0.0.1:7481"]\nplain_on_loopback = false', "api"),
    ],
)
def test_listening_beyond_loopback_needs_tls(tmp_path: Path, line: str, named: str) -> None:
    path = write(tmp_path, f"{GOOD}\n{line}\n")
    with pytest.raises(ConfigError, match="over TLS only") as refused:
        config.load(path)
    assert f"[{named}]" in str(refused.value)
    path = write(tmp_path, GOOD.replace('listen = ["127.0.0.1:7480"]', 'listen = ["10.0.0.1:7480"]'))
    with pytest.raises(ConfigError, match=r"not loopback.*\[link\.tls\]"):
        config.load(path)


def test_a_session_lasts_as_long_as_the_set_up_says() -> None:
    """A Kine that is cut off is stopped before it ends."""
    assert SETTINGS["tcp_user_timeout"].value == f"{config.SESSION_LASTS_S:g}s"
