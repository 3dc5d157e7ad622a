"""The commands that only look, on the bridge that Neutron's agent has filled; whoever filters there."""

import json
from typing import Any

from harness.beside import Looker
from harness.checks import check
from harness.machine import Machine
from harness.world import CLOSED_PORT, FAMILIES, OPEN_PORT, CheckFailed, World


@check(
    "looked-at",
    "explain says of packets what policy, flows and the switch's own trace say; connections knows each one's rule",
)
def looked_at(world: World) -> str:
    sgflow = world.looker()
    told = sum(_explained(world, sgflow, family) for family in FAMILIES)
    a, b = world["a"], world["b"]
    world.settle(passes=world.probes(a, b, ("tcp",), OPEN_PORT))
    for family in FAMILIES:
        a.guest.ask("connect", name=f"seen-{family}", to=b.address(family), port=OPEN_PORT, timeout=5)
    try:
        for machine, direction in ((a, "egress"), (b, "ingress")):
            _must_list(sgflow.json("connections", machine.port or ""), machine, direction)
    finally:
        for family in FAMILIES:
            a.guest.ask("end", name=f"seen-{family}")
    return f"{told} packets are explained as they are treated"


@check(
    "nothing-to-say",
    "verify proves the bridge to be the policy, and diff with that policy changes nothing",
    needs_daemon=True,
)
def nothing_to_say(world: World) -> None:
    sgflow = world.looker()
    verified = sgflow.json("verify")
    if not verified["exact"]:
        raise CheckFailed(f"the switch is not the policy: {json.dumps(verified)[:2000]}")
    told = sgflow.text("diff", "--policy", world.beside.document(world.driver.policy()))
    if told != "nothing would change\n":
        raise CheckFailed(f"there are differences: {told[:2000]}")
    for command in ("flows", "drops", "ports", "groups", "status"):
        sgflow.json(command)


def _explained(world: World, sgflow: Looker, family: int) -> int:
    """How many packets were asked about. Who is not on this host is asked about by its address: nobody need know more."""
    a, b, c, m, r, t = (world[name] for name in "abcmrt")
    x, y = world["x"], world["y"]
    cases: list[tuple[Machine, str, str, int, list[bool]]] = [
        (a, "--to", b.port or "", OPEN_PORT, [True, True]),
        (a, "--from", b.port or "", CLOSED_PORT, [True, True]),
        (a, "--from", r.address(family), OPEN_PORT, [False]),
        (a, "--to", r.address(family), OPEN_PORT, [True]),
        (c, "--from", m.address(family), OPEN_PORT, [True]),
        (c, "--from", m.address(family), CLOSED_PORT, [False]),
        (c, "--from", a.port or "", CLOSED_PORT, [True, False]),
        (a, "--from", t.address(family), OPEN_PORT, [False]),
        (t, "--from", r.address(family), OPEN_PORT, [True]),
        (x, "--to", y.port or "", CLOSED_PORT, [True, True]),
    ]
    for machine, way, end, port, verdicts in cases:
        words = ["explain", machine.port or "", way, end, "--proto", "tcp", "--dport", str(port)]
        told = sgflow.json(*words, "--address", machine.address(family))
        accepted = [answer["accepted"] for answer in told["answers"]]
        here = [answer["switch"] for answer in told["answers"]]
        is_traced = all(
            way["local"] and way["not_traced"] is None and way["writer"] == sgflow.writer for way in here
        )
        if accepted != verdicts or told["agree"] is not True or not is_traced:
            raise CheckFailed(f"{machine.name} {way} {end} {port}: {json.dumps(told)[:3000]}")
    return len(cases)


def _must_list(told: dict[str, Any], machine: Machine, direction: str) -> None:
    open_ones = [
        connection
        for connection in told["connections"]
        if connection["tcp_state"] == "ESTABLISHED" and connection["destination"].endswith(f":{OPEN_PORT}")
    ]
    wrong = [one for one in open_ones if not one["admitted"] or not one["stamped"] or not one["rules"]]
    if len(open_ones) < len(FAMILIES) or wrong or any(one["direction"] != direction for one in open_ones):
        raise CheckFailed(f"connections of {machine.name}: {json.dumps(told)[:3000]}")
