//! Messages and attributes of `ip_set.h`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nfnetlink::{Attribute, Attributes, Malformed, Message, Request, Subsystem};

use crate::set::{Entry, Family, Header, Net, SetName, Spec};

/// `IPSET_PROTOCOL_MIN`.
const PROTOCOL: u8 = 6;
/// The type of the sets that we make.
pub(crate) const TYPE: &str = "hash:net";

/// `enum ipset_cmd`.
pub(crate) mod command {
    pub(crate) const CREATE: u8 = 2;
    pub(crate) const DESTROY: u8 = 3;
    pub(crate) const FLUSH: u8 = 4;
    pub(crate) const RENAME: u8 = 5;
    pub(crate) const SWAP: u8 = 6;
    pub(crate) const LIST: u8 = 7;
    pub(crate) const ADD: u8 = 9;
    pub(crate) const DELETE: u8 = 10;
    pub(crate) const TYPE: u8 = 13;
}

/// Attributes of a message.
mod attr {
    pub(super) const PROTOCOL: u16 = 1;
    pub(super) const SET_NAME: u16 = 2;
    /// Of another set: its new name, or the one to swap with.
    pub(super) const OTHER_NAME: u16 = 3;
    pub(super) const TYPE_NAME: u16 = 3;
    pub(super) const REVISION: u16 = 4;
    pub(super) const FAMILY: u16 = 5;
    pub(super) const FLAGS: u16 = 6;
    pub(super) const DATA: u16 = 7;
    pub(super) const MANY_DATA: u16 = 8;
    pub(super) const LINE: u16 = 9;
}

/// Attributes of a set or an element.
mod data {
    pub(super) const IP: u16 = 1;
    pub(super) const CIDR: u16 = 3;
    pub(super) const TIMEOUT: u16 = 6;
    pub(super) const FLAGS: u16 = 8;
    pub(super) const HASH_SIZE: u16 = 18;
    pub(super) const MAX_ELEMENTS: u16 = 19;
    pub(super) const ELEMENTS: u16 = 24;
    pub(super) const REFERENCES: u16 = 25;
    pub(super) const MEMORY: u16 = 26;
    /// Inside of IP.
    pub(super) const IPV4: u16 = 1;
    pub(super) const IPV6: u16 = 2;
}

/// `IPSET_FLAG_EXIST`: that an element is there, or not there, is as good as done.
const EXIST: u32 = 1;
/// `IPSET_FLAG_LIST_HEADER`: without elements.
const LIST_HEADER: u32 = 4;
/// `IPSET_FLAG_NOMATCH`.
const NO_MATCH: u32 = 4;

/// How long the elements of a message may be: an attribute is shorter than 64 KB.
const MANY_DATA_BYTES: usize = 32_768;

fn request(command: u8, flags: u16, family: Option<Family>) -> Request {
    let family = family.map_or(0, Family::number);
    let mut request = Request::new(Subsystem::Ipset, command, flags, family, 0);
    request.put_u8(attr::PROTOCOL, PROTOCOL);
    request
}

/// A command about a set as a whole.
pub(crate) fn about(command: u8, set: &SetName) -> Request {
    let mut request = request(command, 0, None);
    request.put_text(attr::SET_NAME, set.as_str());
    request
}

/// A command about two.
pub(crate) fn about_both(command: u8, one: &SetName, other: &SetName) -> Request {
    let mut request = about(command, one);
    request.put_text(attr::OTHER_NAME, other.as_str());
    request
}

pub(crate) fn create(spec: &Spec, revision: u8) -> Request {
    let mut request = request(command::CREATE, Request::CREATE | Request::EXCLUSIVE, None);
    request.put_text(attr::SET_NAME, spec.name.as_str()).put_text(attr::TYPE_NAME, TYPE);
    request.put_u8(attr::REVISION, revision).put_u8(attr::FAMILY, spec.family.number());
    request.nest(attr::DATA, |data| {
        data.put_be32(data::HASH_SIZE, spec.hash_size).put_be32(data::MAX_ELEMENTS, spec.max_elements);
    });
    request
}

/// Asks which revisions of our type there are.
pub(crate) fn revisions(family: Family) -> Request {
    let mut request = request(command::TYPE, 0, None);
    request.put_text(attr::TYPE_NAME, TYPE).put_u8(attr::FAMILY, family.number());
    request
}

