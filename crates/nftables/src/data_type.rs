//! What the numbers in keys and data of sets mean. The kernel knows only their length; nft(8) prints them by the numbers and the user
//! data that it finds at the set, which are its own (its `enum datatypes`) and part of what nft and other programs rely upon.

/// A field of a set's key, or what a map maps to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DataType {
    /// `ipv4_addr`.
    Ipv4Address,
    /// `ipv6_addr`.
    Ipv6Address,
    /// `ether_addr`.
    EtherAddress,
    /// `ether_type`.
    EtherType,
    /// `inet_proto`: the protocol in IP.
    InetProtocol,
    /// `inet_service`: a port.
    InetService,
    /// `icmp_type`.
    IcmpType,
    /// `icmpv6_type`.
    Icmpv6Type,
    /// `mark`, of a packet or a connection.
    Mark,
    /// `ifname`: the name of an interface.
    InterfaceName,
    /// `typeof ct zone`: it has no name of its own.
    CtZone,
}

/// nft's `enum byteorder`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ByteOrder {
    /// A concatenation has none.
    None = 0,
    Host = 1,
    Big = 2,
}

/// By what nft(8) says `typeof`: its number of a kind of expression (`enum expr_types`), and the expression's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TypeOf {
    pub(crate) expression: u32,
    pub(crate) key: u32,
}

impl TypeOf {
    /// nft's `EXPR_META`, `EXPR_CT`.
    const META: u32 = 9;
    pub(crate) const CT: u32 = 12;
}

/// nft's `TYPE_BITS`: so many bits of a concatenation's number are a field's.
const BITS_OF_FIELD: u32 = 6;

impl DataType {
    /// nft's number.
    pub(crate) fn number(self) -> u32 {
        match self {
            // `TYPE_INTEGER`: of any length.
            DataType::CtZone => 4,
            DataType::Ipv4Address => 7,
            DataType::Ipv6Address => 8,
            DataType::EtherAddress => 9,
            DataType::EtherType => 10,
            DataType::InetProtocol => 12,
            DataType::InetService => 13,
            DataType::IcmpType => 14,
            DataType::Mark => 19,
            DataType::Icmpv6Type => 29,
            DataType::InterfaceName => 41,
        }
    }

    /// In bytes, without the padding of a concatenation.
    pub fn length(self) -> u32 {
        match self {
            DataType::InetProtocol | DataType::IcmpType | DataType::Icmpv6Type => 1,
            DataType::EtherType | DataType::InetService | DataType::CtZone => 2,
            DataType::Ipv4Address | DataType::Mark => 4,
            DataType::EtherAddress => 6,
            DataType::Ipv6Address | DataType::InterfaceName => 16,
        }
    }

    pub(crate) fn byte_order(self) -> ByteOrder {
        match self {
            DataType::Mark | DataType::InterfaceName | DataType::CtZone => ByteOrder::Host,
            _ => ByteOrder::Big,
        }
    }

    /// The expression that yields such values, where there is a plain one.
    pub(crate) fn type_of(self) -> Option<TypeOf> {
        match self {
            // `NFT_META_MARK`, `NFT_META_IIFNAME`, `NFT_CT_ZONE`.
            DataType::Mark => Some(TypeOf { expression: TypeOf::META, key: 3 }),
            DataType::InterfaceName => Some(TypeOf { expression: TypeOf::META, key: 6 }),
            DataType::CtZone => Some(TypeOf { expression: TypeOf::CT, key: 17 }),
            _ => None,
        }
    }

    /// nft's number for fields that are concatenated, or for the only one.
    pub(crate) fn number_of(fields: &[DataType]) -> u32 {
        fields.iter().fold(0, |number, field| number << BITS_OF_FIELD | field.number())
    }

    /// How long a key of these fields is, in bytes.
    pub(crate) fn length_of(fields: &[DataType]) -> u32 {
        match fields {
            [field] => field.length(),
            fields => fields.iter().map(|field| field.length().next_multiple_of(4)).sum(),
        }
    }

    pub(crate) fn byte_order_of(fields: &[DataType]) -> ByteOrder {
        match fields {
            [field] => field.byte_order(),
            _ => ByteOrder::None,
        }
    }
}
