"""The configuration: one TOML file, overridden by the environment, checked as a whole before anything is touched.

Environment: `KINE_FAILOVER__<SECTION>__<KEY>`, for instance `KINE_FAILOVER__TIMING__PRESET=fast`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from failover.adapters.sessions import PostgresTimeouts
from failover.core.model import Mode
from failover.core.timing import PRESETS, Timing
from failover.core.verdict import SplitPolicy

DEFAULT_FILE = Path("/etc/kine-failover/config.toml")
ENVIRONMENT = "KINE_FAILOVER__"
PORT = 7480


class ConfigError(Exception):
    """The configuration cannot be used; each line names file, key, value and remedy."""


def check_endpoint(text: str) -> str:
    """Return host:port as it is. Raises ValueError with what it should look like."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:  # noqa: PLR2004 - ports
        raise ValueError(f"{text!r} is not host:port, for instance 10.0.0.2:{PORT}")
    return text


def _conninfo(secret: SecretStr) -> SecretStr:
    try:
        conninfo_to_dict(secret.get_secret_value())
    except psycopg.ProgrammingError as error:
        raise ValueError(f"not a connection string of Postgres: {str(error).strip()}") from None
    return secret


def _from_environment(value: object) -> object:
    """Return a digit as the number: in the environment everything is text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


NodeNumber = Annotated[Literal[0, 1], BeforeValidator(_from_environment)]
EndpointText = Annotated[str, AfterValidator(check_endpoint)]
Conninfo = Annotated[SecretStr, AfterValidator(_conninfo)]


def split_endpoint(text: str) -> tuple[str, int]:
    """Return host and port of a checked endpoint."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


class Section(BaseModel):
    """A part of the file; a key that is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeSection(Section):
    """Which node of which pair this is."""

    cluster: str = Field(min_length=1, max_length=64, description="name of the pair, the same on both nodes")
    number: NodeNumber = Field(description="0 on one node, 1 on the other")
    state_dir: Path = Field(Path("/var/lib/kine-failover"), description="state file, history, archives")
    run_dir: Path = Field(Path("/run/kine-failover"), description="Kine's sockets and the control socket")


class TlsSection(Section):
    """PEM files made by `kine-failover certs`."""

    authority: Path
    certificate: Path
    key: Path


class LinkSection(Section):
    """Heartbeats between the nodes; one address a path."""

    listen: tuple[EndpointText, ...] = Field(min_length=1, max_length=4)
    peer: tuple[EndpointText, ...] = Field(min_length=1, max_length=4)
    tls: TlsSection | None = Field(None, description="needed as soon as an address is not loopback")

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        open_to_all = [one for one in (*self.listen, *self.peer) if not is_loopback(split_endpoint(one)[0])]
        if open_to_all and self.tls is None:
            raise ValueError(
                f"{open_to_all[0]} is not loopback and there is no [link.tls]; make certificates with `kine-failover certs`"
            )
        return self


class TimeoutsSection(Section):
    """How long Postgres may take, seconds."""

    connect_s: float = Field(1.0, gt=0)
    look_s: float = Field(2.0, gt=0)
    statement_s: float = Field(10.0, gt=0)
    checkpoint_s: float = Field(120.0, gt=0)
    fence_s: float = Field(5.0, gt=0)
    drain_s: float = Field(5.0, gt=0)
    copy_s: float = Field(3600.0, gt=0)

    def timeouts(self) -> PostgresTimeouts:
        """Return them for the adapters."""
        return PostgresTimeouts(**self.model_dump())


class PostgresSection(Section):
    """How to reach both Postgres, as libpq connection strings; passwords belong into a passfile."""

    own: Conninfo
    peer: Conninfo
    kine_role: str = "kine"
    timeouts: TimeoutsSection = TimeoutsSection()

    def peer_endpoints(self) -> tuple[tuple[str, int], ...]:
        """Return every host and port at which the peer's Postgres can be asked."""
        told = conninfo_to_dict(self.peer.get_secret_value())
        hosts = str(told.get("hostaddr") or told.get("host") or "").split(",")
        ports = str(told.get("port") or "5432").split(",")
        ports = ports * len(hosts) if len(ports) == 1 else ports
        return tuple((host, int(port)) for host, port in zip(hosts, ports, strict=False) if host and host[0] != "/")


