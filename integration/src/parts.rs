//! Datagrams in parts, whichever way they were cut.
//!
//! The kernel's bridge filter puts a datagram together to look at it and cuts it again: the parts may come in another order and
//! of other sizes, and those of IPv6 get another identification (`ip6_fragment`, net/ipv6/ip6_output.c).

use std::collections::BTreeMap;

/// Ethernet addresses.
const ADDRESSES: usize = 12;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// IPv6 extension headers that may stand before the fragment header (RFC 8200, section 4.1), and that one.
const BEFORE_FRAGMENT: [u8; 3] = [0, 43, 60];
const FRAGMENT: u8 = 44;

/// A frame that carries a part of a datagram.
#[derive(Debug)]
struct Part {
    /// What all parts of the datagram begin with, as far as it does not depend on the part.
    head: Vec<u8>,
    /// Tells datagrams apart: in IPv6 the identification, which is not in the head.
    id: u32,
    offset: usize,
    is_last: bool,
    content: Vec<u8>,
}

/// The frames, sorted, in the place of parts what they make together: for each stretch of a datagram the head of its frames, where
/// it begins, whether it is the end, and its content.
pub fn joined_parts(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut joined = Vec::new();
    let mut datagrams: BTreeMap<(Vec<u8>, u32), Vec<Part>> = BTreeMap::new();
    for frame in frames {
        match part(frame) {
            Some(part) => datagrams.entry((part.head.clone(), part.id)).or_default().push(part),
            None => joined.push(frame.clone()),
        }
    }
    joined.extend(datagrams.into_values().flat_map(stretches).map(Part::into_bytes));
    joined.sort();
    joined
}

/// Parts of one datagram, those joined that touch. A part that is there twice stays so.
fn stretches(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by_key(|part| part.offset);
    let mut stretches: Vec<Part> = Vec::new();
    for part in parts {
        match stretches.last_mut() {
            Some(last) if !last.is_last && last.offset + last.content.len() == part.offset => {
                last.content.extend(part.content);
                last.is_last = part.is_last;
            }
            _ => stretches.push(part),
        }
    }
    stretches
}

impl Part {
    fn into_bytes(self) -> Vec<u8> {
        let offset = u32::try_from(self.offset).expect("13 bits times 8");
        [self.head, offset.to_be_bytes().into(), vec![self.is_last.into()], self.content].concat()
    }
}

/// The part that a frame carries; none if it carries a whole datagram, or something else.
fn part(frame: &[u8]) -> Option<Part> {
    let mut place = ADDRESSES;
    let mut ethertype = word(frame, place)?;
    while TAGS.contains(&ethertype) {
        place += 4;
        ethertype = word(frame, place)?;
    }
    let (ethernet, packet) = frame.split_at_checked(place + 2)?;
    match ethertype {
        IPV4 => part_of_ipv4(ethernet, packet),
        IPV6 => part_of_ipv6(ethernet, packet),
        _ => None,
    }
}

/// RFC 791, section 3.1: total length, flags and offset, and the header's checksum depend on the part.
fn part_of_ipv4(ethernet: &[u8], packet: &[u8]) -> Option<Part> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let (length, flags) = (word(packet, 2)?, word(packet, 6)?);
    let (offset, more) = (usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0);
    if offset == 0 && !more {
        return None;
    }
    let content = packet.get(header..length.into())?.to_vec();
    let mut head = [ethernet, packet.get(..header)?].concat();
    let begin = ethernet.len();
    for depends in [begin + 2..begin + 4, begin + 6..begin + 8, begin + 10..begin + 12] {
        head.get_mut(depends)?.fill(0);
    }
    head[begin + 6] = packet[6] & 0xc0;
    Some(Part { head, id: 0, offset, is_last: !more, content })
}

/// RFC 8200, sections 3 and 4.5: payload length, offset and "more" depend on the part.
fn part_of_ipv6(ethernet: &[u8], packet: &[u8]) -> Option<Part> {
    const HEADER: usize = 40;
    let length = HEADER + usize::from(word(packet, 4)?);
    let mut next = *packet.get(6)?;
    let mut place = HEADER;
    while BEFORE_FRAGMENT.contains(&next) {
        next = *packet.get(place)?;
        place += 8 + usize::from(*packet.get(place + 1)?) * 8;
    }
    if next != FRAGMENT {
        return None;
    }
    let fields = word(packet, place + 2)?;
    let id = u32::from_be_bytes(packet.get(place + 4..place + 8)?.try_into().ok()?);
    let content = packet.get(place + 8..length)?.to_vec();
    let mut head = [ethernet, &packet[..place + 8]].concat();
    let begin = ethernet.len();
    head[begin + 4..begin + 6].fill(0);
    head[begin + place + 2..].fill(0);
    Some(Part { head, id, offset: usize::from(fields & !7), is_last: fields & 1 == 0, content })
}

fn word(bytes: &[u8], place: usize) -> Option<u16> {
    let bytes = bytes.get(place..place + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::frame_text::Names;
    use policy::Policy;

    fn frame(text: &str) -> Vec<u8> {
        let sketch = Names::new(&Policy::default()).read("uplink", text).expect("a frame");
        sketch.bytes().expect("bytes")
    }

    fn parts(datagram: &str, cuts: &[(u16, u16)]) -> Vec<Vec<u8>> {
        let part = |(offset, length): &(u16, u16)| frame(&format!("{datagram} part {offset}+{length}/2800"));
        cuts.iter().map(part).collect()
    }

    #[test]
    fn a_datagram_is_the_same_however_it_was_cut() {
        for datagram in [
            "vlan 10 udp 10.0.0.9:1000>10.0.0.1:53",
            "udp [2001:db8::9]:1000>[2001:db8::1]:53",
            "vlan 10 udp [2001:db8::9]:1000>[2001:db8::1]:53 ext 0",
        ] {
            let two = joined_parts(&parts(datagram, &[(0, 1448), (1448, 1352)]));
            let three = joined_parts(&parts(datagram, &[(1600, 1200), (800, 800), (0, 800)]));
            assert_eq!(two, three, "{datagram}");
            assert_eq!(two.len(), 1);
            let hole = joined_parts(&parts(datagram, &[(1600, 1200), (0, 800)]));
            assert_eq!(hole.len(), 2);
            assert!(!hole.contains(&two[0]));
            let first = joined_parts(&parts(datagram, &[(0, 2792)]));
            assert_ne!(first, two, "the end is missing");
        }
    }

    #[test]
    fn other_datagrams_and_whole_ones_stay_apart() {
        let of = |id: u16| format!("udp 10.0.0.9:1000>10.0.0.1:53 id {id}");
        let mut frames = parts(&of(1), &[(0, 1400)]);
        frames.extend(parts(&of(2), &[(1400, 1400)]));
        let whole = frame("udp 10.0.0.9:1000>10.0.0.1:53");
        frames.push(whole.clone());
        frames.push(vec![0; 14]);
        frames.push(vec![0; 3]);
        let joined = joined_parts(&frames);
        assert_eq!(joined.len(), 5);
        assert!(joined.contains(&whole));
    }

    #[test]
    fn the_identification_of_ipv6_may_be_another() {
        let cut = |id: u16| {
            parts(&format!("udp [2001:db8::9]:1000>[2001:db8::1]:53 id {id}"), &[(0, 1448), (1448, 1352)])
        };
        assert_eq!(joined_parts(&cut(7)), joined_parts(&cut(8)));
        let both = joined_parts(&[cut(7), cut(8)].concat());
        assert_eq!(both.len(), 2);
    }
}
