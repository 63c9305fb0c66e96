"""An event loop whose time is virtual: it jumps from event to event, so an hour takes seconds and every run is the same.

It knows neither sockets nor threads nor signals, which is what makes it several times as fast as asyncio's own: what is
ready is a queue of plain tuples, what is later a heap of them.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Ready = tuple[Callable[..., Any], tuple[Any, ...]]


class Later(asyncio.TimerHandle):
    """A timer. It is no more than asyncio asks of one: it can be cancelled, and says when it fires."""

    __slots__ = ("_ready",)

    def __init__(self, when: float, ready: Ready) -> None:
        self._when = when
        self._ready: Ready | None = ready

    def cancel(self) -> None:
        """Never fire."""
        self._ready = None

    def cancelled(self) -> bool:
        """Whether it never fires, or has."""
        return self._ready is None

    def when(self) -> float:
        """Return the virtual time at which it fires, seconds."""
        return self._when


class VirtualLoop(asyncio.AbstractEventLoop):
    """What asyncio's tasks, futures, time-outs need of a loop, and nothing else: no contexts either, which nothing here uses."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._ready: deque[Ready] = deque()
        self._later: list[tuple[float, int, Later | asyncio.Future[None]]] = []
        self._count = 0
        self._running = False

    def time(self) -> float:
        """Return the virtual time, seconds."""
        return self.now_s

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: object = None,  # noqa: ARG002 - which tasks give
    ) -> None:
        """Queue a call; nothing here ever cancels one."""
        self._ready.append((callback, args))

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any) -> Later:  # type: ignore[override]
        """Call after `delay` virtual seconds."""
        when = self.now_s + delay if delay > 0.0 else self.now_s
        later = Later(when, (callback, args))
        self._count += 1
        heapq.heappush(self._later, (when, self._count, later))
        return later

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any) -> Later:  # type: ignore[override]
        """Call at a virtual time; of two at the same time the one that was asked for first comes first."""
        later = Later(when, (callback, args))
        self._count += 1
        heapq.heappush(self._later, (when, self._count, later))
        return later

    def sleep(self, seconds: float) -> asyncio.Future[None]:
        """Return what is done after so long: `asyncio.sleep` at half its price, which is what the simulation waits with."""
        future: asyncio.Future[None] = asyncio.Future(loop=self)
        self._count += 1
        heapq.heappush(self._later, (self.now_s + seconds, self._count, future))
        return future

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop."""
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:  # type: ignore[override]
        """Return a task of this loop."""
        return asyncio.Task(coro, loop=self, **options)

    def get_debug(self) -> bool:
        """Never: it would cost half the speed."""
        return False

    def is_running(self) -> bool:
        """Whether it runs."""
        return self._running

    def is_closed(self) -> bool:
        """Never: there is nothing to close."""
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What a killed run leaves behind concerns nobody; what matters is judged by the pair."""

    def run_until_complete(self, future: Any) -> Any:
        """Run until the coroutine has ended, and return its result."""
        task = asyncio.ensure_future(future, loop=self)
        ready, later, pop = self._ready, self._later, heapq.heappop
        asyncio._set_running_loop(self)
        self._running = True
        try:
            while not task.done():
                while ready:
                    callback, args = ready.popleft()
                    callback(*args)
                if task.done():
                    break
                if not later:
                    raise RuntimeError("everything waits, and nothing will ever happen")
                when, _, timer = pop(later)
                if isinstance(timer, Later):
                    if timer._ready is not None:
                        self.now_s = max(self.now_s, when)  # a test may set it ahead
                        ready.append(timer._ready)
                        timer._ready = None
                elif not timer.done():
                    self.now_s = max(self.now_s, when)
                    timer.set_result(None)
        finally:
            self._running = False
            asyncio._set_running_loop(None)
        return task.result()


def sleeper(loop: asyncio.AbstractEventLoop) -> Callable[[float], asyncio.Future[None]]:
    """Return how to wait in a loop, seconds; tests of the HTTP interface have a simulated pair in a real one."""
    if isinstance(loop, VirtualLoop):
        return loop.sleep

    def sleep(seconds: float) -> asyncio.Future[None]:
        future: asyncio.Future[None] = loop.create_future()
        loop.call_later(seconds, end, future)
        return future

    def end(future: asyncio.Future[None]) -> None:
        if not future.done():
            future.set_result(None)

    return sleep


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end in virtual time."""
    VirtualLoop().run_until_complete(main)  # type: ignore[abstract]
