//! What sets and maps hold.

use nfnetlink::{Attribute, Malformed, Request};

use crate::expr::Expr;
use crate::userdata;
use crate::value::{Data, Value};

/// An element. A range of a set whose keys are not concatenated is two of them: [`Element::range`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Element {
    /// Its key; of concatenated ranges the first one. Empty in what stands for all other keys ([`Element::CATCH_ALL`]).
    pub key: Value,
    /// `NFT_SET_ELEM_*`.
    pub flags: u32,
    /// Of concatenated ranges, the last key.
    pub key_end: Option<Value>,
    /// What a map maps the key to.
    pub data: Option<Data>,
    /// What nft(8) has written for itself: a comment, or that a range has no end.
    pub user_data: Vec<u8>,
}

/// `enum nft_set_elem_attributes`.
mod attr {
    pub(super) const KEY: u16 = 1;
    pub(super) const DATA: u16 = 2;
    pub(super) const FLAGS: u16 = 3;
    pub(super) const USER_DATA: u16 = 6;
    pub(super) const EXPRESSION: u16 = 7;
    pub(super) const KEY_END: u16 = 10;
}

impl Element {
    /// Its key is the first one behind a range (`NFT_SET_ELEM_INTERVAL_END`).
    pub const INTERVAL_END: u32 = 1;
    /// It stands for all keys that no other element stands for (`NFT_SET_ELEM_CATCHALL`).
    pub const CATCH_ALL: u32 = 2;

    /// One key.
    pub fn key(key: impl Into<Value>) -> Self {
        Element { key: key.into(), flags: 0, key_end: None, data: None, user_data: Vec::new() }
    }

    /// Of a set of ranges of concatenated keys: those between two, both included.
    pub fn between(first: impl Into<Value>, last: impl Into<Value>) -> Self {
        Element { key_end: Some(last.into()), ..Self::key(first) }
    }

    /// Of a set of ranges: the keys from one to another, both included. The second element, which ends the range, is not there where
    /// the range goes to the end of what can be counted.
    pub fn range(first: impl Into<Value>, last: impl Into<Value>) -> impl Iterator<Item = Self> {
        let end = last.into().next().map(|key| Element { flags: Self::INTERVAL_END, ..Self::key(key) });
        let mut begin = Self::key(first);
        if end.is_none() {
            begin.user_data = userdata::of_open_range();
        }
        std::iter::once(begin).chain(end)
    }

    /// Of a map of ranges: the same, and what they are mapped to.
    pub fn range_to(
        first: impl Into<Value>,
        last: impl Into<Value>,
        data: impl Into<Data>,
    ) -> impl Iterator<Item = Self> {
        let data = data.into();
        Self::range(first, last).enumerate().map(move |(number, element)| match number {
            0 => element.to(data.clone()),
            _ => element,
        })
    }

    /// The same of a map, and what it is mapped to.
    #[must_use]
    pub fn to(self, data: impl Into<Data>) -> Self {
        Element { data: Some(data.into()), ..self }
    }

    /// It ends a range that another one begins.
    pub fn is_interval_end(&self) -> bool {
        self.flags & Self::INTERVAL_END != 0
    }

    /// Adds its attributes; without what it is mapped to, and what is kept at it, where the key says it all.
    pub(crate) fn put(&self, request: &mut Request, is_whole: bool) {
        if self.flags & Self::CATCH_ALL == 0 {
            self.key.put(request, attr::KEY);
        }
        if let Some(end) = &self.key_end {
            end.put(request, attr::KEY_END);
        }
        if let Some(data) = &self.data
            && is_whole
        {
            data.put(request, attr::DATA);
        }
        if self.flags != 0 {
            request.put_be32(attr::FLAGS, self.flags);
        }
        if is_whole && !self.user_data.is_empty() {
            request.put(attr::USER_DATA, &self.user_data);
        }
    }

    pub(crate) fn read(element: Attribute<'_>) -> Result<Self, Malformed> {
        let mut read = Self::key(Value::default());
        let mut has_key = false;
        for attribute in element.nested() {
            let attribute = attribute?;
            match attribute.kind {
                attr::KEY => (read.key, has_key) = (Value::read(attribute)?, true),
                attr::KEY_END => read.key_end = Some(Value::read(attribute)?),
                attr::DATA => read.data = Some(Data::read(attribute)?),
                attr::FLAGS => read.flags = attribute.be32()?,
                attr::USER_DATA => read.user_data = attribute.value.to_vec(),
                _ => {}
            }
        }
        if !has_key && read.flags & Self::CATCH_ALL == 0 {
            return Err(Malformed("an element without key"));
        }
        Ok(read)
    }
}

/// What an element has counted, by its key, if it counts.
pub(crate) fn counter(element: Attribute<'_>) -> Result<Option<(Value, Counter)>, Malformed> {
    let (key, expression) = (element.nested().find(attr::KEY)?, element.nested().find(attr::EXPRESSION)?);
    let (Some(key), Some(expression)) = (key, expression) else { return Ok(None) };
    Ok(match Expr::read(expression.nested())? {
        Expr::Counter { packets, bytes } => Some((Value::read(key)?, Counter { packets, bytes })),
        _ => None,
    })
}

/// What an element of a set that counts has counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Their bytes, without the link's header.
    pub bytes: u64,
}

/// The ranges that elements of a set of ranges stand for, in order: the first key, the first key behind it (none: to the end of what can
/// be counted), and what a map maps them to. The kernel tells the elements in an order of its own.
pub fn ranges(mut elements: Vec<Element>) -> Vec<(Value, Option<Value>, Option<Data>)> {
    elements.retain(|element| element.flags & Element::CATCH_ALL == 0);
    // Where one range ends and another begins, the end comes first.
    elements.sort_by(|one, other| {
        (&one.key, !one.is_interval_end()).cmp(&(&other.key, !other.is_interval_end()))
    });
    let mut ranges: Vec<(Value, Option<Value>, Option<Data>)> = Vec::new();
    for element in elements {
        let open = ranges.last_mut().filter(|(_, behind, _)| behind.is_none());
        match (element.is_interval_end(), open) {
            (true, Some((_, behind, _))) => *behind = Some(element.key),
            // nft(8) tells where nothing begins, too.
            (true, None) => {}
            (false, _) => ranges.push((element.key, None, element.data)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ranges_are_found_again_in_any_order() {
        let [a, b, c, z] = [1, 2, 3, 255].map(|octet| Ipv4Addr::new(octet, 0, 0, 0));
        let last = |behind: Ipv4Addr| Ipv4Addr::from_bits(behind.to_bits() - 1);
        let mut elements: Vec<Element> = Element::range(a, last(b)).collect();
        elements.extend(Element::range(b, last(c)));
        elements.extend(Element::range(z, Ipv4Addr::BROADCAST));
        elements.push(Element { flags: Element::INTERVAL_END, ..Element::key(Ipv4Addr::UNSPECIFIED) });
        assert_eq!(elements.len(), 6);
        elements.reverse();
        let expected = [(a, Some(b)), (b, Some(c)), (z, None)];
        let expected = expected.map(|(from, to)| (from.into(), to.map(Value::from), None));
        assert_eq!(ranges(elements), expected);
    }
}
