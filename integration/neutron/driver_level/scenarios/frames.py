"""What is judged by no rule: DHCP, router advertisements, VLANs, other ethertypes, groups of receivers."""

from driver_level.groups import both, everything, out
from driver_level.host import FAMILIES, OTHER_HOST, Stage
from driver_level.scenarios import scenario
from harness import frames
from harness.frames import Endpoint

_EVERYBODY = "ff:ff:ff:ff:ff:ff"
_ROUTERS_AND_SERVERS = Endpoint("33:33:00:01:00:02", "ff02::1:2")


@scenario(
    "dhcp-client",
    "a guest without an address reaches the network's DHCP server and is answered, without a rule for it",
)
def dhcp_client(stage: Stage) -> None:
    stage.group("nothing")
    stage.describe("d", owner="network:dhcp")
    a = stage.up(a="nothing", d=())[0]
    asks = {
        "dhcp": frames.dhcp(stage.end_of("a", 4), _EVERYBODY, from_server=False),
        "dhcpv6": frames.dhcpv6(Endpoint(a.mac, a.link_local), _ROUTERS_AND_SERVERS, from_server=False),
    }
    stage.judge("a", "d", passes=asks, refused=stage.firsts("a", "d", 4, udp=(53,)))
    answers = {
        "dhcp": frames.dhcp(stage.end_of("d", 4), a.mac, from_server=True),
        "dhcpv6": frames.dhcpv6(stage.end_of("d", 6), Endpoint(a.mac, a.link_local), from_server=True),
    }
    stage.judge("d", "a", passes=answers, refused=stage.firsts("d", "a", 4, udp=(53,), tcp=(80,)))


@scenario("dhcp-server", "a guest cannot be a DHCP server, whatever its rules let out and its neighbours in")
def dhcp_server(stage: Stage) -> None:
    stage.group("open", *everything())
    b = stage.up(a="open", b="open")[1]
    refused = {
        "dhcp to one": frames.dhcp(stage.end_of("a", 4), b.mac, from_server=True),
        "dhcp to all": frames.dhcp(stage.end_of("a", 4), _EVERYBODY, from_server=True),
        "dhcpv6": frames.dhcpv6(stage.end_of("a", 6), stage.end_of("b", 6), from_server=True),
    }
    stage.judge("a", "b", passes=stage.firsts("a", "b", 4, udp=(67, 68)), refused=refused)


