"""The log never stops whoever logs."""

from __future__ import annotations

import os
import time

from failover.logs import LINES_WAITING_MAX, Unhurried

BOUND_S = 20.0


def test_a_log_that_nobody_takes_stops_nobody_and_tells_what_it_dropped() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="ascii") as reader, os.fdopen(writing, "w", encoding="ascii") as pipe:
        unhurried = Unhurried(pipe)
        began_s = time.monotonic()
        for number in range(3 * LINES_WAITING_MAX):  # far more than a pipe and the queue hold
            unhurried.write(f"{number:099d}\n")
        assert time.monotonic() - began_s < BOUND_S
        lines = [reader.readline() for _ in range(LINES_WAITING_MAX)]
        assert [int(line) for line in lines[:100]] == list(range(100))
        unhurried.write("after\n")
        told: list[str] = []
        while not told or told[-1] != "after\n":
            told.append(reader.readline())
        assert any("lines were dropped here" in line for line in told + lines)
        unhurried.close()
