"""Whose addresses a guest may use."""

from driver_level.groups import everything
from driver_level.host import FAMILIES, Stage
from driver_level.scenarios import scenario
from harness import frames
from harness.frames import Endpoint, Frame

_FOREIGN_MAC = "fa:16:3e:00:00:77"
_ADDRESS = {4: "10.0.0.50", 6: "fd00::50"}


def _opened(stage: Stage, *names: str) -> None:
    stage.group("open", *everything())
    stage.up(**dict.fromkeys(names, "open"))


def _from(stage: Stage, mac: str, address: str, to: str = "b") -> dict[str, Frame]:
    """First packets of a new connection, from whoever this is."""
    family = 6 if ":" in address else 4
    ends = Endpoint(mac, address), stage.end_of(to, family)
    return {
        f"tcp from {address} at {mac}": frames.tcp(*ends, stage.source_port(), 80, syn=True),
        f"udp from {address} at {mac}": frames.udp(*ends, stage.source_port(), 80),
        f"ping from {address} at {mac}": frames.ping(*ends),
    }


def _own(stage: Stage) -> dict[str, Frame]:
    a = stage.host.machines["a"]
    return {**_from(stage, a.mac, a.v4), **_from(stage, a.mac, a.v6)}


@scenario(
    "spoofed-mac", "nothing is sent from another MAC, be it nobody's or the MAC of a port on the same bridge"
)
def spoofed_mac(stage: Stage) -> None:
    _opened(stage, "a", "b", "c")
    a, c = stage.host.machines["a"], stage.host.machines["c"]
    for mac in (_FOREIGN_MAC, c.mac):
        for address in (a.v4, a.v6):
            stage.judge("a", "b", refused=_from(stage, mac, address))
    answer = frames.arp_reply(_FOREIGN_MAC, a.v4, stage.end_of("b", 4))
    odd = frames.arp_reply(a.mac, a.v4, stage.end_of("b", 4), frame_source=_FOREIGN_MAC)
    stage.judge("a", "b", passes=_own(stage), refused={"arp": answer, "arp in a frame of another": odd})


@scenario(
    "spoofed-ip",
    "nothing is sent from another IPv4 or IPv6 address, be it nobody's or one of a port on the same bridge",
)
def spoofed_ip(stage: Stage) -> None:
    _opened(stage, "a", "b", "c")
    a, c = stage.host.machines["a"], stage.host.machines["c"]
    for address in (c.v4, c.v6, *_ADDRESS.values(), c.link_local, "0.0.0.0"):
        stage.judge("a", "b", refused=_from(stage, a.mac, address))
    stage.judge("a", "b", passes=_own(stage) | _from(stage, a.mac, a.link_local))


@scenario(
    "spoofed-arp",
    "an ARP message whose sender is not a pair of the port is refused, also to a single receiver",
)
def spoofed_arp(stage: Stage) -> None:
    _opened(stage, "a", "b", "c")
    a, b, c = (stage.host.machines[name] for name in "abc")
    everybody = Endpoint("ff:ff:ff:ff:ff:ff", b.v4)
    for target in (Endpoint(b.mac, b.v4), everybody):
        refused = {
            f"{c.v4} is at a": frames.arp_reply(a.mac, c.v4, target),
            f"{_ADDRESS[4]} is at a": frames.arp_reply(a.mac, _ADDRESS[4], target),
        }
        stage.judge("a", "b", passes={"own": frames.arp_reply(a.mac, a.v4, target)}, refused=refused)


@scenario(
    "spoofed-arp-hardware",
    "an ARP message must not name another MAC than the frame is from",
    differs="the hardware address in the message is not looked at",
)
def spoofed_arp_hardware(stage: Stage) -> None:
    _opened(stage, "a", "b")
    a = stage.host.machines["a"]
    lie = frames.arp_reply(_FOREIGN_MAC, a.v4, stage.end_of("b", 4), frame_source=a.mac)
    stage.judge("a", "b", refused={f"{a.v4} is at {_FOREIGN_MAC}": lie})


