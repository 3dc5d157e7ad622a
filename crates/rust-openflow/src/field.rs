//! The packet and metadata fields of Open vSwitch 3.1: names, sizes and wire headers (ovs-fields(7)).

/// How ovs-ofctl prints a field's value as the argument of `set_field`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// A decimal number.
    Decimal,
    /// A hexadecimal number.
    Hex,
    /// An Ethernet address.
    Mac,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A port number or a reserved port's name.
    Port,
    /// `ct_state` flags.
    CtState,
    /// TCP flags.
    TcpFlags,
    /// Tunnel flags.
    TunFlags,
    /// `no`, `yes`, `first`, `later`, `not_later`.
    Frag,
    /// `(namespace,type)`.
    PacketType,
}

/// What identifies a field on the wire: the first two and a half bytes of its TLV (OpenFlow 1.4 §7.2.2.2),
/// and the experimenter id that follows them in class 0xffff.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OxmHeader {
    /// `oxm_class`: 0x8000 OpenFlow, 0x8001 packet registers, 0 and 1 Nicira, 0xffff experimenter.
    pub class: u16,
    /// `oxm_field`, 7 bits.
    pub number: u8,
    /// The experimenter id in class 0xffff, otherwise 0.
    pub experimenter: u32,
}

const ONF_ID: u32 = 0x4f4e_4600;
const NICIRA_ID: u32 = 0x0000_2320;

impl OxmHeader {
    pub(crate) const EXPERIMENTER: u16 = 0xffff;

    const fn of(number: u8) -> Self {
        OxmHeader { class: 0x8000, number, experimenter: 0 }
    }
    const fn nxm0(number: u8) -> Self {
        OxmHeader { class: 0, number, experimenter: 0 }
    }
    const fn nxm1(number: u8) -> Self {
        OxmHeader { class: 1, number, experimenter: 0 }
    }
    const fn xreg(number: u8) -> Self {
        OxmHeader { class: 0x8001, number, experimenter: 0 }
    }
    const fn onf(number: u8) -> Self {
        OxmHeader { class: Self::EXPERIMENTER, number, experimenter: ONF_ID }
    }
    const fn nxoxm(number: u8) -> Self {
        OxmHeader { class: Self::EXPERIMENTER, number, experimenter: NICIRA_ID }
    }
    const fn equals(&self, other: &Self) -> bool {
        self.class == other.class && self.number == other.number && self.experimenter == other.experimenter
    }

    /// The header's bytes on the wire: 4, or 8 with an experimenter id.
    pub(crate) fn length(&self) -> usize {
        if self.class == Self::EXPERIMENTER { 8 } else { 4 }
    }
}

/// Everything the codec and the text grammar need to know of a field.
#[derive(Debug)]
pub(crate) struct FieldDef {
    pub(crate) field: Field,
    pub(crate) name: &'static str,
    /// The name where the field is written as `NAME[start..end]`.
    pub(crate) nxm_name: &'static str,
    /// Significant bits of a value.
    pub(crate) bits: u16,
    /// Bytes on the wire.
    pub(crate) bytes: u8,
    pub(crate) maskable: bool,
    pub(crate) format: Format,
    /// The header in OpenFlow 1.4 matches and OFPAT_SET_FIELD.
    pub(crate) oxm: OxmHeader,
    /// The header in Nicira actions, which prefer NXM where there is one.
    pub(crate) nxm: OxmHeader,
}

macro_rules! def {
    ($field:expr, $name:expr, $nxm_name:expr, $bits:expr, $bytes:expr, $mask:ident, $format:ident, $oxm:expr, $nxm:expr) => {
        FieldDef {
            field: $field,
            name: $name,
            nxm_name: $nxm_name,
            bits: $bits,
            bytes: $bytes,
            maskable: def!(@mask $mask),
            format: Format::$format,
            oxm: $oxm,
            nxm: $nxm,
        }
    };
    (@mask mask) => { true };
    (@mask whole) => { false };
}

