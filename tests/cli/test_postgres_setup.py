"""What `postgres-setup` prints, and secrets from files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from failover import config, secrets
from failover.adapters.postgres_setup import SETTINGS
from failover.cli.main import main
from failover.errors import ConfigError

CONFIG = """
[node]
cluster = "shop"
number = 0
[link]
listen = ["10.0.0.1:7480"]
peer = ["10.0.0.2:7480"]
[link.tls]
authority = "/a"
certificate = "/b"
key = "/c"
[postgres]
own = "host=/run/postgresql dbname=kine user=kine_failover"
peer = "host=10.0.0.2 dbname=kine user=kine_failover"
password_file = "{supervisor}"
[kine]
own = "postgres://kine@10.0.0.1/kine"
peer = "postgres://kine@10.0.0.2/kine"
password_file = "{kine}"
"""


COMPOSE = Path(__file__).parents[2] / "compose" / "start-postgres.sh"


def test_the_pair_in_containers_has_the_same_settings() -> None:
    told = dict(re.findall(r"-c (\w+)=(\S+)", COMPOSE.read_text(encoding="utf-8")))
    defaults = {"fsync", "full_page_writes", "password_encryption"}
    assert told == {name: one.value for name, one in SETTINGS.items() if name not in defaults}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    names = {}
    for name in ("supervisor", "kine"):
        secret = tmp_path / name
        secret.write_text(f"secret of @{name}/:\n")
        secret.chmod(0o640)
        names[name] = str(secret)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.format(**names))
    return path


def test_it_prints_all_parts_and_no_password(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["postgres-setup", "--data", "/data", "--config", str(file)])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "SCRAM-SHA-256$" in told
    assert "secret of" not in told
    assert "10.0.0.2/32" in told
    assert "@/data/kine_failover_open" in told
    assert "trust" not in told


def test_passwords_come_from_files_and_are_not_shown(file: Path) -> None:
    settings = config.load(file)
    assert "secret of @supervisor/:" in settings.postgres.peer.get_secret_value()
    assert "kine:secret%20of%20%40kine%2F%3A@10.0.0.2" in settings.kine.peer.get_secret_value()
    assert "secret of" not in settings.model_dump_json()


def test_a_relative_path_is_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "word").write_text("open sesame")
    (tmp_path / "word").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert secrets.read(type(tmp_path)("word")) == "open sesame"


@pytest.mark.parametrize(("mode", "content", "complaint"), [(0o644, "x", "every user"), (0o600, "\n", "empty")])
def test_a_secret_that_is_none_is_refused(file: Path, mode: int, content: str, complaint: str) -> None:
    secret = file.parent / "kine"
    secret.write_text(content)
    secret.chmod(mode)
    with pytest.raises(ConfigError, match=f"{file}: kine.*{complaint}"):
        config.load(file)