@scenario(
    "spoofed-na",
    "a neighbour advertisement for an address that is not the port's is refused, one for its own passes",
)
def spoofed_na(stage: Stage) -> None:
    _opened(stage, "a", "b", "c")
    a, c = stage.host.machines["a"], stage.host.machines["c"]
    ends = stage.end_of("a", 6), stage.end_of("b", 6)
    claims = (c.v6, _ADDRESS[6], c.link_local)
    refused = {f"claim of {address}": frames.neighbour_advertisement(*ends, address) for address in claims}
    passes = {
        f"claim of {address}": frames.neighbour_advertisement(*ends, address)
        for address in (a.v6, a.link_local)
    }
    stage.judge("a", "b", passes=passes, refused=refused)


@scenario(
    "address-detection",
    "a guest may ask whether anybody has its address already: ARP probe, duplicate address detection",
    differs="both are dropped",
)
def address_detection(stage: Stage) -> None:
    _opened(stage, "a", "b")
    a = stage.host.machines["a"]
    group = Endpoint("33:33:ff:00:00:01", "ff02::1:ff00:1")
    asks = {
        "arp probe": frames.arp_probe(a.mac, a.v4),
        "dad": frames.neighbour_solicitation(Endpoint(a.mac, "::"), group, a.v6),
    }
    stage.judge(
        "a", "b", passes=asks, refused={"probe from another MAC": frames.arp_probe(_FOREIGN_MAC, a.v4)}
    )


@scenario(
    "address-pair",
    "an allowed address pair may be used with the port's MAC, for IP, ARP and ND, until it is taken away",
)
def address_pair(stage: Stage) -> None:
    _opened(stage, "a", "b")
    a = stage.host.machines["a"]
    ends = stage.end_of("a", 6), stage.end_of("b", 6)

    def told() -> dict[str, Frame]:
        made = {**_from(stage, a.mac, _ADDRESS[4]), **_from(stage, a.mac, _ADDRESS[6])}
        made["arp"] = frames.arp_reply(a.mac, _ADDRESS[4], stage.end_of("b", 4))
        return made | {"na": frames.neighbour_advertisement(*ends, _ADDRESS[6])}

    stage.judge("a", "b", refused=told())
    stage.change("a", "open", pairs=[(_ADDRESS[4], None), (_ADDRESS[6], None)])
    stage.judge("a", "b", passes=told() | _own(stage), refused=_from(stage, _FOREIGN_MAC, _ADDRESS[4]))
    stage.change("a", "open")
    stage.judge("a", "b", passes=_own(stage), refused=told())


@scenario(
    "address-pair-mac",
    "a pair with a MAC of its own allows that MAC with that address, and no mixture of the two",
)
def address_pair_mac(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.describe("a", "open", pairs=[(_ADDRESS[4], _FOREIGN_MAC), (_ADDRESS[6], _FOREIGN_MAC)])
    stage.up(a="open", b="open")
    a = stage.host.machines["a"]
    for family in FAMILIES:
        stage.judge("a", "b", passes=_from(stage, _FOREIGN_MAC, _ADDRESS[family]) | _own(stage))
        mixed = _from(stage, _FOREIGN_MAC, a.address(family)) | _from(stage, a.mac, _ADDRESS[family])
        stage.judge("a", "b", refused=mixed)
    # What is for that MAC is delivered there, too.
    to = Endpoint(_FOREIGN_MAC, _ADDRESS[4])
    stage.judge(
        "b", "a", passes={"udp to the pair": frames.udp(stage.end_of("b", 4), to, stage.source_port(), 80)}
    )


@scenario("address-pair-prefix", "a pair with a prefix allows every address in it and none beside it")
def address_pair_prefix(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.describe("a", "open", pairs=[("10.0.0.32/27", None), ("fd00::/65", None)])
    stage.up(a="open", b="open")
    a = stage.host.machines["a"]
    for inside in ("10.0.0.32", "10.0.0.63", "fd00::50", "fd00::7fff:ffff:ffff:ffff"):
        stage.judge("a", "b", passes=_from(stage, a.mac, inside))
    for outside in ("10.0.0.31", "10.0.0.64", "fd00::8000:0:0:0", "fd00:0:0:1::1"):
        stage.judge("a", "b", refused=_from(stage, a.mac, outside))