macro_rules! fields {
    (
        before { $($(#[$doc:meta])* $field:ident: $name:literal, $nxm_name:literal, $bits:literal / $bytes:literal,
            $mask:ident, $format:ident, $oxm:expr, $nxm:expr;)* }
        after { $($(#[$doc2:meta])* $field2:ident: $name2:literal, $nxm_name2:literal, $bits2:literal / $bytes2:literal,
            $mask2:ident, $format2:ident, $oxm2:expr, $nxm2:expr;)* }
    ) => {
        /// A field that flows match, or that actions read and write.
        ///
        /// The order is the one in which Open vSwitch writes the fields of a match, so that a
        /// [`Match`](crate::Match) sorted by it has the switch's own bytes. Values are plain numbers in
        /// network order: an IPv4 address is a `u32`, an IPv6 address a `u128`, an Ethernet address the low
        /// 48 bits.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Field {
            $($(#[$doc])* $field,)*
            /// 32-bit register 0..=15 (`NXM_NX_REG0`…).
            Reg(u8),
            /// 64-bit register 0..=7: registers 2n (high half) and 2n+1. A match stores it as those two.
            XReg(u8),
            /// 128-bit register 0..=3: registers 4n (highest quarter) to 4n+3. A match stores it as those
            /// four.
            XXReg(u8),
            $($(#[$doc2])* $field2,)*
        }

        static BEFORE: &[FieldDef] = &[
            $(def!(Field::$field, $name, $nxm_name, $bits, $bytes, $mask, $format, $oxm, $nxm)),*
        ];
        static AFTER: &[FieldDef] = &[
            $(def!(Field::$field2, $name2, $nxm_name2, $bits2, $bytes2, $mask2, $format2, $oxm2, $nxm2)),*
        ];

        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        mod index {
            /// The fields' places in `BEFORE` and `AFTER`.
            pub(super) enum Before { $($field),* }
            pub(super) enum After { $($field2),* }
        }

        impl Field {
            pub(crate) fn def(self) -> &'static FieldDef {
                match self {
                    $(Field::$field => &BEFORE[index::Before::$field as usize],)*
                    Field::Reg(number) => &REGS[usize::from(number & 15)],
                    Field::XReg(number) => &XREGS[usize::from(number & 7)],
                    Field::XXReg(number) => &XXREGS[usize::from(number & 3)],
                    $(Field::$field2 => &AFTER[index::After::$field2 as usize],)*
                }
            }
        }
    };
}

fields! {
    before {
        /// Packet type; only the default, Ethernet, occurs on ordinary bridges.
        PacketType: "packet_type", "OXM_OF_PACKET_TYPE", 32/4, whole, PacketType, OxmHeader::of(44), OxmHeader::of(44);
        /// Datapath hash.
        DpHash: "dp_hash", "NXM_NX_DP_HASH", 32/4, mask, Hex, OxmHeader::nxoxm(0), OxmHeader::nxm1(35);
        /// Recirculation id.
        RecircId: "recirc_id", "NXM_NX_RECIRC_ID", 32/4, whole, Decimal, OxmHeader::nxm1(36), OxmHeader::nxm1(36);
        /// The conjunction that matched.
        ConjId: "conj_id", "NXM_NX_CONJ_ID", 32/4, whole, Decimal, OxmHeader::nxm1(37), OxmHeader::nxm1(37);
        /// Ingress port, 32 bits. A match stores every ingress port so.
        InPort: "in_port", "OXM_OF_IN_PORT", 32/4, whole, Port, OxmHeader::of(0), OxmHeader::of(0);
        /// Ingress port, 16 bits: the form that actions can write (`NXM_OF_IN_PORT`).
        InPortNxm: "in_port", "NXM_OF_IN_PORT", 16/2, whole, Port, OxmHeader::nxm0(0), OxmHeader::nxm0(0);
        /// The output port in the action set.
        ActsetOutput: "actset_output", "ONFOXM_ET_ACTSET_OUTPUT", 32/4, whole, Port, OxmHeader::onf(43), OxmHeader::onf(43);
        /// Ethernet source address.
        EthSrc: "eth_src", "NXM_OF_ETH_SRC", 48/6, mask, Mac, OxmHeader::of(4), OxmHeader::nxm0(2);
        /// Ethernet destination address.
        EthDst: "eth_dst", "NXM_OF_ETH_DST", 48/6, mask, Mac, OxmHeader::of(3), OxmHeader::nxm0(1);
        /// Ethertype, the innermost.
        EthType: "eth_type", "NXM_OF_ETH_TYPE", 16/2, whole, Hex, OxmHeader::of(5), OxmHeader::nxm0(3);
        /// The whole 802.1Q TCI, its CFI bit (0x1000) standing for "there is a tag". A match stores it as
        /// `VlanVid` and `VlanPcp` where those can say the same.
        VlanTci: "vlan_tci", "NXM_OF_VLAN_TCI", 16/2, mask, Hex, OxmHeader::nxm0(4), OxmHeader::nxm0(4);
        /// VLAN id with the "there is a tag" bit 0x1000; 0 is "no tag".
        VlanVid: "vlan_vid", "OXM_OF_VLAN_VID", 13/2, mask, Decimal, OxmHeader::of(6), OxmHeader::of(6);
        /// VLAN priority.
        VlanPcp: "vlan_pcp", "OXM_OF_VLAN_PCP", 3/1, whole, Decimal, OxmHeader::of(7), OxmHeader::of(7);
        /// MPLS traffic class.
        MplsTc: "mpls_tc", "OXM_OF_MPLS_TC", 3/1, whole, Decimal, OxmHeader::of(35), OxmHeader::of(35);
        /// MPLS bottom of stack.
        MplsBos: "mpls_bos", "OXM_OF_MPLS_BOS", 1/1, whole, Decimal, OxmHeader::of(36), OxmHeader::of(36);
        /// MPLS time to live.
        MplsTtl: "mpls_ttl", "NXM_NX_MPLS_TTL", 8/1, whole, Decimal, OxmHeader::nxm1(30), OxmHeader::nxm1(30);
        /// MPLS label.
        MplsLabel: "mpls_label", "OXM_OF_MPLS_LABEL", 20/4, whole, Decimal, OxmHeader::of(34), OxmHeader::of(34);
        /// IPv4 source address.
        Ipv4Src: "ip_src", "NXM_OF_IP_SRC", 32/4, mask, Ipv4, OxmHeader::of(11), OxmHeader::nxm0(7);
        /// IPv4 destination address.
        Ipv4Dst: "ip_dst", "NXM_OF_IP_DST", 32/4, mask, Ipv4, OxmHeader::of(12), OxmHeader::nxm0(8);
        /// IPv6 source address.
        Ipv6Src: "ipv6_src", "NXM_NX_IPV6_SRC", 128/16, mask, Ipv6, OxmHeader::of(26), OxmHeader::nxm1(19);
        /// IPv6 destination address.
        Ipv6Dst: "ipv6_dst", "NXM_NX_IPV6_DST", 128/16, mask, Ipv6, OxmHeader::of(27), OxmHeader::nxm1(20);
        /// Fragment bits, see [`FRAG_ANY`](crate::FRAG_ANY).
        IpFrag: "ip_frag", "NXM_NX_IP_FRAG", 2/1, mask, Frag, OxmHeader::nxm1(26), OxmHeader::nxm1(26);
        /// The whole TOS byte with ECN 0 (`NXM_OF_IP_TOS`), the DSCP in its upper six bits. A match stores
        /// `IpDscp`.
        IpTos: "nw_tos", "NXM_OF_IP_TOS", 8/1, whole, Decimal, OxmHeader::nxm0(5), OxmHeader::nxm0(5);
        /// DSCP, 6 bits (printed, as `nw_tos`, four times as great).
        IpDscp: "ip_dscp", "OXM_OF_IP_DSCP", 6/1, whole, Decimal, OxmHeader::of(8), OxmHeader::of(8);
        /// ECN bits.
        IpEcn: "nw_ecn", "NXM_NX_IP_ECN", 2/1, whole, Decimal, OxmHeader::of(9), OxmHeader::nxm1(28);
        /// Time to live, hop limit.
        IpTtl: "nw_ttl", "NXM_NX_IP_TTL", 8/1, whole, Decimal, OxmHeader::nxm1(29), OxmHeader::nxm1(29);
        /// IPv6 flow label.
        Ipv6Label: "ipv6_label", "NXM_NX_IPV6_LABEL", 20/4, mask, Hex, OxmHeader::of(28), OxmHeader::nxm1(27);
        /// IP protocol.
        IpProto: "nw_proto", "NXM_OF_IP_PROTO", 8/1, whole, Decimal, OxmHeader::of(10), OxmHeader::nxm0(6);
        /// TCP source port.
        TcpSrc: "tcp_src", "NXM_OF_TCP_SRC", 16/2, mask, Decimal, OxmHeader::of(13), OxmHeader::nxm0(9);
        /// TCP destination port.
        TcpDst: "tcp_dst", "NXM_OF_TCP_DST", 16/2, mask, Decimal, OxmHeader::of(14), OxmHeader::nxm0(10);
        /// TCP flags, 12 bits.
        TcpFlags: "tcp_flags", "NXM_NX_TCP_FLAGS", 12/2, mask, TcpFlags, OxmHeader::onf(42), OxmHeader::nxm1(34);
        /// UDP source port.
        UdpSrc: "udp_src", "NXM_OF_UDP_SRC", 16/2, mask, Decimal, OxmHeader::of(15), OxmHeader::nxm0(11);
        /// UDP destination port.
        UdpDst: "udp_dst", "NXM_OF_UDP_DST", 16/2, mask, Decimal, OxmHeader::of(16), OxmHeader::nxm0(12);
        /// SCTP source port.
        SctpSrc: "sctp_src", "OXM_OF_SCTP_SRC", 16/2, mask, Decimal, OxmHeader::of(17), OxmHeader::of(17);
        /// SCTP destination port.
        SctpDst: "sctp_dst", "OXM_OF_SCTP_DST", 16/2, mask, Decimal, OxmHeader::of(18), OxmHeader::of(18);
        /// ICMP type.
        Icmpv4Type: "icmp_type", "NXM_OF_ICMP_TYPE", 8/1, whole, Decimal, OxmHeader::of(19), OxmHeader::nxm0(13);
        /// ICMP code.
        Icmpv4Code: "icmp_code", "NXM_OF_ICMP_CODE", 8/1, whole, Decimal, OxmHeader::of(20), OxmHeader::nxm0(14);
        /// ICMPv6 type.
        Icmpv6Type: "icmpv6_type", "NXM_NX_ICMPV6_TYPE", 8/1, whole, Decimal, OxmHeader::of(29), OxmHeader::nxm1(21);
        /// ICMPv6 code.
        Icmpv6Code: "icmpv6_code", "NXM_NX_ICMPV6_CODE", 8/1, whole, Decimal, OxmHeader::of(30), OxmHeader::nxm1(22);
        /// Target address of a neighbour solicitation or advertisement.
        NdTarget: "nd_target", "NXM_NX_ND_TARGET", 128/16, mask, Ipv6, OxmHeader::of(31), OxmHeader::nxm1(23);
        /// Source link-layer address option of a neighbour solicitation.
        NdSll: "nd_sll", "NXM_NX_ND_SLL", 48/6, mask, Mac, OxmHeader::of(32), OxmHeader::nxm1(24);
        /// Target link-layer address option of a neighbour advertisement.
        NdTll: "nd_tll", "NXM_NX_ND_TLL", 48/6, mask, Mac, OxmHeader::of(33), OxmHeader::nxm1(25);
        /// ARP operation, 1 request, 2 reply.
        ArpOp: "arp_op", "NXM_OF_ARP_OP", 16/2, whole, Decimal, OxmHeader::of(21), OxmHeader::nxm0(15);
        /// ARP sender's IPv4 address.
        ArpSpa: "arp_spa", "NXM_OF_ARP_SPA", 32/4, mask, Ipv4, OxmHeader::of(22), OxmHeader::nxm0(16);
        /// ARP target's IPv4 address.
        ArpTpa: "arp_tpa", "NXM_OF_ARP_TPA", 32/4, mask, Ipv4, OxmHeader::of(23), OxmHeader::nxm0(17);
        /// ARP sender's Ethernet address.
        ArpSha: "arp_sha", "NXM_NX_ARP_SHA", 48/6, mask, Mac, OxmHeader::of(24), OxmHeader::nxm1(17);
        /// ARP target's Ethernet address.
        ArpTha: "arp_tha", "NXM_NX_ARP_THA", 48/6, mask, Mac, OxmHeader::of(25), OxmHeader::nxm1(18);
        /// Tunnel id.
        TunId: "tun_id", "NXM_NX_TUN_ID", 64/8, mask, Hex, OxmHeader::of(38), OxmHeader::nxm1(16);
        /// Tunnel flags: 1 is OAM.
        TunFlags: "tun_flags", "NXM_NX_TUN_FLAGS", 1/2, mask, TunFlags, OxmHeader::nxm1(104), OxmHeader::nxm1(104);
        /// Tunnel's outer IPv4 source.
        TunSrc: "tun_src", "NXM_NX_TUN_IPV4_SRC", 32/4, mask, Ipv4, OxmHeader::nxm1(31), OxmHeader::nxm1(31);
        /// Tunnel's outer IPv4 destination.
        TunDst: "tun_dst", "NXM_NX_TUN_IPV4_DST", 32/4, mask, Ipv4, OxmHeader::nxm1(32), OxmHeader::nxm1(32);
        /// Tunnel's outer IPv6 source.
        TunIpv6Src: "tun_ipv6_src", "NXM_NX_TUN_IPV6_SRC", 128/16, mask, Ipv6, OxmHeader::nxm1(109), OxmHeader::nxm1(109);
        /// Tunnel's outer IPv6 destination.
        TunIpv6Dst: "tun_ipv6_dst", "NXM_NX_TUN_IPV6_DST", 128/16, mask, Ipv6, OxmHeader::nxm1(110), OxmHeader::nxm1(110);
        /// VXLAN group policy id.
        TunGbpId: "tun_gbp_id", "NXM_NX_TUN_GBP_ID", 16/2, mask, Decimal, OxmHeader::nxm1(38), OxmHeader::nxm1(38);
        /// VXLAN group policy flags.
        TunGbpFlags: "tun_gbp_flags", "NXM_NX_TUN_GBP_FLAGS", 8/1, mask, Hex, OxmHeader::nxm1(39), OxmHeader::nxm1(39);
    }
    after {
        /// The kernel's skb mark.
        PktMark: "pkt_mark", "NXM_NX_PKT_MARK", 32/4, mask, Hex, OxmHeader::nxm1(33), OxmHeader::nxm1(33);
        /// Connection-tracking state, see [`CT_NEW`](crate::CT_NEW).
        CtState: "ct_state", "NXM_NX_CT_STATE", 8/4, mask, CtState, OxmHeader::nxm1(105), OxmHeader::nxm1(105);
        /// Connection-tracking zone.
        CtZone: "ct_zone", "NXM_NX_CT_ZONE", 16/2, whole, Hex, OxmHeader::nxm1(106), OxmHeader::nxm1(106);
        /// Connection mark.
        CtMark: "ct_mark", "NXM_NX_CT_MARK", 32/4, mask, Hex, OxmHeader::nxm1(107), OxmHeader::nxm1(107);
        /// Connection label.
        CtLabel: "ct_label", "NXM_NX_CT_LABEL", 128/16, mask, Hex, OxmHeader::nxm1(108), OxmHeader::nxm1(108);
        /// IPv4 source of the connection's first packet. Fields of the original tuple need a valid `ct_state`
        /// beside them (ovs-fields(7), "Connection Tracking Original Direction Fields").
        CtNwSrc: "ct_nw_src", "NXM_NX_CT_NW_SRC", 32/4, mask, Ipv4, OxmHeader::nxm1(120), OxmHeader::nxm1(120);
        /// IPv6 source of the connection's first packet.
        CtIpv6Src: "ct_ipv6_src", "NXM_NX_CT_IPV6_SRC", 128/16, mask, Ipv6, OxmHeader::nxm1(122), OxmHeader::nxm1(122);
        /// IPv4 destination of the connection's first packet.
        CtNwDst: "ct_nw_dst", "NXM_NX_CT_NW_DST", 32/4, mask, Ipv4, OxmHeader::nxm1(121), OxmHeader::nxm1(121);
        /// IPv6 destination of the connection's first packet.
        CtIpv6Dst: "ct_ipv6_dst", "NXM_NX_CT_IPV6_DST", 128/16, mask, Ipv6, OxmHeader::nxm1(123), OxmHeader::nxm1(123);
        /// IP protocol of the connection's first packet.
        CtNwProto: "ct_nw_proto", "NXM_NX_CT_NW_PROTO", 8/1, whole, Decimal, OxmHeader::nxm1(119), OxmHeader::nxm1(119);
        /// Source port, or ICMP type, of the connection's first packet.
        CtTpSrc: "ct_tp_src", "NXM_NX_CT_TP_SRC", 16/2, mask, Decimal, OxmHeader::nxm1(124), OxmHeader::nxm1(124);
        /// Destination port, or ICMP code, of the connection's first packet.
        CtTpDst: "ct_tp_dst", "NXM_NX_CT_TP_DST", 16/2, mask, Decimal, OxmHeader::nxm1(125), OxmHeader::nxm1(125);
        /// OpenFlow's 64-bit metadata.
        Metadata: "metadata", "OXM_OF_METADATA", 64/8, mask, Hex, OxmHeader::of(2), OxmHeader::of(2);
    }
}

macro_rules! registers {
    ($variant:ident, $name:literal, $nxm:literal, $bits:literal / $bytes:literal, $header:expr; $($number:literal)*) => {
        [$(def!(
            Field::$variant($number), concat!($name, $number), concat!($nxm, $number), $bits, $bytes, mask, Hex,
            $header($number), $header($number)
        )),*]
    };
}

const fn xxreg(number: u8) -> OxmHeader {
    OxmHeader::nxm1(111 + number)
}

static REGS: [FieldDef; 16] =
    registers!(Reg, "reg", "NXM_NX_REG", 32 / 4, OxmHeader::nxm1; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
static XREGS: [FieldDef; 8] =
    registers!(XReg, "xreg", "OXM_OF_PKT_REG", 64 / 8, OxmHeader::xreg; 0 1 2 3 4 5 6 7);
static XXREGS: [FieldDef; 4] = registers!(XXReg, "xxreg", "NXM_NX_XXREG", 128 / 16, xxreg; 0 1 2 3);

/// Names that ovs-ofctl also takes, and that mean the same in matches and in actions.
const ALIASES: [(&str, Field); 21] = [
    ("dl_src", Field::EthSrc),
    ("dl_dst", Field::EthDst),
    ("dl_type", Field::EthType),
    ("ipv4_src", Field::Ipv4Src),
    ("ipv4_dst", Field::Ipv4Dst),
    ("nw_src", Field::Ipv4Src),
    ("nw_dst", Field::Ipv4Dst),
    ("ip_proto", Field::IpProto),
    ("ip_ecn", Field::IpEcn),
    ("ip_ttl", Field::IpTtl),
    ("nw_frag", Field::IpFrag),
    ("icmpv4_type", Field::Icmpv4Type),
    ("icmpv4_code", Field::Icmpv4Code),
    ("tp_src", Field::TcpSrc),
    ("tp_dst", Field::TcpDst),
    ("tunnel_id", Field::TunId),
    ("ipv6_flabel", Field::Ipv6Label),
    ("ipv6_nd_target", Field::NdTarget),
    ("ipv6_nd_sll", Field::NdSll),
    ("ipv6_nd_tll", Field::NdTll),
    ("in_port_oxm", Field::InPort),
];

fn all() -> impl Iterator<Item = &'static FieldDef> {
    BEFORE.iter().chain(&REGS).chain(&XREGS).chain(&XXREGS).chain(AFTER)
}

impl Field {
    /// Every field that this crate knows.
    pub fn all() -> impl Iterator<Item = Field> {
        all().map(|def| def.field)
    }

    /// The name that ovs-ofctl's `set_field` takes; matches also use shorter, older ones (`dl_src`,
    /// `tp_dst`).
    #[must_use]
    pub fn name(self) -> &'static str {
        self.def().name
    }

    /// The name ovs-ofctl gives the field where only a part of it is meant: `NXM_NX_REG8` of
    /// `NXM_NX_REG8[0..15]`.
    #[must_use]
    pub fn subfield_name(self) -> &'static str {
        self.def().nxm_name
    }

    /// Significant bits of a value.
    #[must_use]
    pub fn bits(self) -> u16 {
        self.def().bits
    }

    /// Bits that actions can reach: one less than [`bits`](Self::bits) for `VlanVid`, whose top bit says that
    /// there is a tag.
    #[must_use]
    pub fn subfield_bits(self) -> u16 {
        if self == Field::VlanVid { 12 } else { self.bits() }
    }

    /// Bytes of a value on the wire.
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::from(self.def().bytes)
    }

    /// Whether Open vSwitch takes a mask for the field.
    #[must_use]
    pub fn is_maskable(self) -> bool {
        self.def().maskable
    }

    /// How a value is printed.
    #[must_use]
    pub fn format(self) -> Format {
        self.def().format
    }

    /// The mask of an exact match. Open vSwitch keeps masks, where there can be one, as wide as the field on
    /// the wire, even where a value has fewer bits (`tcp_flags`, `ipv6_label`), and takes masks that differ
    /// there for different flows.
    #[must_use]
    pub fn full_mask(self) -> u128 {
        match self {
            Field::VlanVid | Field::IpFrag | Field::CtState => ones(self.bits()),
            _ if !self.is_maskable() => ones(self.bits()),
            _ => ones(u16::from(self.def().bytes) * 8),
        }
    }

    /// Whether a match with this mask goes without it on the wire. `ct_state` never does: Open vSwitch keeps
    /// eight of its 32 bits and always writes that mask.
    pub(crate) fn is_exact(self, mask: u128) -> bool {
        mask == self.full_mask() && self != Field::CtState
    }

    /// The header in OpenFlow 1.4 matches.
    #[must_use]
    pub fn oxm_header(self) -> OxmHeader {
        self.def().oxm
    }

    /// The header in Nicira actions.
    #[must_use]
    pub fn nxm_header(self) -> OxmHeader {
        self.def().nxm
    }

    /// Whether the field exists: registers have numbers that do not.
    #[must_use]
    pub fn exists(self) -> bool {
        self.def().field == self
    }

    /// The field of one of ovs-ofctl's names, `NXM_…` and `OXM_…` included; `tp_dst` and its like stand for
    /// TCP, and `nw_src` for IPv4, as they do in ovs-ofctl until a protocol says otherwise.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Field> {
        // The 16-bit form is second to the 32-bit one under their common name.
        if let Some(def) = all().find(|def| def.name == name || def.nxm_name == name) {
            return Some(def.field);
        }
        ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, field)| *field).or_else(|| oxm_name(name))
    }

    /// The field that a TLV header stands for; NXM and OXM forms of a field are the same field.
    #[must_use]
    pub fn from_header(header: OxmHeader) -> Option<Field> {
        let index = match header {
            OxmHeader { class: 0x8000, number, .. } => OF_INDEX.get(usize::from(number)),
            OxmHeader { class: 1, number, .. } => NXM1_INDEX.get(usize::from(number)),
            OxmHeader { class: 0, number, .. } => NXM0_INDEX.get(usize::from(number)),
            OxmHeader { class: 0x8001, number, .. } => {
                return XREGS.get(usize::from(number)).map(|def| def.field);
            }
            OxmHeader { class: OxmHeader::EXPERIMENTER, .. } => {
                return all().find(|def| def.oxm == header).map(|def| def.field);
            }
            _ => None,
        };
        index.copied().flatten()
    }
}

