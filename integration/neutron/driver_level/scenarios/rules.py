"""What a rule opens, and what it does not."""

from driver_level.groups import both, everything, out
from driver_level.host import FAMILIES, Stage
from driver_level.scenarios import scenario
from harness import frames
from tests.calls import rule


@scenario(
    "default-deny",
    "a port without ingress rules takes no new connection of any protocol, and gets answers to its own",
)
def default_deny(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("quiet", *out())
    stage.up(a="open", b="quiet")
    for family in FAMILIES:
        ends = (stage.end_of("a", family), stage.end_of("b", family))
        refused = stage.firsts("a", "b", family, tcp=(22, 80), udp=(53, 80), ping=True)
        refused |= {
            f"protocol {number} v{family}": frames.packet(*ends, number) for number in (47, 89, 112, 253)
        }
        refused["sctp"] = frames.sctp_init(*ends, stage.source_port(), 80)
        stage.judge("a", "b", refused=refused)
        stage.judge("b", "a", passes=stage.firsts("b", "a", family, tcp=(22, 80), udp=(53, 80), ping=True))
    stage.connect(passes=stage.probes("b", "a"), refused=stage.probes("a", "b"))


@scenario("no-group", "a port without any group neither sends nor receives IP")
def no_group(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.up(a="open", b=(), c="open")
    for family in FAMILIES:
        stage.judge("a", "b", refused=stage.firsts("a", "b", family, tcp=(80,), udp=(80,), ping=True))
        stage.judge("b", "a", refused=stage.firsts("b", "a", family, tcp=(80,), udp=(80,), ping=True))
    stage.connect(passes=stage.probes("a", "c"))


@scenario("egress-rules", "where the rules that let everything out are gone, only what others name is sent")
def egress_rules(stage: Stage) -> None:
    stage.group("narrow", *both("egress", "tcp", 80), rule("egress", "udp", 53, cidr="10.0.0.2/32"))
    stage.group("open", *everything())
    stage.up(a="narrow", b="open", c="open")
    for family in FAMILIES:
        passes = stage.firsts("a", "b", family, tcp=(80,), udp=(53,) if family == 4 else ())
        refused = stage.firsts("a", "b", family, tcp=(79, 81, 443), udp=(80,), ping=True)
        stage.judge("a", "b", passes=passes, refused=refused)
    stage.judge("a", "c", refused=stage.firsts("a", "c", 4, udp=(53,)))
    stage.connect(passes=stage.probes("a", "b", ("tcp",)), refused=stage.probes("a", "b", ("udp", "ping")))


@scenario("protocol-and-family", "a rule opens its protocol in its family, not the same port of another")
def protocol_and_family(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("four", *out(), rule("ingress", "tcp", 80), rule("ingress", "udp", 53))
    stage.group(
        "six", *out(), rule("ingress", "tcp", 80, version="IPv6"), rule("ingress", "udp", 53, version="IPv6")
    )
    stage.up(a="open", b="four", c="six")
    for family in FAMILIES:
        right, wrong = ("b", "c") if family == 4 else ("c", "b")
        passes = stage.firsts("a", right, family, tcp=(80,), udp=(53,))
        stage.judge(
            "a",
            right,
            passes=passes,
            refused=stage.firsts("a", right, family, tcp=(53, 22), udp=(80,), ping=True),
        )
        stage.judge(
            "a", wrong, refused=stage.firsts("a", wrong, family, tcp=(80, 53), udp=(53, 80), ping=True)
        )


@scenario(
    "port-range",
    "the first and the last port of a range pass, their neighbours do not; so do ranges at odd numbers",
)
def port_range(stage: Stage) -> None:
    stage.group("open", *everything())
    ranges = (
        both("ingress", "tcp", (1000, 1999)),
        both("ingress", "udp", (5001, 5006)),
        both("ingress", "tcp", 65535),
    )
    stage.group("ranges", *out(*ranges))
    stage.up(a="open", b="ranges")
    for family in FAMILIES:
        passes = stage.firsts("a", "b", family, tcp=(1000, 1023, 1024, 1999, 65535), udp=range(5001, 5007))
        refused = stage.firsts("a", "b", family, tcp=(1, 999, 2000, 5001, 65534), udp=(1000, 5000, 5007))
        stage.judge("a", "b", passes=passes, refused=refused)


@scenario(
    "half-ranges",
    "0 to 32767 and 32768 to 65535 are each a half, and together everything",
    differs="a range that begins with port 0 opens every port",
)
def half_ranges(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("lower", *out(both("ingress", "udp", (0, 32767)), both("ingress", "tcp", (0, 32767))))
    stage.group("upper", *out(both("ingress", "udp", (32768, 65535)), both("ingress", "tcp", (32768, 65535))))
    stage.up(a="open", b="lower", c="upper", d=("lower", "upper"))
    low, high = (1, 1024, 32767), (32768, 40000, 65535)
    for family in FAMILIES:
        for name, inside, outside in (("b", low, high), ("c", high, low), ("d", low + high, ())):
            passes = stage.firsts("a", name, family, tcp=inside, udp=inside)
            stage.judge(
                "a",
                name,
                passes=passes,
                refused=stage.firsts("a", name, family, tcp=outside, udp=outside, ping=True),
            )


@scenario("icmp-query", "a rule for an echo request opens that alone, and its answer")
def icmp_query(stage: Stage) -> None:
    stage.group("open", *everything())
    echo = [rule("ingress", "icmp", (8, 0)), rule("ingress", "ipv6-icmp", (128, 0), version="IPv6")]
    stage.group("echo", *out(), *echo)
    stage.group("clock", *out(), rule("ingress", "icmp", (13, 13)) | {"port_range_max": 0})
    stage.up(a="open", b="echo", c="clock")
    ends = stage.end_of("a", 4), stage.end_of("b", 4)
    stage.judge(
        "a",
        "b",
        passes=stage.firsts("a", "b", 4, ping=True),
        refused={"timestamp": frames.icmp(*ends, 13, 0)},
    )
    stage.judge(
        "a", "b", passes=stage.firsts("a", "b", 6, ping=True), refused=stage.firsts("a", "b", 6, udp=(128,))
    )
    clock = {"timestamp": frames.icmp(ends[0], stage.end_of("c", 4), 13, 0)}
    stage.judge("a", "c", passes=clock, refused=stage.firsts("a", "c", 4, ping=True))
    stage.connect(passes=stage.probes("a", "b", ("ping",)), refused=stage.probes("a", "b", ("tcp", "udp")))


@scenario(
    "icmp-type-and-code",
    "errors that belong to no connection pass where a rule names their type and code, or their type alone",
    differs="what conntrack calls invalid is dropped, whatever the rules say",
)
def icmp_type_and_code(stage: Stage) -> None:
    stage.group("open", *everything())
    exact = [rule("ingress", "icmp", (3, 1)), rule("ingress", "ipv6-icmp", (1, 4), version="IPv6")]
    types = [_type_alone("icmp", 11, "IPv4"), _type_alone("ipv6-icmp", 3, "IPv6")]
    stage.group("errors", *out(), *exact, *types)
    stage.up(a="open", b="errors")
    for family, passing, refused in (
        (4, ((3, 1), (11, 0), (11, 1)), ((3, 0), (3, 3), (5, 1), (8, 0), (12, 0))),
        (6, ((1, 4), (3, 0), (3, 1)), ((1, 0), (1, 3), (2, 0), (4, 0), (128, 0))),
    ):
        ends = stage.end_of("a", family), stage.end_of("b", family)
        made = {
            f"icmp {kind}/{code} v{family}": frames.icmp(*ends, kind, code)
            for kind, code in (*passing, *refused)
        }
        right = {key: made[key] for key in list(made)[: len(passing)]}
        stage.judge("a", "b", passes=right, refused={key: made[key] for key in made if key not in right})


def _type_alone(protocol: str, kind: int, version: str) -> dict:
    told = rule("ingress", protocol, kind, version=version)
    del told["port_range_max"]
    return told


@scenario("protocol-numbers", "a rule for a protocol without ports opens that number; one for SCTP its port")
def protocol_numbers(stage: Stage) -> None:
    stage.group("open", *everything())
    named = both("ingress", "112"), both("ingress", "gre"), both("ingress", "sctp", 5000)
    stage.group("some", *out(*named), rule("ingress", "esp"))
    stage.up(a="open", b="some")
    for family in FAMILIES:
        ends = stage.end_of("a", family), stage.end_of("b", family)
        right = (112, 47, 50) if family == 4 else (112, 47)
        passes = {f"protocol {number} v{family}": frames.packet(*ends, number) for number in right}
        passes[f"sctp 5000 v{family}"] = frames.sctp_init(*ends, stage.source_port(), 5000)
        refused = {f"protocol {number} v{family}": frames.packet(*ends, number) for number in (89, 103, 253)}
        refused[f"sctp 5001 v{family}"] = frames.sctp_init(*ends, stage.source_port(), 5001)
        stage.judge(
            "a",
            "b",
            passes=passes,
            refused=refused | stage.firsts("a", "b", family, tcp=(5000,), udp=(5000,)),
        )


@scenario(
    "remote-prefix", "a rule with a prefix takes whom it holds, in both directions, up to the last address"
)
def remote_prefix(stage: Stage) -> None:
    stage.group("open", *everything())
    prefixes = [rule("ingress", "tcp", 80, cidr="10.0.0.0/30"), rule("ingress", "tcp", 80, cidr="fd00::/126")]
    stage.group("in", *out(), *prefixes, rule("ingress", "udp", 80, cidr="0.0.0.0/0"))
    prefixes = [rule("egress", "tcp", 80, cidr="10.0.0.2/31"), rule("egress", "tcp", 80, cidr="fd00::2/127")]
    stage.group("out", *prefixes)
    stage.up(a="open", b="in", c=("open",), d="out")
    # a, b, c end in 1, 2, 3; d in 4, the first that the prefix does not hold.
    for family in FAMILIES:
        for source in ("a", "c"):
            passes = stage.firsts(source, "b", family, tcp=(80,), udp=(80,) if family == 4 else ())
            stage.judge(source, "b", passes=passes, refused=stage.firsts(source, "b", family, tcp=(81,)))
        stage.judge("d", "b", refused=stage.firsts("d", "b", family, tcp=(80,)))
        stage.judge("d", "c", passes=stage.firsts("d", "c", family, tcp=(80,)))
        stage.judge("d", "a", refused=stage.firsts("d", "a", family, tcp=(80,)))


@scenario("nested-prefixes", "an address that several prefixes hold has what each of them gives, and no more")
def nested_prefixes(stage: Stage) -> None:
    stage.group("open", *everything())
    wide = [rule("ingress", "tcp", 80, cidr="10.0.0.0/24"), rule("ingress", "tcp", 80, cidr="fd00::/64")]
    exact = [rule("ingress", "tcp", 443, cidr="10.0.0.1/32"), rule("ingress", "tcp", 443, cidr="fd00::1/128")]
    everyone = [rule("ingress", "udp", 53, cidr="0.0.0.0/0"), rule("ingress", "udp", 53, cidr="::/0")]
    stage.group("nested", *out(), *wide, *exact, *everyone)
    stage.up(a="open", b="nested", c="open")
    for family in FAMILIES:
        stage.judge("a", "b", passes=stage.firsts("a", "b", family, tcp=(80, 443), udp=(53,)))
        refused = stage.firsts("c", "b", family, tcp=(443, 53), udp=(80,))
        stage.judge("c", "b", passes=stage.firsts("c", "b", family, tcp=(80,), udp=(53,)), refused=refused)


@scenario(
    "two-groups",
    "a port of two groups has the rules of both; the remote of one does not go with the port of the other",
)
def two_groups(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("web", *out(both("ingress", "tcp", 80, group="clients")))
    stage.group("names", *out(both("ingress", "udp", 53, group="others")))
    stage.group("clients", *out())
    stage.group("others", *out())
    stage.up(a=("open", "clients"), b=("web", "names"), c=("open", "others"))
    for family in FAMILIES:
        stage.judge(
            "a",
            "b",
            passes=stage.firsts("a", "b", family, tcp=(80,)),
            refused=stage.firsts("a", "b", family, udp=(53,)),
        )
        stage.judge(
            "c",
            "b",
            passes=stage.firsts("c", "b", family, udp=(53,)),
            refused=stage.firsts("c", "b", family, tcp=(80,)),
        )


@scenario(
    "stateless-group",
    "a stateless rule admits packet by packet: middles of connections too, answers by a rule of their own",
    differs="`stateful` is ignored",
)
def stateless_group(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("one-way", *both("ingress", "tcp", 80), *both("ingress", "udp", 80), stateless=True)
    there_and_back = both("ingress", "tcp", 80), both("egress", "tcp")
    stage.group("two-way", *(each for rules in there_and_back for each in rules), stateless=True)
    stage.up(a="open", b="one-way", c="two-way")
    for family in FAMILIES:
        ends = stage.end_of("a", family), stage.end_of("b", family)
        middle = {f"tcp mid-stream v{family}": frames.tcp(*ends, stage.source_port(), 80, syn=False)}
        passes = stage.firsts("a", "b", family, tcp=(80,), udp=(80,)) | middle
        stage.judge("a", "b", passes=passes, refused=stage.firsts("a", "b", family, tcp=(81,), ping=True))
    stage.connect(passes=stage.probes("a", "c", ("tcp",)), refused=stage.probes("a", "b", ("tcp", "udp")))


@scenario(
    "fragments",
    "datagrams of several fragments pass whole where their port does, there and back, and nowhere else",
    differs="on the userspace datapath the later fragments of a connection's first datagram match no port",
)
def fragments(stage: Stage) -> None:
    stage.group("open", *everything())
    stage.group("udp", *out(both("ingress", "udp", 80)))
    stage.up(a="open", b="udp")
    a, b = stage.host.machines["a"].guest, stage.host.machines["b"]
    asked = {
        f"udp {port} of {size} bytes v{family}": (
            port == 80,
            a.begin("large_udp", to=b.address(family), port=port, size=size, timeout=3 if port == 80 else 1),
        )
        for family in FAMILIES
        for port in (80, 443)
        for size in (2000, 4000)
    }
    wrong = [name for name, (expected, answer) in asked.items() if answer.result() != expected]
    stage.must(not wrong, f"judged wrongly: {', '.join(wrong)}")
