"""Everything that may happen to a pair, each with its end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from failover.core.heartbeat import VERSION, encode
from failover.core.observation import Request
from tests.simulation.world import PATHS

if TYPE_CHECKING:
    from collections.abc import Callable

    from failover.core.model import Heartbeat
    from tests.simulation.pair import SimPair

    Act = Callable[[SimPair, int], None]

SPEEDS_S = (0.003, 0.04)  # one way, ordinary and slow
LOSS = 0.3
JUMPS_S = (-90.0, -0.3, 0.3, 90.0)


@dataclass(frozen=True, slots=True)
class Fault:
    """`strike` begins it on a node and `mend` ends it; `splits` says that both sides may acknowledge meanwhile."""

    strike: Act
    mend: Act
    lasts_s: tuple[float, ...] = (0.05, 0.3, 1.0, 3.0, 12.0)
    splits: bool = False


def _nothing(pair: SimPair, node: int) -> None:
    del pair, node


def _heal(pair: SimPair, _node: int) -> None:
    pair.heal()


def _start_postgres(pair: SimPair, node: int) -> None:
    if not pair.world.machines[node].postgres.up:
        pair.world.start_postgres(node)


def _cut_path(path: str) -> Act:
    def act(pair: SimPair, _node: int) -> None:
        pair.cut_path(path)

    return act


def _stall_disk(pair: SimPair, node: int) -> None:
    pair.world.say(f"node {node}: its disk stalls")
    pair.world.machines[node].disk_stalled = True


def _free_stalled_disk(pair: SimPair, node: int) -> None:
    pair.world.machines[node].disk_stalled = False


def _isolate(pair: SimPair, node: int) -> None:
    pair.partition()
    pair.world.say(f"node {node}: its gateway is gone too")
    pair.world.machines[node].isolated = True


def _reach_again(pair: SimPair, node: int) -> None:
    pair.world.machines[node].isolated = False
    pair.heal()


def _lose_site(pair: SimPair, _node: int) -> None:
    for node in (0, 1):
        pair.power_off(node)


def _site_returns(pair: SimPair, node: int) -> None:
    """One machine boots faster than the other."""
    pair.start(node)
    pair.world.later(pair.world.random.uniform(0.0, 1.0), pair.start, 1 - node)


def _compact(pair: SimPair, node: int) -> None:
    postgres = pair.world.database_of(node)
    if postgres is not None:
        pair.world.compact(node, postgres.newest())


def _stall(pair: SimPair, node: int) -> None:
    pair.world.say(f"node {node}: supervisor stalls")
    pair.world.machines[node].stalled = True


def _go_on(pair: SimPair, node: int) -> None:
    pair.world.say(f"node {node}: goes on")
    machine = pair.world.machines[node]
    machine.stalled = machine.kine.stopped = machine.postgres.hung = False


def _stop_everything(pair: SimPair, node: int) -> None:
    pair.world.say(f"node {node}: everything is stopped")
    machine = pair.world.machines[node]
    machine.stalled = machine.kine.stopped = machine.postgres.hung = True


def _hang_postgres(pair: SimPair, node: int) -> None:
    pair.world.say(f"node {node}: Postgres hangs")
    pair.world.machines[node].postgres.hung = True


def _stick(pair: SimPair, node: int) -> None:
    pair.world.say(f"node {node}: the apply worker hangs")
    pair.world.machines[node].postgres.stuck = True


def _unstick(pair: SimPair, node: int) -> None:
    pair.world.machines[node].postgres.stuck = False


def _jump(pair: SimPair, node: int) -> None:
    jump_s = pair.world.random.choice(JUMPS_S)
    pair.world.say(f"node {node}: clock jumps by {jump_s} s")
    pair.world.machines[node].wall_offset_s += jump_s


def _set_clock(pair: SimPair, node: int) -> None:
    pair.world.machines[node].wall_offset_s = 0.0


def _fill_disk(pair: SimPair, node: int) -> None:
    pair.world.say(f"node {node}: disk nearly full")
    pair.world.machines[node].disk_full = True


def _free_disk(pair: SimPair, node: int) -> None:
    pair.world.machines[node].disk_full = False


def _lose_messages(pair: SimPair, _node: int) -> None:
    pair.world.say("messages are lost, slow and late")
    pair.world.loss = pair.world.late = LOSS
    pair.world.delay_s = SPEEDS_S[1]


def _deliver(pair: SimPair, _node: int) -> None:
    pair.world.loss = pair.world.late = 0.0
    pair.world.delay_s = SPEEDS_S[0]


def _pause(seconds: float) -> Act:
    def act(pair: SimPair, node: int) -> None:
        pair.press(node, lambda made: made.pause(seconds))

    return act


def _ask(request: Request) -> Act:
    def act(pair: SimPair, node: int) -> None:
        made = pair.living(node)
        if made is not None:
            pair.world.say(f"node {node}: asked for a {request}: {made.ask(request) or 'yes'}")

    return act


def _leave(pair: SimPair, node: int) -> None:
    made = pair.living(node)
    if made is not None:
        pair.world.say(f"node {node}: told to leave: {made.leave() or 'yes'}")


def _stop_supervisor(pair: SimPair, node: int) -> None:
    pair.kill_supervisor(node)


def newer_minor(heartbeat: Heartbeat) -> bytes:
    """The next minor version's heartbeat: a field more."""
    envelope = json.loads(encode(heartbeat))
    envelope["heartbeat"]["weather"] = "fair"
    return json.dumps(envelope).encode()


