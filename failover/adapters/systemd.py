"""The service manager: readiness, watchdog and status by sd_notify(3), and a delay of the machine's shutdown by logind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger()

SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
LOGIND = "org.freedesktop.login1"
SYSTEMD = "org.freedesktop.systemd1"
PROPERTIES = "org.freedesktop.DBus.Properties"
MANAGER_PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
RETRY_S = 30.0
STATUS_S = 1.0
ENDS_S = 1.0  # systemd is asked while it stops everything: an answer is quick, or none comes


def notify(text: str) -> None:
    """Tell systemd; nothing where this process is not its service, or it does not listen."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
    ):
        sender.sendto(text.encode(), f"\0{address[1:]}" if address[0] == "@" else address)


def watchdog_s() -> float | None:
    """Return how long systemd waits for a sign of life, seconds; None where it does not."""
    told, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", str(os.getpid()))
    return int(told) / 1e6 if told.isdecimal() and int(told) > 0 and pid == str(os.getpid()) else None


async def keep_telling(describe: Callable[[], str], idle_s: Callable[[], float | None]) -> None:
    """Say READY once `idle_s` is known, then a line of status when it changes, and a sign of life while the loop decides.

    `idle_s` is how long ago the node last decided, None before it has. A node whose loop hangs gives no sign, and systemd
    starts it anew; its Kine goes on meanwhile.
    """
    bound_s, ready, before = watchdog_s(), False, ""
    while True:
        age_s, line = idle_s(), describe()
        if age_s is not None and not ready:
            ready = True
            notify("READY=1")
        if line != before:
            notify(f"STATUS={line}")
        before = line
        if bound_s is not None and age_s is not None and age_s < bound_s / 2:
            notify("WATCHDOG=1")
        await asyncio.sleep(STATUS_S if bound_s is None else min(STATUS_S, bound_s / 4))


async def delay_shutdown(leave: Callable[[], Awaitable[None]], stay: Callable[[], None]) -> None:
    """Hold each shutdown or reboot of this machine up until `leave` has returned, for as long as logind allows.

    Without logind a shutdown is what a crash is, only quicker. `stay` is called when a shutdown was called off.
    """
    while SYSTEM_BUS.exists():  # noqa: ASYNC240 - a stat of a path in memory
        try:
            await _Inhibitor(leave, stay).run()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the bus, the node goes on without it
            log.warning("logind does not delay a shutdown for this node", error=str(error) or type(error).__name__)
        await asyncio.sleep(RETRY_S)


async def machine_ends() -> bool:
    """Whether systemd is stopping the whole machine, and not this service alone. False where it does not say so in a second.

    logind announces only what it was asked for itself; a container that is stopped, Ctrl-Alt-Del or `systemctl --force` go
    past it, and stop this service like any other.
    """
    if not SYSTEM_BUS.exists():  # noqa: ASYNC240 - a stat of a path in memory
        return False
    try:
        async with asyncio.timeout(ENDS_S):
            bus = await _connected()
            try:
                told = [f"{SYSTEMD}.Manager", "SystemState"]
                reply = await _call(bus, (SYSTEMD, "/org/freedesktop/systemd1", PROPERTIES), "Get", "ss", told)
            finally:
                bus.disconnect()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the bus, this service still ends
        log.warning("systemd does not say whether the machine ends", error=str(error) or type(error).__name__)
        return False
    return bool(reply.body[0].value == "stopping")


async def _connected() -> Any:
    from dbus_fast import BusType  # noqa: PLC0415 - only where there is a bus
    from dbus_fast.aio import MessageBus  # noqa: PLC0415

    return await MessageBus(bus_type=BusType.SYSTEM, negotiate_unix_fd=True).connect()


async def _call(bus: Any, place: tuple[str, str, str], member: str, signature: str, body: list[str]) -> Any:
    """Ask `place`: name, path, interface. Raises OSError with what was answered, TimeoutError."""
    from dbus_fast import Message, MessageType  # noqa: PLC0415

    name, path, interface = place
    question = Message(destination=name, path=path, interface=interface, member=member, signature=signature, body=body)
    async with asyncio.timeout(RETRY_S):
        reply = await bus.call(question)
    if reply is None or reply.message_type is MessageType.ERROR:
        raise OSError(f"{member}: {reply.body[0] if reply is not None and reply.body else 'no answer'}")
    return reply


class _Inhibitor:
    """One connection to the system bus."""

    def __init__(self, leave: Callable[[], Awaitable[None]], stay: Callable[[], None]) -> None:
        self._leave, self._stay = leave, stay
        self._lock: int | None = None
        self._signals: asyncio.Queue[bool] = asyncio.Queue(16)

    async def run(self) -> None:
        bus = await _connected()
        try:
            bus.add_message_handler(self._take)
            rule = f"type='signal',sender='{LOGIND}',interface='{MANAGER}',member='PrepareForShutdown'"
            daemon = "org.freedesktop.DBus"
            await _call(bus, (daemon, "/org/freedesktop/DBus", daemon), "AddMatch", "s", [rule])
            await self._hold(bus)
            gone = asyncio.ensure_future(bus.wait_for_disconnect())
            while not gone.done():
                told = asyncio.ensure_future(self._signals.get())
                await asyncio.wait({gone, told}, return_when=asyncio.FIRST_COMPLETED)
                if not told.done():
                    told.cancel()
                elif told.result():
                    log.info("this machine shuts down")
                    await self._leave()
                    self._release()
                else:
                    self._stay()
                    await self._hold(bus)
        finally:
            self._release()
            bus.disconnect()

    def _take(self, message: Any) -> None:
        if message.member == "PrepareForShutdown" and message.interface == MANAGER and message.body:
            with contextlib.suppress(asyncio.QueueFull):
                self._signals.put_nowait(bool(message.body[0]))

    async def _hold(self, bus: Any) -> None:
        if self._lock is None:
            told = ["shutdown", "kine-failover", "hands leadership over", "delay"]
            reply = await _call(bus, (LOGIND, MANAGER_PATH, MANAGER), "Inhibit", "ssss", told)
            self._lock = reply.unix_fds[0]

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
