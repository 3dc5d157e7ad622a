"""A daemon that follows neutron-server over the message queue, on a bridge of its own."""

from harness.checks import check
from harness.checks.cloud import Cloud
from harness.daemon import HOST
from harness.services import TRANSPORT_URL
from harness.shell import wait_until
from harness.world import CheckFailed, World

_BRIDGE = "br-rpc"
_POLICY = f'source = "neutron-rpc"\n[neutron]\ntransport_url = "{TRANSPORT_URL}"'
# Neutron and the daemon find a broker again that was away; the latter tries every 30 s at least.
_RECONNECT_S = 100


@check(
    "followed-over-rpc",
    "a daemon without Neutron's agent follows the server: what was there, each change, and after a restart of the "
    "broker, the server and itself what it missed",
    needs_daemon=True,
)
def followed_over_rpc(world: World) -> str:
    services = world.agent.services
    with world.beside.daemon(_BRIDGE, _POLICY, HOST) as daemon:
        cloud = Cloud(world, _BRIDGE, ("l", "n", "o"))
        cloud.must_hold(_RECONNECT_S)
        # A server that has not looked who wants which versions does not tell of changes for a minute.
        cloud.must_take_changes(_RECONNECT_S)
        daemon.kill()
        missed = world.allow(cloud.group, "udp", 443)
        daemon.start()
        world.settle(passes=world.probes(cloud.w, cloud.u, ("udp",), 443), within_s=_RECONNECT_S)
        services.kill_rabbit()
        wait_until("the loss is told of", lambda: any("RabbitMQ" in fault for fault in daemon.faults()), 30)
        told = next(fault for fault in daemon.faults() if "RabbitMQ" in fault)
        if "guest:" in told:
            raise CheckFailed(f"a password is told: {told}")
        world.settle(passes=world.probes(cloud.w, cloud.u, ("udp",), 443))
        services.start_rabbit()
        # At once, while nobody has found the broker again.
        world.disallow(missed)
        world.settle(refused=world.probes(cloud.w, cloud.u, ("udp",), 443), within_s=_RECONNECT_S)
        cloud.must_take_changes(_RECONNECT_S)
        services.restart_neutron()
        world.api.wait()
        cloud.must_take_changes(_RECONNECT_S)
        gone = cloud.v.port or ""
        world.api.delete("port", gone)
        world.settle(refused=world.probes(cloud.v, cloud.u) + world.probes(cloud.u, cloud.v))
        wait_until("nothing is wrong but the port", lambda: len(daemon.faults()) == 1, _RECONNECT_S)
        return f"without a broker: {told}; in the end: {'; '.join(daemon.faults())}"
