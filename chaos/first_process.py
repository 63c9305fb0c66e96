"""The first process of a process namespace: it starts what it is told to, and reaps whatever loses its parent.

With arguments it runs that one command of this package and ends with its exit code. Without, it is the first process of a
machine: each line of its standard input is a program to start (JSON: argv, env, user, log), answered by a line with its pid.
It ends, and with it by the kernel's hand the whole machine, when its input ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import selectors
import signal
import subprocess
import sys


def run_command(argv: list[str]) -> int:
    """Run this package's command as a child and reap everything until it ends."""
    child = os.posix_spawn(sys.executable, [sys.executable, "-m", "chaos", *argv], os.environ)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


def be_a_machine() -> None:
    """Start programs as told until the input ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(reading, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is reading:
                    os.read(reading, 4096)
                    _reap()
                    continue
                line = sys.stdin.readline()
                if not line:
                    return
                print(_start(json.loads(line)), flush=True)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _start(told: dict[str, object]) -> str:
    user = told["user"]
    group = pwd.getpwnam(str(user)).pw_gid if user is not None else None
    with open(str(told["log"]), "ab") as log:  # noqa: PTH123
        try:
            process = subprocess.Popen(
                told["argv"], env=told["env"], user=user, group=group, extra_groups=[] if user is not None else None,  # type: ignore[call-overload]
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return json.dumps({"error": str(error)})
    process.returncode = 0  # it is reaped by pid, not through this object
    return json.dumps({"pid": process.pid})


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit(run_command(sys.argv[1:]))
    be_a_machine()
