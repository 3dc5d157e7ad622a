//! Printing of matches, in the order and with the short forms of ovs-ofctl.

use std::fmt::{self, Write};

use crate::field::{Field, OxmHeader, ones};
use crate::flow::Flow;
use crate::flow_match::Match;

use super::value::{self, AltHex, CT_STATE_BITS, TCP_FLAG_BITS, TUN_FLAG_BITS};

const IPV4: u128 = 0x0800;
const IPV6: u128 = 0x86dd;

/// Priority and match; empty for the default priority and the match of everything.
pub(super) fn rule(priority: u16, matches: &Match) -> String {
    let mut printer = Printer { matches, text: String::new() };
    if priority != Flow::DEFAULT_PRIORITY {
        printer.item("priority", |out| write!(out, "{priority}"));
    }
    printer.all();
    printer.text.pop();
    printer.text
}

/// The match alone.
impl fmt::Display for Match {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&rule(Flow::DEFAULT_PRIORITY, self))
    }
}

/// How the number of a maskable field is printed: Open vSwitch is not of one mind about it.
#[derive(Clone, Copy)]
enum Number {
    /// `5`, `0x5/0xf`; zero is `0`, `0x0/0xf`.
    Decimal,
    /// `0x5`, `0x5/0xf`; zero is `0`, `0/0xf`.
    Hex,
    /// `0x00005`, `0x00005/0x0000f`.
    Label,
}

struct Printer<'a> {
    matches: &'a Match,
    text: String,
}

