//! What registers and elements hold.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nfnetlink::{Attribute, Attributes, Malformed, Request};

use crate::name::Name;
use crate::wire::text;

/// Bytes as they stand in registers and sets: numbers of packets in the order of the network, numbers of the kernel's own (marks, zones,
/// states) in the order of the machine. The kernel refuses those of more than 64 bytes (`NFT_DATA_VALUE_MAXLEN`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Value(Vec<u8>);

impl Value {
    /// `IFNAMSIZ`.
    const INTERFACE_BYTES: usize = 16;
    /// A register is so long, and so is what a field of a concatenation is padded to a multiple of (`NFT_REG32_SIZE`).
    const WORD: usize = 4;

    /// The bytes.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// A number of two octets that stands in packets: a port, an ethertype.
    pub fn be16(number: u16) -> Self {
        Value(number.to_be_bytes().into())
    }

    /// A number of two octets of the kernel's own: a zone.
    pub fn host16(number: u16) -> Self {
        Value(number.to_ne_bytes().into())
    }

    /// A number of four octets of the kernel's own: a mark, a state.
    pub fn host32(number: u32) -> Self {
        Value(number.to_ne_bytes().into())
    }

    /// The name of an interface, whole (`IFNAMSIZ`, 16 bytes with the NULs behind it). What is too long is cut off as the kernel does.
    pub fn interface(name: &str) -> Self {
        let mut octets: Vec<u8> = name.bytes().take(Self::INTERFACE_BYTES - 1).collect();
        octets.resize(Self::INTERFACE_BYTES, 0);
        Value(octets)
    }

    /// Several values one after the other, each padded to words, as a concatenated key has them.
    pub fn concatenated<'v>(fields: impl IntoIterator<Item = &'v Value>) -> Self {
        let mut octets = Vec::new();
        for field in fields {
            octets.extend_from_slice(&field.0);
            octets.resize(octets.len().next_multiple_of(Self::WORD), 0);
        }
        Value(octets)
    }

    /// The value that is larger by one, of the same length; none behind the largest.
    pub fn next(&self) -> Option<Self> {
        let mut octets = self.0.clone();
        for octet in octets.iter_mut().rev() {
            let (more, is_carried) = octet.overflowing_add(1);
            *octet = more;
            if !is_carried {
                return Some(Value(octets));
            }
        }
        None
    }

    pub(crate) fn put(&self, request: &mut Request, kind: u16) {
        request.nest(kind, |data| _ = data.put(DATA_VALUE, &self.0));
    }

    /// Reads `struct nft_data` that must be a value.
    pub(crate) fn read(data: Attribute<'_>) -> Result<Self, Malformed> {
        let value = data.nested().find(DATA_VALUE)?.ok_or(Malformed("data without value"))?;
        Ok(Value(value.value.to_vec()))
    }
}

