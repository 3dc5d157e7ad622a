"""Restarts of everything, and the change from one driver to the other, under traffic."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness import frames
from harness.checks import check
from harness.drivers import Driver, Openvswitch
from harness.frames import Endpoint, Frame
from harness.machine import Machine
from harness.shell import HarnessError, wait_until
from harness.world import CLOSED_PORT, FAMILIES, OPEN_PORT, CheckFailed, Toll, World

# What a noisy machine itself loses or delays.
_LOST_SHARE = 0.005
_STALL_S = 2.0
# One datagram in so many a busy machine loses now and then.
_NOISE = 1 / 5000
_CONTROL_S = 60
_AFTERWARDS_S = 3
_NETWORKS_BACK_S = 20


class _Figures:
    """Of traffic, when it is over."""

    toll: Toll
    forbidden: int

    def __call__(self) -> str:
        return f"0 of {self.forbidden} forbidden frames leaked, {self.toll}"


@contextmanager
def _under_traffic(world: World) -> Iterator[_Figures]:
    """Forbidden and allowed traffic at c while something happens; afterwards the allowed must have gone
    on."""
    talks = world.talks()
    figures = _Figures()
    try:
        talks.start()
        with world.forbidden_flood(world["c"], [world["r"], world["b"]]) as flood:
            time.sleep(1)
            yield figures
            time.sleep(_AFTERWARDS_S)
            figures.toll = talks.must_have_gone_on(stall_s=_STALL_S, lost_share=_LOST_SHARE)
        figures.forbidden = flood.sent
    finally:
        talks.end()


def _policy_holds(world: World) -> None:
    """New connections are judged as they were, and changes still arrive."""
    c, r, b = world["c"], world["r"], world["b"]
    allowed = world.probes(r, c, ("tcp", "udp"), OPEN_PORT) + world.probes(b, c, ("tcp", "udp"), OPEN_PORT)
    allowed += world.probes(c, r) + world.probes(world["a"], b)
    closed = world.probes(r, c, port=CLOSED_PORT) + world.probes(r, b)
    world.settle(passes=allowed, refused=closed)
    rules = world.allow(world.guard_group, "tcp", 443)
    opened = world.probes(r, c, ("tcp",), 443)
    world.settle(passes=allowed + opened, refused=closed)
    world.disallow(rules)
    world.settle(passes=allowed, refused=closed + opened)


def _deleted_stays_closed(world: World) -> None:
    for name in world.deleted:
        gone, r = world[name], world["r"]
        for family in FAMILIES:
            if any(world.arrivals(gone, {"out": _datagram(gone, r, family)}, [r]).values()):
                raise CheckFailed(f"{name}, deleted before, sends again")
            if any(world.arrivals(r, {"in": _datagram(r, gone, family)}, [gone]).values()):
                raise CheckFailed(f"{name}, deleted before, receives again")


@check(
    "agent-restart",
    "the agent killed and started: no forbidden frame passes, no allowed one is lost, and changes arrive",
)
def agent_restart(world: World) -> str:
    with _under_traffic(world) as figures:
        world.agent.restart(world.driver)
    _policy_holds(world)
    _deleted_stays_closed(world)
    return figures()


@check("daemon-restart", "the daemon killed, and started after a while: as with the agent", needs_daemon=True)
def daemon_restart(world: World) -> str:
    with _under_traffic(world) as figures:
        world.driver.kill()
        time.sleep(5)
        world.driver.start()
        time.sleep(5)
    _policy_holds(world)
    _deleted_stays_closed(world)
    return figures()


@check(
    "ten-restarts",
    "the agent and the daemon killed and started ten times each: no more is lost, of old and new connections, than without",
    needs_daemon=True,
)
def ten_restarts(world: World) -> str:
    with _under_traffic(world) as control:
        time.sleep(_CONTROL_S)
    with _under_traffic(world) as figures:
        for _ in range(10):
            world.driver.kill()
            world.driver.start()
            time.sleep(2)
        for _ in range(10):
            world.agent.kill()
            world.agent.start(world.driver)
            world.agent.wait_for_iteration()
            time.sleep(2)
    if figures.toll.share > control.toll.share + _NOISE:
        raise CheckFailed(f"{figures()}; without restarts {control.toll}")
    _policy_holds(world)
    return f"{figures()}; without restarts {control.toll}"


@check(
    "daemon-stopped-agent-restarted-twice",
    "the agent starts twice without the daemon: nothing leaks, connections go on; later all catches up",
    needs_daemon=True,
)
def daemon_stopped(world: World) -> str:
    with _under_traffic(world) as figures:
        world.driver.stop()
        for _ in range(2):
            world.agent.kill()
            world.agent.start(world.driver)
            world.agent.wait_for_iteration()
            # Long enough for the clean-up of flows with an older cookie, which may be in a later iteration.
            time.sleep(10)
        world.driver.start()
        time.sleep(5)
    _policy_holds(world)
    _deleted_stays_closed(world)
    return figures()


@check(
    "explicitly-egress-direct",
    "an agent with explicitly_egress_direct: traffic passes and is filtered, unicast is not flooded",
)
def explicitly_egress_direct(world: World) -> None:
    a, b, c, r = world["a"], world["b"], world["c"], world["r"]
    with _egress_direct(world):
        _policy_holds(world)
        within = world.probes(a, b) + world.probes(world["x"], world["y"])
        world.settle(passes=within + world.probes(world["f"], world["s"]))
        sent = {f"unicast v{family}": _datagram(a, r, family) for family in FAMILIES}
        world.settle_frames(a, [r], passes=sent)
        if any(world.arrivals(a, sent, [b, c, world["t"]]).values()):
            raise CheckFailed("a VM got unicast frames for a machine of the network")
    _policy_holds(world)


@check(
    "deleted-port-and-egress-direct",
    "the port that was deleted while plugged in stays closed when such an agent starts",
    differs={"openvswitch": "its direct flow in table 94 goes past the dead VLAN"},
)
def deleted_port_and_egress_direct(world: World) -> None:
    if "d" not in world.deleted:
        world.api.delete("port", world["d"].port or "")
        world.deleted.add("d")
        time.sleep(5)
    with _egress_direct(world):
        _deleted_stays_closed(world)


@contextmanager
def _egress_direct(world: World) -> Iterator[None]:
    world.agent.restart(world.driver, egress_direct=True)
    try:
        yield
    finally:
        world.agent.restart(world.driver)


def _datagram(source: Machine, target: Machine, family: int) -> Frame:
    ends = (Endpoint(machine.mac, machine.address(family)) for machine in (source, target))
    return frames.udp(*ends, 5000, 6000)


@check(
    "switch-restart",
    "ovs-vswitchd killed and started: nothing passes until the firewall is back, then everything allowed",
    differs={
        "openvswitch": "VMs of a host reach each other from the agent's table 60 to the driver's last flow"
    },
)
def switch_restart(world: World) -> str:
    c, r, b = world["c"], world["r"], world["b"]
    allowed = world.probes(r, c, ("tcp", "udp"), OPEN_PORT) + world.probes(b, c, ("tcp", "udp"), OPEN_PORT)
    with world.forbidden_flood(c, [r, b]) as flood:
        world.switch.kill_vswitchd()
        time.sleep(2)
        world.switch.start_vswitchd()
        back = time.monotonic()
        remembered = _agent_remembers_networks(world)
        if not remembered:
            world.agent.restart(world.driver)
        world.settle(passes=allowed, within_s=60)
        took_s = time.monotonic() - back
        time.sleep(_AFTERWARDS_S)
    _policy_holds(world)
    told = f"0 of {flood.sent} forbidden frames leaked, allowed traffic after {took_s:.1f} s"
    return told if remembered else f"{told}; the agent had forgotten its networks and was restarted"


def _agent_remembers_networks(world: World) -> bool:
    """Whether the agent lets frames of physical networks in again. In Neutron 29.0.0 that is a race: when
    its monitor of ports has nothing to say in the very iteration that sees the restart, the next one takes
    the ports for new ones of networks that are there, and the flows of table 0 stay away until the agent
    is restarted."""
    try:
        wait_until(
            "flows of the physical networks",
            lambda: any(
                "priority=3,in_port" in flow for flow in world.switch.dump_flows("br-int", "table=0")
            ),
            _NETWORKS_BACK_S,
        )
    except HarnessError:
        return False
    return True


@check("after-switch-restart", "after it, all ports are enforced on all networks")
def after_switch_restart(world: World) -> None:
    _policy_holds(world)
    _deleted_stays_closed(world)
    a, b, x, y, f, s = (world[name] for name in "abxyfs")
    world.settle(
        passes=world.probes(a, b) + world.probes(x, y) + world.probes(f, s), refused=world.probes(s, f)
    )


@check(
    "take-over",
    "the agent restarted with Neutron's driver, then with this one: connections go on, nothing leaks",
    needs_daemon=True,
)
def take_over(world: World) -> str:
    other: Driver = Openvswitch()
    with _under_traffic(world) as back:
        world.agent.kill()
        world.driver.stop()
        world.agent.start(other)
        world.agent.wait_until_clean()
    # What began under the other driver is what a take-over may break.
    with _under_traffic(world) as there:
        world.agent.kill()
        world.driver.start()
        world.agent.start(world.driver)
        world.agent.wait_until_clean()
    _policy_holds(world)
    wait_until(
        "flows of the other driver are gone", lambda: not world.switch.dump_flows("br-int", "table=71"), 30
    )
    return f"back: {back()}; there: {there()}"
