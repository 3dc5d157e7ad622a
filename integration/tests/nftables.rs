//! The kernel's tables against nft(8): what one of the two makes, the other reads, and nft prints as it is meant.

#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod nft_tool;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use nft_tool::{alone, nft, table};
use nftables::{
    Base, Batch, Chain, ChainId, ChainKind, Comparison, CtKey, DataType, Direction, Element, Expr, Family,
    Field, Hook, Keys, MetaKey, Nftables, Place, Policy, Register, Rule, Selector, Set, SetFlags, SetId,
    Statements, Table, TableId, Target, Value, Verdict, ranges,
};

/// A set, how nft(8) prints it, and what is in it.
struct Held {
    text: &'static [&'static str],
    set: fn(SetId) -> Set,
    elements: Vec<Element>,
}

/// A rule, how nft(8) prints it, and its comment.
type Said = (&'static str, Statements, Option<&'static str>);

/// A whole table and its only base chain.
struct Whole {
    family: Family,
    base: Base,
    /// As nft(8) prints it.
    base_text: &'static str,
    sets: Vec<Held>,
    /// Beside it an empty chain of the name `one`, if it jumps there.
    has_other: bool,
    rules: Vec<Said>,
}

impl Whole {
    fn text(&self, table: &TableId) -> String {
        let mut blocks = Vec::new();
        for held in &self.sets {
            let (first, rest) = held.text.split_first().unwrap();
            let lines: String = rest.iter().map(|line| format!("\t\t{line}\n")).collect();
            blocks.push(format!("\t{first} {{\n{lines}\t}}\n"));
        }
        if self.has_other {
            blocks.push("\tchain one {\n\t}\n".to_owned());
        }
        let mut chain = format!("\tchain c {{\n\t\t{}\n", self.base_text);
        for (text, _, comment) in &self.rules {
            let comment = comment.map(|comment| format!(" comment \"{comment}\"")).unwrap_or_default();
            writeln!(chain, "\t\t{text}{comment}").unwrap();
        }
        blocks.push(format!("{chain}\t}}\n"));
        format!("table {table} {{\n{}}}\n", blocks.join("\n"))
    }

    fn sets(&self, table: &TableId) -> Vec<(Set, &[Element])> {
        let name = |held: &Held| held.text[0].split(' ').next_back().unwrap();
        self.sets
            .iter()
            .map(|held| ((held.set)(table.set(name(held)).unwrap()), held.elements.as_slice()))
            .collect()
    }

    fn rules(&self, chain: &ChainId) -> Vec<Rule> {
        let rule = |(_, statements, comment): &Said| {
            let rule = Rule::new(chain.clone(), statements.clone());
            comment.map_or(rule.clone(), |comment| rule.with_comment(comment))
        };
        self.rules.iter().map(rule).collect()
    }

    fn batch(&self, table: &TableId) -> Batch {
        let chain = table.chain("c").unwrap();
        let mut batch = Batch::new();
        batch.add_table(&Table::new(table.clone()));
        if self.has_other {
            batch.add_chain(&Chain::regular(table.chain("one").unwrap()));
        }
        batch.add_chain(&Chain::base(chain.clone(), self.base.clone()));
        for (set, elements) in self.sets(table) {
            batch.add_set(&set).add_elements(&set.id, elements.to_vec());
        }
        for rule in self.rules(&chain) {
            batch.add_rule(&rule, Place::Last);
        }
        batch
    }