/// The highest of them.
pub(crate) fn highest_revision(message: &Message<'_>) -> Result<u8, Malformed> {
    let (_, attributes) = message.netfilter()?;
    attributes.find(attr::REVISION)?.ok_or(Malformed("a type without revision"))?.u8()
}

/// All sets, or one; without elements if `header_only`.
pub(crate) fn list(set: Option<&SetName>, header_only: bool) -> Request {
    let mut request = request(command::LIST, Request::DUMP, None);
    if let Some(set) = set {
        request.put_text(attr::SET_NAME, set.as_str());
    }
    if header_only {
        request.put_be32(attr::FLAGS, LIST_HEADER);
    }
    request
}

/// Messages that add or take away elements, as few as can be.
pub(crate) fn change<'n>(
    command: u8,
    set: &SetName,
    nets: impl IntoIterator<Item = &'n Net>,
) -> impl Iterator<Item = Request> {
    let mut nets = nets.into_iter().peekable();
    let set = set.clone();
    std::iter::from_fn(move || {
        nets.peek()?;
        let mut request = about(command, &set);
        request.put_be32(attr::FLAGS, EXIST);
        // With many elements the kernel wants a line to blame (`ip_set_ad`).
        request.put_be32(attr::LINE, 0);
        let begun = request.size();
        request.nest(attr::MANY_DATA, |request| {
            while request.size() - begun < MANY_DATA_BYTES
                && let Some(net) = nets.next()
            {
                request.nest(attr::DATA, |data| put_net(data, net));
            }
        });
        Some(request)
    })
}

fn put_net(request: &mut Request, net: &Net) {
    request.nest(data::IP, |ip| match net.address() {
        IpAddr::V4(v4) => _ = ip.put_be32(data::IPV4, v4.to_bits()),
        IpAddr::V6(v6) => _ = ip.put_ordered(data::IPV6, &v6.octets()),
    });
    request.put_u8(data::CIDR, net.prefix());
}

/// What a message of a list says: the set, if its list begins here, and elements of the one that began last.
pub(crate) struct Listed<'m> {
    pub(crate) header: Option<Header>,
    pub(crate) elements: Option<Attributes<'m>>,
}

pub(crate) fn listed<'m>(message: &Message<'m>) -> Result<Listed<'m>, Malformed> {
    let (_, attributes) = message.netfilter()?;
    let name = attributes.find(attr::SET_NAME)?.ok_or(Malformed("a set without name"))?.text()?;
    let name: SetName = name.parse().map_err(|_| Malformed("a name of a set that is none"))?;
    let header = match attributes.find(attr::DATA)? {
        Some(of_set) => Some(header(name, attributes, of_set.nested())?),
        None => None,
    };
    let elements = attributes.find(attr::MANY_DATA)?.map(Attribute::nested);
    Ok(Listed { header, elements })
}

fn header(name: SetName, message: Attributes<'_>, set: Attributes<'_>) -> Result<Header, Malformed> {
    let number = |kind| set.find(kind)?.map(Attribute::be32).transpose();
    let type_name = message.find(attr::TYPE_NAME)?.ok_or(Malformed("a set without type"))?.text()?;
    let family = message.find(attr::FAMILY)?.map(Attribute::u8).transpose()?;
    Ok(Header {
        name,
        type_name: type_name.to_owned(),
        revision: message.find(attr::REVISION)?.map(Attribute::u8).transpose()?.unwrap_or_default(),
        family: family.and_then(Family::of_number),
        max_elements: number(data::MAX_ELEMENTS)?,
        hash_size: number(data::HASH_SIZE)?,
        // Kernels before 4.2 do not count.
        elements: number(data::ELEMENTS)?.unwrap_or_default(),
        references: number(data::REFERENCES)?.unwrap_or_default(),
        memory: number(data::MEMORY)?.unwrap_or_default(),
        timeout: number(data::TIMEOUT)?,
        flags: number(data::FLAGS)?.unwrap_or_default(),
    })
}

