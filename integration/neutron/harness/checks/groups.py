"""Groups, rules and members."""

import time

from harness.checks import check
from harness.frames import Endpoint, tcp
from harness.world import FAMILIES, OPEN_PORT, CheckFailed, Probe, World


@check(
    "default-group",
    "members of the default group reach each other, outsiders do not reach them; they reach everyone",
)
def default_group(world: World) -> None:
    a, b, r = world["a"], world["b"], world["r"]
    within = world.probes(a, b) + world.probes(b, a)
    world.settle(passes=within + world.probes(a, r), refused=world.probes(r, a) + world.probes(r, b))


@check("network-types", "the same holds on flat and tunnel networks")
def network_types(world: World) -> None:
    f, s, x, y = world["f"], world["s"], world["x"], world["y"]
    world.settle(
        passes=world.probes(x, y) + world.probes(y, x) + world.probes(f, s), refused=world.probes(s, f)
    )


@check(
    "rule-added-and-removed",
    "a rule opens its protocol and port, and nothing else; removed, it is closed to new connections",
)
def rule_added_and_removed(world: World) -> None:
    c, r, b = world["c"], world["r"], world["b"]
    group = world.group("rules")
    with world.assigned(c, [group]):
        world.settle(refused=world.probes(r, c, port=443) + world.probes(b, c, port=443))
        others = world.probes(r, c, ("tcp", "udp"), 22)
        rules = world.allow(group, "tcp", 443)
        web = world.probes(r, c, ("tcp",), 443) + world.probes(b, c, ("tcp",), 443)
        names = world.probes(r, c, ("udp",), 443)
        pings = world.probes(r, c, ("ping",))
        world.settle(passes=web, refused=others + names + pings)
        more = world.allow(group, "udp", 443)
        more += world.allow(group, "icmp")
        world.settle(passes=web + names + pings, refused=others)
        world.disallow(rules)
        world.settle(passes=names + pings, refused=others + web)
        world.disallow(more)
        world.settle(refused=web + names + pings)


@check(
    "revocation",
    "an established connection goes with its rule, whoever speaks; one that another rule admits stays",
)
def revocation(world: World) -> None:
    c, r = world["c"], world["r"]
    group = world.group("revoked")
    revoked = world.allow(group, "tcp", 443) + world.allow(group, "tcp", 8000)
    world.allow(group, "tcp", OPEN_PORT)
    with world.assigned(c, [group]):
        world.settle(passes=world.probes(r, c, ("tcp",), 443) + world.probes(r, c, ("tcp",), OPEN_PORT))
        for family in FAMILIES:
            to = c.address(family)
            r.guest.ask("connect", name=f"goes-{family}", to=to, port=443, timeout=5)
            r.guest.ask("connect", name=f"stays-{family}", to=to, port=OPEN_PORT, timeout=5)
            r.guest.ask("download", name=f"pushed-{family}", to=to, port=8000)
        try:
            world.disallow(revoked)
            world.settle(refused=world.probes(r, c, ("tcp",), 443))
            _must_be_cut(world)
        finally:
            for family in FAMILIES:
                for name in ("goes", "stays", "pushed"):
                    r.guest.ask("end", name=f"{name}-{family}")


def _must_be_cut(world: World) -> None:
    r = world["r"]
    for family in FAMILIES:
        if not r.guest.ask("exchange", name=f"stays-{family}", timeout=3):
            raise CheckFailed(f"the connection that another rule still admits was cut (v{family})")
        if r.guest.ask("exchange", name=f"goes-{family}", timeout=2):
            raise CheckFailed(f"an established connection outlived its rule (v{family})")
        before = r.guest.ask("count", name=f"pushed-{family}")["records"]
        time.sleep(1)
        after = r.guest.ask("count", name=f"pushed-{family}")["records"]
        if after != before:
            raise CheckFailed(
                f"a download outlived its rule: {after - before} records in a second (v{family})"
            )


@check(
    "member-on-another-host",
    "a port of another host that joins a remote group is let in; once it leaves, all of it is refused",
)
def member_on_another_host(world: World) -> None:
    c, m = world["c"], world["m"]
    members = world.group("members")
    group = world.group("for-members")
    world.allow(group, None, remote_group_id=members)
    everything = world.probes(m, c)
    with world.assigned(c, [group]):
        world.settle(refused=everything)
        with world.assigned(m, [members]):
            world.settle(passes=everything, refused=world.probes(world["r"], c))
            m.guest.ask("connect", name="member", to=c.v4, port=22, timeout=5)
            if not m.guest.ask("exchange", name="member", timeout=3):
                raise CheckFailed("an established connection of a member does not work")
        world.settle(refused=everything)
        try:
            if m.guest.ask("exchange", name="member", timeout=2):
                raise CheckFailed("an established connection outlived the membership")
        finally:
            m.guest.ask("end", name="member")


