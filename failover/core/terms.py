"""Terms: integers, unique by construction."""

from __future__ import annotations


def next_term(highest_seen: int, node: int) -> int:
    """Return the smallest term of `node`'s own parity above every term ever seen.

    Node 0 uses even terms and node 1 odd ones, so no two nodes can ever lead in the same one (I1).
    """
    assert node in (0, 1)
    term = highest_seen + 1
    return term if term % 2 == node else term + 1
