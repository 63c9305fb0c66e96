"""The network between two nodes, as seen by unprivileged code: TCP relays that can be cut so that nothing answers.

A cut must look like silence, not like a reset. So a cut relay keeps its connections open and forwards nothing, and its
listener, whose backlog is filled by dummy connections, has the kernel drop every new SYN.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field

CHUNK = 65536
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class Relay:
    """One direction of connecting: listens on `port` of loopback and forwards to `target_port`."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port = port
        self.target_port = target_port
        self._listener: socket.socket | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._dummies: list[socket.socket] = []

    async def start(self) -> None:
        """Listen."""
        self._listen()

    def cut(self) -> None:
        """From now on nothing answers and nothing gets through; no connection is closed."""
        if not self._open.is_set():
            return
        self._open.clear()
        assert self._listener is not None
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.listen(0)
        for _ in range(4):  # more than the backlog holds: the kernel drops what comes after
            dummy = socket.socket()
            dummy.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                dummy.connect(("127.0.0.1", self.port))
            self._dummies.append(dummy)

    def heal(self) -> None:
        """Forward again; connections that were open go on with what was held back."""
        if self._open.is_set():
            return
        for dummy in self._dummies:
            dummy.close()
        self._dummies.clear()
        assert self._listener is not None
        self._listener.close()
        self._listen()
        self._open.set()

    async def stop(self) -> None:
        """Close everything, cut or not."""
        self._open.set()
        for dummy in self._dummies:
            dummy.close()
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        tasks = list(self._pipes)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(64)
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # it has gone away again
            return
        task = asyncio.create_task(self._serve(client))
        self._pipes.add(task)
        task.add_done_callback(self._pipes.discard)
        task.add_done_callback(lambda _: client.close())  # one that is cancelled before it begins closes nothing itself

    async def _serve(self, client: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        server = socket.socket()
        server.setblocking(False)
        try:
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(server, ("127.0.0.1", self.target_port))
            pipes = [asyncio.create_task(self._pipe(*pair)) for pair in ((client, server), (server, client))]
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            await self._open.wait()  # a cut network closes nothing
            client.close()
            server.close()

    async def _pipe(self, source: socket.socket, sink: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await loop.sock_recv(source, CHUNK):
                await self._open.wait()
                await loop.sock_sendall(sink, data)
            await self._open.wait()


@dataclass(slots=True)
class Network:
    """All relays of a pair: whatever one node says to the other goes through here."""

    relays: list[Relay] = field(default_factory=list)

    async def add(self, port: int, target_port: int) -> Relay:
        """Start a relay."""
        relay = Relay(port, target_port)
        await relay.start()
        self.relays.append(relay)
        return relay

    def cut(self) -> None:
        """Cut the network between the nodes, both ways."""
        for relay in self.relays:
            relay.cut()

    def heal(self) -> None:
        """Mend it."""
        for relay in self.relays:
            relay.heal()

    async def stop(self) -> None:
        """Close everything."""
        await asyncio.gather(*(relay.stop() for relay in self.relays))