@check(
    "address-group",
    "addresses of an address group are let in from when they are in it until they are taken out",
)
def address_group(world: World) -> None:
    c, r = world["c"], world["r"]
    addresses = world.api.create("address_group", name=world.name("addresses"), addresses=[f"{r.v4}/32"])[
        "id"
    ]
    group = world.group("for-addresses")
    world.allow(group, "tcp", 22, remote_address_group_id=addresses)
    v4 = world.probes(r, c, ("tcp",), 22, (4,))
    v6 = world.probes(r, c, ("tcp",), 22, (6,))
    other = world.probes(world["m"], c, ("tcp",), 22)
    with world.assigned(c, [group]):
        world.settle(passes=v4, refused=v6 + other)
        world.api.change_addresses(addresses, add=[f"{r.v6}/128"])
        world.settle(passes=v4 + v6, refused=other)
        world.api.change_addresses(addresses, remove=[f"{r.v4}/32"])
        world.settle(passes=v6, refused=v4 + other)


@check(
    "egress-rules",
    "a group without egress rules lets nothing out but answers; an egress rule opens what it names",
)
def egress_rules(world: World) -> None:
    c, r = world["c"], world["r"]
    group = world.group("no-egress")
    _remove_egress_rules(world, group)
    world.allow(group, "tcp", 80)
    answers = world.probes(r, c, ("tcp",), 80)
    with world.assigned(c, [group]):
        world.settle(passes=answers, refused=world.probes(c, r))
        world.allow(group, "udp", 443, direction="egress")
        named = world.probes(c, r, ("udp",), 443)
        world.settle(passes=answers + named, refused=world.probes(c, r, ("tcp", "ping"), 443))


@check("stateless-group", "a stateless group lets in and out what its rules name, without connections")
def stateless_group(world: World) -> None:
    c, r = world["c"], world["r"]
    group = world.group("stateless", stateful=False)
    world.allow(group, "tcp", OPEN_PORT)
    with world.assigned(c, [group]):
        world.settle(
            passes=world.probes(r, c, ("tcp",), OPEN_PORT), refused=world.probes(r, c, ("tcp", "udp"), 22)
        )


@check(
    "stateless-answers",
    "in a stateless group the answer needs a rule as well",
    differs={"openvswitch": "it takes every group for stateful"},
)
def stateless_answers(world: World) -> None:
    c, r = world["c"], world["r"]
    group = world.group("one-way", stateful=False)
    _remove_egress_rules(world, group)
    world.allow(group, "tcp", OPEN_PORT)
    frames = {
        f"first packet v{family}": tcp(
            Endpoint(r.mac, r.address(family)), Endpoint(c.mac, c.address(family)), 40000, OPEN_PORT, syn=True
        )
        for family in FAMILIES
    }
    web = world.probes(r, c, ("tcp",), OPEN_PORT)
    with world.assigned(c, [group]):
        world.settle(refused=web, within_s=10)
        world.settle_frames(r, [c], passes=frames)
        world.allow(group, "tcp", direction="egress")
        world.settle(passes=web)


@check(
    "address-pairs",
    "what is in no pair is refused; with an allowed pair it passes, and its address counts as a member's",
)
def address_pairs(world: World) -> None:
    c, d, r = world["c"], world["a"], world["r"]
    pairs = {4: "10.77.0.150", 6: "fd77::150"}
    for address in pairs.values():
        c.add_address(address)
    group = world.group("for-guards")
    world.allow(group, "tcp", 22, remote_group_id=world.guard_group)
    outward = [Probe("c", "r", "tcp", r.address(family), 22, pairs[family]) for family in FAMILIES]
    as_member = [Probe("c", "a", "tcp", d.address(family), 22, pairs[family]) for family in FAMILIES]
    inward = [Probe("r", "c", "tcp", pairs[family], OPEN_PORT) for family in FAMILIES]
    port = c.port or ""
    with world.assigned(d, [group]):
        world.settle(passes=world.probes(c, d, ("tcp",)), refused=outward + as_member)
        world.api.update(
            "port", port, allowed_address_pairs=[{"ip_address": address} for address in pairs.values()]
        )
        world.settle(passes=outward + as_member + inward)
        world.api.update("port", port, allowed_address_pairs=[])
        world.settle(passes=world.probes(c, d, ("tcp",)), refused=outward + as_member)


def _remove_egress_rules(world: World, group: str) -> None:
    """A new group comes with rules that let everything out."""
    rules = world.api.get("security_group", group)["security_group_rules"]
    world.disallow(rule["id"] for rule in rules if rule["direction"] == "egress")
