"""Metrics: what the node remembers, put into families when somebody scrapes; nothing is counted twice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from failover import __version__
from failover.adapters.tls import not_after
from failover.api import scrubs
from failover.api import status as told
from failover.core.evidence import Peer
from failover.core.model import Health, Kind, Role, Sync
from failover.ports import PortError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

    from failover.adapters.archive import Archive
    from failover.api.server import ApiSettings
    from failover.core.model import PostgresStatus
    from failover.node.loop import Node
    from failover.node.timings import Histogram

NAMESPACE = "kine_failover"
DRILL = "drill.json"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What has to be asked of the disk, beside the loop."""

    archive_bytes: tuple[int, ...]  # one an archive
    rooms: tuple[tuple[Path, int, int], ...]  # folder, free bytes, size in bytes
    certificates: Mapping[str, float]  # name -> end of validity, seconds since the epoch
    drill: tuple[float, bool] | None = None  # when the newest drill ended, and whether it went well
    scrub: Mapping[str, Any] | None = None  # what the newest scrub found


async def exposition(node: Node, settings: ApiSettings, archive: Archive, accept: str) -> tuple[bytes, str]:
    """Return all metrics of the node in the format that the scraper prefers, and its content type."""
    surroundings = await asyncio.to_thread(_look_around, settings, archive)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(NodeCollector(node, surroundings))
    ProcessCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _look_around(settings: ApiSettings, archive: Archive) -> Surroundings:
    rooms = []
    for folder in settings.folders:
        try:
            found = os.statvfs(folder)
        except OSError:
            continue  # `disk_nearly_full` and `doctor` speak of a folder that is not there
        rooms.append((folder, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
    certificates: Mapping[str, float] = {}
    if settings.tls is not None:
        with contextlib.suppress(PortError):  # said in the log and by `doctor`; no sample is what the alert sees
            certificates = not_after(settings.tls)
    scrub = scrubs.read(settings.state_dir / scrubs.FILE)
    return Surroundings(archive.sizes(), tuple(rooms), certificates, _drill(settings.state_dir / DRILL), scrub)


def _drill(file: Path) -> tuple[float, bool] | None:
    """Return what a drill has left behind: `{"at_us": ..., "ok": ...}`."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        return int(told["at_us"]) / 1e6, bool(told["ok"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class NodeCollector(Collector):
    """One scrape of one node."""

    def __init__(self, node: Node, surroundings: Surroundings) -> None:
        self._node = node
        self._surroundings = surroundings

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._node_itself()
        yield from self._peer()
        yield from self._replication()
        yield from self._lineage()
        yield from self._postgres()
        yield from self._kine()
        yield from self._durations()
        yield from self._disk()

    def _node_itself(self) -> Iterator[Metric]:
        node, memory = self._node, self._node.memory
        seen = node.observe()
        yield _info("build", "What runs here.", version=__version__, python=platform.python_version())
        yield _info("node", "Which node this is.", cluster=memory.durable.cluster, node=str(memory.me))
        yield _state("role", "Whether the node has the role.", "role", memory.role, Role)
        head = memory.postgres.lineage[-1] if memory.postgres is not None and memory.postgres.lineage else None
        yield _gauge("term", "Term of the newest leadership in the lineage.", head.term if head is not None else 0)
        yield _gauge("highest_term", "Highest term ever seen.", memory.durable.highest_term)
        yield _gauge("provisional", "Whether the newest leadership loses to one that is not provisional.",
                     head is not None and head.provisional)  # fmt: skip
        yield _gauge("paused", "Whether the pair is paused.", seen.paused)
        yield _gauge("leaving", "Whether this machine is about to shut down.", memory.leaving)
        yield _gauge("isolated", "Whether every witness that worked lately is gone.", memory.isolated)
        yield _gauge("decided_age_seconds", "Time since the node last decided.", node.decided_age_s or 0.0)
        yield _gauge("clock_offset_seconds", "Node 1's wall clock minus node 0's.", seen.clock_offset_us / 1e6)
        yield _gauge("clock_uncertainty_seconds", "How wrong the offset may be.", seen.clock_uncertainty_us / 1e6)

    def _peer(self) -> Iterator[Metric]:
        node, now_s = self._node, self._node.ports.clock.now_s()
        view = node.cell.peer if node.cell is not None else None
        yield _state("peer", "What the evidence says of the peer.", "evidence", view, Peer)
        heard = node.memory.heard
        heard_age_s = now_s - heard.at_s if heard is not None else None
        yield _gauge("peer_heard_age_seconds", "Time since the newest heartbeat of the peer.", heard_age_s)
        connected = GaugeMetricFamily(
            f"{NAMESPACE}_path_connected", "Whether a path to the peer is up.", labels=["path"]
        )
        age = GaugeMetricFamily(
            f"{NAMESPACE}_path_heard_age_seconds", "Time since the peer was heard on any path to it.", labels=["path"]
        )
        for path in node.ports.link.paths():
            connected.add_metric([path.name], path.connected)
            if path.last_heard_s > float("-inf"):
                age.add_metric([path.name], now_s - path.last_heard_s)
        yield connected
        yield age

    def _replication(self) -> Iterator[Metric]:
        node, memory = self._node, self._node.memory
        yield _gauge("in_sync", "Whether no write is acknowledged without the follower.", told.in_sync(node))
        yield _state(
            "sync", "A leader's sync state.", "state", memory.sync if memory.role is Role.LEADER else None, Sync
        )
        lags = {
            "bytes": told.lag_bytes(node), "rows": told.lag_rows(node), "seconds": told.lag_s(node),
        }  # fmt: skip
        for unit, lag in lags.items():
            yield _gauge(f"replication_lag_{unit}", f"How far the follower is behind, in {unit}.", lag)
        yield _gauge(
            "writes_at_risk", "Revisions that would be lost or left to an archive if this machine were gone now.",
            told.writes_at_risk(node),
        )  # fmt: skip
        progress = memory.progress
        rows, expected = (progress.rows, progress.total) if progress is not None else (None, None)
        yield _gauge("copy_rows", "Rows copied by the rejoin under way.", rows)
        yield _gauge("copy_rows_expected", "Rows that it will copy; maybe an estimate.", expected)

    def _lineage(self) -> Iterator[Metric]:
        """What happened to the cluster since it was founded: the lineage is replicated with the data."""
        status = self._node.memory.postgres
        lineage = status.lineage if status is not None else ()
        for name, text, kind in (
            ("leaderships", "Leaderships that began in order or by failover.", Kind.LEAD),
            ("degrades", "Times that a leader went on alone.", Kind.ALONE),
        ):
            yield _counter(name, text, sum(1 for row in lineage if row.kind is kind))
        splits = CounterMetricFamily(
            f"{NAMESPACE}_split_brains", "Split brains resolved, by winner.", labels=["winner"]
        )
        for winner in (0, 1):
            splits.add_metric(
                [str(winner)], sum(1 for row in lineage if row.kind is Kind.VERDICT and row.node == winner)
            )
        yield splits
        sizes = self._surroundings.archive_bytes
        yield _gauge("divergence_archives", "Archives kept of what only this node had.", len(sizes))
        yield _gauge("divergence_archive_bytes", "Bytes of all of them.", sum(sizes))

    def _postgres(self) -> Iterator[Metric]:
        memory = self._node.memory
        yield _gauge("postgres_up", "Whether the own Postgres answers.", memory.health is Health.UP)
        status = memory.postgres

        def known(value: Callable[[PostgresStatus], float | None]) -> float | None:
            return value(status) if status is not None else None

        values = {
            "postgres_open": ("Whether Kine may use the own Postgres.", known(lambda one: one.is_open)),
            "revision": (
                "Highest revision that a client of the own Postgres can see.", known(lambda one: one.visible_revision),
            ),
            "oldest_wait_seconds": (
                "Age of the oldest commit that waits for the follower.", known(lambda one: one.oldest_wait_s),
            ),
            "slot_retained_bytes": ("WAL kept for the follower.", known(lambda one: one.slot_bytes)),
            "slot_limit_bytes": ("Where Postgres gives that WAL up.", known(lambda one: one.slot_limit_bytes)),
        }  # fmt: skip
        for name, (text, value) in values.items():
            yield _gauge(name, text, value)

    def _kine(self) -> Iterator[Metric]:
        kine = self._node.ports.kine.status()
        yield _state(
            "kine_target", "Which Postgres the Kine behind the symlink works on.", "target", kine.target, Target
        )
        yield _gauge("kine_frozen", "Whether that Kine is frozen.", kine.frozen)
        yield _gauge("kine_revision", "Newest revision that it has answered with.", kine.revision)
        yield _gauge("kine_answer_seconds", "How long Kine's newest answer took.", kine.answer_s)
        yield _gauge("kine_watch_seconds", "From a write to a watch's word of it, the newest time.", kine.watch_s)
        yield _gauge("kine_watch_age_seconds", "Time since a watch last told of a write.", kine.watch_age_s)
        yield _counter("kine_restarts", "Times that Kine ended by itself in this run.", kine.restarts)

    def _durations(self) -> Iterator[Metric]:
        timings = self._node.memory.timings
        yield _histograms(
            "detection_duration_seconds", "From the peer's last heartbeat to the decision to promote, by evidence.",
            ["evidence"], {(key,): one for key, one in timings.detection.items()},
        )  # fmt: skip
        yield _histograms("plan_duration_seconds", "Plans that got through.", ["plan"],
                          {(key,): one for key, one in timings.plans.items()})  # fmt: skip
        yield _histograms("step_duration_seconds", "Each step of each plan.", ["plan", "step"], timings.steps)
        yield _histograms("rejoin_duration_seconds", "Rejoins, by kind.", ["kind"],
                          {(key,): one for key, one in timings.rejoins.items()})  # fmt: skip
        failures = CounterMetricFamily(f"{NAMESPACE}_plan_failures", "Plans that failed in this run.", labels=["plan"])
        for plan, count in timings.failures.items():
            failures.add_metric([plan], count)
        yield failures

    def _disk(self) -> Iterator[Metric]:
        yield _gauge("disk_nearly_full", "Whether there is too little room.", self._node.memory.disk_nearly_full)
        free = GaugeMetricFamily(f"{NAMESPACE}_disk_free_bytes", "Room left for this user.", labels=["folder"])
        size = GaugeMetricFamily(f"{NAMESPACE}_disk_size_bytes", "Size of the file system.", labels=["folder"])
        for folder, free_bytes, size_bytes in self._surroundings.rooms:
            free.add_metric([str(folder)], free_bytes)
            size.add_metric([str(folder)], size_bytes)
        yield free
        yield size
        expiry = GaugeMetricFamily(
            f"{NAMESPACE}_certificate_expiry_timestamp_seconds",
            "End of validity of the TLS files.",
            labels=["certificate"],
        )
        for name, at_s in self._surroundings.certificates.items():
            expiry.add_metric([name], at_s)
        yield expiry
        drilled_s, well = self._surroundings.drill or (None, None)
        yield _gauge("last_drill_timestamp_seconds", "When the newest drill ended.", drilled_s)
        yield _gauge("last_drill_success", "Whether it went well.", well)
        scrub: Mapping[str, Any] = self._surroundings.scrub or {}
        at_us = scrub.get("at_us")
        yield _gauge(
            "last_scrub_timestamp_seconds", "When leader and follower were last compared.", at_us and at_us / 1e6
        )
        yield _gauge("last_scrub_rows", "Rows of the leader that were compared.", scrub.get("rows"))
        yield _gauge("last_scrub_differing_rows", "Rows that differed.", scrub.get("different"))


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """Return a family without a sample where nothing is known: no number is better than a wrong one."""
    return GaugeMetricFamily(f"{NAMESPACE}_{name}", text, value=None if value is None else float(value))


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(f"{NAMESPACE}_{name}", text, value=float(value))


def _info(name: str, text: str, **labels: str) -> InfoMetricFamily:
    return InfoMetricFamily(f"{NAMESPACE}_{name}", text, value=labels)


def _state(name: str, text: str, label: str, now: object, states: Iterable[str]) -> GaugeMetricFamily:
    """Return one sample a state: 1 for the one that is, 0 for the others, so that each can be asked for by name."""
    family = GaugeMetricFamily(f"{NAMESPACE}_{name}", text, labels=[label])
    for state in states:
        family.add_metric([str(state)], state == now)
    return family


def _histograms(name: str, text: str, labels: list[str], by_key: Mapping[Any, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"{NAMESPACE}_{name}", text, labels=labels)
    for key, one in by_key.items():
        family.add_metric(list(key), buckets=one.cumulative(), sum_value=one.sum_s)
    return family
