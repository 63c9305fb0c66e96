"""Structured logs: for people on a terminal, JSON otherwise."""

from __future__ import annotations

import atexit
import contextlib
import logging
import queue
import sys
import threading
from typing import TextIO

import structlog

LINES_WAITING_MAX = 10_000  # on their way to a disk or a pipe that stalls; further ones are dropped and counted
END_S = 2.0

LEVELS = {
    **{name.lower(): number for name, number in logging.getLevelNamesMapping().items()},
    "exception": logging.ERROR,
}
_least = logging.INFO


def set_level(level: str) -> None:
    """Show what is at least so important from now on: debug, info, warning or error."""
    global _least  # noqa: PLW0603 - of the process, as the log is
    _least = LEVELS[level]


def _drop_lesser(_: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    if LEVELS[name] < _least:
        raise structlog.DropEvent
    return event


class Unhurried:
    """Takes lines for a file and returns at once; a thread of its own writes them.

    Whoever logs holds a lease and has deadlines to keep: a disk that stalls under the log must not stop it.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._dropped = 0
        self._waiting: queue.Queue[str | None] = queue.Queue(LINES_WAITING_MAX)
        self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
        self._writer.start()

    def write(self, text: str) -> None:
        """Queue a text. Never waits, never raises."""
        try:
            self._waiting.put_nowait(text)
        except queue.Full:
            self._dropped += 1

    def flush(self) -> None:
        """Nothing: the thread flushes when nothing is left to write."""

    def close(self) -> None:
        """Write what is waiting, for at most END_S."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._writer.join(timeout=END_S)

    def _write_on(self) -> None:
        while (text := self._waiting.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            with contextlib.suppress(OSError, ValueError):  # a log that cannot be written is no reason to stop
                if dropped:
                    self._file.write(f"the log stalled: {dropped} lines were dropped here\n")
                self._file.write(text)
                if self._waiting.empty():
                    self._file.flush()


def configure(form: str, level: str) -> None:
    """Set logging up; `form` is auto, human or json."""
    human = form == "human" or (form == "auto" and sys.stderr.isatty())
    set_level(level)
    shared: list[structlog.typing.Processor] = [
        _drop_lesser,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if human
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    unhurried = Unhurried(sys.stderr)
    atexit.register(unhurried.close)
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # _drop_lesser can be set anew
        logger_factory=structlog.WriteLoggerFactory(file=unhurried),  # type: ignore[arg-type] # writes and flushes only
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
