//! Attributes: length, kind and value, one after the other, some of them holding attributes themselves.

use crate::Malformed;

/// The value holds attributes (`NLA_F_NESTED`).
pub(crate) const NESTED: u16 = 1 << 15;
/// The value is in the order of the network (`NLA_F_NET_BYTEORDER`).
pub(crate) const NET_BYTE_ORDER: u16 = 1 << 14;
const FLAGS: u16 = NESTED | NET_BYTE_ORDER;
/// Of an attribute's header: its length, padding excluded, and its kind.
pub(crate) const HEADER: usize = 4;

/// An attribute that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attribute<'m> {
    /// Its kind, without flags.
    pub kind: u16,
    /// Its value, padding excluded.
    pub value: &'m [u8],
}

/// The attributes in some bytes, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'m> {
    rest: &'m [u8],
}

impl<'m> Attributes<'m> {
    /// Reads `bytes`, which begin with an attribute's header or are empty.
    pub fn new(bytes: &'m [u8]) -> Self {
        Attributes { rest: bytes }
    }

    /// The first attribute of a kind; damage that comes before it is an error.
    pub fn find(self, kind: u16) -> Result<Option<Attribute<'m>>, Malformed> {
        for attribute in self {
            let attribute = attribute?;
            if attribute.kind == kind {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }
}

impl<'m> Iterator for Attributes<'m> {
    type Item = Result<Attribute<'m>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = read(self.rest);
        self.rest = read.as_ref().map_or(&[], |(_, rest)| rest);
        Some(read.map(|(attribute, _)| attribute))
    }
}

fn read(bytes: &[u8]) -> Result<(Attribute<'_>, &[u8]), Malformed> {
    let ([l0, l1, k0, k1], _) =
        bytes.split_first_chunk().ok_or(Malformed("an attribute's header is cut off"))?;
    let (length, kind) = (u16::from_ne_bytes([*l0, *l1]), u16::from_ne_bytes([*k0, *k1]));
    let length = usize::from(length);
    let value = bytes
        .get(HEADER..length)
        .ok_or(Malformed("an attribute is longer than what holds it, or shorter than its header"))?;
    // The last one may come without its padding.
    let rest = bytes.get(aligned(length)..).unwrap_or_default();
    Ok((Attribute { kind: kind & !FLAGS, value }, rest))
}

/// Attributes and messages begin at multiples of four (`NLA_ALIGNTO`, `NLMSG_ALIGNTO`).
pub(crate) fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

impl<'m> Attribute<'m> {
    /// The attributes that the value holds.
    pub fn nested(self) -> Attributes<'m> {
        Attributes::new(self.value)
    }

    /// A number of one octet.
    pub fn u8(self) -> Result<u8, Malformed> {
        self.array().map(|[octet]| octet)
    }

    /// A number of two octets, in the order of the network.
    pub fn be16(self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// A number of four octets, in the order of the network.
    pub fn be32(self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of eight octets, in the order of the network.
    pub fn be64(self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Text, with or without the NUL that ends it.
    pub fn text(self) -> Result<&'m str, Malformed> {
        let text = self.value.strip_suffix(&[0]).unwrap_or(self.value);
        std::str::from_utf8(text).map_err(|_| Malformed("text is not UTF-8"))
    }

    /// The value, which must be so long.
    pub fn array<const N: usize>(self) -> Result<[u8; N], Malformed> {
        self.value.try_into().map_err(|_| Malformed("a value is not as long as values of its kind are"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_with_their_padding() {
        let mut bytes = Vec::new();
        for (kind, value) in
            [(1u16, &b"ab\0"[..]), (2 | NESTED, &[7; 4]), (3 | NET_BYTE_ORDER, &[0, 0, 1, 2])]
        {
            let length = u16::try_from(HEADER + value.len()).unwrap();
            bytes.extend(
                length.to_ne_bytes().into_iter().chain(kind.to_ne_bytes()).chain(value.iter().copied()),
            );
            bytes.resize(aligned(bytes.len()), 0);
        }
        let read: Vec<Attribute<'_>> = Attributes::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(read.iter().map(|attribute| attribute.kind).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(read[0].text(), Ok("ab"));
        assert_eq!(read[2].be32(), Ok(258));
        assert!(read[2].be16().is_err() && read[2].u8().is_err() && read[2].be64().is_err());
        assert_eq!(
            Attributes::new(&bytes).find(3).unwrap().map(|attribute| attribute.value),
            Some(&[0, 0, 1, 2][..])
        );
        assert_eq!(Attributes::new(&bytes).find(4).unwrap(), None);
        // The last one's padding may be missing.
        let last = &bytes[..7];
        assert_eq!(Attributes::new(last).count(), 1);
        assert_eq!(Attributes::new(last).next().unwrap().unwrap().text(), Ok("ab"));
    }

    #[test]
    fn damage_is_told_once_and_ends_it() {
        for bytes in [&[4u8][..], &[3, 0, 1, 0], &[9, 0, 1, 0, 0, 0, 0, 0], &[0; 4]] {
            let mut attributes = Attributes::new(bytes);
            assert!(attributes.next().unwrap().is_err(), "{bytes:?}");
            assert!(attributes.next().is_none(), "{bytes:?}");
            assert!(Attributes::new(bytes).find(1).is_err(), "{bytes:?}");
        }
    }
}
