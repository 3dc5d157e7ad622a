"""A daemon that follows neutron-server over the message queue, on a bridge of its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from harness.checks import check
from harness.daemon import Daemon
from harness.drivers import Sgflow
from harness.services import TRANSPORT_URL
from harness.shell import HarnessError, wait_until
from harness.world import OPEN_PORT, CheckFailed, World

_BRIDGE = "br-rpc"
_POLICY = f'source = "neutron-rpc"\n[neutron]\ntransport_url = "{TRANSPORT_URL}"'
# Neutron and the daemon find a broker again that was away; the latter tries every 30 s at least.
_RECONNECT_S = 100


class _Cloud:
    """VM u in a group that lets TCP in from the group of v; w is in neither."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.friends, self.others = world.group("friends"), world.group("others")
        self.group = world.group("followed")
        world.allow(self.group, "tcp", OPEN_PORT, remote_group_id=self.friends)
        world.plug_on(_BRIDGE, {"u": [self.group], "v": [self.friends], "w": [self.others]})

    def must_hold(self, within_s: float = 30) -> None:
        """What the group says, and no more."""
        world, u, v, w = self.world, self.world["u"], self.world["v"], self.world["w"]
        refused = world.probes(w, u, ("tcp", "ping"), OPEN_PORT) + world.probes(v, u, ("tcp", "udp"), 443)
        refused += world.probes(u, v)
        world.settle(passes=world.probes(v, u, ("tcp",), OPEN_PORT), refused=refused, within_s=within_s)

    def must_take_changes(self, within_s: float = 30) -> None:
        """Rules, members, addresses of an address group, and ports, one after the other."""
        world, u, v, w = self.world, self.world["u"], self.world["v"], self.world["w"]
        rules = world.allow(self.group, "udp", 443)
        world.settle(passes=world.probes(w, u, ("udp",), 443), within_s=within_s)
        world.disallow(rules)
        world.settle(refused=world.probes(w, u, ("udp",), 443), within_s=within_s)
        with world.assigned(w, [self.friends]):
            world.settle(passes=world.probes(w, u, ("tcp",), OPEN_PORT), within_s=within_s)
        with world.assigned(v, [self.others]):
            world.settle(refused=world.probes(v, u, ("tcp",), OPEN_PORT), within_s=within_s)
        addresses = world.api.create("address_group", name=world.name("offices"), addresses=[f"{v.v4}/32"])
        rules = world.allow(self.group, "tcp", 22, families=(4,), remote_address_group_id=addresses["id"])
        from_v, from_w = (world.probes(who, u, ("tcp",), 22, (4,)) for who in (v, w))
        world.settle(passes=from_v, refused=from_w, within_s=within_s)
        world.api.change_addresses(addresses["id"], add=[f"{w.v4}/32"], remove=[f"{v.v4}/32"])
        world.settle(passes=from_w, refused=from_v, within_s=within_s)
        world.disallow(rules)
        world.settle(refused=from_w + from_v, within_s=within_s)
        world.api.delete("address_group", addresses["id"])
        self.must_hold(within_s)


@contextmanager
def _followed(world: World) -> Iterator[Daemon]:
    if not isinstance(world.driver, Sgflow):
        raise HarnessError("there is no sgflow in this run")
    settings = ("datapath_type=netdev", "fail_mode=secure")
    world.switch.vsctl("add-br", _BRIDGE, "--", "set", "Bridge", _BRIDGE, *settings)
    daemon = world.driver.beside(_BRIDGE, _POLICY)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        world.switch.vsctl("del-br", _BRIDGE)


@check(
    "followed-over-rpc",
    "a daemon without Neutron's agent follows the server: what was there, each change, and after a restart of the "
    "broker, the server and itself what it missed",
    needs_daemon=True,
)
def followed_over_rpc(world: World) -> str:
    services = world.agent.services
    with _followed(world) as daemon:
        cloud = _Cloud(world)
        cloud.must_hold(_RECONNECT_S)
        # A server that has not looked who wants which versions does not tell of changes for a minute.
        cloud.must_take_changes(_RECONNECT_S)
        daemon.kill()
        missed = world.allow(cloud.group, "udp", 443)
        daemon.start()
        world.settle(passes=world.probes(world["w"], world["u"], ("udp",), 443), within_s=_RECONNECT_S)
        services.kill_rabbit()
        wait_until("the loss is told of", lambda: any("RabbitMQ" in fault for fault in daemon.faults()), 30)
        told = next(fault for fault in daemon.faults() if "RabbitMQ" in fault)
        if "guest:" in told:
            raise CheckFailed(f"a password is told: {told}")
        world.settle(passes=world.probes(world["w"], world["u"], ("udp",), 443))
        services.start_rabbit()
        # At once, while nobody has found the broker again.
        world.disallow(missed)
        world.settle(refused=world.probes(world["w"], world["u"], ("udp",), 443), within_s=_RECONNECT_S)
        cloud.must_take_changes(_RECONNECT_S)
        services.restart_neutron()
        world.api.wait()
        cloud.must_take_changes(_RECONNECT_S)
        gone = world["v"].port or ""
        world.api.delete("port", gone)
        world.settle(refused=world.probes(world["v"], world["u"]) + world.probes(world["u"], world["v"]))
        wait_until("nothing is wrong but the port", lambda: len(daemon.faults()) == 1, _RECONNECT_S)
        return f"without a broker: {told}; in the end: {'; '.join(daemon.faults())}"
