//! What rules are made of.

use crate::name::Name;
use crate::value::{Data, Value, Verdict};

/// An expression: it loads something into registers, or breaks off the rule unless what is in them is as it says, or does something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expr {
    /// Loads what is known of the packet (`meta`).
    Meta {
        /// What of it.
        key: MetaKey,
        /// Where to.
        to: Register,
    },
    /// Sets what is known of the packet.
    SetMeta {
        /// What of it.
        key: MetaKey,
        /// Where from.
        from: Register,
    },
    /// Loads bytes of the packet (`payload`).
    Payload {
        /// Which of them.
        field: Field,
        /// Where to.
        to: Register,
    },
    /// Loads bytes of an extension header of IPv6, or whether there is one (`exthdr`).
    ExtensionHeader {
        /// The header: 44 is that of fragments.
        header: u8,
        /// The first byte, counted from the header's.
        offset: u32,
        /// How many bytes.
        length: u32,
        /// Not the bytes, but 1 where there is such a header and 0 where there is none.
        is_presence: bool,
        /// Where to.
        to: Register,
    },
    /// Breaks off unless what is in a register is to the value as it says (`cmp`).
    Compare {
        /// What is compared.
        from: Register,
        /// How.
        how: Comparison,
        /// With what; bytes are compared as numbers in the order of the network.
        with: Value,
    },
    /// Breaks off unless what is in a register lies in a range (`range`), or does not.
    Range {
        /// What is compared.
        from: Register,
        /// It must not lie there.
        is_inverted: bool,
        /// The smallest value.
        first: Value,
        /// The largest value.
        last: Value,
    },
    /// `to = (from & mask) ^ xor` (`bitwise`).
    Bitwise {
        /// Where from.
        from: Register,
        /// Where to.
        to: Register,
        /// As long as what is computed.
        mask: Value,
        /// As long as what is computed.
        xor: Value,
    },
    /// Turns numbers from the order of the machine into that of the network, or back (`byteorder`).
    ByteOrder {
        /// Where from.
        from: Register,
        /// Where to.
        to: Register,
        /// From the network's to the machine's.
        to_host: bool,
        /// How many bytes.
        length: u32,
        /// How many bytes are one number.
        size: u32,
    },
    /// Breaks off unless what is in registers is in a set, or is not; of a map, loads what it is mapped to (`lookup`).
    Lookup {
        /// A set or map of the rule's table.
        set: Name,
        /// What is looked for.
        from: Register,
        /// Where to load what it is mapped to; [`Register::VERDICT`] of a verdict map.
        to: Option<Register>,
        /// It must not be in the set.
        is_inverted: bool,
    },
    /// Loads a value, or decides (`immediate`).
    Immediate {
        /// Where to.
        to: Register,
        /// What; a verdict into [`Register::VERDICT`].
        data: Data,
    },
    /// Loads what is known of the packet's connection (`ct`); breaks off where it has none and `key` is of connections alone.
    Ct {
        /// What of it.
        key: CtKey,
        /// Of which direction, where it matters.
        direction: Option<Direction>,
        /// Where to.
        to: Register,
    },
    /// Sets what is known of the packet's connection, or will be.
    SetCt {
        /// What of it.
        key: CtKey,
        /// Of which direction, where it matters.
        direction: Option<Direction>,
        /// Where from.
        from: Register,
    },
    /// Counts (`counter`).
    Counter {
        /// Packets.
        packets: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The packet's connection is not tracked (`notrack`).
    NoTrack,
    /// Another expression, or one of the above with something that is not known here.
    Other {
        /// The kernel's name of it.
        name: String,
        /// Its attributes, as bytes.
        data: Vec<u8>,
    },
}

impl Expr {
    /// Decides about the packet.
    pub fn verdict(verdict: Verdict) -> Self {
        Expr::Immediate { to: Register::VERDICT, data: verdict.into() }
    }

    /// Counts from nothing.
    pub fn counter() -> Self {
        Expr::Counter { packets: 0, bytes: 0 }
    }
}

/// A register. There are sixteen of four bytes each; what is longer fills those behind it, too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Register(u32);

impl Register {
    /// That of the verdict (`NFT_REG_VERDICT`).
    pub const VERDICT: Self = Self(0);
    /// The first of those for values.
    pub const FIRST: Self = Self(1);
    /// How many there are of four bytes (`NFT_REG32_COUNT`).
    pub const COUNT: u32 = 16;
    /// `NFT_REG_4`, `NFT_REG32_00`.
    const LAST_OF_LONG: u32 = 4;
    const FIRST_OF_SHORT: u32 = 8;