class KineSection(Section):
    """How Kine is run."""

    program: Path = Path("/usr/local/bin/kine")
    own: Conninfo = Field(description="endpoint on the own Postgres, postgres://...")
    peer: Conninfo = Field(description="endpoint on the peer's Postgres")
    arguments: tuple[str, ...] = ()
    poll_s: float = Field(0.1, gt=0)
    ready_s: float = Field(10.0, gt=0)
    canary_s: float = Field(1.0, gt=0)
    answer_s: float = Field(2.0, gt=0)


class TimingSection(Section):
    """A preset, and what differs from it; seconds."""

    preset: Literal["lan", "fast", "wan"] = "lan"
    heartbeat_s: float | None = Field(None, gt=0)
    promote_after_s: float | None = Field(None, gt=0)
    degrade_after_s: float | None = Field(None, gt=0)
    grace_s: float | None = Field(None, gt=0)
    boot_wait_s: float | None = Field(None, gt=0)
    long_wait_s: float | None = Field(None, gt=0, description="inf: never lead by itself on data that may be old")
    losses_tolerated: int | None = Field(None, ge=0)
    one_way_delay_s: float | None = Field(None, gt=0)
    granularity_s: float | None = Field(None, gt=0)
    promotion_s: float | None = Field(None, gt=0)
    stall_s: float | None = Field(None, gt=0)
    probe_gap_s: float | None = Field(None, gt=0)

    def timing(self) -> Timing:
        """Return the deadlines in force."""
        told = {one.name: getattr(self, one.name) for one in fields(Timing)}
        return replace(PRESETS[self.preset], **{name: value for name, value in told.items() if value is not None})

    @model_validator(mode="after")
    def _arithmetic(self) -> Self:
        complaint = self.timing().complaint()
        if complaint is not None:
            raise ValueError(complaint)
        return self


class PolicySection(Section):
    """What an operator may choose."""

    mode: Mode = Mode.ZERO_LOSS
    split: SplitPolicy = SplitPolicy.NEWEST
    preferred_node: NodeNumber = 0
    step_down_when_isolated: bool = False


class ProbesSection(Section):
    """Evidence from outside."""

    witnesses: tuple[EndpointText, ...] = Field((), max_length=8, description="gateway, broker: host:port")
    free_min_mib: int = Field(200, ge=0)
    folders: tuple[Path, ...] = Field((), max_length=8, description="file systems that must not fill up")


class ArchiveSection(Section):
    """Bounds of the archives of what a split or a rejoin dropped."""

    total_mib: int = Field(1024, gt=0)
    count: int = Field(100, gt=0)


class LogSection(Section):
    """How the log looks."""

    format: Literal["auto", "human", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    node: NodeSection
    link: LinkSection
    postgres: PostgresSection
    kine: KineSection
    timing: TimingSection = TimingSection()
    policy: PolicySection = PolicySection()
    probes: ProbesSection = ProbesSection()
    archive: ArchiveSection = ArchiveSection()
    log: LogSection = LogSection()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the file (given as keyword arguments)."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load(path: Path) -> Settings:
    """Read and check the file. Raises ConfigError, one line for each thing that is wrong."""
    try:
        content: dict[str, Any] = dict(TomlConfigSettingsSource(Settings, path)()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from None
    if not path.exists():
        raise ConfigError(
            f"{path}: there is no such file; name another with --config, or make one: see docs/install.md"
        )
    try:
        return Settings(**content)
    except ValidationError as error:
        lines = []
        for one in error.errors(include_input=False, include_url=False):
            key = ".".join(str(part) for part in one["loc"]) or "file"
            lines.append(f"{path}: {key}{_shown(content, one['loc'])}: {one['msg'].removeprefix('Value error, ')}")
        raise ConfigError("\n".join(lines)) from None


SECRET_SECTIONS = frozenset({"postgres", "kine"})


def _shown(content: dict[str, Any], location: tuple[int | str, ...]) -> str:
    """Return " = value" for a plain value; nothing of a section that may hold a password."""
    if not location or location[0] in SECRET_SECTIONS:
        return ""
    value: Any = content
    for part in location:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return ""
    return f" = {value!r}"[:80] if isinstance(value, (str, int, float, bool)) else ""


def is_loopback(host: str) -> bool:
    """Whether an address or name is this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