    /// nft(8) makes the table from its text, we make it, and both must have made the same.
    fn check(&self) {
        let (theirs, ours) = (table(self.family, "theirs"), table(self.family, "ours"));
        nft(&["-f", "-"], &self.text(&theirs));
        let mut kernel = Nftables::open().unwrap();
        kernel.commit(&self.batch(&ours)).unwrap();
        let of_ours = kernel.rules(&ours.chain("c").unwrap()).unwrap();
        let of_theirs = kernel.rules(&theirs.chain("c").unwrap()).unwrap();
        assert_eq!((of_ours.len(), of_theirs.len()), (self.rules.len(), self.rules.len()));
        for (((text, statements, comment), ours), theirs) in self.rules.iter().zip(of_ours).zip(of_theirs) {
            assert_eq!(ours.expressions, Vec::from(statements.clone()), "{text}");
            assert_eq!(theirs.expressions, ours.expressions, "{text}");
            assert_eq!(theirs.user_data, ours.user_data, "{text}");
            assert_eq!(ours.comment(), *comment);
        }
        let sets = kernel.sets(&theirs).unwrap();
        assert_eq!(sets.len(), self.sets.len());
        for (made, (set, elements)) in sets.into_iter().zip(self.sets(&theirs)) {
            // At what is concatenated nft(8) keeps besides that it knows nothing of `typeof`.
            assert!(made.user_data.starts_with(&set.user_data), "{made:?}\n{set:?}");
            assert_eq!(Set { handle: 0, user_data: set.user_data.clone(), ..made.clone() }, set);
            assert_eq!(made.user_data == set.user_data, set.key_type < 64, "{}", set.id);
            let (in_theirs, in_ours) =
                (kernel.elements(&made.id), kernel.elements(&ours.set(made.id.name.as_str()).unwrap()));
            if set.flags.has(SetFlags::INTERVAL) && !set.flags.has(SetFlags::CONCAT) {
                let expected = ranges(elements.to_vec());
                assert_eq!(ranges(in_ours.unwrap()), expected, "{}", set.id);
                assert_eq!(ranges(in_theirs.unwrap()), expected, "{}", set.id);
            } else {
                let sorted = |elements: Vec<Element>| elements.into_iter().collect::<BTreeSet<_>>();
                assert_eq!(sorted(in_ours.unwrap()), sorted(elements.to_vec()), "{}", set.id);
                assert_eq!(sorted(in_theirs.unwrap()), sorted(elements.to_vec()), "{}", set.id);
            }
        }
        let chains = kernel.chains(&ours).unwrap();
        assert_eq!(chains.last().unwrap().base, Some(self.base.clone()));
        assert_eq!(nft(&["list", "table", &self.family.to_string(), "ours"], ""), self.text(&ours));
    }
}

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn ip(text: &str) -> Value {
    text.parse::<Ipv4Addr>().unwrap().into()
}

fn ip6(text: &str) -> Value {
    text.parse::<Ipv6Addr>().unwrap().into()
}

fn pair(address: &str) -> Value {
    Value::concatenated([&MAC.into(), &ip(address)])
}

fn named(name: &str) -> nftables::Name {
    name.parse().unwrap()
}

const fn payload(field: Field) -> Selector {
    Selector::Payload(field)
}

const IIFNAME: Selector = Selector::Meta(MetaKey::IIFNAME);
const FIRST: Register = Register::FIRST;
const MARK: Selector = Selector::Meta(MetaKey::MARK);

/// That it is of an ethertype, as nft(8) finds out in a bridge.
fn of_ethertype(number: u16) -> Statements {
    Statements::new().is(Selector::Meta(MetaKey::PROTOCOL), Value::be16(number))
}