/// One element of a list.
pub(crate) fn entry(element: Attribute<'_>) -> Result<Entry, Malformed> {
    let (mut address, mut prefix, mut no_match) = (None, None, false);
    let mut others = Vec::new();
    for attribute in element.nested() {
        let attribute = attribute?;
        match attribute.kind {
            data::IP => address = Some(ip(attribute.nested())?),
            data::CIDR => prefix = Some(attribute.u8()?),
            data::FLAGS => {
                let flags = attribute.be32()?;
                no_match = flags & NO_MATCH != 0;
                if flags & !NO_MATCH != 0 {
                    others.push((attribute.kind, Box::from((flags & !NO_MATCH).to_be_bytes())));
                }
            }
            kind => others.push((kind, Box::from(attribute.value))),
        }
    }
    let address = address.ok_or(Malformed("an element without address"))?;
    let prefix = prefix.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    let net = Net::new(address, prefix).map_err(|_| Malformed("an element with a prefix that is none"))?;
    Ok(Entry { net, no_match, others: others.into() })
}

fn ip(nested: Attributes<'_>) -> Result<IpAddr, Malformed> {
    if let Some(v4) = nested.find(data::IPV4)? {
        return Ok(IpAddr::V4(Ipv4Addr::from(v4.array()?)));
    }
    let v6 = nested.find(data::IPV6)?.ok_or(Malformed("an address of no family"))?;
    Ok(IpAddr::V6(Ipv6Addr::from(v6.array::<16>()?)))
}

#[cfg(test)]
mod tests {
    use nfnetlink::Messages;
    use proptest::prelude::*;

    use super::*;

    fn name() -> SetName {
        "NIPv4a".parse().unwrap()
    }

    /// A set and its elements, as the kernel would list them.
    fn told(nets: &[Net]) -> Vec<u8> {
        let mut request = request(command::LIST, 0, Some(Family::Ipv4));
        request.put_text(attr::SET_NAME, name().as_str()).put_text(attr::TYPE_NAME, TYPE);
        request.put_u8(attr::REVISION, 7).put_u8(attr::FAMILY, 2);
        request.nest(attr::DATA, |set| {
            set.put_be32(data::MAX_ELEMENTS, 9).put_be32(data::ELEMENTS, 2).put_be32(data::TIMEOUT, 60);
        });
        request.nest(attr::MANY_DATA, |elements| {
            for net in nets {
                elements.nest(attr::DATA, |element| {
                    put_net(element, net);
                    element.put_be32(data::FLAGS, NO_MATCH | 8).put_be32(data::TIMEOUT, 5);
                });
            }
        });
        request.into_bytes()
    }

    fn nets() -> [Net; 2] {
        ["10.0.0.0", "2001:db8::"].map(|address| Net::new(address.parse().unwrap(), 24).unwrap())
    }

    fn read(bytes: &[u8]) -> Result<(Option<Header>, Vec<Entry>), Malformed> {
        let message = Messages::new(bytes).next().ok_or(Malformed("nothing"))??;
        let Listed { header, elements } = listed(&message)?;
        let entries =
            elements.into_iter().flatten().map(|element| entry(element?)).collect::<Result<_, _>>()?;
        Ok((header, entries))
    }

    #[test]
    fn what_is_listed_is_read() {
        let (header, entries) = read(&told(&nets())).unwrap();
        let header = header.unwrap();
        assert_eq!(
            (header.type_name.as_str(), header.max_elements, header.timeout),
            (TYPE, Some(9), Some(60))
        );
        assert_eq!(entries.iter().map(|entry| entry.net).collect::<Vec<_>>(), nets());
        assert!(entries.iter().all(|entry| entry.no_match && entry.others.len() == 2));
    }

    #[test]
    fn many_elements_are_few_messages_and_none_is_none() {
        let nets: Vec<Net> =
            (0..10_000u32).map(|n| Net::new(Ipv4Addr::from_bits(n << 8 | 1).into(), 32).unwrap()).collect();
        let requests: Vec<Request> = change(command::ADD, &name(), &nets).collect();
        assert!(requests.len() <= 8 && requests.iter().all(|request| request.size() < 65_536));
        assert_eq!(change(command::ADD, &name(), &[]).count(), 0);
    }

    proptest! {
        #[test]
        fn damage_is_an_error_or_another_set(
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
        ) {
            let mut bytes = told(&nets());
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            _ = read(&bytes);
        }
    }
}
