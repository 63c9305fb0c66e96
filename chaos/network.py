"""Two paths between the machines, each a switch, and what can go wrong on them.

A fault is a set of rules at the receiving machine, as its network card would lose the packet: nothing is reported to the
sender, and each direction and path is on its own.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from enum import StrEnum


class Path(StrEnum):
    """A path: `a` carries the gateway and the broker as well, `b` joins the two nodes only."""

    A = "a"
    B = "b"


FIRST = {Path.A: 0, Path.B: 64}
NUMBERS = {"node-0": 1, "node-1": 2, "gateway": 3, "broker": 4}
PATHS = {"node-0": tuple(Path), "node-1": tuple(Path), "gateway": (Path.A,), "broker": (Path.A,)}


def address(machine: str, path: Path) -> str:
    """Return a machine's address on a path."""
    return f"198.18.0.{FIRST[path] + NUMBERS[machine]}"


@dataclass(frozen=True, slots=True)
class Lost:
    """What `to` does not receive: from one machine or all, on some paths, and how: dropped, now and then, or reset."""

    to: str
    source: str | None = None
    paths: tuple[Path, ...] = tuple(Path)
    per_mille: int = 1000
    reset: bool = False  # answered with a TCP reset, as a firewall or a machine without that service does

    def rules(self) -> list[str]:
        """Return the nftables rules at the receiver."""
        made = []
        for path in self.paths:
            match = f'iifname "{path}"'
            if self.source is not None:
                match += f" ip saddr {address(self.source, path)}"
            if self.reset:
                # Answers to the node's own questions still arrive: only what comes to its services is refused.
                made.append(f"{match} tcp dport {{ 5432, 7480 }} reject with tcp reset")
            else:
                chance = "" if self.per_mille >= 1000 else f" numgen random mod 1000 < {self.per_mille}"  # noqa: PLR2004
                made.append(f"{match}{chance} drop")
        return made


def cut_between(one: str, other: str, paths: tuple[Path, ...] = tuple(Path)) -> tuple[Lost, ...]:
    """Return a cut both ways."""
    return (Lost(one, other, paths), Lost(other, one, paths))


def cut_off(machine: str) -> tuple[Lost, ...]:
    """Return what takes one machine off every network."""
    others = [name for name in NUMBERS if name != machine]
    return (Lost(machine), *(Lost(other, machine, PATHS[other]) for other in others))


@dataclass(slots=True)
class Network:
    """The switches, and the rules in force: they belong to the network, so a machine that comes back meets them again."""

    pids: dict[str, int] = field(default_factory=dict)  # machine -> its first process
    lost: tuple[Lost, ...] = ()

    def create(self) -> None:
        """Make the switches."""
        _run("ip", "link", "set", "lo", "up")
        for path in Path:
            _run("ip", "link", "add", f"sw-{path}", "type", "bridge")
            _run("ip", "link", "set", f"sw-{path}", "up")

    def plug_in(self, machine: str, pid: int) -> None:
        """Give a machine that has just been switched on its addresses."""
        _run_in(pid, "ip", "link", "set", "lo", "up")
        for path in PATHS[machine]:
            port = f"{machine}-{path}"
            _run("ip", "link", "add", port, "type", "veth", "peer", "name", str(path), "netns", str(pid))
            _run("ip", "link", "set", port, "master", f"sw-{path}", "up")
            _run_in(pid, "ip", "address", "add", f"{address(machine, path)}/26", "dev", str(path))
            _run_in(pid, "ip", "link", "set", "dev", str(path), "up")
        self.pids[machine] = pid
        self._apply(machine)

    def unplug(self, machine: str) -> None:
        """Take a machine's cables out for good; it gets new ones when it is switched on again."""
        for path in PATHS[machine]:
            _run("ip", "link", "set", f"{machine}-{path}", "down")
        for path in PATHS[machine]:
            _run("ip", "link", "del", f"{machine}-{path}")
        self.pids.pop(machine, None)

    def set(self, *lost: Lost) -> None:
        """Have exactly this lost from now on."""
        before, self.lost = self.lost, lost
        for machine in {one.to for one in (*before, *lost)}:
            self._apply(machine)

    def add(self, *lost: Lost) -> None:
        """Lose this too."""
        self.set(*self.lost, *(one for one in lost if one not in self.lost))

    def remove(self, *lost: Lost) -> None:
        """Lose this no more."""
        self.set(*(one for one in self.lost if one not in lost))

    def _apply(self, machine: str) -> None:
        pid = self.pids.get(machine)
        if pid is None:
            return
        rules = [rule for one in self.lost if one.to == machine for rule in one.rules()]
        body = "\n".join(f"add rule inet chaos input {rule}" for rule in rules)
        # One transaction: there is no moment without the rules that stay.
        script = (
            "add table inet chaos\ndelete table inet chaos\nadd table inet chaos\n"
            f"add chain inet chaos input {{ type filter hook input priority 0; }}\n{body}\n"
        )
        _run_in(pid, "nft", "-f", "-", told=script)


def _run_in(pid: int, *argv: str, told: str | None = None) -> None:
    _run("nsenter", "-t", str(pid), "--net", "--", *argv, told=told)


def _run(*argv: str, told: str | None = None) -> None:
    done = subprocess.run(argv, input=told, capture_output=True, text=True, check=False, timeout=20)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
