//! Services of rules as matches, on the packet's own fields or on the connection's original tuple.

use policy::{Direction, Ethertype, PortProtocol, PortRange, Rule, Service};
use rust_openflow::{CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, Field, Match};

use crate::address::{Member, with_mac, with_net};
use crate::flow::Part;

/// What a rule is matched against.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Plane {
    /// The original tuple of a tracked packet's connection.
    Connection,
    /// The packet's own fields.
    Packet,
    /// The first packet of a connection, by its own fields as on the plane of packets, and its service alone.
    Service,
}

/// Why the openvswitch driver cannot enforce the rule, if it cannot (semantics, "rule"): such a rule is refused by
/// name instead of opening more than it says.
pub fn unsupported(rule: &Rule) -> Option<&'static str> {
    match rule.service {
        Service::Ports { protocol: PortProtocol::Dccp | PortProtocol::UdpLite, range: Some(_) } => {
            Some("Open vSwitch cannot match dccp and udplite ports; leave the range out to admit every port")
        }
        Service::Protocol(43 | 44 | 51 | 60) if rule.ethertype == Ethertype::Ipv6 => {
            Some("Open vSwitch walks over IPv6 extension headers and never sees them as a protocol")
        }
        _ => None,
    }
}

/// Matches that together hold exactly the packets of the service among those of `base`, which says the [`family`]: more than one
/// where a port range is no prefix.
pub(crate) fn service_matches(
    plane: Plane,
    base: Match,
    ethertype: Ethertype,
    service: Service,
) -> Vec<Match> {
    match service {
        Service::Any => vec![base],
        Service::Ports { protocol, range: None } => vec![with_protocol(plane, base, protocol.number())],
        Service::Ports { protocol: PortProtocol::Sctp, range: Some(range) } => sctp(plane, &base, range),
        Service::Ports { protocol, range: Some(range) } => {
            let base = with_protocol(plane, base, protocol.number());
            let field = match (plane, protocol) {
                (Plane::Connection, _) => Field::CtTpDst,
                (Plane::Packet | Plane::Service, PortProtocol::Tcp) => Field::TcpDst,
                (Plane::Packet | Plane::Service, _) => Field::UdpDst,
            };
            ports(&base, field, range)
        }
        Service::Icmp { icmp_type, code } => vec![icmp(plane, base, ethertype, icmp_type, code)],
        Service::Protocol(number) => vec![with_protocol(plane, base, number)],
    }
}

/// Ethertype, and for a tracked packet the valid state without which Open vSwitch refuses to match the original
/// tuple (`OFPBMC_BAD_PREREQ`).
pub(crate) fn family(plane: Plane, ethertype: Ethertype) -> Match {
    let matches = Match::new().with(Field::EthType, ethertype.number());
    match plane {
        Plane::Connection => matches.with_mask(Field::CtState, CT_TRK, CT_TRK | CT_INV),
        Plane::Packet | Plane::Service => matches,
    }
}

fn with_protocol(plane: Plane, matches: Match, number: u8) -> Match {
    match plane {
        Plane::Connection => matches.with(Field::CtNwProto, number),
        Plane::Packet | Plane::Service => matches.with(Field::IpProto, number),
    }
}

fn icmp(plane: Plane, base: Match, ethertype: Ethertype, icmp_type: Option<u8>, code: Option<u8>) -> Match {
    // Conntrack keeps the type in the source port and the code in the destination port (ovs-fields(7), ct_tp_src).
    let (type_field, code_field) = match (plane, ethertype) {
        (Plane::Connection, _) => (Field::CtTpSrc, Field::CtTpDst),
        (Plane::Packet | Plane::Service, Ethertype::Ipv4) => (Field::Icmpv4Type, Field::Icmpv4Code),
        (Plane::Packet | Plane::Service, Ethertype::Ipv6) => (Field::Icmpv6Type, Field::Icmpv6Code),
    };
    let mut matches = with_protocol(plane, base, ethertype.icmp());
    if let Some(icmp_type) = icmp_type {
        matches = matches.with(type_field, icmp_type);
        if plane != Plane::Connection && icmp_type == 0 {
            matches = Part::NotLater.of(matches);
        }
    }
    if let Some(code) = code {
        matches = matches.with(code_field, code);
    }
    matches
}

