"""Addresses that follow the leader."""

from __future__ import annotations


class NoAddress:
    """Implements `ports.Address` where clients know both nodes, as every API server knows its own Kine."""

    async def acquire(self) -> None:
        """Nothing follows the leader."""

    async def release(self) -> None:
        """Nothing follows the leader."""
