"""What a change opens and closes, from when the driver has returned."""

import time

from driver_level.groups import Rules, both, everything, out
from driver_level.host import FAMILIES, OTHER_HOST, Stage
from driver_level.scenarios import scenario
from harness import frames
from harness.machine import STREAM_PORT
from tests.calls import rule

_REVIVAL = "replies pass until the client speaks, and what was revoked never passes again"
_SILENCE_S = 0.4
# What the switch has let go of already may still be on its way through a pair of interfaces and a socket.
_ON_ITS_WAY_S = 0.1
# Of TCP, after some lost segments.
_RETRANSMISSION_S = 12


@scenario(
    "rule-added-and-removed",
    "a rule opens its ports when it comes and closes them when it goes, for new connections",
)
def rule_added_and_removed(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("some", *out())
    stage.up(a="open", b="some")
    for _ in range(2):
        stage.rules("some", *out(both("ingress", "tcp", 80), both("ingress", "icmp")))
        for family in FAMILIES:
            passes = stage.firsts("a", "b", family, tcp=(80,), ping=True)
            stage.judge(
                "a", "b", passes=passes, refused=stage.firsts("a", "b", family, tcp=(443,), udp=(80,))
            )
        stage.rules("some", *out(both("ingress", "tcp", 443)))
        for family in FAMILIES:
            passes = stage.firsts("a", "b", family, tcp=(443,))
            stage.judge(
                "a",
                "b",
                passes=passes,
                refused=stage.firsts("a", "b", family, tcp=(80,), udp=(80,), ping=True),
            )


@scenario(
    "group-of-a-port", "a port that changes its groups has the rules of the new ones and none of the old"
)
def group_of_a_port(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("web", *out(both("ingress", "tcp", 80)))
    stage.group("names", *out(both("ingress", "udp", 53)))
    stage.up(a="open", b="web")
    for groups in (("names",), ("names", "web"), ("web",), ()):
        stage.change("b", *groups)
        for family in FAMILIES:
            firsts = {
                "web": stage.firsts("a", "b", family, tcp=(80,)),
                "names": stage.firsts("a", "b", family, udp=(53,)),
            }
            passes = {key: frame for group in groups for key, frame in firsts[group].items()}
            refused = {
                key: frame for made in firsts.values() for key, frame in made.items() if key not in passes
            }
            stage.judge("a", "b", passes=passes, refused=refused)


class _Connections:
    """From a client to b, over both families: one to port 443, a download, and one to port 80 that lives on."""

    def __init__(self, stage: Stage, client: str) -> None:
        self._stage = stage
        self._client = stage.host.machines[client]
        self._server = stage.host.machines["b"]
        for family in FAMILIES:
            to = self._server.address(family)
            for name, port in (("goes", 443), ("stays", 80)):
                self._client.guest.ask("connect", name=f"{name}-{family}", to=to, port=port, timeout=4)
            self._client.guest.ask("download", name=f"pushed-{family}", to=to, port=STREAM_PORT)

    def end(self) -> None:
        for family in FAMILIES:
            for name in ("goes", "stays", "pushed"):
                self._client.guest.ask("end", name=f"{name}-{family}")

    def must_be_cut(self) -> None:
        """At once, whoever speaks; the other one carries on."""
        time.sleep(_ON_ITS_WAY_S)
        said = {}
        for family in FAMILIES:
            said[family] = frames.new_marker().hex()
            self._client.guest.ask("say", name=f"goes-{family}", marker=said[family])
        before = self._records()
        time.sleep(_SILENCE_S)
        heard = self._server.guest.ask("heard", markers=list(said.values()), until=[], timeout=0, grace=0)
        after = self._records()
        for family in FAMILIES:
            self._stage.must(said[family] not in heard, f"what the client says still arrives (v{family})")
            self._stage.must(
                after[family] == before[family], f"what the server says still arrives (v{family})"
            )
            self._must_carry("stays", family)

    def must_revive(self) -> None:
        """By TCP's own retransmissions."""
        before = self._records()
        deadline = time.monotonic() + _RETRANSMISSION_S
        while any(self._records()[family] == before[family] for family in FAMILIES):
            self._stage.must(
                time.monotonic() < deadline, "what was revoked and admitted again does not revive"
            )
            time.sleep(0.1)
        for family in FAMILIES:
            self._must_carry("goes", family)

    def must_all_carry(self) -> None:
        for family in FAMILIES:
            self._must_carry("goes", family)
            self._must_carry("stays", family)

    def _must_carry(self, name: str, family: int) -> None:
        carried = self._client.guest.ask("exchange", name=f"{name}-{family}", timeout=_RETRANSMISSION_S)
        self._stage.must(carried, f"the connection that {name} does not carry data (v{family})")

    def _records(self) -> dict[int, int]:
        return {
            family: self._client.guest.ask("count", name=f"pushed-{family}")["records"] for family in FAMILIES
        }


def _cut_and_revive(stage: Stage, client: str, group: str, full: Rules, less: Rules) -> None:
    connections = _Connections(stage, client)
    try:
        connections.must_all_carry()
        stage.rules(group, *less)
        connections.must_be_cut()
        stage.rules(group, *full)
        connections.must_revive()
    finally:
        connections.end()


def _server(*ports: int) -> Rules:
    return out(*(both("ingress", "tcp", port) for port in ports))


@scenario(
    "established-cut",
    "with its rule an established connection goes at once, in both directions, and comes back; others stay",
    differs=_REVIVAL,
)
def established_cut(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("server", *_server(80, 443, STREAM_PORT))
    stage.up(a="open", b="server")
    _cut_and_revive(stage, "a", "server", _server(80, 443, STREAM_PORT), _server(80))


@scenario("established-cut-from-network", "the same for a client of another host", differs=_REVIVAL)
def established_cut_from_network(stage: Stage) -> None:
    stage.group("server", *_server(80, 443, STREAM_PORT))
    stage.up(b="server")
    _cut_and_revive(stage, OTHER_HOST, "server", _server(80, 443, STREAM_PORT), _server(80))


@scenario(
    "established-cut-at-sender",
    "the same where the rule that goes is the client's, for what it sends",
    differs=_REVIVAL,
)
def established_cut_at_sender(stage: Stage) -> None:
    stage.group("open", *everything())
    full, less = [both("egress", "tcp", port) for port in (80, 443, STREAM_PORT)], both("egress", "tcp", 80)
    stage.group("client", *(each for rules in full for each in rules))
    stage.up(a="client", b="open")
    _cut_and_revive(stage, "a", "client", [each for rules in full for each in rules], less)


@scenario(
    "established-cut-with-member",
    "connections of a member go with it, those of another member stay, and so does what another rule admits",
    differs=_REVIVAL,
)
def established_cut_with_member(stage: Stage) -> None:
    clients = [both("ingress", "tcp", port, group="clients") for port in (443, STREAM_PORT)]
    stage.group("clients", *out())
    stage.group("open", *everything())
    stage.group("server", *out(*clients, both("ingress", "tcp", 80)))
    stage.describe(OTHER_HOST, "clients")
    stage.up(a="clients", b="server")
    gone, kept = _Connections(stage, OTHER_HOST), _Connections(stage, "a")
    try:
        gone.must_all_carry()
        stage.describe(OTHER_HOST, "open")
        stage.agent.members_changed("clients")
        gone.must_be_cut()
        kept.must_all_carry()
        stage.describe(OTHER_HOST, "clients")
        stage.agent.members_changed("clients")
        gone.must_revive()
    finally:
        gone.end()
        kept.end()


@scenario(
    "established-kept", "a connection that another rule admits too does not notice that the first one goes"
)
def established_kept(stage: Stage) -> None:
    stage.group("open", *everything())
    wide, exact = both("ingress", "tcp", (1, 65535)), both("ingress", "tcp", 80)
    stage.group("server", *out(wide, exact))
    b = stage.up(a="open", b="server")[1]
    talks = {
        f"talk{family}": {
            "who": "a",
            "do": "talk",
            "to": b.address(family),
            "port": 80,
            "interval": 0.01,
            "protocol": "tcp",
        }
        for family in FAMILIES
    }
    with stage.going(**talks) as figures:
        for rules in (out(exact), out(wide, exact), out(wide), out(exact)):
            stage.rules("server", *rules)
            time.sleep(0.1)
        stage.judge(
            "a",
            "b",
            passes=stage.firsts("a", "b", 4, tcp=(80,)),
            refused=stage.firsts("a", "b", 4, tcp=(81,)),
        )
    stage.must_have_gone_on(figures)


@scenario(
    "stateless-change",
    "a group that becomes stateless takes no answers in any more; stateful again, it does",
    differs="`stateful` is ignored",
)
def stateless_change(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("plain", *out())
    stage.up(a="open", b="plain")
    asks = stage.probes("b", "a", ("tcp", "udp"))
    stage.connect(passes=asks)
    for _ in range(2):
        stage.cloud.stateless.add("plain")
        stage.agent.rules_changed("plain")
        stage.connect(refused=asks)
        stage.cloud.stateless.remove("plain")
        stage.agent.rules_changed("plain")
        stage.connect(passes=asks, refused=stage.probes("a", "b", ("tcp", "udp")))


@scenario(
    "stateless-and-stateful",
    "where a port has both kinds of group, each rule keeps its kind",
    differs="`stateful` is ignored",
)
def stateless_and_stateful(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("kept", *both("ingress", "tcp", 80))
    stage.group("loose", *both("ingress", "udp", 80), *both("egress", "icmp"), stateless=True)
    stage.up(a="open", b=("kept", "loose"))
    for family in FAMILIES:
        passes = stage.firsts("a", "b", family, tcp=(80,), udp=(80,))
        stage.judge("a", "b", passes=passes, refused=stage.firsts("a", "b", family, tcp=(443,), udp=(443,)))
        stage.judge(
            "b",
            "a",
            passes=stage.firsts("b", "a", family, ping=True),
            refused=stage.firsts("b", "a", family, tcp=(80,)),
        )
    answered, unanswered = stage.probes("a", "b", ("tcp",)), stage.probes("a", "b", ("udp",))
    stage.connect(passes=answered, refused=unanswered + stage.probes("b", "a", ("ping",)))


@scenario(
    "port-security-off",
    "port security goes and comes as an update: without it a port does as it likes, with it as before",
)
def port_security_off(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("quiet", *out())
    a, b = stage.up(a="open", b="quiet")
    foreign = frames.Endpoint("fa:16:3e:00:00:77", "10.0.0.77")

    def spoofed() -> dict[str, frames.Frame]:
        ends = foreign, stage.end_of("a", 4)
        return {
            "spoofed udp": frames.udp(*ends, stage.source_port(), 80),
            "spoofed arp": frames.arp_reply(foreign.mac, foreign.ip, ends[1]),
        }

    for _ in range(2):
        for family in FAMILIES:
            stage.judge("a", "b", refused=stage.firsts("a", "b", family, tcp=(80,), udp=(80,), ping=True))
        stage.judge("b", "a", refused=spoofed())
        stage.change("b", security=False)
        for family in FAMILIES:
            stage.judge("a", "b", passes=stage.firsts("a", "b", family, tcp=(80,), udp=(80,), ping=True))
        stage.judge("b", "a", passes=spoofed())
        stage.connect(passes=stage.probes("a", "b") + stage.probes("b", "a"))
        stage.change("b", "quiet")


@scenario(
    "port-security-never",
    "a port that is plugged in without port security is open from its first batch, its neighbours are not",
)
def port_security_never(stage: Stage) -> None:
    stage.group("quiet", *out())
    stage.describe("b", security=False)
    stage.up(a="quiet", b=())
    for family in FAMILIES:
        stage.judge("a", "b", passes=stage.firsts("a", "b", family, tcp=(80,), udp=(80,), ping=True))
        stage.judge("b", "a", refused=stage.firsts("b", "a", family, tcp=(80,), udp=(80,), ping=True))


@scenario(
    "unknown-port",
    "a port of which nothing was told is closed, also to its neighbours, and opens when it is told of",
    differs="it is open through NORMAL until then",
)
def unknown_port(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.up(a="open", b="open")
    stage.describe("c", "open")
    stage.plug_in("c")
    for family in FAMILIES:
        stage.judge(
            "a", "c", refused=stage.firsts("a", "c", family, tcp=(80,), udp=(80,), ping=True), witness="b"
        )
        stage.judge(
            "c", "a", "b", refused=stage.firsts("c", "a", family, tcp=(80,), udp=(80,), ping=True), deaf=True
        )
    stage.judge(
        "c",
        "a",
        "b",
        refused={"arp": frames.arp_reply(stage.end_of("c", 4).mac, "10.0.0.3", stage.end_of("a", 4))},
        deaf=True,
    )
    stage.agent.plug(stage.ids["c"])
    stage.connect(passes=stage.probes("a", "c") + stage.probes("c", "b"))


@scenario(
    "removed-port",
    "a port that the agent has given up is closed, its connections too, though its interface is still there",
    differs="it is open through NORMAL; only the agent's dead VLAN closes it",
)
def removed_port(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("server", *_server(80, 443, STREAM_PORT))
    stage.up(a="open", b="server", c="open")
    connections = _Connections(stage, "a")
    try:
        del stage.cloud.ports[stage.ids["b"]]
        stage.agent.unplug(stage.ids["b"])
        for family in FAMILIES:
            stage.judge(
                "a", "b", refused=stage.firsts("a", "b", family, tcp=(80,), udp=(80,), ping=True), witness="c"
            )
            stage.judge(
                "b",
                "a",
                "c",
                refused=stage.firsts("b", "a", family, tcp=(80,), udp=(80,), ping=True),
                deaf=True,
            )
        for family in FAMILIES:
            carried = stage.host.machines["a"].guest.ask("exchange", name=f"stays-{family}", timeout=1)
            stage.must(not carried, f"an established connection outlived its port (v{family})")
    finally:
        connections.end()


@scenario(
    "deleted-port",
    "a port that was deleted looks like one of the network while its interface is there: it is not opened",
    differs="it is opened as a trusted port; only the agent's dead VLAN closes it",
)
def deleted_port(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.up(a="open", b="open", c="open")
    del stage.cloud.ports[stage.ids["b"]]
    stage.agent.delete(stage.ids["b"])
    for _ in range(2):
        stage.agent.plug(stage.ids["b"])
        for family in FAMILIES:
            stage.judge(
                "a", "b", refused=stage.firsts("a", "b", family, tcp=(80,), udp=(80,), ping=True), witness="c"
            )
            stage.judge(
                "b",
                "a",
                "c",
                refused=stage.firsts("b", "a", family, tcp=(80,), udp=(80,), ping=True),
                deaf=True,
            )


@scenario(
    "plugged-again", "an interface that goes and comes back, with another port number, is filtered as before"
)
def plugged_again(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("web", *out(both("ingress", "tcp", 80)))
    stage.up(a="open", b="web", c="open")
    for _ in range(2):
        before = stage.ofport("tap-b")
        stage.pull_out("b")
        stage.agent.unplug(stage.ids["b"])
        stage.plug_in("b")
        stage.agent.plug(stage.ids["b"])
        stage.must(stage.ofport("tap-b") != before, "the port number is the same: this shows nothing")
        for family in FAMILIES:
            passes = stage.firsts("a", "b", family, tcp=(80,))
            stage.judge(
                "a",
                "b",
                passes=passes,
                refused=stage.firsts("a", "b", family, tcp=(81,), udp=(80,), ping=True),
            )


@scenario(
    "provider-rules",
    "a rule of the operator, told with the port, opens nothing: DHCP passes anyway",
)
def provider_rules(stage: Stage) -> None:
    stage.group("quiet", *out())
    stage.describe("b", "quiet")["security_group_rules"] = [rule("ingress", "udp", 68, cidr="10.0.0.4/32")]
    stage.describe("d", owner="network:dhcp")
    stage.up(b="quiet", d=())
    answer = {"dhcp": frames.dhcp(stage.end_of("d", 4), stage.end_of("b", 4).mac, from_server=True)}
    stage.judge("d", "b", passes=answer, refused=stage.firsts("d", "b", 4, udp=(69,), tcp=(68,)))
