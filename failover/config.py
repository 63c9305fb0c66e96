"""The configuration: one TOML file, overridden by the environment, checked as a whole before anything is touched.

Environment: `KINE_FAILOVER__<SECTION>__<KEY>`, for instance `KINE_FAILOVER__TIMING__PRESET=fast`.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
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

from failover import DEFAULT_FILE as DEFAULT
from failover import secrets
from failover.adapters.paths import addresses
from failover.adapters.sessions import PostgresTimeouts
from failover.core.model import Mode
from failover.core.timing import PRESETS, Timing
from failover.core.verdict import SplitPolicy
from failover.endpoints import is_loopback, split_endpoint
from failover.errors import ConfigError

DEFAULT_FILE = Path(DEFAULT)
ENVIRONMENT = "KINE_FAILOVER__"
PORT = 7480


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

    authority: Path = Field(description="certificate of the pair's own authority")
    certificate: Path = Field(description="this node's certificate")
    key: Path = Field(description="its key, mode 0600")


class LinkSection(Section):
    """Heartbeats between the nodes; one address a path."""

    listen: tuple[EndpointText, ...] = Field(
        min_length=1, max_length=4, description="host:port of this node, one for each network between the nodes"
    )
    peer: tuple[EndpointText, ...] = Field(min_length=1, max_length=4, description="where the peer listens")
    tls: TlsSection | None = Field(None, description="needed as soon as an address is not loopback")

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        open_to_all = [one for one in (*self.listen, *self.peer) if not is_loopback(split_endpoint(one)[0])]
        if open_to_all and self.tls is None:
            raise ValueError(
                f"{open_to_all[0]} is not loopback and there is no [link.tls]; make certificates with `kine-failover certs`"
            )
        return self


class ApiSection(Section):
    """HTTP over TCP for load balancers, Prometheus and people; the local socket serves the same without it."""

    listen: tuple[EndpointText, ...] = Field((), max_length=4, description="host:port; beyond loopback with mutual TLS")
    tls: TlsSection | None = Field(None, description="where it is not set, [link.tls] is used")
    plain_on_loopback: bool = Field(True, description="false: TLS on loopback too")
    health_without_certificate: bool = Field(
        False, description="over TLS, answer health checks of clients that have no certificate"
    )
    connections_max: int = Field(64, ge=4, le=1024, description="over TCP, at once")
    requests_per_s: float = Field(20.0, gt=0, description="over TCP, from one address")


class TimeoutsSection(Section):
    """How long Postgres may take, seconds."""

    connect_s: float = Field(1.0, gt=0, description="a new session, where nothing refuses it")
    look_s: float = Field(2.0, gt=0, description="one look at the own Postgres; a longer one means that it hangs")
    statement_s: float = Field(10.0, gt=0, description="any other statement")
    checkpoint_s: float = Field(120.0, gt=0, description="the CHECKPOINT before in_sync")
    fence_s: float = Field(5.0, gt=0, description="ending Kine's sessions")
    drain_s: float = Field(5.0, gt=0, description="the follower's way to a position")
    copy_s: float = Field(3600.0, gt=0, description="a whole rejoin")
    held_s: float = Field(
        10.0,
        gt=0,
        description="from the archive of a split to the rejoin that goes on from its comparison; later it compares anew",
    )

    def timeouts(self) -> PostgresTimeouts:
        """Return them for the adapters."""
        return PostgresTimeouts(**self.model_dump())


class PostgresSection(Section):
    """How to reach both Postgres, as libpq connection strings; the password belongs into a file."""

    own: Conninfo = Field(description="this node's Postgres, for the supervisor")
    peer: Conninfo = Field(description="the peer's Postgres; several hosts are several paths")
    password_file: Path | None = Field(None, description="password of the supervisor's role, the same on both nodes")
    kine_role: str = Field("kine", description="the role that Kine logs in as")
    slot_keep_mib: int = Field(
        4096, gt=0, description="a leader alone gives the slot of its follower up beyond this, MiB of WAL"
    )
    timeouts: TimeoutsSection = TimeoutsSection()

    @model_validator(mode="before")
    @classmethod
    def _with_password(cls, told: Any) -> Any:
        return secrets.with_password(told, lambda conninfo, secret: make_conninfo(conninfo, password=secret))

    def peer_endpoints(self) -> tuple[tuple[str, int], ...]:
        """Return every host and port at which the peer's Postgres can be asked."""
        return addresses(self.peer.get_secret_value())


