"""Names while no name server answers."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from failover.adapters.names import NamesLoop

if TYPE_CHECKING:
    from collections.abc import Iterator

HANGS_S = 60.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The system's lookups hang while the event is not set, as they do without a name server."""
    answers, real = threading.Event(), socket.getaddrinfo

    def lookup(host: Any, *rest: Any) -> Any:
        if host == "peer.example" and not rest[-1] & socket.AI_NUMERICHOST:
            answers.wait(HANGS_S)
            return real("198.18.0.7", *rest)
        return real(host, *rest)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    answers.set()
    yield answers
    answers.set()


def test_a_name_that_was_known_stays_known_and_nothing_waits_for_the_server(server: threading.Event) -> None:
    async def play() -> None:
        loop = asyncio.get_running_loop()
        first = await loop.getaddrinfo("peer.example", 7480, type=socket.SOCK_STREAM)
        assert first[0][4] == ("198.18.0.7", 7480)
        server.clear()
        began_s = time.monotonic()
        again = [loop.getaddrinfo("peer.example", 7480, type=socket.SOCK_STREAM) for _ in range(200)]
        assert await asyncio.gather(*again) == [first] * 200
        assert (await loop.getaddrinfo("127.0.0.1", 1))[0][4] == ("127.0.0.1", 1)
        assert await asyncio.to_thread(int, "7") == 7  # other work finds a thread
        assert time.monotonic() - began_s < HANGS_S / 2
        server.set()

    with asyncio.Runner(loop_factory=NamesLoop) as runner:
        runner.run(play())


def test_a_name_that_was_never_known_is_an_error() -> None:
    async def play() -> None:
        with pytest.raises(OSError, match="invalid"):
            await asyncio.open_connection("peer.invalid", 7480)

    with asyncio.Runner(loop_factory=NamesLoop) as runner, pytest.MonkeyPatch.context() as patch:
        real = socket.getaddrinfo

        def lookup(host: Any, *rest: Any) -> Any:
            if host == "peer.invalid" and not rest[-1] & socket.AI_NUMERICHOST:
                raise socket.gaierror(socket.EAI_NONAME, "invalid")
            return real(host, *rest)

        patch.setattr(socket, "getaddrinfo", lookup)
        runner.run(play())
