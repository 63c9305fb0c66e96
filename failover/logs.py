"""Structured logs: for people on a terminal, JSON otherwise."""

from __future__ import annotations

import logging
import sys

import structlog

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
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),  # _drop_lesser can be set anew
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
