"""What new ports cost a host, with Neutron's agent and with the policy store."""

import ipaddress
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack

from harness.checks import check
from harness.services import AMQP_PORT
from harness.shell import HarnessError, wait_until
from harness.switch import INTEGRATION_BRIDGE
from harness.traffic import Meter
from harness.world import OTHER_HOST, CheckFailed, World

_BRIDGE = "br-crowd"
_HOST = "compute-3"
_PORT = 6651
_NETWORK = "crowd"
# A request with more takes the API longer than is waited for it, on a busy machine.
_CHUNK = 20
_TIMES = 20
_SOON_S = 100
_ARRIVE_S = 400
# Less than this in so much time is heartbeats and reports.
_QUIET_S, _QUIET_BYTES = 4, 2000
_SOURCE = re.compile(r"\b(?:nw_src|ipv6_src)=([^, ]+)")


@check(
    "traffic-of-new-ports",
    "ports that are created in the default group reach the switch of a host of the policy store, and all that "
    f"this host receives and sends is at most 1/{_TIMES} of what neutron-openvswitch-agent receives for them",
)
def traffic_of_new_ports(world: World) -> str:
    with ExitStack() as stack:
        store = stack.enter_context(world.beside.store("crowd", _PORT))
        publisher = stack.enter_context(world.beside.publisher(store, "control-3"))
        daemon = stack.enter_context(world.beside.daemon(_BRIDGE, store.policy, _HOST))
        # The agent's host has ports of the group from the beginning.
        world.plug_on(_BRIDGE, {"p": [world.default_group]}, _HOST)
        world.network(_NETWORK, 96, {"provider:network_type": "vxlan"}, is_large=True)
        _wait_until_told_at_once(world)

        of_host = Meter(daemon.pid, store.ports)
        of_agent = Meter(world.agent.pid, [AMQP_PORT])
        of_publisher = Meter(publisher.pid, [AMQP_PORT, *store.ports])
        revision = store.revision()
        began = time.monotonic()
        addresses: set[str] = set()
        for first in range(0, world.new_ports, _CHUNK):
            addresses |= _create(world, min(_CHUNK, world.new_ports - first))
        times = [f"created in {time.monotonic() - began:.1f} s"]
        for bridge in (_BRIDGE, INTEGRATION_BRIDGE):
            _wait_for_members(world, bridge, addresses)
            times.append(f"in {bridge} after {time.monotonic() - began:.1f} s")
        # What the agent has to be told is not over when its switch has all members.
        _wait_until_quiet([of_host, of_agent])
        host, agent = of_host.read(), of_agent.read()
        told = (
            f"{world.new_ports} ports, {', '.join(times)}: host of the store {host}; "
            f"neutron-openvswitch-agent {agent}: 1/{agent.received / max(host.total, 1):.0f}; "
            f"the one publisher {of_publisher.read()}, {store.revision() - revision} transactions"
        )
        if host.total * _TIMES > agent.received:
            raise CheckFailed(told)
        return told


def _create(world: World, count: int) -> set[str]:
    """Ports of another host, each with an address of either family, which are given."""
    port = {"network_id": world.networks[_NETWORK]["id"], "binding:host_id": OTHER_HOST}
    port |= {"device_owner": "compute:nova", "device_id": _NETWORK, "security_groups": [world.default_group]}
    made = world.api.create_ports([port] * count)
    return {str(ipaddress.ip_address(fixed["ip_address"])) for port in made for fixed in port["fixed_ips"]}


def _wait_until_told_at_once(world: World) -> None:
    """Until the server tells both hosts of a port when it is made. One that has not looked who wants which
    versions does not tell publishers for a minute; what they ask for instead is not what is measured."""

    def told() -> bool:
        addresses = _create(world, 1)
        try:
            for bridge in (_BRIDGE, INTEGRATION_BRIDGE):
                _wait_for_members(world, bridge, addresses, 4)
        except HarnessError:
            return False
        return True

    wait_until("ports are told of at once", told, _SOON_S)


def _wait_for_members(world: World, bridge: str, addresses: set[str], within_s: float = _ARRIVE_S) -> None:
    def members() -> bool:
        flows = "\n".join(world.switch.dump_flows(bridge))
        return addresses <= set(_SOURCE.findall(flows))

    wait_until(f"all new members are in flows of {bridge}", members, within_s, 0.5)


def _wait_until_quiet(meters: Sequence[Meter]) -> None:
    def quiet() -> bool:
        before = [meter.read().total for meter in meters]
        time.sleep(_QUIET_S)
        return all(meter.read().total - was < _QUIET_BYTES for meter, was in zip(meters, before, strict=True))

    wait_until("nobody is told anything more", quiet, _ARRIVE_S)
