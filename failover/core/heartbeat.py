"""The heartbeat on the wire: JSON, versioned, refused as a whole where it is not what this version sends.

A field that is not known is ignored, so that a newer minor version may add one; a missing or wrong one refuses the
message. Another version or another cluster's node gets one clear line, and nothing is changed by it.
"""

from __future__ import annotations

import contextlib

import msgspec

from failover.core.model import Heartbeat

VERSION = 1
BYTES_MAX = 256 * 1024  # a lineage excerpt has at most some forty rows


class _Version(msgspec.Struct):
    v: int


class _Envelope(msgspec.Struct):
    v: int
    heartbeat: Heartbeat


_VERSION = msgspec.json.Decoder(_Version)
_DECODER = msgspec.json.Decoder(_Envelope)
_ENCODER = msgspec.json.Encoder()


class RefusedError(Exception):
    """A message that must not be taken in; the text says why, for the person who must act."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(heartbeat: Heartbeat) -> bytes:
    """Return the heartbeat as bytes."""
    return _ENCODER.encode(_Envelope(VERSION, heartbeat))


def decode(raw: bytes | str, *, cluster: str, own_node: int) -> Heartbeat:
    """Return the heartbeat of the peer. Raises RefusedError with one line for everything else."""
    if len(raw) > BYTES_MAX:
        raise RefusedError(f"a message of {len(raw)} bytes, more than {BYTES_MAX}")
    try:
        envelope = _DECODER.decode(raw)
        _check(envelope.v)
    except UNREADABLE as error:
        with contextlib.suppress(*UNREADABLE):
            _check(_VERSION.decode(raw).v)  # what another version sends may look like anything
        raise RefusedError(f"a message that is no heartbeat: {' '.join(str(error).split())[:200]}") from None
    heartbeat = envelope.heartbeat
    if heartbeat.cluster != cluster:
        raise RefusedError(
            f"a node of another cluster ({heartbeat.cluster[:40]!r}, this one is {cluster!r}): check the peer's address"
        )
    if heartbeat.node != 1 - own_node:
        raise RefusedError(f"a node that calls itself {heartbeat.node}, as this one does: run `join` on one of them")
    return heartbeat


def _check(version: int) -> None:
    if version != VERSION:
        raise RefusedError(
            f"heartbeat version {version}, and this node speaks {VERSION}: install the same major version on both"
        )