@scenario(
    "router-advertisement",
    "a guest cannot be a router; the advertisement of a router of the network reaches every guest",
)
def router_advertisement(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("nothing")
    stage.describe("d", owner="network:router_interface")
    stage.up(a="open", b="open", c="nothing", d=())
    a, d = stage.host.machines["a"], stage.host.machines["d"]
    stage.judge("a", "b", "c", refused={"ra": frames.router_advertisement(Endpoint(a.mac, a.link_local))})
    stage.judge("d", "a", "b", "c", passes={"ra": frames.router_advertisement(Endpoint(d.mac, d.link_local))})


@scenario(
    "trusted-port",
    "a port of the network sends from any address and receives everything; guests' own rules still hold",
)
def trusted_port(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("quiet", *out())
    stage.describe("d", owner="network:router_interface")
    stage.up(a="open", b="quiet", d=())
    for family, foreign in ((4, "192.0.2.1"), (6, "2001:db8::1")):
        sender = Endpoint(stage.host.machines["d"].mac, foreign)
        routed = {f"udp from {foreign}": frames.udp(sender, stage.end_of("a", family), 53, 53)}
        stage.judge("d", "a", passes=routed)
        stage.judge("a", "d", passes=stage.firsts("a", "d", family, tcp=(22, 4444), udp=(67,), ping=True))
        stage.judge("d", "b", refused=stage.firsts("d", "b", family, tcp=(80,), udp=(80,), ping=True))


@scenario(
    "vlan-tagged",
    "a guest sends no VLAN tag, be it its own network's or another's; VID 0 is no VLAN",
    differs="a tag of the guest's own network passes",
)
def vlan_tagged(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.describe("c", "open", network="green")
    stage.up(a="open", b="open", c="open")
    plain = stage.firsts("a", "b", 4, tcp=(80,), udp=(80,), ping=True) | stage.firsts(
        "a", "b", 6, tcp=(80,), ping=True
    )
    for vlan in (11, 12, 13, 4094):
        refused = {f"{name} with VLAN {vlan}": frames.tagged(frame, vlan) for name, frame in plain.items()}
        stage.judge("a", "b", "c", OTHER_HOST, refused=refused, witness="b")
    stage.judge(
        "a", "b", passes={f"{name} with VID 0": frames.tagged(frame, 0) for name, frame in plain.items()}
    )


@scenario(
    "networks-apart", "two networks with the same addresses on one bridge share nothing, broadcasts neither"
)
def networks_apart(stage: Stage) -> None:
    stage.group("open", *everything())
    for name in ("c", "d"):
        stage.describe(name, "open", network="green")
    stage.up(a="open", b="open", c="open", d="open")
    for family in FAMILIES:
        stage.judge(
            "a", "c", refused=stage.firsts("a", "c", family, tcp=(80,), udp=(80,), ping=True), witness="b"
        )
        stage.judge(
            "c", "a", refused=stage.firsts("c", "a", family, tcp=(80,), udp=(80,), ping=True), witness="d"
        )
        stage.judge("c", "d", passes=stage.firsts("c", "d", family, tcp=(80,)))
    a, c = stage.host.machines["a"], stage.host.machines["c"]
    everybody = {"arp": frames.arp_reply(a.mac, a.v4, Endpoint(_EVERYBODY, a.v4))}
    stage.judge("a", "b", OTHER_HOST, passes=everybody)
    stage.judge("a", "c", "d", refused=everybody | _broadcast(stage, "a"), witness="b")
    everybody = {"arp": frames.arp_reply(c.mac, c.v4, Endpoint(_EVERYBODY, c.v4))}
    stage.judge("c", "a", "b", OTHER_HOST, refused=everybody | _broadcast(stage, "c"), witness="d")


def _broadcast(stage: Stage, source: str) -> dict[str, frames.Frame]:
    to = Endpoint(_EVERYBODY, "10.0.0.255")
    return {"broadcast": frames.udp(stage.end_of(source, 4), to, stage.source_port(), 80)}


@scenario("foreign-ethertype", "neither IP nor ARP, and not permitted: refused")
def foreign_ethertype(stage: Stage) -> None:
    stage.group("open", *everything())
    a, b = stage.up(a="open", b="open")
    refused = {
        hex(ethertype): frames.other(a.mac, b.mac, ethertype)
        for ethertype in (0x88CC, 0x8863, 0x9000, 0x0842)
    }
    stage.judge("a", "b", passes=stage.firsts("a", "b", 4, tcp=(80,)), refused=refused)


@scenario(
    "group-addressed",
    "a multicast or broadcast reaches the guests whose rules take it, no others, and the network",
    differs="what the sender may send reaches every local guest unjudged",
)
def group_addressed(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("mdns", *out(both("ingress", "udp", 5353)))
    stage.group("web", *out(both("ingress", "tcp", 80)))
    stage.describe("d", owner="network:dhcp")
    stage.up(a="open", b="mdns", c="web", d=())
    four, six = Endpoint("01:00:5e:00:00:fb", "224.0.0.251"), Endpoint("33:33:00:00:00:fb", "ff02::fb")
    everybody = Endpoint(_EVERYBODY, "10.0.0.255")
    sent = {
        "mdns v4": frames.udp(stage.end_of("a", 4), four, 5353, 5353),
        "mdns v6": frames.udp(stage.end_of("a", 6), six, 5353, 5353),
        "broadcast": frames.udp(stage.end_of("a", 4), everybody, 5353, 5353),
    }
    other = {"other port": frames.udp(stage.end_of("a", 4), four, 5354, 5354)}
    arrived = stage.arrivals("a", sent | other, ["b", "c", "d", OTHER_HOST])
    everything_sent = {*sent, *other}
    expected = {"b": {*sent}, "c": set(), "d": everything_sent, OTHER_HOST: everything_sent}
    stage.must(arrived == expected, f"arrived {arrived}, expected {expected}")
    # From the network, the same.
    from_there = {"mdns": frames.udp(stage.end_of(OTHER_HOST, 4), four, 5353, 5353)}
    arrived = stage.arrivals(OTHER_HOST, from_there, ["a", "b", "c"])
    stage.must(arrived == {"a": {"mdns"}, "b": {"mdns"}, "c": set()}, f"from the network arrived {arrived}")


@scenario(
    "unknown-destination",
    "a frame for a MAC that nobody has leaves for the network and reaches no guest",
    differs="NORMAL floods it to every guest of the network",
)
def unknown_destination(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.up(a="open", b="open")
    nobody = Endpoint("fa:16:3e:00:00:99", "10.0.0.99")
    sent = {"udp": frames.udp(stage.end_of("a", 4), nobody, stage.source_port(), 80)}
    arrived = stage.arrivals("a", sent, ["b", OTHER_HOST])
    stage.must(arrived == {"b": set(), OTHER_HOST: {"udp"}}, f"arrived {arrived}")
