"""The heartbeat on the wire: JSON, versioned, refused as a whole where it is not what this version sends.

A field that is not known is ignored, so that a newer minor version may add one; a missing or wrong one refuses the
message. Another version or another cluster's node gets one clear line, and nothing is changed by it.
"""

from __future__ import annotations

import json

from pydantic import TypeAdapter, ValidationError

from failover.core.model import Heartbeat

VERSION = 1
BYTES_MAX = 256 * 1024  # a lineage excerpt has at most some forty rows

_ADAPTER = TypeAdapter(Heartbeat)


class RefusedError(Exception):
    """A message that must not be taken in; the text says why, for the person who must act."""


def encode(heartbeat: Heartbeat) -> bytes:
    """Return the heartbeat as bytes."""
    return b'{"v":%d,"heartbeat":%s}' % (VERSION, _ADAPTER.dump_json(heartbeat))


def decode(raw: bytes | str, *, cluster: str, own_node: int) -> Heartbeat:
    """Return the heartbeat of the peer. Raises RefusedError with one line for everything else."""
    if len(raw) > BYTES_MAX:
        raise RefusedError(f"a message of {len(raw)} bytes, more than {BYTES_MAX}")
    try:
        envelope = json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedError("a message that is not JSON") from None
    if not isinstance(envelope, dict) or envelope.get("v") != VERSION:
        said = envelope.get("v") if isinstance(envelope, dict) else None
        raise RefusedError(
            f"heartbeat version {str(said)[:20]}, and this node speaks {VERSION}: install the same major version on both"
        )
    try:
        heartbeat = _ADAPTER.validate_json(json.dumps(envelope.get("heartbeat")), strict=True)
    except (ValidationError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deeply"}
        where = ".".join(str(part) for part in first["loc"])
        raise RefusedError(f"a heartbeat whose {where or 'content'} is wrong: {first['msg']}") from None
    if heartbeat.cluster != cluster:
        raise RefusedError(
            f"a node of another cluster ({heartbeat.cluster[:40]!r}, this one is {cluster!r}): check the peer's address"
        )
    if heartbeat.node != 1 - own_node:
        raise RefusedError(f"a node that calls itself {heartbeat.node}, as this one does: run `join` on one of them")
    return heartbeat