    /// The register that begins behind so many others of four bytes, if there is one.
    pub fn at(word: u32) -> Option<Self> {
        // Where one of sixteen bytes begins, the kernel tells it by that one's number (net/netfilter/nf_tables_api.c:
        // `nft_dump_register`).
        match (word < Self::COUNT, word % 4) {
            (false, _) => None,
            (true, 0) => Some(Register(1 + word / 4)),
            (true, _) => Some(Register(Self::FIRST_OF_SHORT + word)),
        }
    }

    /// `enum nft_registers`.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    pub(crate) fn of_number(number: u32) -> Option<Self> {
        match number {
            0..=Self::LAST_OF_LONG => Some(Register(number)),
            Self::FIRST_OF_SHORT.. => Self::at(number - Self::FIRST_OF_SHORT),
            _ => None,
        }
    }
}

/// What is known of a packet (`enum nft_meta_keys`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MetaKey(pub u32);

impl MetaKey {
    /// The ethertype, two bytes.
    pub const PROTOCOL: Self = Self(1);
    /// Its mark, four bytes.
    pub const MARK: Self = Self(3);
    /// The number of the interface it came in by, four bytes.
    pub const IIF: Self = Self(4);
    /// The number of the interface it leaves by, four bytes.
    pub const OIF: Self = Self(5);
    /// The name of the interface it came in by, sixteen bytes.
    pub const IIFNAME: Self = Self(6);
    /// The name of the interface it leaves by, sixteen bytes.
    pub const OIFNAME: Self = Self(7);
    /// The kind of interface it came in by (`ARPHRD_*`), two bytes.
    pub const IIFTYPE: Self = Self(8);
    /// IPv4 or IPv6 (`NFPROTO_*`), one byte.
    pub const NFPROTO: Self = Self(15);
    /// The protocol in IP, behind extension headers, one byte.
    pub const L4PROTO: Self = Self(16);
    /// The name of the bridge that it came in by, sixteen bytes.
    pub const BRIDGE_IIFNAME: Self = Self(17);
    /// The name of the bridge that it leaves by, sixteen bytes.
    pub const BRIDGE_OIFNAME: Self = Self(18);
    /// Whether it is for this host, for all, for many (`PACKET_*` of linux/if_packet.h), one byte.
    pub const PKTTYPE: Self = Self(19);

    /// How many bytes it is, of those that are named here.
    pub fn length(self) -> Option<u32> {
        match self {
            Self::MARK | Self::IIF | Self::OIF => Some(4),
            Self::IIFNAME | Self::OIFNAME | Self::BRIDGE_IIFNAME | Self::BRIDGE_OIFNAME => Some(16),
            Self::PROTOCOL | Self::IIFTYPE => Some(2),
            Self::NFPROTO | Self::L4PROTO | Self::PKTTYPE => Some(1),
            _ => None,
        }
    }
}

/// What is known of a connection (`enum nft_ct_keys`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CtKey(pub u32);

impl CtKey {
    /// A bit mask of [`CtKey::INVALID`] and so on, four bytes.
    pub const STATE: Self = Self(0);
    /// [`Direction`] of the packet, one byte.
    pub const DIRECTION: Self = Self(1);
    /// `IPS_*`, four bytes.
    pub const STATUS: Self = Self(2);
    /// Its mark, four bytes.
    pub const MARK: Self = Self(3);
    /// IPv4 or IPv6 (`NFPROTO_*`), one byte.
    pub const L3PROTOCOL: Self = Self(7);
    /// The protocol in IP, one byte.
    pub const PROTOCOL: Self = Self(10);
    /// The source port of a direction, two bytes; of ICMP its id.
    pub const SOURCE_PORT: Self = Self(11);
    /// The destination port of a direction, two bytes; of ICMP its type and code.
    pub const DESTINATION_PORT: Self = Self(12);
    /// Its zone, two bytes.
    pub const ZONE: Self = Self(17);
    /// The IPv4 source of a direction, four bytes.
    pub const SOURCE_IP: Self = Self(19);
    /// The IPv4 destination of a direction, four bytes.
    pub const DESTINATION_IP: Self = Self(20);
    /// The IPv6 source of a direction, sixteen bytes.
    pub const SOURCE_IP6: Self = Self(21);
    /// The IPv6 destination of a direction, sixteen bytes.
    pub const DESTINATION_IP6: Self = Self(22);

