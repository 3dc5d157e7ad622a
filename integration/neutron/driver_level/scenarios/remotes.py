"""Groups as remotes."""

from driver_level.groups import both, everything, out
from driver_level.host import FAMILIES, OTHER_HOST, Stage
from driver_level.scenarios import scenario


def _is_member(stage: Stage, source: str, is_one: bool) -> None:
    """Whether b takes a new connection of it to port 80, by packets of both families."""
    for family in FAMILIES:
        new = stage.firsts(source, "b", family, tcp=(80,))
        others = stage.firsts(source, "b", family, tcp=(81,), udp=(80,))
        stage.judge(source, "b", passes=new if is_one else {}, refused=others if is_one else new | others)


def _server(stage: Stage, **remote: str) -> None:
    stage.group("open", *everything())
    stage.group("clients", *out())
    stage.group("server", *out(both("ingress", "tcp", 80, **remote)))


@scenario("remote-group", "members of the group a rule names are let in, ports of other groups are not")
def remote_group(stage: Stage) -> None:
    _server(stage, group="clients")
    stage.up(a="clients", b="server", c="open")
    _is_member(stage, "a", True)
    _is_member(stage, "c", False)
    stage.connect(passes=stage.probes("a", "b", ("tcp",)), refused=stage.probes("c", "b"))


@scenario(
    "own-group", "members of Neutron's default group reach each other by everything, others do not reach them"
)
def own_group(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("default", *out(both("ingress", group="default")))
    stage.up(a="default", b="default", c="open")
    stage.connect(
        passes=stage.probes("a", "b") + stage.probes("b", "a") + stage.probes("a", "c"),
        refused=stage.probes("c", "a"),
    )


@scenario(
    "member-joins-and-leaves", "a port of this host is let in from when it joins the group until it leaves it"
)
def member_joins_and_leaves(stage: Stage) -> None:
    _server(stage, group="clients")
    stage.up(a="clients", b="server", c="open")
    _is_member(stage, "c", False)
    for _ in range(2):
        stage.change("c", "open", "clients")
        stage.agent.members_changed("clients")
        _is_member(stage, "c", True)
        stage.change("c", "open")
        stage.agent.members_changed("clients")
        _is_member(stage, "c", False)
        _is_member(stage, "a", True)


@scenario(
    "member-elsewhere", "the same for a port of another host, of which the driver hears as an address alone"
)
def member_elsewhere(stage: Stage) -> None:
    _server(stage, group="clients")
    stage.up(a="clients", b="server")
    _is_member(stage, OTHER_HOST, False)
    for _ in range(2):
        stage.describe(OTHER_HOST, "clients")
        stage.agent.members_changed("clients")
        _is_member(stage, OTHER_HOST, True)
        _is_member(stage, "a", True)
        stage.describe(OTHER_HOST, "open")
        stage.agent.members_changed("clients")
        _is_member(stage, OTHER_HOST, False)


@scenario("remote-group-egress", "a rule that names a group for what is sent lets out to its members alone")
def remote_group_egress(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("servers", *everything())
    stage.group("narrow", *both("egress", "tcp", 80, group="servers"))
    stage.up(a="narrow", b="servers", c="open")
    for family in FAMILIES:
        passes = stage.firsts("a", "b", family, tcp=(80,))
        stage.judge("a", "b", passes=passes, refused=stage.firsts("a", "b", family, tcp=(81,), udp=(80,)))
        stage.judge("a", "c", refused=stage.firsts("a", "c", family, tcp=(80,)))
    stage.change("c", "servers")
    stage.agent.members_changed("servers")
    stage.connect(passes=stage.probes("a", "c", ("tcp",)))


@scenario(
    "empty-group",
    "a rule whose group has no members matches nobody, and one without members of a family nobody of that",
)
def empty_group(stage: Stage) -> None:
    _server(stage, group="nobody")
    stage.group("half", *out(both("ingress", "tcp", 80, group="four")))
    stage.describe("d", "four")["fixed_ips"].pop()
    stage.up(a="open", b="server", c="half", d="four")
    _is_member(stage, "a", False)
    stage.judge("d", "c", passes=stage.firsts("d", "c", 4, tcp=(80,)))
    stage.judge("a", "c", refused=stage.firsts("a", "c", 4, tcp=(80,)) | stage.firsts("a", "c", 6, tcp=(80,)))


@scenario("address-group", "an address group is its addresses and prefixes of both families, as they are now")
def address_group(stage: Stage) -> None:
    _server(stage, address_group="offices")
    stage.cloud.address_groups["offices"] = ["10.0.0.1/32", "fd00::1/128"]
    stage.up(a="open", b="server", c="open", d="open")
    _is_member(stage, "a", True)
    _is_member(stage, "c", False)
    stage.cloud.address_groups["offices"] = ["10.0.0.2/31", "fd00::2/127"]
    stage.agent.address_group_changed("offices")
    _is_member(stage, "a", False)
    _is_member(stage, "c", True)
    _is_member(stage, "d", False)
    stage.cloud.address_groups["offices"] = []
    stage.agent.address_group_changed("offices")
    _is_member(stage, "c", False)
