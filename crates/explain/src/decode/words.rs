//! What a match says of packets, in words: protocol and ports, addresses, parts of datagrams.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy::Ethertype;
use rust_openflow::{FRAG_ANY, FRAG_LATER, Field, Match};

use super::look::{small, whole};

/// The protocol of a match with what it says of ports, as `tcp/80`, `icmp type 8 code 0`, `IPv6`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Wanted {
    /// IPv4 or IPv6; `None` for whatever else.
    pub(super) ethertype: Option<Ethertype>,
    /// IP protocol, of the packet or of the connection's original direction.
    pub(super) protocol: Option<u8>,
    /// Lowest and highest source port.
    pub(super) source: Option<(u16, u16)>,
    /// Lowest and highest destination port; of ICMP the type and the code are in `icmp`.
    pub(super) destination: Option<(u16, u16)>,
    /// ICMP type and code.
    pub(super) icmp: (Option<u16>, Option<u16>),
}

impl Wanted {
    pub(super) fn of(matches: &Match) -> Self {
        let ethertype = match whole(matches, Field::EthType) {
            Some(0x0800) => Some(Ethertype::Ipv4),
            Some(0x86dd) => Some(Ethertype::Ipv6),
            _ => None,
        };
        let byte = |field| small(matches, field).and_then(|number| u8::try_from(number).ok());
        let protocol = byte(Field::IpProto).or(byte(Field::CtNwProto));
        let is_icmp = matches!(protocol, Some(1 | 58));
        let any = |fields: &[Field]| fields.iter().find_map(|field| range(matches, *field));
        let source = any(&[Field::TcpSrc, Field::UdpSrc, Field::SctpSrc, Field::CtTpSrc]);
        let destination = any(&[Field::TcpDst, Field::UdpDst, Field::SctpDst, Field::CtTpDst]);
        let first = |fields: &[Field]| fields.iter().find_map(|field| small(matches, *field));
        let icmp = match is_icmp {
            true => (
                first(&[Field::Icmpv4Type, Field::Icmpv6Type, Field::CtTpSrc]),
                first(&[Field::Icmpv4Code, Field::Icmpv6Code, Field::CtTpDst]),
            ),
            false => (None, None),
        };
        let ports = |ports: Option<(u16, u16)>| ports.filter(|_| !is_icmp);
        Wanted { ethertype, protocol, source: ports(source), destination: ports(destination), icmp }
    }

    /// As [`Wanted`] says; `any` alone says nothing of packets at all.
    pub(super) fn text(&self) -> String {
        let family = match self.ethertype {
            Some(ethertype) => ethertype.to_string(),
            None => "anything".to_owned(),
        };
        let Some(protocol) = self.protocol else { return family };
        if let (1 | 58, (icmp_type, code)) = (protocol, self.icmp) {
            return icmp(protocol, icmp_type, code);
        }
        if let Some(known) = well_known(protocol, self.source, self.destination) {
            return known.to_owned();
        }
        let v6 = if self.ethertype == Some(Ethertype::Ipv6) { " over IPv6" } else { "" };
        let mut text = protocol_name(protocol);
        if let Some(ports) = self.destination {
            text += &format!("/{}", range_text(ports));
        }
        if let Some(ports) = self.source {
            text += &format!(" from port {}", range_text(ports));
        }
        text + v6
    }
}

/// Everything that a match says of a packet but registers, ports of the bridge and what conntrack says of it.
pub(super) fn packets(matches: &Match) -> String {
    let mut text = match whole(matches, Field::EthType) {
        None if matches.get(Field::VlanTci).is_some() => tag(matches),
        None => "anything".to_owned(),
        Some(0x0806) => "ARP".to_owned(),
        Some(0x8035) => "RARP".to_owned(),
        Some(0x0800 | 0x86dd) => Wanted::of(matches).text(),
        Some(other) => format!("ethertype {other:#06x}"),
    };
    text = match parts(matches) {
        Some(parts) => format!("{parts} of {text}"),
        None => text,
    };
    if let Some(target) = address(matches, &[Field::NdTarget]) {
        text += &format!(" for {target}");
    }
    if let Some(from) = source(matches) {
        text += &format!(" from {from}");
    }
    if let Some(mac) = mac(matches, Field::EthSrc) {
        text += &format!(" with MAC {mac}");
    }
    if let Some(to) = destination(matches) {
        text += &format!(" to {to}");
    }
    match matches.get(Field::EthDst) {
        // A bit of the first byte says that many receive it (IEEE 802).
        Some((_, mask)) if mask == 1 << 40 => text += " to many receivers",
        _ => {
            if let Some(mac) = mac(matches, Field::EthDst) {
                text += &format!(" to MAC {mac}");
            }
        }
    }
    text
}

