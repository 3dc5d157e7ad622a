"""Traffic while something happens to the policy, the agent or the daemon."""

import time
from collections.abc import Callable
from typing import Any

from oslo_config import cfg

from driver_level.groups import both, everything, out
from driver_level.host import FAMILIES, OTHER_HOST, Stage
from driver_level.scenarios import scenario
from harness import frames
from harness.frames import Frame

# How the cookies of the daemon's flows begin.
_OURS = "0x5367"
_INTERVAL_S = 0.005
_UPDATES = 50
_LONG_ENOUGH_S = 4.0
_TRICKLE = 1200
_ROUNDS = 3
_AGAIN_S = 0.5

# Of each flow, by table, priority and match: cookie and actions, age in seconds, packets.
_Flows = dict[str, tuple[str, float, int]]


def _talks(stage: Stage, to: str, source: str = "a") -> dict[str, dict[str, Any]]:
    """TCP and UDP at a steady pace, over both families."""
    return {
        f"{protocol} v{family}": {
            "who": source,
            "do": "talk",
            "to": stage.host.machines[to].address(family),
            "port": 80,
            "interval": _INTERVAL_S,
            "protocol": protocol,
        }
        for protocol in ("tcp", "udp")
        for family in FAMILIES
    }


def _new_connections(stage: Stage, source: str, target: str, port: int) -> dict[str, Frame]:
    """First packets of many, each of a connection of its own."""
    made = {}
    for number in range(_TRICKLE):
        family = FAMILIES[number % 2]
        ends = stage.end_of(source, family), stage.end_of(target, family)
        made[f"number {number} v{family}"] = frames.udp(*ends, stage.source_port(), port)
    return made


def _world(stage: Stage) -> None:
    """a may reach b by port 80, whatever else comes and goes."""
    stage.group("open", *everything())
    stage.group("others", *out())
    stage.group("server", *out(both("ingress", "tcp", 80), both("ingress", "udp", 80)))
    stage.up(a="open", b="server", c="others")


@scenario(
    "blink-free",
    "updates of rules and members: nothing that old and new admit is lost, nothing that both refuse passes",
)
def blink_free(stage: Stage) -> str:
    _world(stage)
    kept = [
        both("ingress", "tcp", 80),
        both("ingress", "udp", 80),
        both("ingress", "tcp", 443, group="others"),
    ]
    stage.describe(OTHER_HOST, "others")
    allowed, forbidden = _new_connections(stage, "a", "b", 80), _new_connections(stage, "c", "b", 4444)
    a, b, c = (stage.host.machines[name].guest for name in "abc")
    with stage.going(**_talks(stage, "b")) as figures:
        sending = [
            a.begin("frames", frames=[frame.data.hex() for frame in allowed.values()], interval=_INTERVAL_S),
            c.begin(
                "frames", frames=[frame.data.hex() for frame in forbidden.values()], interval=_INTERVAL_S
            ),
        ]
        started = time.monotonic()
        number = 0
        while number < _UPDATES or time.monotonic() - started < _LONG_ENOUGH_S:
            if number % 2:
                stage.describe(OTHER_HOST, "open" if number % 4 == 1 else "others")
                stage.agent.members_changed("others")
            else:
                stage.rules("server", *out(*kept, both("ingress", "udp", 1000 + number)))
            number += 1
        took_s = time.monotonic() - started
        for answer in sending:
            answer.result()
    until = [frame.marker.hex() for frame in allowed.values()]
    heard = set(b.ask("heard", markers=until, until=until, timeout=2, grace=0))
    lost = [name for name, frame in allowed.items() if frame.marker.hex() not in heard]
    leaked = b.ask(
        "heard", markers=[frame.marker.hex() for frame in forbidden.values()], until=[], timeout=0, grace=0
    )
    stage.must(not lost, f"{len(lost)} of {len(allowed)} new connections were refused: {', '.join(lost[:5])}")
    stage.must(not leaked, f"{len(leaked)} of {len(forbidden)} forbidden frames passed")
    figure = stage.must_have_gone_on(figures)
    return f"{number} updates in {took_s:.1f} s; of {len(allowed)} new connections none refused; {figure}"


@scenario(
    "prepared-twice",
    "a port that is prepared again, or updated with nothing new, changes no flow",
    needs_daemon=True,
)
def prepared_twice(stage: Stage) -> str:
    _world(stage)
    before, sent, started = stage.flows(), stage.daemon.flow_mods(), time.monotonic()
    rounds = 0
    while rounds < _ROUNDS or time.monotonic() - started < _AGAIN_S:
        rounds += 1
        stage.agent.plug(*stage.ids.values())
        stage.agent.update(*stage.ids.values())
        stage.agent.rules_changed("server", "others")
    _must_be_untouched(stage, before, stage.flows, started)
    stage.must(stage.daemon.flow_mods() == sent, "flow-mods were sent")
    return f"{3 * rounds} batches with nothing new; no flow was touched, no flow-mod was sent"


