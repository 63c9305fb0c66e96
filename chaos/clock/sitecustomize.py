# ruff: noqa: INP001 - Python looks for a module of this name in a folder, not in a package
"""Loaded by Python itself in a program that runs with a machine's clock.

libfaketime 0.9.10 answers every clock_nanosleep() until a monotonic time with EINVAL, which is what time.sleep() calls; the
standard library waits for children with it.
"""

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex, /) -> None:
    select.select([], [], [], max(0.0, float(seconds)))


time.sleep = _sleep