impl From<&[u8]> for Value {
    fn from(octets: &[u8]) -> Self {
        Value(octets.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(octets: [u8; N]) -> Self {
        Value(octets.into())
    }
}

impl From<Ipv4Addr> for Value {
    fn from(address: Ipv4Addr) -> Self {
        Value(address.octets().into())
    }
}

impl From<Ipv6Addr> for Value {
    fn from(address: Ipv6Addr) -> Self {
        Value(address.octets().into())
    }
}

impl From<IpAddr> for Value {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verdict {
    /// It is dropped.
    Drop,
    /// It leaves this hook's chain of that priority.
    Accept,
    /// The next rule.
    Continue,
    /// No further expression of this rule; the next rule (`NFT_BREAK`).
    Break,
    /// The rules of a chain, and then the next rule.
    Jump(Name),
    /// The rules of a chain, and then what comes behind the one that jumped here.
    Goto(Name),
    /// Back to the chain that jumped here; in a base chain, its policy.
    Return,
    /// Another one of the kernel's: to userspace, stolen, once more.
    Other(i32),
}

/// `NF_*` and `enum nft_verdicts`.
mod code {
    pub(super) const DROP: i32 = 0;
    pub(super) const ACCEPT: i32 = 1;
    pub(super) const CONTINUE: i32 = -1;
    pub(super) const BREAK: i32 = -2;
    pub(super) const JUMP: i32 = -3;
    pub(super) const GOTO: i32 = -4;
    pub(super) const RETURN: i32 = -5;
}

/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`; in it `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;

impl Verdict {
    fn put(&self, request: &mut Request, kind: u16) {
        let (code, chain) = match self {
            Verdict::Drop => (code::DROP, None),
            Verdict::Accept => (code::ACCEPT, None),
            Verdict::Continue => (code::CONTINUE, None),
            Verdict::Break => (code::BREAK, None),
            Verdict::Jump(chain) => (code::JUMP, Some(chain)),
            Verdict::Goto(chain) => (code::GOTO, Some(chain)),
            Verdict::Return => (code::RETURN, None),
            Verdict::Other(code) => (*code, None),
        };
        request.nest(kind, |data| {
            data.nest(DATA_VERDICT, |verdict| {
                verdict.put_be32(VERDICT_CODE, code.cast_unsigned());
                if let Some(chain) = chain {
                    verdict.put_text(VERDICT_CHAIN, chain.as_str());
                }
            });
        });
    }

    fn read(verdict: Attributes<'_>) -> Result<Self, Malformed> {
        let code = verdict.find(VERDICT_CODE)?.ok_or(Malformed("a verdict without code"))?.be32()?;
        let chain = || text(verdict, VERDICT_CHAIN, "a jump without chain");
        Ok(match code.cast_signed() {
            code::DROP => Verdict::Drop,
            code::ACCEPT => Verdict::Accept,
            code::CONTINUE => Verdict::Continue,
            code::BREAK => Verdict::Break,
            code::JUMP => Verdict::Jump(chain()?),
            code::GOTO => Verdict::Goto(chain()?),
            code::RETURN => Verdict::Return,
            code => Verdict::Other(code),
        })
    }
}

/// What an element of a map maps to, and what is loaded into a register at once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Data {
    /// Bytes.
    Value(Value),
    /// A verdict.
    Verdict(Verdict),
}

impl Data {
    pub(crate) fn put(&self, request: &mut Request, kind: u16) {
        match self {
            Data::Value(value) => value.put(request, kind),
            Data::Verdict(verdict) => verdict.put(request, kind),
        }
    }

    pub(crate) fn read(data: Attribute<'_>) -> Result<Self, Malformed> {
        match data.nested().find(DATA_VERDICT)? {
            Some(verdict) => Ok(Data::Verdict(Verdict::read(verdict.nested())?)),
            None => Ok(Data::Value(Value::read(data)?)),
        }
    }
}

impl From<Value> for Data {
    fn from(value: Value) -> Self {
        Data::Value(value)
    }
}

impl From<Verdict> for Data {
    fn from(verdict: Verdict) -> Self {
        Data::Verdict(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_padded_and_counted_as_the_kernel_has_them() {
        let mac = Value::from([2, 0, 0, 0, 0, 1]);
        let address = Value::from(Ipv4Addr::new(10, 0, 0, 255));
        assert_eq!(Value::concatenated([&mac, &address]).octets(), [2, 0, 0, 0, 0, 1, 0, 0, 10, 0, 0, 255]);
        assert_eq!(address.next(), Some(Ipv4Addr::new(10, 0, 1, 0).into()));
        assert_eq!(Value::from(Ipv4Addr::BROADCAST).next(), None);
        assert_eq!(Value::interface("tap0").octets(), b"tap0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(Value::interface("a-name-that-is-too-long").octets(), b"a-name-that-is-\0");
        assert_eq!(format!("{:?}", Value::be16(0x0806)), "0x0806");
    }
}
