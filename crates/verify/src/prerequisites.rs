//! What a match must say besides, so that its fields exist in every packet that it matches (ovs-fields(7) 3.1,
//! "Prerequisites" of each field).

use rust_openflow::{CT_EST, CT_INV, CT_NEW, CT_REL, CT_RPL, CT_TRK, Field, Match};

const IPV4: u128 = 0x0800;
const IPV6: u128 = 0x86dd;
const ARP: u128 = 0x0806;
const RARP: u128 = 0x8035;
const TAG_PRESENT: u128 = 0x1000;

/// The first field of the match whose prerequisites it does not have.
pub(crate) fn missing(matches: &Match) -> Option<Field> {
    matches.iter().map(|(field, ..)| field).find(|field| !are_met(matches, *field))
}

/// Whether the match is of IP packets alone.
pub(crate) fn is_ip(matches: &Match) -> bool {
    is_exactly(matches, Field::EthType, &[IPV4, IPV6])
}

fn are_met(matches: &Match, field: Field) -> bool {
    let ethertype = |wanted: &[u128]| is_exactly(matches, Field::EthType, wanted);
    let protocol = |wanted: u128| is_ip(matches) && is_exactly(matches, Field::IpProto, &[wanted]);
    let icmpv6 = || ethertype(&[IPV6]) && protocol(58);
    let discovery = |types: &[u128]| {
        icmpv6()
            && is_exactly(matches, Field::Icmpv6Type, types)
            && is_exactly(matches, Field::Icmpv6Code, &[0])
    };
    match field {
        Field::VlanPcp => {
            matches.get(Field::VlanVid).is_some_and(|(value, mask)| value & mask & TAG_PRESENT != 0)
        }
        Field::Ipv4Src | Field::Ipv4Dst => ethertype(&[IPV4]),
        Field::Ipv6Src | Field::Ipv6Dst | Field::Ipv6Label => ethertype(&[IPV6]),
        Field::IpFrag | Field::IpProto | Field::IpDscp | Field::IpTos | Field::IpEcn | Field::IpTtl => {
            is_ip(matches)
        }
        Field::TcpSrc | Field::TcpDst | Field::TcpFlags => protocol(6),
        Field::UdpSrc | Field::UdpDst => protocol(17),
        Field::SctpSrc | Field::SctpDst => protocol(132),
        Field::Icmpv4Type | Field::Icmpv4Code => ethertype(&[IPV4]) && protocol(1),
        Field::Icmpv6Type | Field::Icmpv6Code => icmpv6(),
        Field::NdTarget => discovery(&[135, 136]),
        Field::NdSll => discovery(&[135]),
        Field::NdTll => discovery(&[136]),
        Field::ArpOp | Field::ArpSpa | Field::ArpTpa | Field::ArpSha | Field::ArpTha => {
            ethertype(&[ARP, RARP])
        }
        Field::CtNwSrc | Field::CtNwDst => ethertype(&[IPV4]) && is_tracked(matches),
        Field::CtIpv6Src | Field::CtIpv6Dst => ethertype(&[IPV6]) && is_tracked(matches),
        Field::CtNwProto | Field::CtTpSrc | Field::CtTpDst => is_ip(matches) && is_tracked(matches),
        _ => true,
    }
}

/// Whether the match is of packets with a valid connection: "Examples of valid connection tracking state matches include
/// ct_state=+new, ct_state=+est, ct_state=+rel, and ct_state=+trk-inv" (ovs-fields(7)).
fn is_tracked(matches: &Match) -> bool {
    let Some((value, mask)) = matches.get(Field::CtState) else { return false };
    let set = |bits: u32| value & mask & u128::from(bits) != 0;
    let clear = |bits: u32| mask & u128::from(bits) != 0 && value & u128::from(bits) == 0;
    set(CT_NEW | CT_EST | CT_REL | CT_RPL) || (set(CT_TRK) && clear(CT_INV))
}

fn is_exactly(matches: &Match, field: Field, wanted: &[u128]) -> bool {
    matches.get(field).is_some_and(|(value, mask)| mask == field.full_mask() && wanted.contains(&value))
}
