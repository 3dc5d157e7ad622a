"""What a port may send, trusted ports, and ports that go."""

import time

from harness import frames
from harness.checks import check
from harness.frames import Endpoint, Frame
from harness.machine import Machine
from harness.world import CLOSED_PORT, FAMILIES, CheckFailed, World

_OTHER_MAC = "02:00:00:00:00:aa"
_OTHER = {4: "10.77.0.222", 6: "fd77::222"}
_BROADCAST = "ff:ff:ff:ff:ff:ff"


def _own(machine: Machine, family: int) -> Endpoint:
    return Endpoint(machine.mac, machine.address(family))


def _spoofed(sender: Machine, target: Machine) -> dict[str, Frame]:
    """Frames that pretend to come from another machine."""
    spoofed = {}
    for family in FAMILIES:
        to = _own(target, family)
        spoofed[f"other MAC v{family}"] = frames.udp(
            Endpoint(_OTHER_MAC, sender.address(family)), to, 5000, 6000
        )
        spoofed[f"other address v{family}"] = frames.udp(Endpoint(sender.mac, _OTHER[family]), to, 5000, 6000)
    to = _own(target, 4)
    spoofed["ARP for another address"] = frames.arp_reply(sender.mac, _OTHER[4], to)
    spoofed["ARP from another MAC"] = frames.arp_reply(_OTHER_MAC, sender.v4, to)
    source = Endpoint(sender.mac, sender.link_local)
    spoofed["ND for another address"] = frames.neighbour_advertisement(source, _own(target, 6), _OTHER[6])
    return spoofed


def _honest(sender: Machine, target: Machine) -> dict[str, Frame]:
    """The same frames without the pretence: they show that the way is open and the frames are well made."""
    honest = {
        f"honest v{family}": frames.udp(_own(sender, family), _own(target, family), 5000, 6000)
        for family in FAMILIES
    }
    honest["honest ARP"] = frames.arp_reply(sender.mac, sender.v4, _own(target, 4))
    source = Endpoint(sender.mac, sender.link_local)
    honest["honest ND"] = frames.neighbour_advertisement(source, _own(target, 6), sender.v6)
    return honest


@check(
    "spoofing",
    "MAC, IPv4, IPv6, ARP and neighbour spoofing reaches neither the network nor a trusted port",
)
def spoofing(world: World) -> None:
    c, r, t = world["c"], world["r"], world["t"]
    for target in (r, t):
        refused = _spoofed(c, target)
        for vlan in (1, 2, 101):
            frame = frames.udp(_own(c, 4), _own(target, 4), 5000, 6000)
            refused[f"VLAN {vlan} of its own"] = frames.tagged(frame, vlan)
        world.settle_frames(c, [r, t], passes=_honest(c, target), refused=refused)


@check(
    "arp-hardware-address",
    "an ARP reply of the right MAC that tells of another one is refused",
    differs={"openvswitch": "it does not look at arp_sha"},
)
def arp_hardware_address(world: World) -> None:
    c, r = world["c"], world["r"]
    lie = frames.arp_reply(_OTHER_MAC, c.v4, _own(r, 4), frame_source=c.mac)
    world.settle_frames(c, [r], passes=_honest(c, r), refused={"ARP with another arp_sha": lie}, within_s=5)


@check(
    "dhcp-and-ra",
    "DHCP replies and router advertisements of a VM are refused, its requests and the network's replies pass",
)
def dhcp_and_ra(world: World) -> None:
    c, r, t = world["c"], world["r"], world["t"]
    local = Endpoint(c.mac, c.link_local)
    refused = {
        "DHCP reply": frames.dhcp(_own(c, 4), r.mac, from_server=True),
        "DHCP reply to all": frames.dhcp(_own(c, 4), _BROADCAST, from_server=True),
        "DHCPv6 reply": frames.dhcpv6(local, Endpoint(r.mac, r.link_local), from_server=True),
        "DHCPv6 reply to the trusted port": frames.dhcpv6(
            local, Endpoint(t.mac, t.link_local), from_server=True
        ),
        "router advertisement": frames.router_advertisement(local),
    }
    requests = {
        "DHCP request": frames.dhcp(_own(c, 4), _BROADCAST, from_server=False),
        "DHCPv6 request": frames.dhcpv6(local, Endpoint("33:33:00:01:00:02", "ff02::1:2"), from_server=False),
    }
    world.settle_frames(c, [r, t], passes=requests, refused=refused)
    replies = {
        "DHCP reply of the network": frames.dhcp(_own(r, 4), c.mac, from_server=True),
        "DHCPv6 reply of the network": frames.dhcpv6(
            Endpoint(r.mac, r.link_local), Endpoint(c.mac, c.link_local), from_server=True
        ),
    }
    world.settle_frames(r, [c], passes=replies)