impl Printer<'_> {
    fn all(&mut self) {
        self.number("pkt_mark", Field::PktMark, Number::Hex);
        self.number("recirc_id", Field::RecircId, Number::Hex);
        self.number("dp_hash", Field::DpHash, Number::Hex);
        self.number("conj_id", Field::ConjId, Number::Decimal);
        self.value("actset_output", Field::ActsetOutput);
        self.connection();
        let (skip_type, skip_proto) = self.protocol();
        for register in 0..16 {
            let field = Field::Reg(register);
            self.number(field.name(), field, Number::Hex);
        }
        self.tunnel();
        self.number("metadata", Field::Metadata, Number::Hex);
        self.value("in_port", Field::InPort);
        self.vlan();
        self.value("dl_src", Field::EthSrc);
        self.value("dl_dst", Field::EthDst);
        if let Some((kind, _)) = self.matches.get(Field::EthType).filter(|_| !skip_type) {
            self.item("dl_type", |out| write!(out, "{kind:#06x}"));
        }
        self.addresses();
        if self.is_arp() {
            // To a reader `nw_proto` of ARP is its operation.
            self.by_number(Field::IpProto);
        } else if !skip_proto {
            self.number("nw_proto", Field::IpProto, Number::Decimal);
        }
        self.number("arp_op", Field::ArpOp, Number::Decimal);
        self.value("arp_sha", Field::ArpSha);
        self.value("arp_tha", Field::ArpTha);
        self.header_bits();
        self.transport();
        self.unknown();
    }

    fn item(&mut self, name: &str, print: impl FnOnce(&mut String) -> fmt::Result) {
        self.text.push_str(name);
        self.text.push('=');
        print(&mut self.text).expect("a String takes everything");
        self.text.push(',');
    }

    fn value(&mut self, name: &str, field: Field) {
        if let Some((value, mask)) = self.matches.get(field) {
            self.item(name, |out| value::masked(out, field, value, mask));
        }
    }

    fn number(&mut self, name: &str, field: Field, number: Number) {
        let Some((value, mask)) = self.matches.get(field) else { return };
        let exact = mask == field.full_mask();
        self.item(name, |out| match number {
            Number::Decimal if exact => write!(out, "{value}"),
            Number::Label if exact => write!(out, "{value:#07x}"),
            Number::Label => write!(out, "{value:#07x}/{mask:#07x}"),
            Number::Hex if exact => write!(out, "{}", AltHex(value)),
            Number::Decimal => write!(out, "{value:#x}/{mask:#x}"),
            Number::Hex => write!(out, "{}/{mask:#x}", AltHex(value)),
        });
    }

    fn connection(&mut self) {
        if let Some((value, mask)) = self.matches.get(Field::CtState) {
            self.item("ct_state", |out| value::flags(out, &CT_STATE_BITS, value, mask, 0xff));
        }
        self.number("ct_zone", Field::CtZone, Number::Decimal);
        self.number("ct_mark", Field::CtMark, Number::Hex);
        self.number("ct_label", Field::CtLabel, Number::Hex);
        self.value("ct_nw_src", Field::CtNwSrc);
        self.value("ct_ipv6_src", Field::CtIpv6Src);
        self.value("ct_nw_dst", Field::CtNwDst);
        self.value("ct_ipv6_dst", Field::CtIpv6Dst);
        self.number("ct_nw_proto", Field::CtNwProto, Number::Decimal);
        self.number("ct_tp_src", Field::CtTpSrc, Number::Decimal);
        self.number("ct_tp_dst", Field::CtTpDst, Number::Decimal);
        // The default packet type, Ethernet, goes without saying.
        if self.matches.get(Field::PacketType).is_some_and(|(kind, _)| kind != 0) {
            self.value("packet_type", Field::PacketType);
        }
    }

    /// Prints `tcp6` and the like; returns whether ethertype and protocol are said by it.
    fn protocol(&mut self) -> (bool, bool) {
        let proto = self.exact(Field::IpProto);
        let (word, said_proto) = match (self.exact(Field::EthType), proto) {
            (Some(IPV4), Some(1)) => ("icmp", true),
            (Some(IPV4), Some(6)) => ("tcp", true),
            (Some(IPV4), Some(17)) => ("udp", true),
            (Some(IPV4), Some(132)) => ("sctp", true),
            (Some(IPV4), _) => ("ip", false),
            (Some(IPV6), Some(58)) => ("icmp6", true),
            (Some(IPV6), Some(6)) => ("tcp6", true),
            (Some(IPV6), Some(17)) => ("udp6", true),
            (Some(IPV6), Some(132)) => ("sctp6", true),
            (Some(IPV6), _) => ("ipv6", false),
            (Some(0x0806), _) => ("arp", false),
            (Some(0x8035), _) => ("rarp", false),
            (Some(0x8847), _) => ("mpls", false),
            (Some(0x8848), _) => ("mplsm", false),
            _ => return (false, false),
        };
        self.text.push_str(word);
        self.text.push(',');
        (true, said_proto)
    }

    fn tunnel(&mut self) {
        self.number("tun_id", Field::TunId, Number::Hex);
        self.value("tun_src", Field::TunSrc);
        self.value("tun_dst", Field::TunDst);
        self.value("tun_ipv6_src", Field::TunIpv6Src);
        self.value("tun_ipv6_dst", Field::TunIpv6Dst);
        self.number("tun_gbp_id", Field::TunGbpId, Number::Decimal);
        self.number("tun_gbp_flags", Field::TunGbpFlags, Number::Hex);
        if let Some((value, mask)) = self.matches.get(Field::TunFlags) {
            self.item("tun_flags", |out| value::flags(out, &TUN_FLAG_BITS, value, mask & 1, 1));
        }
    }

    /// `dl_vlan` and `dl_vlan_pcp` where they say it all, else the TCI.
    fn vlan(&mut self) {
        let Some((tci, mask)) = self.matches.get(Field::VlanTci) else { return };
        let (vid_mask, pcp_mask) = (mask & 0xfff, mask >> 13);
        let tagged = tci & mask & 0x1000 != 0;
        let plain = matches!(vid_mask, 0 | 0xfff) && matches!(pcp_mask, 0 | 7) && (vid_mask | pcp_mask) != 0;
        if tagged && plain {
            if vid_mask != 0 {
                self.item("dl_vlan", |out| write!(out, "{}", tci & 0xfff));
            }
            if pcp_mask != 0 {
                self.item("dl_vlan_pcp", |out| write!(out, "{}", tci >> 13));
            }
        } else if mask == 0xffff {
            self.item("vlan_tci", |out| write!(out, "{tci:#06x}"));
        } else {
            self.item("vlan_tci", |out| write!(out, "{tci:#06x}/{mask:#06x}"));
        }
    }

    fn addresses(&mut self) {
        self.value("ipv6_src", Field::Ipv6Src);
        self.value("ipv6_dst", Field::Ipv6Dst);
        self.number("ipv6_label", Field::Ipv6Label, Number::Label);
        self.value("arp_spa", Field::ArpSpa);
        self.value("arp_tpa", Field::ArpTpa);
        // To a reader `nw_src` of ARP is the sender's address.
        let is_arp = self.is_arp();
        self.value(if is_arp { "ipv4_src" } else { "nw_src" }, Field::Ipv4Src);
        self.value(if is_arp { "ipv4_dst" } else { "nw_dst" }, Field::Ipv4Dst);
    }

    fn header_bits(&mut self) {
        if let Some((dscp, _)) = self.matches.get(Field::IpDscp) {
            self.item("nw_tos", |out| write!(out, "{}", dscp << 2));
        }
        self.number("nw_ecn", Field::IpEcn, Number::Decimal);
        self.number("nw_ttl", Field::IpTtl, Number::Decimal);
        self.number("mpls_label", Field::MplsLabel, Number::Decimal);
        self.number("mpls_tc", Field::MplsTc, Number::Decimal);
        self.number("mpls_ttl", Field::MplsTtl, Number::Decimal);
        self.number("mpls_bos", Field::MplsBos, Number::Decimal);
        if let Some((value, mask)) = self.matches.get(Field::IpFrag) {
            self.item("nw_frag", |out| value::frag(out, value, mask));
        }
    }

    fn transport(&mut self) {
        self.shared("icmp_type", &[(Field::Icmpv4Type, 1), (Field::Icmpv6Type, 58)]);
        self.shared("icmp_code", &[(Field::Icmpv4Code, 1), (Field::Icmpv6Code, 58)]);
        self.value("nd_target", Field::NdTarget);
        self.value("nd_sll", Field::NdSll);
        self.value("nd_tll", Field::NdTll);
        self.shared("tp_src", &[(Field::TcpSrc, 6), (Field::UdpSrc, 17), (Field::SctpSrc, 132)]);
        self.shared("tp_dst", &[(Field::TcpDst, 6), (Field::UdpDst, 17), (Field::SctpDst, 132)]);
        if let Some((value, mask)) = self.matches.get(Field::TcpFlags) {
            self.item("tcp_flags", |out| value::flags(out, &TCP_FLAG_BITS, value, mask & ones(12), ones(12)));
        }
    }

    /// Fields that share a name, each with the protocol by which the name means it. A switch has no flow with such a
    /// field and another protocol; a text may, and then the field's own name stands for it, or its number where the own
    /// name is the shared one.
    fn shared(&mut self, name: &str, fields: &[(Field, u128)]) {
        let (eth_type, proto) = (self.exact(Field::EthType), self.exact(Field::IpProto));
        for (field, wanted) in fields {
            let is_meant = proto == Some(*wanted) && (proto != Some(58) || eth_type == Some(IPV6));
            match field.name() {
                _ if is_meant => self.number(name, *field, Number::Decimal),
                own if own != name => self.number(own, *field, Number::Decimal),
                _ => self.by_number(*field),
            }
        }
    }

    /// As a field that this crate does not know.
    fn by_number(&mut self, field: Field) {
        let Some((value, mask)) = self.matches.get(field) else { return };
        let payload = |number: u128| number.to_be_bytes()[size_of::<u128>() - field.bytes()..].to_vec();
        let has_mask = mask != field.full_mask();
        let mut bytes = payload(value);
        bytes.extend(has_mask.then(|| payload(mask)).into_iter().flatten());
        self.oxm(field.oxm_header(), has_mask, &bytes);
    }

    fn is_arp(&self) -> bool {
        self.exact(Field::EthType).is_some_and(|eth_type| matches!(eth_type, 0x0806 | 0x8035))
    }

    fn exact(&self, field: Field) -> Option<u128> {
        self.matches.get(field).map(|(value, _)| value)
    }

    /// Fields that this crate does not know, as `oxm:class.number.experimenter[.mask]=0x…`, which ovs-ofctl
    /// does not read.
    fn unknown(&mut self) {
        for raw in self.matches.raw() {
            self.oxm(raw.header, raw.has_mask, raw.payload);
        }
    }

    fn oxm(&mut self, header: OxmHeader, has_mask: bool, payload: &[u8]) {
        let OxmHeader { class, number, experimenter } = header;
        let mask = if has_mask { ".mask" } else { "" };
        let name = format!("oxm:{class:#06x}.{number}.{experimenter:#x}{mask}");
        self.item(&name, |out| super::action_print::hex(out, payload));
    }
}