/// The address or prefix that packets come from.
pub(super) fn source(matches: &Match) -> Option<String> {
    let fields = [Field::Ipv4Src, Field::Ipv6Src, Field::ArpSpa, Field::CtNwSrc, Field::CtIpv6Src];
    address(matches, &fields)
}

/// The address or prefix that packets go to.
pub(super) fn destination(matches: &Match) -> Option<String> {
    let fields = [Field::Ipv4Dst, Field::Ipv6Dst, Field::ArpTpa, Field::CtNwDst, Field::CtIpv6Dst];
    address(matches, &fields)
}

/// A member of a remote as the other end of packets: its address, and the MAC that it is bound to where the address is too wide to
/// be known by.
pub(super) fn member(matches: &Match) -> String {
    let family =
        Wanted::of(matches).ethertype.map_or_else(|| "any".to_owned(), |family| format!("any {family}"));
    let address = source(matches).or(destination(matches)).unwrap_or_else(|| format!("{family} address"));
    match mac(matches, Field::EthSrc).or(mac(matches, Field::EthDst)) {
        Some(mac) => format!("{address} with MAC {mac}"),
        None => address,
    }
}

fn address(matches: &Match, fields: &[Field]) -> Option<String> {
    fields.iter().find_map(|field| net(matches, *field)).map(|net| {
        match net.prefix_len() == net.max_prefix_len() {
            true => net.addr().to_string(),
            false => net.to_string(),
        }
    })
}

/// The prefix that a field of an address is matched with.
pub(super) fn net(matches: &Match, field: Field) -> Option<IpNet> {
    let (value, mask) = matches.get(field)?;
    match field.bits() {
        32 => {
            let length = u8::try_from(u32::try_from(mask).ok()?.count_ones()).ok()?;
            Ipv4Net::new(Ipv4Addr::from(u32::try_from(value).ok()?), length).ok().map(IpNet::V4)
        }
        128 => {
            let length = u8::try_from(mask.count_ones()).ok()?;
            Ipv6Net::new(Ipv6Addr::from(value), length).ok().map(IpNet::V6)
        }
        _ => None,
    }
}

/// A MAC that is matched whole.
pub(super) fn mac(matches: &Match, field: Field) -> Option<String> {
    whole(matches, field).map(mac_text)
}

pub(super) fn mac_text(mac: u128) -> String {
    let bytes = mac.to_be_bytes();
    let bytes: Vec<String> = bytes[bytes.len() - 6..].iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

/// What a match says of parts of datagrams.
fn parts(matches: &Match) -> Option<&'static str> {
    let (value, mask) = matches.get(Field::IpFrag)?;
    let (any, later) = (u128::from(FRAG_ANY), u128::from(FRAG_LATER));
    match (value, mask) {
        (value, mask) if value & mask & later != 0 => Some("later fragments"),
        (value, mask) if mask & later != 0 && value & any != 0 => Some("first fragments"),
        (value, mask) if mask & any != 0 && value & any != 0 => Some("fragments"),
        _ => None,
    }
}

fn tag(matches: &Match) -> String {
    const PRESENT: u128 = 0x1000;
    let Some((tci, mask)) = matches.get(Field::VlanTci) else { return "anything".to_owned() };
    match (tci & PRESENT != 0, mask & 0xfff) {
        (true, 0) => "tagged frames".to_owned(),
        (true, _) => format!("frames of VLAN {}", tci & 0xfff),
        (false, _) => "untagged frames".to_owned(),
    }
}

/// The lowest and the highest number that a field of ports is matched with, if what is between them all matches.
fn range(matches: &Match, field: Field) -> Option<(u16, u16)> {
    let (value, mask) = matches.get(field)?;
    let (value, mask) = (u16::try_from(value).ok()?, u16::try_from(mask & 0xffff).ok()?);
    Some((value, value | !mask))
}

pub(super) fn range_text((low, high): (u16, u16)) -> String {
    match low == high {
        true => low.to_string(),
        false => format!("{low}-{high}"),
    }
}

/// Names of the IANA registry "Protocol Numbers" that rules of Neutron's API can give.
fn protocol_name(protocol: u8) -> String {
    let names = [
        (2, "igmp"),
        (4, "ipip"),
        (6, "tcp"),
        (17, "udp"),
        (33, "dccp"),
        (41, "ipv6 in ip"),
        (46, "rsvp"),
        (47, "gre"),
        (50, "esp"),
        (51, "ah"),
        (89, "ospf"),
        (112, "vrrp"),
        (113, "pgm"),
        (132, "sctp"),
        (136, "udplite"),
    ];
    let known = names.iter().find(|(number, _)| *number == protocol);
    known.map_or_else(|| format!("IP protocol {protocol}"), |(_, name)| (*name).to_owned())
}