    /// Of [`CtKey::STATE`]: it belongs to nothing that it could belong to (`NF_CT_STATE_INVALID_BIT`).
    pub const INVALID: u32 = 1;
    /// Of [`CtKey::STATE`]: packets of both directions were seen (`NF_CT_STATE_BIT` of `IP_CT_ESTABLISHED`).
    pub const ESTABLISHED: u32 = 2;
    /// Of [`CtKey::STATE`]: it belongs to another connection.
    pub const RELATED: u32 = 4;
    /// Of [`CtKey::STATE`]: its first packet, or of one direction alone.
    pub const NEW: u32 = 8;
    /// Of [`CtKey::STATE`]: it is not tracked (`NF_CT_STATE_UNTRACKED_BIT`).
    pub const UNTRACKED: u32 = 64;

    /// How many bytes it is, of those that are named here.
    pub fn length(self) -> Option<u32> {
        match self {
            Self::STATE | Self::STATUS | Self::MARK | Self::SOURCE_IP | Self::DESTINATION_IP => Some(4),
            Self::DIRECTION | Self::L3PROTOCOL | Self::PROTOCOL => Some(1),
            Self::SOURCE_PORT | Self::DESTINATION_PORT | Self::ZONE => Some(2),
            Self::SOURCE_IP6 | Self::DESTINATION_IP6 => Some(16),
            _ => None,
        }
    }
}

/// Of a connection's packets (`IP_CT_DIR_*`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Direction {
    /// As its first packet.
    Original = 0,
    /// The other way.
    Reply = 1,
}

/// How something is compared (`enum nft_cmp_ops`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Comparison {
    /// `==`
    Equal = 0,
    /// `!=`
    NotEqual = 1,
    /// `<`
    Less = 2,
    /// `<=`
    LessOrEqual = 3,
    /// `>`
    Greater = 4,
    /// `>=`
    GreaterOrEqual = 5,
}

impl Comparison {
    pub(crate) fn of_number(number: u32) -> Option<Self> {
        let all = [
            Comparison::Equal,
            Comparison::NotEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
        ];
        all.into_iter().find(|how| *how as u32 == number)
    }
}

/// Bytes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Field {
    /// Counted from where.
    pub header: Header,
    /// The first byte.
    pub offset: u32,
    /// How many.
    pub length: u32,
}

/// A header of a packet (`enum nft_payload_bases`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Header(pub u32);

impl Header {
    /// Ethernet's.
    pub const LINK: Self = Self(0);
    /// That of IP or ARP.
    pub const NETWORK: Self = Self(1);
    /// That of TCP, UDP, ICMP; behind extension headers.
    pub const TRANSPORT: Self = Self(2);
}

macro_rules! fields {
    ($($(#[$doc:meta])+ $name:ident: $header:ident $offset:literal $length:literal,)+) => {
        impl Field {
            $($(#[$doc])+
            pub const $name: Self = Self { header: Header::$header, offset: $offset, length: $length };)+
        }
    };
}

fields! {
    /// `ether daddr`
    ETHER_DESTINATION: LINK 0 6,
    /// `ether saddr`
    ETHER_SOURCE: LINK 6 6,
    /// `ether type`
    ETHER_TYPE: LINK 12 2,
    /// `arp operation`
    ARP_OPERATION: NETWORK 6 2,
    /// `arp saddr ether`
    ARP_SOURCE_ETHER: NETWORK 8 6,
    /// `arp saddr ip`
    ARP_SOURCE_IP: NETWORK 14 4,
    /// `arp daddr ether`
    ARP_TARGET_ETHER: NETWORK 18 6,
    /// `arp daddr ip`
    ARP_TARGET_IP: NETWORK 24 4,
    /// `ip frag-off`: flags and offset.
    IP_FRAGMENT: NETWORK 6 2,
    /// `ip protocol`
    IP_PROTOCOL: NETWORK 9 1,
    /// `ip saddr`
    IP_SOURCE: NETWORK 12 4,
    /// `ip daddr`
    IP_DESTINATION: NETWORK 16 4,
    /// `ip6 nexthdr`
    IP6_NEXT_HEADER: NETWORK 6 1,
    /// `ip6 saddr`
    IP6_SOURCE: NETWORK 8 16,
    /// `ip6 daddr`
    IP6_DESTINATION: NETWORK 24 16,
    /// `tcp sport`, `udp sport`, `sctp sport`
    SOURCE_PORT: TRANSPORT 0 2,
    /// `tcp dport`, `udp dport`, `sctp dport`
    DESTINATION_PORT: TRANSPORT 2 2,
    /// `icmp type`, `icmpv6 type`
    ICMP_TYPE: TRANSPORT 0 1,
    /// `icmp code`, `icmpv6 code`
    ICMP_CODE: TRANSPORT 1 1,
    /// `icmpv6 taddr`: what a neighbour solicitation asks for, or an advertisement tells of.
    ICMPV6_TARGET: TRANSPORT 8 16,
}