def next_major(heartbeat: Heartbeat) -> bytes:
    """The next major version's heartbeat: this version cannot know what it means."""
    return json.dumps({"v": VERSION + 1, "heartbeat": json.loads(encode(heartbeat))["heartbeat"]}).encode()


def _upgrade(pair: SimPair, node: int) -> None:
    pair.kill_supervisor(node)
    machine = pair.world.machines[node]
    machine.wire = newer_minor if machine.wire is None else None
    pair.world.say(f"node {node}: {'upgraded' if machine.wire else 'downgraded'}")


FAULTS: dict[str, Fault] = {
    "postgres killed": Fault(lambda pair, node: pair.world.kill_postgres(node), _start_postgres),
    "postgres restarted": Fault(lambda pair, node: pair.world.kill_postgres(node), _start_postgres, (0.002, 0.02)),
    "everything killed": Fault(lambda pair, node: pair.kill(node), lambda pair, node: pair.start(node)),
    "power lost": Fault(lambda pair, node: pair.power_off(node), lambda pair, node: pair.start(node)),
    "supervisor killed": Fault(_stop_supervisor, lambda pair, node: pair.start(node)),
    "supervisor upgraded": Fault(_upgrade, lambda pair, node: pair.start(node), (0.2, 1.0)),
    "site without power": Fault(_lose_site, _site_returns, (0.5, 3.0)),
    "network cut": Fault(lambda pair, _: pair.partition(), _heal, splits=True),
    "network cut one way": Fault(lambda pair, node: pair.partition(only_from=node), _heal, splits=True),
    "network flaps": Fault(lambda pair, _: pair.partition(), _heal, (0.05, 0.2, 0.45), splits=True),
    "data path cut": Fault(_cut_path(PATHS[0]), _heal),
    "other path cut": Fault(_cut_path(PATHS[1]), _heal),
    "node isolated": Fault(_isolate, _reach_again, splits=True),
    "messages lost": Fault(_lose_messages, _deliver, splits=True),
    "supervisor stalls": Fault(_stall, _go_on, (0.2, 0.5, 0.7, 2.0, 12.0)),
    "machine stops": Fault(_stop_everything, _go_on, (0.2, 0.5, 0.7, 2.0, 12.0)),
    "postgres hangs": Fault(_hang_postgres, _go_on),
    "apply worker hangs": Fault(_stick, _unstick),
    "disk stalls": Fault(_stall_disk, _free_stalled_disk),
    "history compacted": Fault(_compact, _nothing, (0.02,)),
    "clock jumps": Fault(_jump, _set_clock),
    "disk nearly full": Fault(_fill_disk, _free_disk),
    "pause": Fault(_pause(600.0), _pause(0.0)),
    "switchover": Fault(_ask(Request.SWITCHOVER), _nothing, (0.01, 0.1, 1.0)),
    "forced failover": Fault(_ask(Request.FAILOVER), _nothing, (0.01, 1.0)),
    "resync": Fault(_ask(Request.RESYNC), _nothing, (0.01, 1.0)),
    "node leaves": Fault(_leave, lambda pair, node: pair.restart_supervisor(node), (0.2, 3.0)),
}