@check("trusted-port", "a port of Neutron itself sends and receives everything; it does not open other ports")
def trusted_port(world: World) -> None:
    c, r, t = world["c"], world["r"], world["t"]
    world.settle(
        passes=world.probes(r, t)
        + world.probes(t, r)
        + world.probes(c, t)
        + world.probes(t, c, ("tcp",), 80),
        refused=world.probes(t, c, port=CLOSED_PORT),
    )
    world.settle_frames(
        t, [r], passes=_honest(t, r) | {"router advertisement": _advertised(t)} | _spoofed(t, r)
    )
    world.settle_frames(t, [c], passes={"DHCP reply": frames.dhcp(_own(t, 4), c.mac, from_server=True)})


def _advertised(machine: Machine) -> Frame:
    return frames.router_advertisement(Endpoint(machine.mac, machine.link_local))


@check(
    "port-security",
    "switched off while plugged in, a port sends and receives everything; on again, it is filtered again",
)
def port_security(world: World) -> None:
    c, r = world["c"], world["r"]
    port = c.port or ""
    closed = world.probes(r, c, port=CLOSED_PORT)
    spoofed = _spoofed(c, r)
    world.settle(passes=world.probes(r, c, ("tcp", "udp"), 80), refused=closed)
    world.settle_frames(c, [r], refused=spoofed)
    world.api.update("port", port, port_security_enabled=False, security_groups=[])
    try:
        world.settle(passes=closed + world.probes(c, r))
        world.settle_frames(c, [r], passes=spoofed)
    finally:
        world.api.update("port", port, port_security_enabled=True, security_groups=[world.guard_group])
    world.settle(passes=world.probes(r, c, ("tcp", "udp"), 80) + world.probes(c, r), refused=closed)
    world.settle_frames(c, [r], refused=spoofed)


@check(
    "deleted-port",
    "a port deleted in Neutron while its interface is still plugged in neither sends nor receives any more",
)
def deleted_port(world: World) -> None:
    d, r, b = world["d"], world["r"], world["b"]
    world.settle(passes=world.probes(d, r) + world.probes(b, d))
    world.api.delete("port", d.port or "")
    world.deleted.add("d")
    # Its MAC is asked of nobody here: probes of new connections would wait for ARP, and prove less.
    out = {
        f"from the deleted port v{family}": frames.udp(_own(d, family), _own(r, family), 5000, 6000)
        for family in FAMILIES
    }
    world.settle_frames(d, [r], refused=out)
    into = {
        f"to the deleted port v{family}": frames.udp(_own(r, family), _own(d, family), 5000, 6000)
        for family in FAMILIES
    }
    world.settle_frames(r, [d], refused=into)
    # The agent hears of it several times, and once takes it for a trusted port.
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        if any(world.arrivals(d, out, [r]).values()) or any(world.arrivals(r, into, [d]).values()):
            raise CheckFailed("the deleted port was opened again")


@check(
    "unknown-port",
    "an interface whose port Neutron does not know neither sends nor receives, on no VLAN",
    differs={
        "openvswitch": "with no VLAN it is a trunk port: it sends to any network, and gets what is flooded"
    },
)
def unknown_port(world: World) -> None:
    u, r, t = world.stranger("u"), world["r"], world["t"]
    out = {
        f"untagged v{family}": frames.udp(_own(u, family), _own(r, family), 5000, 6000) for family in FAMILIES
    }
    out |= {
        f"tagged {vlan}": frames.tagged(frames.udp(_own(u, 4), _own(t, 4), 5000, 6000), vlan)
        for vlan in range(1, 6)
    }
    into = {
        f"to it v{family}": frames.udp(_own(r, family), _own(u, family), 5000, 6000) for family in FAMILIES
    }
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        arrived = world.arrivals(u, out, [r, t]) | world.arrivals(r, into, [u])
        if passed := [name for name, count in arrived.items() if count]:
            raise CheckFailed(f"these passed: {', '.join(passed)}")
