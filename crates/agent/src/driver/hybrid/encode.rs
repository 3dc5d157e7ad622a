//! Rules and elements as the kernel has them.

use hybrid::bridge::{Data, Element, Key};
use hybrid::mark::{BEGUN_BY_PORT, FROM_PORT};
use hybrid::nft::{Match, NftRule, Then};
use ipnet::IpNet;
use nftables::{Comparison, CtKey, Expr, Field, Header, MetaKey, Rule, Selector, Statements, Value, Verdict};
use policy::{Direction, Ethertype, PortRange};

/// What tells elements of a set from each other: the key, and where it stands for more keys than one what nftables says of its end.
pub(super) type Place = (Value, Option<Value>);

/// A rule of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Encoded {
    pub(super) expressions: Vec<Expr>,
    pub(super) user_data: Vec<u8>,
}

impl Encoded {
    /// As the kernel tells it.
    pub(super) fn of(rule: Rule) -> Self {
        Encoded { expressions: rule.expressions, user_data: rule.user_data }
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Bits that say how far in a datagram a part begins (`IP_OFFSET`, `IP6_OFFSET`).
const OFFSET_OF_PART: u16 = 0x1fff;
const OFFSET_OF_PART6: u16 = 0xfff8;
/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;

/// A rule in the expressions that nft(8) makes of its text.
pub(super) fn rule(chain: &nftables::ChainId, rule: &NftRule) -> Encoded {
    let statements = rule.matches.iter().fold(Statements::new(), matched);
    let verdict = match &rule.then {
        Then::Jump(chain) => Verdict::Jump(name(chain)),
        Then::Goto(chain) => Verdict::Goto(name(chain)),
        Then::Return => Verdict::Return,
    };
    let encoded = Rule::new(chain.clone(), statements.decide(verdict));
    Encoded::of(match &rule.comment {
        Some(comment) => encoded.with_comment(comment),
        None => encoded,
    })
}

fn matched(statements: Statements, part: &Match) -> Statements {
    let payload = Selector::Payload;
    match part {
        Match::Family(ethertype) => {
            let family = match ethertype {
                Ethertype::Ipv4 => IPV4,
                Ethertype::Ipv6 => IPV6,
            };
            statements.is(Selector::Meta(MetaKey::NFPROTO), [family])
        }
        Match::Way(direction) => {
            let how = match direction {
                Direction::Ingress => Comparison::Equal,
                Direction::Egress => Comparison::NotEqual,
            };
            let (mark, bit) = (Selector::Meta(MetaKey::MARK), Value::host32(FROM_PORT));
            statements.masked(mark, bit, how, Value::host32(0))
        }
        Match::LaterPart(ethertype) => {
            let (where_from, mask) = match ethertype {
                Ethertype::Ipv4 => (payload(Field::IP_FRAGMENT), OFFSET_OF_PART),
                Ethertype::Ipv6 => (Selector::FragmentHeader { offset: 2, length: 2 }, OFFSET_OF_PART6),
            };
            statements.masked(where_from, Value::be16(mask), Comparison::NotEqual, Value::be16(0))
        }
        Match::Protocol(number) => statements.is(Selector::Meta(MetaKey::L4PROTO), [*number]),
        Match::Port(PortRange { min, max }) if min == max => {
            statements.is(payload(Field::DESTINATION_PORT), Value::be16(*min))
        }
        Match::Port(PortRange { min, max }) => {
            let (min, max) = (Value::be16(*min), Value::be16(*max));
            statements.lies_between(payload(Field::DESTINATION_PORT), min, max)
        }
        Match::IcmpType(icmp_type) => statements.is(payload(Field::ICMP_TYPE), [*icmp_type]),
        Match::IcmpTypeAndCode(icmp_type, code) => {
            let both = Field { header: Header::TRANSPORT, offset: 0, length: 2 };
            statements.is(payload(both), [*icmp_type, *code])
        }
        Match::Remote(direction, net) => in_prefix(statements, address(*direction, Ethertype::of(net)), *net),
        Match::RemoteInSet(direction, ethertype, set) => {
            statements.is_in(&[payload(address(*direction, *ethertype))], &name(set))
        }
        Match::Begun(direction) => {
            let how = match direction {
                Direction::Ingress => Comparison::Equal,
                Direction::Egress => Comparison::NotEqual,
            };
            let (mark, bit) = (Selector::Ct(CtKey::MARK), Value::host32(BEGUN_BY_PORT));
            statements.masked(mark, bit, how, Value::host32(0))
        }
        Match::ConnectionsRemote(direction, net) => {
            let key = match (Ethertype::of(net), direction) {
                (Ethertype::Ipv4, Direction::Ingress) => CtKey::SOURCE_IP,
                (Ethertype::Ipv4, Direction::Egress) => CtKey::DESTINATION_IP,
                (Ethertype::Ipv6, Direction::Ingress) => CtKey::SOURCE_IP6,
                (Ethertype::Ipv6, Direction::Egress) => CtKey::DESTINATION_IP6,
            };
            let original = Selector::CtOf(nftables::Direction::Original, key);
            let (mask, network) = (Value::from(net.netmask()), Value::from(net.network()));
            statements.masked(original, mask, Comparison::Equal, network)
        }
        Match::RemoteMac(direction, mac) => {
            let field = match direction {
                Direction::Ingress => Field::ETHER_SOURCE,
                Direction::Egress => Field::ETHER_DESTINATION,
            };
            let is_ethernet = statements.is(Selector::Meta(MetaKey::IIFTYPE), Value::host16(ETHERNET));
            is_ethernet.is(payload(field), mac.octets())
        }
    }
}

/// Whole octets are compared as such, others under a mask.
fn in_prefix(statements: Statements, field: Field, net: IpNet) -> Statements {
    let address = Value::from(net.network());
    let length = u32::from(net.prefix_len());
    if length.is_multiple_of(8) {
        let field = Field { length: length / 8, ..field };
        let octets = usize::from(net.prefix_len() / 8);
        return statements.is(Selector::Payload(field), &address.octets()[..octets]);
    }
    let mask = Value::from(net.netmask());
    statements.masked(Selector::Payload(field), mask, Comparison::Equal, address)
}

fn address(direction: Direction, ethertype: Ethertype) -> Field {
    match (ethertype, direction) {
        (Ethertype::Ipv4, Direction::Ingress) => Field::IP_SOURCE,
        (Ethertype::Ipv4, Direction::Egress) => Field::IP_DESTINATION,
        (Ethertype::Ipv6, Direction::Ingress) => Field::IP6_SOURCE,
        (Ethertype::Ipv6, Direction::Egress) => Field::IP6_DESTINATION,
    }
}

/// A member of a set of single addresses, or of one of prefixes: of that the first address behind it, unless it goes to the end.
pub(super) fn member(net: IpNet) -> Place {
    let is_single = net.prefix_len() == net.max_prefix_len();
    let behind = if is_single { None } else { Value::from(net.broadcast()).next() };
    (Value::from(net.network()), behind)
}

/// The elements that stand for it.
pub(super) fn member_elements((first, behind): &Place, is_wide: bool) -> Vec<nftables::Element> {
    if !is_wide {
        return vec![nftables::Element::key(first.clone())];
    }
    match behind {
        Some(behind) => {
            let end = nftables::Element::INTERVAL_END;
            let end = nftables::Element { flags: end, ..nftables::Element::key(behind.clone()) };
            vec![nftables::Element::key(first.clone()), end]
        }
        None => {
            let last = Value::from(vec![0xff; first.octets().len()].as_slice());
            nftables::Element::range(first.clone(), last).collect()
        }
    }
}

/// An element of a set or map that the text makes: where, and what it is mapped to.
pub(super) fn element(element: &Element) -> (Place, Option<nftables::Data>) {
    let is_wide = element.key.iter().any(|key| matches!(key, Key::Net(_) | Key::Bits(_)))
        && element.set.starts_with("wide");
    let first: Vec<Value> = element.key.iter().map(|key| value(key, IpNet::network)).collect();
    let last: Vec<Value> = element.key.iter().map(|key| value(key, IpNet::broadcast)).collect();
    let key = |fields: Vec<Value>| match fields.len() {
        1 => fields.into_iter().next().expect("there is one"),
        _ => Value::concatenated(&fields),
    };
    let place = (key(first), is_wide.then(|| key(last)));
    let data = element.data.as_ref().map(|data| match data {
        Data::Mark(mark) => nftables::Data::Value(Value::host32(*mark)),
        Data::Zone(zone) => nftables::Data::Value(Value::host16(*zone)),
        Data::Goto(chain) => nftables::Data::Verdict(Verdict::Goto(name(chain))),
        Data::Jump(chain) => nftables::Data::Verdict(Verdict::Jump(name(chain))),
    });
    (place, data)
}

fn value(key: &Key, end: fn(&IpNet) -> std::net::IpAddr) -> Value {
    match key {
        Key::Device(name) => Value::interface(name),
        Key::Mac(mac) => Value::from(mac.octets()),
        Key::Net(net) => Value::from(end(net)),
        Key::Bits(net) => Value::from(end(&IpNet::V6(*net))),
        Key::Ethertype(number) => Value::be16(*number),
        Key::Mark(mark) => Value::host32(*mark),
    }
}

fn name(name: &str) -> nftables::Name {
    name.parse().expect("names of chains and sets are short, and have no NUL")
}