fn ether_type(number: u16) -> Statements {
    Statements::new().is(payload(Field::ETHER_TYPE), Value::be16(number))
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;

fn bridge_sets() -> Vec<Held> {
    vec![
        Held {
            text: &["map marks", "type ifname : mark", "elements = { \"tap1\" : 0x00000001 }"],
            set: |id| Set::map(id, &[DataType::InterfaceName], Keys::Single, DataType::Mark),
            elements: vec![Element::key(Value::interface("tap1")).to(Value::host32(1))],
        },
        Held {
            text: &[
                "map verdicts",
                "type ifname : verdict",
                "elements = { \"tap1\" : jump one,\n\t\t\t     \"tap2\" : accept }",
            ],
            set: |id| Set::verdict_map(id, &[DataType::InterfaceName], Keys::Single),
            elements: vec![
                Element::key(Value::interface("tap1")).to(Verdict::Jump(named("one"))),
                Element::key(Value::interface("tap2")).to(Verdict::Accept),
            ],
        },
        Held {
            text: &[
                "set pairs",
                "type ether_addr . ipv4_addr",
                "flags interval",
                "elements = { 02:00:00:00:00:01 . 10.0.0.0/24 }",
            ],
            set: |id| Set::new(id, &[DataType::EtherAddress, DataType::Ipv4Address], Keys::Ranges),
            elements: vec![Element::between(pair("10.0.0.0"), pair("10.0.0.255"))],
        },
        Held {
            text: &["set nets", "type ipv4_addr", "flags interval", "elements = { 10.0.0.0/8, 255.0.0.0/8 }"],
            set: |id| Set::new(id, &[DataType::Ipv4Address], Keys::Ranges),
            elements: Element::range(ip("10.0.0.0"), ip("10.255.255.255"))
                .chain(Element::range(ip("255.0.0.0"), ip("255.255.255.255")))
                .collect(),
        },
        Held {
            text: &["set services", "type inet_service . inet_service", "size 64", "elements = { 68 . 67 }"],
            set: |id| Set::new(id, &[DataType::InetService; 2], Keys::Single).with_size(64),
            elements: vec![Element::key(Value::concatenated([&Value::be16(68), &Value::be16(67)]))],
        },
        Held {
            text: &[
                "map types",
                "type icmpv6_type : verdict",
                "flags interval",
                "elements = { 133-136 : return }",
            ],
            set: |id| Set::verdict_map(id, &[DataType::Icmpv6Type], Keys::Ranges),
            elements: Element::range_to([133], [136], Verdict::Return).collect(),
        },
    ]
}

fn bridge_rules() -> Vec<Said> {
    let source = payload(Field::ETHER_SOURCE);
    let arp_source = payload(Field::ARP_SOURCE_IP);
    let icmpv6 = ether_type(IPV6).is(Selector::Meta(MetaKey::L4PROTO), [58]);
    let udp = Statements::new().is(Selector::Meta(MetaKey::L4PROTO), [17]);
    let ports = [payload(Field::SOURCE_PORT), payload(Field::DESTINATION_PORT)];
    let request = ether_type(ARP).is(payload(Field::ARP_OPERATION), Value::be16(1));
    let advertisement = icmpv6.clone().is(payload(Field::ICMP_TYPE), [136]);
    let masked =
        |how| of_ethertype(IPV4).masked(payload(Field::IP_FRAGMENT), Value::be16(0x1fff), how, [0, 0]);
    let fragment = |offset, length| Selector::FragmentHeader { offset, length };
    vec![
        ("iifname vmap @verdicts", Statements::new().decide_by(&[IIFNAME], &named("verdicts")), None),
        (
            "ether saddr . ip saddr @pairs accept",
            of_ethertype(IPV4)
                .is_in(&[source, payload(Field::IP_SOURCE)], &named("pairs"))
                .decide(Verdict::Accept),
            Some("what it may say it is"),
        ),
        ("ether type arp drop", ether_type(ARP).decide(Verdict::Drop), None),
        (
            "ether saddr != 02:00:00:00:00:01 drop",
            Statements::new().is_not(source, MAC).decide(Verdict::Drop),
            None,
        ),
        ("arp operation request goto one", request.clone().decide(Verdict::Goto(named("one"))), None),
        (
            "arp saddr ip 10.0.0.1 drop",
            ether_type(ARP).is(arp_source, ip("10.0.0.1")).decide(Verdict::Drop),
            None,
        ),
        (
            "arp saddr ether 02:00:00:00:00:01 drop",
            ether_type(ARP).is(payload(Field::ARP_SOURCE_ETHER), MAC).decide(Verdict::Drop),
            None,
        ),
        ("icmpv6 type nd-neighbor-advert drop", advertisement.clone().decide(Verdict::Drop), None),
        (
            "icmpv6 code no-route drop",
            icmpv6.clone().is(payload(Field::ICMP_CODE), [0]).decide(Verdict::Drop),
            None,
        ),
        (
            // nft(8) has no word for it before 1.0.8.
            "@th,64,128 0xfe800000000000000000000000000001 drop",
            Statements::new().is(payload(Field::ICMPV6_TARGET), ip6("fe80::1")).decide(Verdict::Drop),
            None,
        ),
        ("icmpv6 type vmap @types", icmpv6.decide_by(&[payload(Field::ICMP_TYPE)], &named("types")), None),
        (
            "udp sport . udp dport @services accept",
            udp.is_in(&ports, &named("services")).decide(Verdict::Accept),
            None,
        ),
        (
            "exthdr frag exists drop",
            ether_type(IPV6).is(Selector::HasFragmentHeader, [1]).decide(Verdict::Drop),
            None,
        ),
        (
            "frag id 5 drop",
            ether_type(IPV6).is(fragment(4, 4), 5u32.to_be_bytes()).decide(Verdict::Drop),
            None,
        ),
        ("ip frag-off & 8191 != 0 drop", masked(Comparison::NotEqual).decide(Verdict::Drop), None),
        (
            "meta mark set iifname map @marks",
            Statements::new().set_by(Target::Meta(MetaKey::MARK), &[IIFNAME], &named("marks")),
            None,
        ),
        (
            "meta mark set 0x00000007",
            Statements::new().set(Target::Meta(MetaKey::MARK), Value::host32(7)),
            None,
        ),
        ("meta pkttype set host", Statements::new().set(Target::Meta(MetaKey::PKTTYPE), [0]), None),
        (
            "ip saddr != @nets counter packets 0 bytes 0 drop",
            of_ethertype(IPV4)
                .is_not_in(&[payload(Field::IP_SOURCE)], &named("nets"))
                .counted()
                .decide(Verdict::Drop),
            Some("a stranger"),
        ),
        ("iifname \"tap*\" return", Statements::new().is(IIFNAME, *b"tap").decide(Verdict::Return), None),
        ("notrack", Statements::new().with(Expr::NoTrack), None),
    ]
}

#[test]
fn a_bridges_table_is_the_one_that_nft_makes() {
    let base =
        Base { kind: ChainKind::Filter, hook: Hook::PREROUTING, priority: -300, policy: Policy::Accept };
    let whole = Whole {
        family: Family::Bridge,
        base,
        base_text: "type filter hook prerouting priority dstnat; policy accept;",
        sets: bridge_sets(),
        has_other: true,
        rules: bridge_rules(),
    };
    alone(|| whole.check());
}

fn rules_of_zones_and_marks() -> Vec<Said> {
    let (zone, mark) = (Target::Ct(CtKey::ZONE), Target::Ct(CtKey::MARK));
    let of_mark = Expr::Meta { key: MetaKey::MARK, to: FIRST };
    let to_mark = Expr::SetCt { key: CtKey::MARK, direction: None, from: FIRST };
    let compare = |how, with: u32| Expr::Compare { from: FIRST, how, with: with.to_be_bytes().into() };
    vec![
        ("ct zone set iifname map @zones", Statements::new().set_by(zone, &[IIFNAME], &named("zones")), None),
        (
            "ct zone set meta mark map @by_mark",
            Statements::new().set_by(zone, &[MARK], &named("by_mark")),
            None,
        ),
        ("ct zone set 7", Statements::new().set(zone, Value::host16(7)), None),
        (
            "ct zone 7 drop",
            Statements::new().is(Selector::Ct(CtKey::ZONE), Value::host16(7)).decide(Verdict::Drop),
            None,
        ),
        (
            "ct mark 0x00000005 drop",
            Statements::new().is(Selector::Ct(CtKey::MARK), Value::host32(5)).decide(Verdict::Drop),
            None,
        ),
        (
            "ct mark 0x00000001-0x00000064 drop",
            Statements::new()
                .with(Expr::Ct { key: CtKey::MARK, direction: None, to: FIRST })
                .with(Expr::ByteOrder { from: FIRST, to: FIRST, to_host: false, length: 4, size: 4 })
                .with(compare(Comparison::GreaterOrEqual, 1))
                .with(compare(Comparison::LessOrEqual, 100))
                .decide(Verdict::Drop),
            None,
        ),
        (
            "meta mark & 0x000000ff == 0x00000003 drop",
            Statements::new()
                .masked(MARK, Value::host32(0xff), Comparison::Equal, Value::host32(3))
                .decide(Verdict::Drop),
            None,
        ),
        (
            "meta mark set meta mark & 0x0000ff01 | 0x00000001",
            Statements::new()
                .with(Expr::Meta { key: MetaKey::MARK, to: FIRST })
                .with(Expr::Bitwise {
                    from: FIRST,
                    to: FIRST,
                    mask: Value::host32(0xff00),
                    xor: Value::host32(1),
                })
                .with(Expr::SetMeta { key: MetaKey::MARK, from: FIRST }),
            None,
        ),
        ("ct mark set 0x00000005", Statements::new().set(mark, Value::host32(5)), None),
        ("ct mark set meta mark", Statements::new().with(of_mark).with(to_mark), None),
        ("meta mark vmap @by_port", Statements::new().decide_by(&[MARK], &named("by_port")), None),
    ]
}

fn rules_of_connections_and_packets() -> Vec<Said> {
    let state = |bits: u32| Statements::new().has_any(Selector::Ct(CtKey::STATE), Value::host32(bits));
    let original = |key| Selector::CtOf(Direction::Original, key);
    let tcp = || Statements::new().is(Selector::Meta(MetaKey::L4PROTO), [6]);
    let destination = payload(Field::DESTINATION_PORT);
    vec![
        (
            "ct state established,related accept",
            state(CtKey::ESTABLISHED | CtKey::RELATED).decide(Verdict::Accept),
            None,
        ),
        ("ct state invalid drop", state(CtKey::INVALID).decide(Verdict::Drop), None),
        ("ct state untracked drop", state(CtKey::UNTRACKED).decide(Verdict::Drop), None),
        (
            "ct reply ip saddr 10.0.0.1 drop",
            Statements::new()
                .is(Selector::CtOf(Direction::Reply, CtKey::SOURCE_IP), ip("10.0.0.1"))
                .decide(Verdict::Drop),
            None,
        ),
        (
            "meta iiftype ether drop",
            Statements::new().is(Selector::Meta(MetaKey::IIFTYPE), Value::host16(1)).decide(Verdict::Drop),
            None,
        ),
        (
            "ct original ip saddr @nets accept",
            Statements::new().is_in(&[original(CtKey::SOURCE_IP)], &named("nets")).decide(Verdict::Accept),
            None,
        ),
        (
            "ct original ip6 daddr fe80::1 drop",
            Statements::new().is(original(CtKey::DESTINATION_IP6), ip6("fe80::1")).decide(Verdict::Drop),
            None,
        ),
        (
            "meta l4proto tcp ct original proto-dst 1-1000 drop",
            tcp()
                .lies_between(original(CtKey::DESTINATION_PORT), Value::be16(1), Value::be16(1000))
                .decide(Verdict::Drop),
            None,
        ),
        (
            "ct direction reply drop",
            Statements::new().is(Selector::Ct(CtKey::DIRECTION), [1]).decide(Verdict::Drop),
            None,
        ),
        (
            "ct status dnat drop",
            Statements::new().has_any(Selector::Ct(CtKey::STATUS), Value::host32(32)).decide(Verdict::Drop),
            None,
        ),
        (
            "meta nfproto ipv4 meta l4proto tcp drop",
            Statements::new()
                .is(Selector::Meta(MetaKey::NFPROTO), [2])
                .is(Selector::Meta(MetaKey::L4PROTO), [6])
                .decide(Verdict::Drop),
            None,
        ),
        (
            "ip protocol . th dport @services accept",
            Statements::new()
                .is(Selector::Meta(MetaKey::NFPROTO), [2])
                .is_in(&[payload(Field::IP_PROTOCOL), destination], &named("services"))
                .decide(Verdict::Accept),
            None,
        ),
        (
            "tcp dport != 1-1000 drop",
            tcp()
                .with(Expr::Payload { field: Field::DESTINATION_PORT, to: FIRST })
                .with(Expr::Range {
                    from: FIRST,
                    is_inverted: true,
                    first: Value::be16(1),
                    last: Value::be16(1000),
                })
                .decide(Verdict::Drop),
            None,
        ),
        (
            "tcp dport < 1024 drop",
            tcp().compared(destination, Comparison::Less, Value::be16(1024)).decide(Verdict::Drop),
            None,
        ),
    ]
}

fn inet_sets() -> Vec<Held> {
    let service = |port: u16| Value::concatenated([&Value::from([6]), &Value::be16(port)]);
    vec![
        Held {
            text: &["map zones", "typeof iifname : ct zone", "elements = { \"tap1\" : 7 }"],
            set: |id| Set::map(id, &[DataType::InterfaceName], Keys::Single, DataType::CtZone),
            elements: vec![Element::key(Value::interface("tap1")).to(Value::host16(7))],
        },
        Held {
            text: &["map by_mark", "typeof meta mark : ct zone", "elements = { 0x00000001 : 7 }"],
            set: |id| Set::map(id, &[DataType::Mark], Keys::Single, DataType::CtZone),
            elements: vec![Element::key(Value::host32(1)).to(Value::host16(7))],
        },
        Held {
            text: &["set nets", "type ipv4_addr", "flags interval", "elements = { 10.0.0.0/8 }"],
            set: |id| Set::new(id, &[DataType::Ipv4Address], Keys::Ranges),
            elements: Element::range(ip("10.0.0.0"), ip("10.255.255.255")).collect(),
        },
        Held {
            text: &["set six", "type ipv6_addr", "flags interval", "elements = { 2001:db8::/32 }"],
            set: |id| Set::new(id, &[DataType::Ipv6Address], Keys::Ranges),
            elements: Element::range(ip6("2001:db8::"), ip6("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"))
                .collect(),
        },
        Held {
            text: &[
                "set services",
                "type inet_proto . inet_service",
                "flags interval",
                "elements = { tcp . 1-1024 }",
            ],
            set: |id| Set::new(id, &[DataType::InetProtocol, DataType::InetService], Keys::Ranges),
            elements: vec![Element::between(service(1), service(1024))],
        },
        Held {
            text: &["map by_port", "type mark : verdict", "elements = { 0x00000001 : goto one }"],
            set: |id| Set::verdict_map(id, &[DataType::Mark], Keys::Single),
            elements: vec![Element::key(Value::host32(1)).to(Verdict::Goto(named("one")))],
        },
        Held {
            text: &["set types", "type icmp_type", "elements = { echo-request }"],
            set: |id| Set::new(id, &[DataType::IcmpType], Keys::Single),
            elements: vec![Element::key([8])],
        },
        Held {
            text: &["set ethertypes", "type ether_type", "elements = { arp }"],
            set: |id| Set::new(id, &[DataType::EtherType], Keys::Single),
            elements: vec![Element::key(Value::be16(ARP))],
        },
        Held {
            text: &["set macs", "type ether_addr", "elements = { 02:00:00:00:00:01 }"],
            set: |id| Set::new(id, &[DataType::EtherAddress], Keys::Single),
            elements: vec![Element::key(MAC)],
        },
    ]
}

#[test]
fn an_inet_table_is_the_one_that_nft_makes() {
    let base = Base { kind: ChainKind::Filter, hook: Hook::PREROUTING, priority: -300, policy: Policy::Drop };
    let whole = Whole {
        family: Family::Inet,
        base,
        base_text: "type filter hook prerouting priority raw; policy drop;",
        sets: inet_sets(),
        has_other: true,
        rules: [rules_of_zones_and_marks(), rules_of_connections_and_packets()].concat(),
    };
    alone(|| whole.check());
}