/// The userspace datapath tracks SCTP without ports, so each packet is held to its own: the destination port in the
/// original direction, the source port in replies (semantics, "Rules and connections").
///
/// An ICMP error about an association shows no port of it and is judged by the association's addresses alone.
fn sctp(plane: Plane, base: &Match, range: PortRange) -> Vec<Match> {
    let related = base.clone().with(Field::CtNwProto, PortProtocol::Sctp.number()).with_mask(
        Field::CtState,
        CT_TRK | CT_REL,
        CT_TRK | CT_INV | CT_REL,
    );
    let base = base.clone().with(Field::IpProto, PortProtocol::Sctp.number());
    match plane {
        Plane::Packet | Plane::Service => ports(&base, Field::SctpDst, range),
        Plane::Connection => {
            let mut matches = ports(&with_reply(base.clone(), false), Field::SctpDst, range);
            matches.extend(ports(&with_reply(base, true), Field::SctpSrc, range));
            matches.push(related);
            matches
        }
    }
}

/// Tracked, valid, and a reply or not.
fn with_reply(matches: Match, reply: bool) -> Match {
    let value = if reply { CT_TRK | CT_RPL } else { CT_TRK };
    matches.with_mask(Field::CtState, value, CT_TRK | CT_INV | CT_RPL)
}

/// The ports of a range in a field. A later fragment has no ports, and Open vSwitch matches what is not there as 0
/// (ovs-ofctl(8), `set-frags`, nx-match): a mask that holds port 0 must say that it means a packet with ports.
fn ports(base: &Match, field: Field, range: PortRange) -> Vec<Match> {
    let on_packet = field != Field::CtTpDst;
    let masks = range_masks(range).into_iter().map(|(value, mask)| {
        let matches = base.clone().with_mask(field, value, mask);
        if on_packet && value == 0 { Part::NotLater.of(matches) } else { matches }
    });
    masks.collect()
}

/// The fewest (value, mask) that together hold exactly the ports of the range.
pub(crate) fn range_masks(range: PortRange) -> Vec<(u16, u16)> {
    let (mut low, high) = (u32::from(range.min), u32::from(range.max));
    let mut masks = Vec::new();
    while low <= high {
        // The largest aligned block that begins at `low` and does not reach past `high`.
        let mut size = if low == 0 { 1 << 16 } else { low & low.wrapping_neg() };
        while low + size - 1 > high {
            size >>= 1;
        }
        let (value, mask) = (u16::try_from(low), u16::try_from(0x1_0000 - size));
        // A block of all 65,536 ports has mask 0, which is `0x1_0000 - 0x1_0000`.
        masks.push((value.expect("a port fits 16 bits"), mask.expect("a mask fits 16 bits")));
        low += size;
    }
    masks
}

/// Field pair (IPv4, IPv6) that holds the remote address of a rule.
pub(crate) fn remote_fields(plane: Plane, direction: Direction) -> (Field, Field) {
    match (plane, direction) {
        (Plane::Connection, Direction::Ingress) => (Field::CtNwSrc, Field::CtIpv6Src),
        (Plane::Connection, Direction::Egress) => (Field::CtNwDst, Field::CtIpv6Dst),
        (Plane::Packet | Plane::Service, Direction::Ingress) => (Field::Ipv4Src, Field::Ipv6Src),
        (Plane::Packet | Plane::Service, Direction::Egress) => (Field::Ipv4Dst, Field::Ipv6Dst),
    }
}

/// Matches that hold the packets whose remote end is the member. A member bound to its MAC needs two for a
/// connection: its MAC is the source of what it sends and the destination of what it is sent.
pub(crate) fn member_matches(plane: Plane, direction: Direction, member: &Member) -> Vec<Match> {
    let (v4, v6) = remote_fields(plane, direction);
    let base = with_net(family(plane, member.ethertype()), &member.net, v4, v6);
    let Some(mac) = member.mac else { return vec![base] };
    let (towards, away) = match direction {
        Direction::Ingress => (Field::EthSrc, Field::EthDst),
        Direction::Egress => (Field::EthDst, Field::EthSrc),
    };
    match plane {
        Plane::Packet | Plane::Service => vec![with_mac(base, towards, mac)],
        Plane::Connection => vec![
            with_mac(with_reply(base.clone(), false), towards, mac),
            with_mac(with_reply(base, true), away, mac),
        ],
    }
}