/// OXM names of fields whose preferred name is an NXM one: `OXM_OF_` and the capitals of the OpenFlow name.
fn oxm_name(name: &str) -> Option<Field> {
    let lower =
        name.strip_prefix("OXM_OF_").or_else(|| name.strip_prefix("ONFOXM_ET_"))?.to_ascii_lowercase();
    Field::from_name(&lower).filter(|field| !matches!(field.oxm_header().class, 0 | 1))
}

/// A number of `bits` ones.
pub(crate) const fn ones(bits: u16) -> u128 {
    if bits >= 128 { u128::MAX } else { (1 << bits) - 1 }
}

static OF_INDEX: [Option<Field>; 64] = index_of(0x8000);
static NXM0_INDEX: [Option<Field>; 64] = index_of(0);
static NXM1_INDEX: [Option<Field>; 128] = index_of(1);

/// Fields of one class by their number, computed once by the compiler: decoding asks once a field of every
/// flow.
const fn index_of<const N: usize>(class: u16) -> [Option<Field>; N] {
    let mut index = [None; N];
    let tables: [&[FieldDef]; 4] = [BEFORE, &REGS, &XXREGS, AFTER];
    let mut table = 0;
    while table < tables.len() {
        let mut row = 0;
        while row < tables[table].len() {
            let def = &tables[table][row];
            if def.oxm.class == class {
                index[def.oxm.number as usize] = Some(def.field);
            } else if def.nxm.class == class && !def.nxm.equals(&def.oxm) {
                index[def.nxm.number as usize] = Some(def.field);
            }
            row += 1;
        }
        table += 1;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_header_and_name_leads_back_to_its_field() {
        for field in Field::all() {
            assert_eq!(field.def().field, field);
            assert_eq!(Field::from_header(field.oxm_header()), Some(field), "{field:?}");
            assert_eq!(Field::from_header(field.nxm_header()), Some(field), "{field:?}");
            assert_eq!(Field::from_name(field.subfield_name()), Some(field));
            let named = Field::from_name(field.name());
            assert_eq!(named, Some(if field == Field::InPortNxm { Field::InPort } else { field }));
            assert!(usize::from(field.bits()).div_ceil(8) <= field.bytes());
        }
    }

    #[test]
    fn registers_beyond_the_last_do_not_exist() {
        assert!(Field::Reg(15).exists() && Field::XReg(7).exists() && Field::XXReg(3).exists());
        assert!(!Field::Reg(16).exists() && !Field::XReg(8).exists() && !Field::XXReg(4).exists());
    }

    #[test]
    fn standard_names_are_read() {
        assert_eq!(Field::from_name("OXM_OF_ETH_SRC"), Some(Field::EthSrc));
        assert_eq!(Field::from_name("OXM_OF_IPV4_DST"), Some(Field::Ipv4Dst));
        assert_eq!(Field::from_name("OXM_OF_TUNNEL_ID"), Some(Field::TunId));
        assert_eq!(Field::from_name("nonsense"), None);
    }
}
