"""How a command ends."""

from __future__ import annotations

REFUSED = 1
USAGE = 2
NO_ANSWER = 3


class RefusedError(Exception):
    """What was asked for is not possible now; the message says why and what to do."""


class UnreachableError(Exception):
    """The supervisor does not answer."""