# Of a machine that answers nothing: tcp_user_timeout and keepalives, as `postgres-setup` sets them.
SESSION_LASTS_S = 5.0


class KineSection(Section):
    """How Kine is run."""

    program: Path = Field(Path("/usr/local/bin/kine"), description="Kine itself")
    own: Conninfo = Field(description="endpoint on the own Postgres, postgres://...")
    peer: Conninfo = Field(description="endpoint on the peer's Postgres")
    password_file: Path | None = Field(None, description="password of Kine's role, the same on both nodes")
    arguments: tuple[str, ...] = Field((), description="more arguments for Kine, as its own help names them")
    poll_s: float = Field(0.1, gt=0, description="how often Kine asks Postgres for changes that others made, seconds")
    ready_s: float = Field(10.0, gt=0, description="how long a new Kine may take to answer, seconds")
    canary_s: float = Field(1.0, gt=0, description="time between two questions to a Kine that serves, seconds")
    answer_s: float = Field(
        2.0,
        gt=0,
        description="how long an answer may take, seconds; three late ones replace a Kine, one where it is on the peer",
    )
    silent_s: float = Field(
        60.0,
        gt=0,
        description="after how long without an answer a Kine is stopped for good, seconds; less than API servers keep of history",
    )
    hold_s: float = Field(
        3.0,
        ge=0,
        description="how long clients of a Kine that was given up wait for the next before they are refused, seconds",
    )
    watch_canary_s: float = Field(
        10.0, ge=0, description="time between two writes that a watch must tell of, seconds; 0: none"
    )
    in_order_s: float = Field(
        3.0,
        ge=0,
        le=60,
        description="commits are in order so long while watches begin on a new Kine, seconds, and longer where clients "
        "have been refused before; 0: never",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_password(cls, told: Any) -> Any:
        return secrets.with_password(told, secrets.put_into_url)

    @model_validator(mode="after")
    def _before_sessions_end(self) -> Self:
        if self.canary_s + self.answer_s > SESSION_LASTS_S - 1:
            raise ValueError(
                f"canary_s and answer_s together are at most {SESSION_LASTS_S - 1:g} s: a Kine whose way to the peer's Postgres "
                f"is lost has to be stopped before its sessions there are ended, after {SESSION_LASTS_S:g} s (tcp_user_timeout)"
            )
        return self


class TimingSection(Section):
    """A preset, and what differs from it; seconds."""

    preset: Literal["lan", "fast", "wan"] = Field("lan", description="what every key below is that is not set")
    heartbeat_s: float | None = Field(None, gt=0, description="between two heartbeats")
    promote_after_s: float | None = Field(
        None, gt=0, description="silence after which a follower in sync promotes itself"
    )
    degrade_after_s: float | None = Field(
        None, gt=0, description="silence, or a waiting write, after which a leader goes on alone"
    )
    grace_s: float | None = Field(
        None, gt=0, description="a silent supervisor beside a living Postgres is given so long"
    )
    boot_wait_s: float | None = Field(None, gt=0, description="a last leader that was alone looks for its peer so long")
    long_wait_s: float | None = Field(None, gt=0, description="inf: never lead by itself on data that may be old")
    losses_tolerated: int | None = Field(
        None, ge=0, description="heartbeats that may be lost in a row; a number, not seconds"
    )
    one_way_delay_s: float | None = Field(None, gt=0, description="the most that a message takes")
    granularity_s: float | None = Field(None, gt=0, description="the most by which a deadline is noticed late")
    promotion_s: float | None = Field(None, gt=0, description="from the decision to the transaction of a promotion")
    stall_s: float | None = Field(
        None, gt=0, description="a loop that did not run for so long starts its deadlines again"
    )
    probe_gap_s: float | None = Field(None, gt=0, description="between two rounds of probes")
    retry_max_s: float = Field(
        5.0,
        ge=0.2,
        description="a plan that fails again and again waits 0.2 s, then twice as long, up to this",
    )

    def timing(self) -> Timing:
        """Return the deadlines in force."""
        told = {name: getattr(self, name) for name in Timing.__struct_fields__}
        return msgspec.structs.replace(
            PRESETS[self.preset], **{name: value for name, value in told.items() if value is not None}
        )

    @model_validator(mode="after")
    def _arithmetic(self) -> Self:
        complaint = self.timing().complaint()
        if complaint is not None:
            raise ValueError(complaint)
        return self


class PolicySection(Section):
    """What an operator may choose."""

    mode: Mode = Field(
        Mode.ZERO_LOSS, description="asynchronous: for links that are too slow; a failover may lose writes"
    )
    split: SplitPolicy = Field(SplitPolicy.NEWEST, description="which side of a split leads on")
    preferred_node: NodeNumber = Field(0, description="for split = prefer_node")
    step_down_when_isolated: bool = Field(
        False,
        description="a leader without a witness in reach stops serving; with one switch for both, nobody leads then",
    )


class ProbesSection(Section):
    """Evidence from outside."""

    witnesses: tuple[EndpointText, ...] = Field((), max_length=8, description="gateway, broker: host:port")
    free_min_mib: int = Field(200, ge=0, description="a leader with less room hands over, MiB")
    folders: tuple[Path, ...] = Field((), max_length=8, description="file systems that must not fill up")


class MqttTlsSection(Section):
    """PEM files for the broker; no authority means those of the system."""

    authority: Path | None = Field(
        None, description="who has issued the broker's certificate; not set: as the system says"
    )
    certificate: Path | None = Field(None, description="this node's, where the broker asks for one")
    key: Path | None = Field(None, description="its key")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: give both or neither")
        return self


class MqttSection(Section):
    """A broker that carries state, events and, as one more path between the nodes, heartbeats."""

    broker: EndpointText = Field(description="host:port of the MQTT broker")
    username: str | None = Field(None, max_length=256, description="how the node logs in")
    password_file: Path | None = Field(None, description="one line, read anew for each connection")
    tls: MqttTlsSection | None = None
    prefix: str = Field(
        "kine-failover", pattern=r"^[^/+#\x00][^+#\x00]*$", max_length=64, description="first levels of all topics"
    )
    discovery_prefix: str | None = Field(
        None,
        pattern=r"^[^/+#\x00][^+#\x00]*$",
        max_length=64,
        description="where Home Assistant looks: homeassistant; not set: nothing is announced",
    )
    relay: bool = Field(True, description="heartbeats too, signed; needs [link.tls]")
    witness: bool | None = Field(None, description="a witness of being cut off; default: if it is on neither machine")
    state_s: float = Field(10.0, ge=1, description="state is told as often, and at each change")
    answer_s: float = Field(5.0, gt=0, description="a broker that does not answer for so long is left")
    keepalive_s: int = Field(
        5, ge=1, le=3600, description="the broker says so long after silence that the node is gone"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        host = split_endpoint(self.broker)[0]
        if self.password_file is not None and self.tls is None and not is_loopback(host):
            raise ValueError(f"the password would go to {host} in the clear; add [mqtt.tls]")
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username")
        return self


class VirtualIpSection(Section):
    """An address that the leader has on an interface of its own. Needs CAP_NET_ADMIN and CAP_NET_RAW."""

    address: ipaddress.IPv4Interface | ipaddress.IPv6Interface = Field(description="with prefix length: 10.0.0.100/24")
    interface: str = Field(min_length=1, max_length=15, description="this node's interface to the clients")
    lifetime_s: int | None = Field(
        None,
        ge=2,
        le=3600,
        description="the kernel takes it away so long after a supervisor's death; default: grace_s - 2",
    )


class DnsSection(Section):
    """A name that is the leader's address, by signed updates (RFC 2136, TSIG)."""

    server: EndpointText = Field(description="address and port of the zone's primary name server")
    zone: str = Field(min_length=1, max_length=255, description="the zone that is updated")
    name: str = Field(min_length=1, max_length=255, description="the name, with the zone's")
    own: ipaddress.IPv4Address | ipaddress.IPv6Address = Field(description="what the name is while this node leads")
    ttl_s: int = Field(5, ge=0, le=86400, description="how long others may remember it")
    key_file: Path = Field(description="the shared key, as tsig-keygen prints it")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        try:
            ipaddress.ip_address(split_endpoint(self.server)[0])
        except ValueError:
            raise ValueError(f"server {self.server} must be an address: a name would be asked of itself") from None
        zone, name = (f"{one.rstrip('.')}.".lower() for one in (self.zone, self.name))
        if not f".{name}".endswith(f".{zone}"):
            raise ValueError(f"{self.name} is not in the zone {self.zone}")
        return self


class AddressSection(Section):
    """Addresses that follow the leader; each is a section of its own."""

    virtual_ip: VirtualIpSection | None = None
    dns: DnsSection | None = None


class ArchiveSection(Section):
    """Bounds of the archives of what a split or a rejoin dropped."""

    total_mib: int = Field(1024, gt=0, description="of all archives; the oldest go first, the newest is always kept")
    count: int = Field(100, gt=0, description="of archives")


class UpkeepSection(Section):
    """What is done beside the protocol, by itself."""

    scrub_every_s: float = Field(
        86400.0, ge=0, description="the follower compares its rows with the leader's, seconds; 0: only when asked for"
    )
    hooks_dir: Path | None = Field(None, description="folder of executables that are told of events; root's own")
    hook_s: float = Field(10.0, gt=0, le=300, description="how long each may take, seconds")


class LogSection(Section):
    """How the log looks."""

    format: Literal["auto", "human", "json"] = Field("auto", description="auto: human on a terminal, else json")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is shown")


class Settings(BaseSettings):
    """The whole file."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT, env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    node: NodeSection
    link: LinkSection
    api: ApiSection = ApiSection()
    postgres: PostgresSection
    kine: KineSection
    timing: TimingSection = TimingSection()
    policy: PolicySection = PolicySection()
    probes: ProbesSection = ProbesSection()
    mqtt: MqttSection | None = None
    address: AddressSection = AddressSection()
    archive: ArchiveSection = ArchiveSection()
    upkeep: UpkeepSection = UpkeepSection()
    log: LogSection = LogSection()

    def api_over_tls(self, endpoint: str) -> bool:
        """Whether the API is served over TLS on this address."""
        return not (self.api.plain_on_loopback and is_loopback(split_endpoint(endpoint)[0]))

    @model_validator(mode="after")
    def _api_encrypted(self) -> Self:
        encrypted = [one for one in self.api.listen if self.api_over_tls(one)]
        if encrypted and self.api.tls is None and self.link.tls is None:
            raise ValueError(
                f"[api] listen = {encrypted[0]} is served over TLS only, and there is neither [api.tls] nor [link.tls]; "
                "make certificates with `kine-failover certs`, or listen on loopback"
            )
        return self

    @model_validator(mode="after")
    def _signed(self) -> Self:
        if self.mqtt is not None and self.mqtt.relay and self.link.tls is None:
            raise ValueError(
                "[mqtt] relay needs [link.tls]: what a broker relays is signed with the node's key; "
                "make certificates with `kine-failover certs`, or set relay = false"
            )
        return self

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