def _must_be_untouched(stage: Stage, before: _Flows, flows: Callable[[], _Flows], since: float) -> None:
    """The same `flows` as `before`, each older by the time that has passed, none with fewer packets."""
    passed_s = time.monotonic() - since
    after = flows()
    stage.must(
        before.keys() == after.keys(), f"flows came or went: {sorted(before.keys() ^ after.keys())[:3]}"
    )
    for key, (text, age, packets) in before.items():
        new_text, new_age, new_packets = after[key]
        stage.must(text == new_text, f"{key} was {text} and is {new_text}")
        stage.must(new_age >= age + passed_s and new_packets >= packets, f"{key} was written again")


@scenario(
    "agent-restart",
    "another agent: no flow changes but the hook's cookie, no packet is lost, its clean-up takes nothing",
    needs_daemon=True,
)
def agent_restart(stage: Stage) -> str:
    _world(stage)
    forbidden = _new_connections(stage, "c", "b", 4444)
    ours = _ours(stage)
    hook = stage.hook()
    started = time.monotonic()
    with stage.going(**_talks(stage, "b")) as figures:
        flood = stage.host.machines["c"].guest.begin(
            "frames", frames=[frame.data.hex() for frame in forbidden.values()], interval=_INTERVAL_S
        )
        stage.restart_agent()
        flood.result()
    _must_be_untouched(stage, ours, lambda: _ours(stage), started)
    renewed = stage.hook()
    stage.must(renewed.keys() == hook.keys() and len(hook) > 0, f"the hook was {hook} and is {renewed}")
    stage.must(
        not set(renewed.values()) & set(hook.values()), "the hook has the cookie of the agent that is gone"
    )
    stage.must_not_have_heard("b", forbidden)
    return stage.must_have_gone_on(figures)


def _ours(stage: Stage) -> _Flows:
    return {
        key: flow for key, flow in stage.flows().items() if flow[0].startswith(_OURS)
    }


@scenario(
    "daemon-restart",
    "the daemon is killed and begun anew under traffic: no packet is lost or leaks, no flow-mod is sent",
    needs_daemon=True,
)
def daemon_restart(stage: Stage) -> str:
    _world(stage)
    forbidden = _new_connections(stage, "c", "b", 4444)
    before, started = stage.flows(), time.monotonic()
    with stage.going(**_talks(stage, "b")) as figures:
        flood = stage.host.machines["c"].guest.begin(
            "frames", frames=[frame.data.hex() for frame in forbidden.values()], interval=_INTERVAL_S
        )
        for _ in range(2):
            stage.daemon.kill()
            time.sleep(0.3)
            stage.daemon.start()
            stage.daemon.wait_until_told(10)
            stage.must(stage.daemon.flow_mods() == 0, "the daemon sent flow-mods when it was back")
        flood.result()
    _must_be_untouched(stage, before, stage.flows, started)
    stage.must_not_have_heard("b", forbidden)
    stage.connect(passes=stage.probes("a", "b", ("tcp", "udp")), refused=stage.probes("c", "b", port=443))
    return stage.must_have_gone_on(figures)


@scenario(
    "daemon-away",
    "without a daemon what is enforced stays so, a new port stays closed and its batch fails, until it is back",
    needs_daemon=True,
)
def daemon_away(stage: Stage) -> None:
    cfg.CONF.set_override("apply_timeout", 1, "SGFLOW")
    try:
        _world(stage)
        stage.restart_agent()
    finally:
        cfg.CONF.clear_override("apply_timeout", "SGFLOW")
    stage.daemon.kill()
    stage.describe("d", "open")
    stage.plug_in("d")
    try:
        stage.agent.plug(stage.ids["d"])
    except Exception:
        failed = True
    else:
        failed = False
    stage.must(failed, "a batch that nobody has put in force did not fail")
    for family in FAMILIES:
        stage.judge("a", "d", refused=stage.firsts("a", "d", family, tcp=(80,), ping=True), witness="b")
        stage.judge("d", "a", "b", refused=stage.firsts("d", "a", family, tcp=(80,), ping=True), deaf=True)
        passes = stage.firsts("a", "b", family, tcp=(80,))
        stage.judge("a", "b", passes=passes, refused=stage.firsts("a", "b", family, tcp=(81,), ping=True))
    stage.daemon.start()
    stage.daemon.wait_until_told(10)
    stage.agent.plug(stage.ids["d"])
    stage.connect(passes=stage.probes("a", "d"), refused=stage.probes("c", "b", port=443))


@scenario(
    "switch-restart",
    "Open vSwitch comes back empty: nothing leaks while the agent sets it up, then all is as before",
    differs="NORMAL is there before the filters are",
)
def switch_restart(stage: Stage) -> str:
    _world(stage)
    forbidden = _new_connections(stage, "c", "b", 4444)
    flood = stage.host.machines["c"].guest.begin(
        "frames", frames=[frame.data.hex() for frame in forbidden.values()], interval=_INTERVAL_S
    )
    time.sleep(0.2)
    stage.switch.kill_vswitchd()
    started = time.monotonic()
    stage.switch.start_vswitchd()
    stage.after_switch_restart()
    took_s = time.monotonic() - started
    flood.result()
    stage.must_not_have_heard("b", forbidden)
    stage.connect(passes=stage.probes("a", "b", ("tcp", "udp")), refused=stage.probes("c", "b", port=443))
    return f"all is as before after {took_s:.1f} s, the start of the switch included"
