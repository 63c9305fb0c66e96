"""Which fence a promotion takes: light where nothing that a client saw can be missing, full in every other case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from failover.core.evidence import Worth
from failover.core.model import Mode

if TYPE_CHECKING:
    from failover.core.observation import Observation


class Fence(msgspec.Struct, frozen=True):
    """How the new leader's revisions begin."""

    full: bool
    provisional: bool
    clear_revision: int  # the highest revision that any client may have seen
    why: str


def fence_at_transaction(
    seen: Observation, worth: Worth, mode: Mode, *, drained: bool, ordered: bool, served_revision: int
) -> Fence:
    """Judge at the moment at which the promotion's transaction starts (R4, R13).

    `worth` is what the data was worth when the promotion was decided; `drained` says that the old leader was fenced and
    everything that it had has arrived; `ordered` that an operator takes the responsibility; `served_revision` is the
    newest revision that the own Kine has answered with.
    """
    status = seen.postgres
    assert status is not None
    heard = seen.heard.heartbeat if seen.heard is not None else None
    advertised = heard.visible_revision if heard is not None else 0
    clear = max(status.visible_revision, advertised, served_revision)
    provisional = not ordered and worth in (Worth.STALE, Worth.VOIDED)

    def full(why: str) -> Fence:
        return Fence(full=True, provisional=provisional, clear_revision=clear, why=why)

    if mode is Mode.ASYNC:
        return full("asynchronous: the follower may lack what was acknowledged")
    if not drained and (worth is not Worth.SYNCED or not seen.lease.runs(seen.now_s)):
        return full("no lease when the transaction started")
    if status.visible_revision < clear:
        return full(f"revision {clear} was seen, and only {status.visible_revision} is here")
    why = "every change that a client saw is here"
    return Fence(full=False, provisional=False, clear_revision=clear, why=why)
