"""The peer's Postgres at several addresses: who connects begins with one that answers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from failover.adapters.paths import addresses, answering_first, in_front
from lab.pair import Reservation

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """One at which nobody listens, and one at which somebody does."""
    reserved = Reservation(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield reserved.ports[0], server.getsockname()[1]
    reserved.release()


async def test_the_address_that_answers_comes_first(ports: tuple[int, int]) -> None:
    silent, answers = ports
    both = f"host=127.0.0.1,127.0.0.1 port={silent},{answers} user=x"
    assert addresses(await answering_first(both)) == (("127.0.0.1", answers), ("127.0.0.1", silent))
    url = f"postgres://kine:p%40@127.0.0.1:{silent},127.0.0.1:{answers}/kine?sslmode=disable"
    moved = f"postgres://kine:p%40@127.0.0.1:{answers},127.0.0.1:{silent}/kine?sslmode=disable"
    assert await answering_first(url) == moved
    assert await answering_first(moved) == moved


async def test_where_none_answers_or_there_is_one_it_stays_as_it_is(ports: tuple[int, int]) -> None:
    silent, answers = ports
    for told in (
        f"host=127.0.0.1,127.0.0.1 port={silent} user=x", f"host=127.0.0.1 port={answers}", "host=/run/postgresql,/tmp",
    ):  # fmt: skip
        assert await answering_first(told) == told


@pytest.mark.parametrize(
    ("told", "moved"),
    [
        ("postgres://kine@10.0.0.1,10.0.1.1:5433/kine", "postgres://kine@10.0.1.1:5433,10.0.0.1:5432/kine"),
        (
            "postgres://kine@[fd00::1],[fd00::2]/kine?sslmode=disable",
            "postgres://kine@[fd00::2]:5432,[fd00::1]:5432/kine?sslmode=disable",
        ),
        ("host=a,b hostaddr=10.0.0.1,10.0.1.1 port=1 dbname=x", "dbname=x host=b,a hostaddr=10.0.1.1,10.0.0.1 port=1"),
    ],
)
def test_hosts_addresses_and_ports_move_together(told: str, moved: str) -> None:
    assert in_front(told, 1) == moved
    assert sorted(addresses(moved)) == sorted(addresses(told))
