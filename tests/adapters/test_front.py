"""The TCP front: what is rendered is what HAProxy takes, and it follows the symlink."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from failover.adapters.front import haproxy
from lab import binaries
from lab.pair import Reservation

if TYPE_CHECKING:
    from collections.abc import Callable


def test_tls_is_asked_of_clients() -> None:
    text = haproxy(
        Path("/run/kine.sock"), [("10.0.0.1", 2379)], certificate=Path("/etc/front.pem"), authority=Path("/etc/ca.crt")
    )
    assert "bind 10.0.0.1:2379 ssl crt /etc/front.pem" in text
    assert "ca-file /etc/ca.crt verify required" in text


def named(name: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], None]:
    def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name)
        writer.close()

    return answer


async def test_it_follows_the_symlink(tmp_path: Path) -> None:
    program = binaries.haproxy()
    if program is None:
        pytest.skip("HAProxy is not installed")
    reserved = Reservation(1)
    link, configuration = tmp_path / "kine.sock", tmp_path / "haproxy.cfg"
    configuration.write_text(haproxy(link, [("127.0.0.1", reserved.ports[0])]), encoding="utf-8")
    servers = [await asyncio.start_unix_server(named(name.encode()), tmp_path / name) for name in ("blue", "green")]
    link.symlink_to("blue")
    front = subprocess.Popen([program, "-db", "-f", configuration])  # noqa: ASYNC220 - a start takes no time
    try:
        for name in (b"blue", b"green"):
            async with asyncio.timeout(20):
                while (said := await ask(reserved.ports[0])) != name:
                    assert said in (b"", b"blue")
                    await asyncio.sleep(0.02)
            (tmp_path / "new").symlink_to("green")
            (tmp_path / "new").rename(link)
    finally:
        front.kill()
        front.wait()
        reserved.release()
        for server in servers:
            server.close()


async def ask(port: int) -> bytes:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        said = await reader.read(10)
        writer.close()
    except OSError:
        return b""
    return said
