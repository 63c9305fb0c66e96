"""The node's Kine as a child process behind one symlink: blue/green, adopted after a restart of the supervisor.

A new Kine starts on a socket of its own beside the old one; when it answers, the symlink is renamed over to it and the
old one is killed. Clients see one closed connection and reconnect to the new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import structlog
from msgspec import structs

from failover.adapters.paths import answering_first
from failover.adapters.process import Identity, Process, running_with
from failover.adapters.watch_canary import PREFIX, WatchCanary
from failover.etcd.client import EtcdClient, EtcdError
from failover.ports import KineStatus, PortError, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from failover.adapters.in_order import InOrder

log = structlog.get_logger()

CANARY_KEY = f"{PREFIX}canary"
LOG = "kine.log"
SYMLINK = "kine.sock"
UNKNOWN_S = 30.0  # for so long clients may have been refused before a run that finds no Kine


@dataclass(frozen=True, slots=True)
class KineSettings:
    """How Kine is run. Durations are seconds."""

    program: Path
    folder: Path  # sockets, symlink, the record of what runs
    endpoints: Mapping[Target, str]
    arguments: tuple[str, ...] = ()
    poll_s: float = 0.1  # how late another Kine's writes are seen
    ready_s: float = 10.0  # from the start to the first answer
    end_s: float = 5.0  # from SIGKILL to the end
    hold_s: float = 3.0  # clients of a Kine that is given up wait so long for the next one instead of being refused
    canary_s: float = 1.0  # between two questions to the Kine behind the symlink
    answer_s: float = 2.0  # an answer that takes longer counts as none
    answers_missed: int = 3  # in a row: Kine is replaced
    silent_s: float = 60.0  # without an answer: it never runs again
    backoff_max_s: float = 5.0
    log_max_bytes: int = 8 << 20  # of Kine's log; as much of what came before is kept beside it
    node: int = 0
    watch_canary_s: float = 10.0  # between two flights through a watch, 0 for none


@dataclass(slots=True)
class Running:
    """One Kine."""

    process: Process
    target: Target
    key: str
    socket: Path
    frozen: bool = False


class KineProcess:
    """Implements `ports.Kine`. Needs a running event loop."""

    def __init__(self, settings: KineSettings, in_order: InOrder | None = None) -> None:
        self._settings = settings
        self._in_order = in_order
        self._current: Running | None = None
        self._next: Running | None = None
        self._held: Running | None = None  # given up: frozen for good, and ended when the next one serves
        self._let_go: asyncio.TimerHandle | None = None
        self._ended: Callable[[], None] = lambda: None
        self._lock = asyncio.Lock()
        self._revision = 0
        self._restarts = 0
        self._failures = 0  # questions in a row without an answer
        self._failed = 0  # ends of its own in a row
        self._refused_since_s: float | None = None  # nothing answers clients, and nothing holds them
        self._answered_s = -math.inf  # one that is adopted may have been silent for any time
        self._not_before_s = 0.0
        self._frozen = False
        self._answer_s: float | None = None
        self._canaries: list[asyncio.Task[None]] = []
        self._watch_canary = WatchCanary(
            f"unix://{self.symlink}", f"{CANARY_KEY}/{settings.node}", settings.watch_canary_s
        )
        settings.folder.mkdir(parents=True, exist_ok=True)
        self._adopt()
        if self._current is None:
            self._refused_since_s = time.monotonic() - UNKNOWN_S

    @property
    def symlink(self) -> Path:
        """Return where clients connect."""
        return self._settings.folder / SYMLINK

    def status(self) -> KineStatus:
        """Say what runs behind the symlink."""
        current, flight = self._current, self._watch_canary.newest
        held = self._held is not None
        nothing = KineStatus(None, "", False, held, None, self._revision, self._restarts)
        if current is None:
            return nothing
        return structs.replace(
            nothing, target=current.target, key=current.key, frozen=current.frozen,
            waited_for=held or current.frozen, pid=current.process.pid,
            answer_s=self._answer_s, watch_s=flight.seconds if flight is not None else None,
            watch_age_s=time.monotonic() - flight.at_s if flight is not None else None,
        )  # fmt: skip

    def watch(self, ended: Callable[[], None]) -> None:
        """Call `ended` when the Kine behind the symlink ends by itself."""
        self._ended = ended
        self._canaries = [asyncio.create_task(self._ask_on())]
        if self._settings.watch_canary_s > 0:
            self._canaries.append(asyncio.create_task(self._watch_canary.run()))

    async def serve(self, target: Target, key: str) -> None:
        """Have a Kine on `target` under `key` behind the symlink; see `ports.Kine`."""
        async with self._lock:
            current = self._current
            if (
                current is not None and current.process.alive and not current.frozen
                and (current.target, current.key) == (target, key) and self._failures < self._settings.answers_missed
            ):  # fmt: skip
                return
            if time.monotonic() < self._not_before_s:
                raise PortError("Kine ended by itself several times; it is started again after a pause")
            self._frozen = False
            endpoint = await answering_first(self._settings.endpoints[target])
            self._not_frozen_before_it("started")
            new = self._start(target, key, endpoint)
            self._next = new
            try:
                await self._until_it_answers(new)
                await self._order_commits(target)
                self._flip(new)
            except BaseException:
                new.process.kill()
                new.socket.unlink(missing_ok=True)
                raise
            finally:
                self._next = None
            for one in (current, self._unhold()):
                if one is not None:
                    await self._end(one)

    def freeze(self) -> None:
        """SIGSTOP to every Kine of this node, for good."""
        self._frozen = True
        for one in (self._current, self._next):
            if one is not None:
                one.process.freeze()
                one.frozen = True

    async def kill(self) -> None:
        """Give up every Kine of this node and return when none can answer any more; none of them ever runs again.

        Clients that are connected wait for the next one: refused once, gRPC would wait a second before it asks again.
        """
        self._frozen = True
        current, following = self._withdraw(), self._next
        if following is not None:
            following.process.kill()
        if current is not None and not await current.process.stopped(self._settings.end_s):
            self._end_held()
            await current.process.ended(self._settings.end_s)
        if following is not None:
            await self._end(following)

    def _hold(self, one: Running) -> None:
        self._held = one
        self._let_go = asyncio.get_running_loop().call_later(self._settings.hold_s, self._end_held)

    def _unhold(self) -> Running | None:
        one, self._held = self._held, None
        if self._let_go is not None:
            self._let_go.cancel()
            self._let_go = None
        return one

    def _end_held(self) -> None:
        """Nobody waits any longer: from now on clients are refused."""
        one = self._unhold()
        if one is not None:
            one.process.kill()
            one.socket.unlink(missing_ok=True)
            if self._current is None:
                self.symlink.unlink(missing_ok=True)
                self._refused_since_s = time.monotonic()

    async def release(self) -> None:
        """Let Kine go on without this supervisor."""
        for canary in self._canaries:
            canary.cancel()
        await asyncio.gather(*self._canaries, return_exceptions=True)
        self._end_held()
        if self._current is not None:
            self._current.process.close()

    def _start(self, target: Target, key: str, endpoint: str) -> Running:
        settings = self._settings
        socket = settings.folder / f"kine-{time.monotonic_ns()}.sock"
        log_file = settings.folder / LOG
        argv = [
            str(settings.program), "--listen-address", f"unix://{socket}",
            "--metrics-bind-address", "0", "--datastore-poll-interval", f"{settings.poll_s * 1000:.0f}ms",
            *settings.arguments,
        ]  # fmt: skip
        # The endpoint may hold a password: it goes by the environment, which only the same user can read.
        environment = {"KINE_ENDPOINT": endpoint, "PATH": os.environ.get("PATH", ""), "HOME": "/"}
        return Running(Process.spawn(argv, environment, log_file), target, key, socket)

    async def _until_it_answers(self, new: Running) -> None:
        deadline_s = time.monotonic() + self._settings.ready_s
        client = EtcdClient(f"unix://{new.socket}")
        try:
            while True:
                if not new.process.alive:
                    self._back_off()
                    raise PortError(
                        f"Kine on {new.target} ended before it answered; see {self._settings.folder}/kine.log"
                    )
                self._not_frozen_before_it("answered")
                if time.monotonic() > deadline_s:
                    raise PortError(
                        f"Kine on {new.target} did not answer within {self._settings.ready_s:g} s; "
                        f"see {self._settings.folder}/kine.log"
                    )
                if new.socket.exists():
                    with contextlib.suppress(EtcdError):
                        self._revision = max(self._revision, (await client.get(CANARY_KEY, timeout_s=1.0)).revision)
                        return
                await asyncio.sleep(0.003)
        finally:
            client.close()

    async def _order_commits(self, target: Target) -> None:
        if self._in_order is None:
            return
        since_s = self._refused_since_s
        await self._in_order.begin(target, 0.0 if since_s is None else time.monotonic() - since_s)
        self._not_frozen_before_it("served")

    def _not_frozen_before_it(self, did: str) -> None:
        """Raise PortError where every Kine of this node was frozen, or given up, while the next one was being made."""
        if self._frozen:
            raise PortError(f"Kine was frozen before it {did}")

    def _flip(self, new: Running) -> None:
        temporary = self._settings.folder / f"{SYMLINK}.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(new.socket.name)
        self._current = new
        self._failures, self._answered_s, self._refused_since_s = 0, time.monotonic(), None
        self._record(new)
        temporary.rename(self.symlink)
        new.process.on_end(lambda: self._on_end(new))

    def _on_end(self, one: Running) -> None:
        if one is not self._current:
            return
        self._current, self._refused_since_s = None, time.monotonic()
        self._restarts += 1
        self._back_off()
        log.warning("Kine ended by itself", target=str(one.target), pid=one.process.pid)
        self._ended()

    def _back_off(self) -> None:
        """The first restart is at once; several in a row come slower and slower."""
        now_s = time.monotonic()
        quiet = now_s - self._not_before_s > 10 * self._settings.backoff_max_s
        self._failed = 0 if quiet else self._failed + 1
        self._not_before_s = now_s + min(self._settings.backoff_max_s, 0.1 * 2**self._failed if self._failed else 0.0)

    async def _end(self, one: Running) -> None:
        one.process.kill()
        await one.process.ended(self._settings.end_s)
        one.socket.unlink(missing_ok=True)

    async def _ask_on(self) -> None:
        """Ask the Kine behind the symlink again and again: its newest revision, and whether it answers at all."""
        asked: Running | None = None
        with contextlib.ExitStack() as connection:
            while True:
                await asyncio.sleep(self._settings.canary_s)
                await _bound(self._settings.folder / LOG, self._settings.log_max_bytes)
                current = self._current
                if current is None or current.frozen:
                    asked = None
                    continue
                if current is not asked:
                    connection.close()
                    asked, client = current, EtcdClient(f"unix://{current.socket}")
                    connection.callback(client.close)
                if not await self._ask(current, client):
                    asked = None  # the next question goes over a new connection

    async def _ask(self, current: Running, client: EtcdClient) -> bool:
        """Return whether it answered."""
        began_s = time.monotonic()
        try:
            answer = await client.get(CANARY_KEY, timeout_s=self._settings.answer_s)
        except EtcdError as error:
            if current is self._current and not current.frozen:
                self._failures += 1
                log.warning("Kine does not answer", target=str(current.target), error=str(error))
                if self._is_past_help(current):
                    self._give_up(current)
            return False
        self._revision = max(self._revision, answer.revision)
        self._failures = 0
        self._answered_s = time.monotonic()
        self._answer_s = self._answered_s - began_s
        return True

    def _is_past_help(self, current: Running) -> bool:
        """Whether what it would say next may be wrong.

        On the own Postgres: when what it has not told yet may have been compacted. Read on, its watches would pass over that, and
        who watches would never hear of it; on another Kine they list anew. On the peer's: at the first answer that is
        missing. Where the way there was lost, the peer's Postgres ends its sessions after five seconds. If the way comes back
        then, a create that never got there is acknowledged (docs/facts.md), and watches may hang on a dead connection.
        """
        if current.target is Target.PEER:
            return True
        silent_s = time.monotonic() - self._answered_s
        return self._failures >= self._settings.answers_missed and silent_s > self._settings.silent_s

    def _give_up(self, current: Running) -> None:
        log.warning("Kine is given up; it never runs again", target=str(current.target))
        self._withdraw()
        self._restarts += 1
        self._ended()

    def _withdraw(self) -> Running | None:
        """Take the Kine that serves out of use, if there is one: frozen, it holds its clients, and is adopted by nobody."""
        current, self._current = self._current, None
        self._record(None)
        if current is not None:
            current.process.freeze()
            self._hold(current)
        return current

    def _record(self, one: Running | None) -> None:
        """Keep for the next supervisor what runs; losing it only costs that Kine is started anew."""
        file = self._settings.folder / "kine.json"
        if one is None:
            file.unlink(missing_ok=True)
            return
        told = {
            "identity": asdict(one.process.identity), "target": one.target, "key": one.key, "socket": one.socket.name,
        }  # fmt: skip
        temporary = file.with_suffix(".new")
        temporary.write_text(json.dumps(told), encoding="utf-8")
        temporary.rename(file)

    def _adopt(self) -> None:
        """Take over the Kine that an earlier supervisor left behind the symlink, and end every other one of this folder."""
        folder = self._settings.folder
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads((folder / "kine.json").read_text(encoding="utf-8"))
            process = Process.adopt(Identity(**told["identity"]))
            if process is not None:
                one = Running(
                    process, Target(told["target"]), told["key"], folder / str(told["socket"]), process.frozen
                )
                self._current = one
                process.on_end(lambda: self._on_end(one))
        prefix = f"unix://{folder}/kine-"
        for identity in running_with(lambda argument: argument.startswith(prefix)):
            if self._current is not None and identity == self._current.process.identity:
                continue
            stray = Process.adopt(identity)
            if stray is not None:
                stray.kill()
        for socket in folder.glob("kine-*.sock"):
            if self._current is None or socket != self._current.socket:
                socket.unlink(missing_ok=True)


async def _bound(file: Path, most: int) -> None:
    """Move a log's content aside when it has grown too long. Kine appends to the open file for months: it stays the same."""
    with contextlib.suppress(OSError):
        if file.stat().st_size > most:  # noqa: ASYNC240 - a stat
            await asyncio.to_thread(shutil.copyfile, file, file.with_name(f"{file.name}.1"))
            os.truncate(file, 0)
