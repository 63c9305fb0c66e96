"""Machines on one link that are network namespaces: 198.18.0.0/24 and 2001:db8:18::/64, no way out."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TOP = Path(__file__).parents[1]


def why_not() -> str | None:
    """Return why namespaces cannot be made here, None where they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no ip command (iproute2)"
    name = f"kf-try-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return None if made.returncode == 0 else made.stderr.strip()


class Link:
    """Machines side by side; each has an interface `eth0`."""

    def __init__(self, machines: Sequence[str]) -> None:
        self.names = {machine: f"kf-{os.getpid()}-{machine}" for machine in machines}
        self.switch = f"kf-{os.getpid()}-switch"

    def make(self) -> None:
        """Make the namespaces and connect them."""
        for name in (self.switch, *self.names.values()):
            ip("netns", "add", name)
        ip("-n", self.switch, "link", "add", "switch", "type", "bridge")
        ip("-n", self.switch, "link", "set", "switch", "up")
        for number, name in enumerate(self.names.values(), 1):
            ip("-n", self.switch, "link", "add", f"port{number}", "type", "veth", "peer", "eth0", "netns", name)
            ip("-n", self.switch, "link", "set", f"port{number}", "master", "switch", "up")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "addr", "add", f"198.18.0.{number}/24", "dev", "eth0")
            ip("-n", name, "addr", "add", f"2001:db8:18::{number}/64", "dev", "eth0", "nodad")

    def remove(self) -> None:
        """Remove all of them; processes in them must have ended."""
        for name in (*self.names.values(), self.switch):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def mac(self, machine: str) -> str:
        """Return the address of a machine's interface on the link."""
        told: str = self.shown(machine, "link", "show", "eth0")[0]["address"]
        return told

    def addresses(self, machine: str) -> dict[str, int]:
        """Return the addresses of `eth0`, each with what is left of its lifetime, seconds."""
        told = self.shown(machine, "addr", "show", "eth0")[0]["addr_info"]
        return {one["local"]: one["valid_life_time"] for one in told if "local" in one}

    def neighbour(self, machine: str, address: str) -> str | None:
        """Return where a machine believes an address to be."""
        told = self.shown(machine, "neigh", "show", "dev", "eth0")
        return next((one.get("lladdr") for one in told if one.get("dst") == address), None)

    def shown(self, machine: str, *arguments: str) -> Any:
        """Return what `ip` shows."""
        return json.loads(ip("-n", self.names[machine], "-j", *arguments) or "[]")

    def start(self, machine: str, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Run Python code on a machine."""
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[machine], sys.executable, "-c", code, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=TOP,
        )  # fmt: skip


@contextlib.contextmanager
def link(*machines: str) -> Iterator[Link]:
    """Machines on one link, removed afterwards."""
    made = Link(machines)
    try:
        made.make()
        yield made
    finally:
        made.remove()


def ip(*arguments: str) -> str:
    """Run `ip`. Raises CalledProcessError."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