/// What a member bound to its MAC sends and is sent on a connection, split so that a new one can be committed.
#[derive(Debug)]
pub(crate) struct BoundMatches {
    /// First packets.
    pub(crate) new: Match,
    /// Later packets, each direction.
    pub(crate) later: [Match; 2],
    /// Those of them that are fragments.
    pub(crate) parts: [Match; 2],
    /// Fragments but the first of a first datagram, before they are committed.
    pub(crate) new_fragment: Match,
    /// Fragments but the first of a later datagram, each direction, before they are committed.
    pub(crate) later_fragments: [Match; 2],
    /// All these once they are; an unanswered connection is new for ever to the tracker in userspace.
    pub(crate) committed_fragments: [Match; 2],
}

/// The packets of a bound member that are on a connection; `None` for a member that is known by its address alone.
pub(crate) fn bound_matches(direction: Direction, member: &Member) -> Option<BoundMatches> {
    member.mac?;
    let [original, reply] = member_matches(Plane::Connection, direction, member).try_into().ok()?;
    let valid = CT_TRK | CT_INV | CT_RPL | CT_NEW;
    let new = original.clone().with_mask(Field::CtState, CT_TRK | CT_NEW, valid);
    let new_fragment = Part::Later.of(new.clone());
    let later = [original.clone().with_mask(Field::CtState, CT_TRK, valid), reply.clone()];
    let parts = later.clone().map(|matches| Part::Any.of(matches));
    // A related error speaks of a connection, and is none of its datagrams.
    let known = CT_TRK | CT_NEW | CT_REL | CT_INV | CT_RPL;
    let later_fragments = [(&original, CT_TRK), (&reply, CT_TRK | CT_RPL)]
        .map(|(matches, state)| Part::Later.of(matches.clone().with_mask(Field::CtState, state, known)));
    let committed_fragments = [original, reply];
    Some(BoundMatches { new, later, parts, new_fragment, later_fragments, committed_fragments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn masks_hold_the_range_and_nothing_else(a: u16, b: u16, probe: u16) {
            let range = PortRange { min: a.min(b), max: a.max(b) };
            let masks = range_masks(range);
            prop_assert!(masks.len() <= 30, "a 16-bit range never needs more than 30 masks");
            for port in [probe, range.min, range.max, range.min.wrapping_sub(1), range.max.wrapping_add(1)] {
                let holding = masks.iter().filter(|(value, mask)| port & mask == *value).count();
                prop_assert_eq!(holding, usize::from(range.contains(port)));
            }
        }
    }

    /// "Open vSwitch cannot match dccp and udplite ports: the `openvswitch` driver refuses such a rule"; "IPv6 extension
    /// headers (43, 44, 51, 60) …: the `openvswitch` driver refuses IPv6 rules that name them" (semantics, "Objects").
    #[test]
    fn what_the_switch_cannot_see_is_refused_and_nothing_else() {
        let is_refused = |ethertype, service| {
            let remote = policy::Remote::Any;
            unsupported(&Rule { id: "r".into(), direction: Direction::Ingress, ethertype, service, remote })
                .is_some()
        };
        let (v4, v6) = (Ethertype::Ipv4, Ethertype::Ipv6);
        for number in 1..=255 {
            let service = Service::Protocol(number);
            assert!(!is_refused(v4, service), "{number}");
            assert_eq!(is_refused(v6, service), [43, 44, 51, 60].contains(&number), "{number}");
        }
        for protocol in PortProtocol::ALL {
            let cannot = matches!(protocol, PortProtocol::Dccp | PortProtocol::UdpLite);
            for ethertype in [v4, v6] {
                let range = Some(PortRange { min: 0, max: 65535 });
                assert_eq!(is_refused(ethertype, Service::Ports { protocol, range }), cannot, "{protocol}");
                assert!(!is_refused(ethertype, Service::Ports { protocol, range: None }), "{protocol}");
            }
        }
    }

    #[test]
    fn every_port_is_one_mask_of_nothing() {
        assert_eq!(range_masks(PortRange { min: 0, max: 65535 }), [(0, 0)]);
        assert_eq!(range_masks(PortRange { min: 80, max: 80 }), [(80, 0xffff)]);
        assert_eq!(range_masks(PortRange { min: 1, max: 65535 }).len(), 16);
    }
}
