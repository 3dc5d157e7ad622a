//! Sets and what is in them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Which addresses a set holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4 (`inet`).
    Ipv4,
    /// IPv6 (`inet6`).
    Ipv6,
}

impl Family {
    /// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Family::Ipv4 => 2,
            Family::Ipv6 => 10,
        }
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        [Family::Ipv4, Family::Ipv6].into_iter().find(|family| family.number() == number)
    }
}

/// The name of a set.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SetName(String);

/// A text that cannot be the name of a set.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{0:?} is no name of a set: 1 to {max} bytes, no NUL", max = SetName::MAX_BYTES)]
pub struct SetNameError(String);

impl SetName {
    /// `IPSET_MAXNAMELEN` less the NUL.
    pub const MAX_BYTES: usize = 31;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SetName {
    type Err = SetNameError;

    fn from_str(text: &str) -> Result<Self, SetNameError> {
        match text.len() {
            1..=Self::MAX_BYTES if !text.contains('\0') => Ok(SetName(text.to_owned())),
            _ => Err(SetNameError(text.to_owned())),
        }
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An address or prefix that a set can hold: not everything (`/0`), and no bit behind the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net {
    address: IpAddr,
    prefix: u8,
}

/// An address and a length that make no element of a set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NetError {
    /// Longer than the address.
    #[error("a prefix of {0} bits is longer than the address")]
    TooLong(u8),
    /// Everything, of which `hash:net` holds only the halves.
    #[error("a set cannot hold a prefix of 0 bits, only its two halves")]
    Everything,
}

impl Net {
    /// The prefix of so many bits of an address; bits behind it are cut off, as the kernel does.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetError> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        match prefix {
            0 => Err(NetError::Everything),
            _ if prefix > bits => Err(NetError::TooLong(prefix)),
            _ => {
                let behind = u32::from(bits - prefix);
                let address = match address {
                    IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(v4.to_bits() >> behind << behind)),
                    IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(v6.to_bits() >> behind << behind)),
                };
                Ok(Net { address, prefix })
            }
        }
    }

    /// The two halves of everything.
    pub fn halves(family: Family) -> [Self; 2] {
        let [low, high] = match family {
            Family::Ipv4 => [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(0x80, 0, 0, 0)].map(IpAddr::V4),
            Family::Ipv6 => {
                [Ipv6Addr::UNSPECIFIED, Ipv6Addr::new(0x8000, 0, 0, 0, 0, 0, 0, 0)].map(IpAddr::V6)
            }
        };
        [low, high].map(|address| Net { address, prefix: 1 })
    }

    /// Its lowest address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its length in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Which sets can hold it.
    pub fn family(&self) -> Family {
        if self.address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

impl fmt::Display for Net {
    /// As ipset(8) prints it: a host without its length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.address.is_ipv4() { 32 } else { 128 };
        match self.prefix == bits {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.prefix),
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spec {
    /// Not in use yet.
    pub name: SetName,
    /// Of its addresses.
    pub family: Family,
    /// How many elements it can hold (`maxelem`).
    pub max_elements: u32,
    /// How many buckets it begins with (`hashsize`); the kernel takes the next power of two, 64 at least, and doubles it when
    /// it is full.
    pub hash_size: u32,
}

/// A set as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its name.
    pub name: SetName,
    /// Its type; ours are `hash:net`.
    pub type_name: String,
    /// The revision of its type.
    pub revision: u8,
    /// Of its addresses; types without any have none.
    pub family: Option<Family>,
    /// How many elements it can hold, if that is limited.
    pub max_elements: Option<u32>,
    /// Buckets.
    pub hash_size: Option<u32>,
    /// How many elements it holds.
    pub elements: u32,
    /// How many rules and sets refer to it.
    pub references: u32,
    /// Memory that it takes, in bytes.
    pub memory: u32,
    /// How long an element stays that says nothing of it, in seconds, if elements can end.
    pub timeout: Option<u32>,
    /// `IPSET_FLAG_WITH_*`, `IPSET_FLAG_NOMATCH`…: what else elements can have.
    pub flags: u32,
}

/// A set and all that is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Set {
    /// The set.
    pub header: Header,
    /// Its elements, in no order.
    pub entries: Vec<Entry>,
}

/// An element with all that is said of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Entry {
    /// The address or prefix.
    pub net: Net,
    /// It is an exception from a larger prefix (`nomatch`).
    pub no_match: bool,
    /// Whatever else there is, as kind (`IPSET_ATTR_*`) and value: a timeout, counters, a comment.
    pub others: Box<[(u16, Box<[u8]>)]>,
}

impl From<Net> for Entry {
    fn from(net: Net) -> Self {
        Entry { net, no_match: false, others: Box::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_long_as_the_kernel_takes_them() {
        assert!("".parse::<SetName>().is_err());
        assert!("a\0b".parse::<SetName>().is_err());
        assert!("x".repeat(32).parse::<SetName>().is_err());
        assert_eq!("x".repeat(31).parse::<SetName>().unwrap().as_str().len(), 31);
    }

    #[test]
    fn prefixes_are_cut_and_everything_is_its_halves() {
        let net = |address: &str, prefix| Net::new(address.parse().unwrap(), prefix);
        assert_eq!(net("10.1.2.3", 8).unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(net("10.1.2.3", 32).unwrap().to_string(), "10.1.2.3");
        assert_eq!(net("2001:db8::ff", 127).unwrap().to_string(), "2001:db8::fe/127");
        assert_eq!(net("2001:db8::ff", 128).unwrap().to_string(), "2001:db8::ff");
        assert_eq!(net("10.1.2.3", 33), Err(NetError::TooLong(33)));
        assert_eq!(net("::", 129), Err(NetError::TooLong(129)));
        assert_eq!(net("::", 0), Err(NetError::Everything));
        assert_eq!(Net::halves(Family::Ipv4).map(|net| net.to_string()), ["0.0.0.0/1", "128.0.0.0/1"]);
        assert_eq!(Net::halves(Family::Ipv6).map(|net| net.to_string()), ["::/1", "8000::/1"]);
    }
}
