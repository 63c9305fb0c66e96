"""Several links to the peer as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import Heartbeat
    from failover.ports import PathState, PeerLink


class AllPaths:
    """Implements `ports.PeerLink`: several links as one. What comes twice is taken once, by its number (R6)."""

    def __init__(self, *links: PeerLink) -> None:
        self._links = links

    async def start(self, received: Callable[[Heartbeat, str], None], closed: Callable[[str], None]) -> None:
        """Start each. Raises PortError where one cannot listen."""
        for link in self._links:
            await link.start(received, closed)

    def send(self, heartbeat: Heartbeat) -> None:
        """Send on each."""
        for link in self._links:
            link.send(heartbeat)

    def paths(self) -> tuple[PathState, ...]:
        """Return the paths of all."""
        return tuple(path for link in self._links for path in link.paths())

    async def stop(self) -> None:
        """Stop each."""
        for link in self._links:
            await link.stop()