/// DHCP (RFC 2131, section 4.1) and DHCPv6 (RFC 8415, section 7.2), by their ports.
fn well_known(
    protocol: u8,
    source: Option<(u16, u16)>,
    destination: Option<(u16, u16)>,
) -> Option<&'static str> {
    let one = |ports: Option<(u16, u16)>| ports.filter(|(low, high)| low == high).map(|(low, _)| low);
    Some(match (protocol, one(source)?, one(destination)?) {
        (17, 68, 67) => "DHCP requests",
        (17, 67, 68) => "DHCP replies",
        (17, 546, 547) => "DHCPv6 requests",
        (17, 547, 546) => "DHCPv6 replies",
        _ => return None,
    })
}

/// RFC 792 and RFC 4443, and the messages that guests live by (RFC 2710, RFC 3810, RFC 4861).
fn icmp(protocol: u8, icmp_type: Option<u16>, code: Option<u16>) -> String {
    let name = match (protocol, icmp_type) {
        (58, Some(130)) => Some("MLD queries"),
        (58, Some(131)) => Some("MLD reports"),
        (58, Some(132)) => Some("MLD done"),
        (58, Some(133)) => Some("router solicitations"),
        (58, Some(134)) => Some("router advertisements"),
        (58, Some(135)) => Some("neighbour solicitations"),
        (58, Some(136)) => Some("neighbour advertisements"),
        (58, Some(143)) => Some("MLDv2 reports"),
        _ => None,
    };
    if let Some(name) = name {
        return name.to_owned();
    }
    let mut text = if protocol == 58 { "icmpv6" } else { "icmp" }.to_owned();
    if let Some(icmp_type) = icmp_type {
        text += &format!(" type {icmp_type}");
    }
    if let Some(code) = code {
        text += &format!(" code {code}");
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use rust_openflow::Match;

    use super::packets;

    #[test]
    fn packets_have_words() {
        let matches = [
            "",
            "arp,arp_spa=10.0.0.3",
            "tcp,tp_dst=0x1f40/0xfff8,nw_src=10.0.0.0/8",
            "ct_state=-inv+trk,ct_nw_proto=6,ct_tp_dst=22,ip,ct_nw_src=10.0.0.5",
            "ct_state=-inv+trk,ct_nw_proto=58,ct_tp_src=128,ct_tp_dst=0,ipv6",
            "icmp,icmp_type=8,icmp_code=0",
            "icmp6,icmp_type=136,nd_target=fd00::3,dl_src=fa:16:3e:00:00:03",
            "udp,tp_src=68,tp_dst=67",
            "udp6,tp_src=547,tp_dst=546",
            "ip,nw_proto=47",
            "ip,nw_proto=99",
            "tcp6,tp_src=1024,tp_dst=80",
            "ip,nw_frag=later",
            "ip,nw_frag=yes",
            "ip,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00",
            "dl_type=0x88cc",
            "vlan_tci=0x1000/0x1000",
            "dl_vlan=7",
            "vlan_tci=0x0000/0x1fff,dl_dst=fa:16:3e:00:00:03",
        ];
        let said: String = matches
            .iter()
            .map(|text| format!("{text} | {}\n", packets(&text.parse::<Match>().expect("a match"))))
            .collect();
        expect![[r#"
             | anything
            arp,arp_spa=10.0.0.3 | ARP from 10.0.0.3
            tcp,tp_dst=0x1f40/0xfff8,nw_src=10.0.0.0/8 | tcp/8000-8007 from 10.0.0.0/8
            ct_state=-inv+trk,ct_nw_proto=6,ct_tp_dst=22,ip,ct_nw_src=10.0.0.5 | tcp/22 from 10.0.0.5
            ct_state=-inv+trk,ct_nw_proto=58,ct_tp_src=128,ct_tp_dst=0,ipv6 | icmpv6 type 128 code 0
            icmp,icmp_type=8,icmp_code=0 | icmp type 8 code 0
            icmp6,icmp_type=136,nd_target=fd00::3,dl_src=fa:16:3e:00:00:03 | neighbour advertisements for fd00::3 with MAC fa:16:3e:00:00:03
            udp,tp_src=68,tp_dst=67 | DHCP requests
            udp6,tp_src=547,tp_dst=546 | DHCPv6 replies
            ip,nw_proto=47 | gre
            ip,nw_proto=99 | IP protocol 99
            tcp6,tp_src=1024,tp_dst=80 | tcp/80 from port 1024 over IPv6
            ip,nw_frag=later | later fragments of IPv4
            ip,nw_frag=yes | fragments of IPv4
            ip,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 | IPv4 to many receivers
            dl_type=0x88cc | ethertype 0x88cc
            vlan_tci=0x1000/0x1000 | tagged frames
            dl_vlan=7 | frames of VLAN 7
            vlan_tci=0x0000/0x1fff,dl_dst=fa:16:3e:00:00:03 | untagged frames to MAC fa:16:3e:00:00:03
        "#]]
        .assert_eq(&said);
    }
}
