//! Messages: a header of netlink, one of netfilter, attributes.

use thiserror::Error;

use crate::attribute::{Attributes, NESTED, NET_BYTE_ORDER, aligned};

/// Bytes that are no message; the words say where.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("malformed netlink message: {0}")]
pub struct Malformed(pub &'static str);

/// Who a message is for (`NFNL_SUBSYS_*`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Subsystem {
    /// Connection tracking.
    Conntrack = 1,
    /// The log of packets.
    Log = 4,
    /// Sets of addresses.
    Ipset = 6,
    /// Tables of rules.
    Nftables = 10,
}

/// `struct nlmsghdr`: length, kind, flags, sequence number, port.
pub(crate) const MESSAGE_HEADER: usize = 16;
/// `struct nfgenmsg`: family of addresses, version, a number of the subsystem's.
const NETFILTER_HEADER: usize = 4;

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFNL_BATCH_GENID`.
const BATCH_GENERATION: u16 = 1;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Some of a dump were missed because what was dumped changed (`NLM_F_DUMP_INTR`).
pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;

/// A message to the kernel, in the making.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// Put it in the place of what exists (`NLM_F_REPLACE`).
    pub const REPLACE: u16 = 0x100;
    /// Refuse what exists already (`NLM_F_EXCL`).
    pub const EXCLUSIVE: u16 = 0x200;
    /// Create what does not exist (`NLM_F_CREATE`).
    pub const CREATE: u16 = 0x400;
    /// Put it behind what there is (`NLM_F_APPEND`).
    pub const APPEND: u16 = 0x800;
    /// Everything there is, not one thing (`NLM_F_DUMP`: `NLM_F_ROOT | NLM_F_MATCH`).
    pub const DUMP: u16 = 0x300;

    /// A command of a subsystem. `family` is that of the addresses concerned (`NFPROTO_*`; 0 for none), `number` is the
    /// subsystem's own (`res_id`).
    pub fn new(subsystem: Subsystem, command: u8, flags: u16, family: u8, number: u16) -> Self {
        let kind = u16::from(subsystem as u8) << 8 | u16::from(command);
        Self::of_kind(kind, flags, family, number)
    }

    /// What comes before the requests of a batch, and the generation that they are meant for.
    pub(crate) fn batch_begin(subsystem: Subsystem, generation: Option<u32>) -> Self {
        let mut begin = Self::of_kind(BATCH_BEGIN, 0, 0, u16::from(subsystem as u8));
        if let Some(generation) = generation {
            begin.put_be32(BATCH_GENERATION, generation);
        }
        begin
    }

    /// What comes behind them.
    pub(crate) fn batch_end(subsystem: Subsystem) -> Self {
        Self::of_kind(BATCH_END, 0, 0, u16::from(subsystem as u8))
    }

    fn of_kind(kind: u16, flags: u16, family: u8, number: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST).to_ne_bytes());
        bytes.extend([0; 8]);
        // Version 0 is the only one (`NFNETLINK_V0`).
        bytes.extend([family, 0]);
        bytes.extend(number.to_be_bytes());
        Request { bytes }
    }

    /// How long it is by now, in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The bytes, as request number 0.
    pub fn into_bytes(self) -> Vec<u8> {
        self.finish(0, 0)
    }

    /// Adds an attribute. Values longer than 65,531 bytes are not representable and panic: they are a caller's mistake.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let at = self.begin(kind);
        self.bytes.extend_from_slice(value);
        self.end(at);
        self
    }

    /// Adds a number of one octet.
    pub fn put_u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.put(kind, &[value])
    }

    /// Adds what is in the order of the network, and says so.
    pub fn put_ordered(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.put(kind | NET_BYTE_ORDER, value)
    }

    /// Adds a number of two octets, in the order of the network.
    pub fn put_be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.put_ordered(kind, &value.to_be_bytes())
    }

    /// Adds a number of four octets, in the order of the network.
    pub fn put_be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put_ordered(kind, &value.to_be_bytes())
    }

    /// Adds a number of eight octets, in the order of the network.
    pub fn put_be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put_ordered(kind, &value.to_be_bytes())
    }

    /// Adds an attribute that holds attributes which are there as bytes, such as [`Attribute::value`](crate::Attribute::value) of one
    /// that was read.
    pub fn put_nested(&mut self, kind: u16, attributes: &[u8]) -> &mut Self {
        self.put(kind | NESTED, attributes)
    }

    /// Adds text, with the NUL that ends it.
    pub fn put_text(&mut self, kind: u16, text: &str) -> &mut Self {
        let at = self.begin(kind);
        self.bytes.extend_from_slice(text.as_bytes());
        self.bytes.push(0);
        self.end(at);
        self
    }

    /// Adds an attribute that holds those which `fill` adds.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let at = self.begin(kind | NESTED);
        fill(self);
        self.end(at);
        self
    }

    fn begin(&mut self, kind: u16) -> usize {
        let at = self.bytes.len();
        self.bytes.extend([0; 2]);
        self.bytes.extend(kind.to_ne_bytes());
        at
    }

    fn end(&mut self, at: usize) {
        let length = u16::try_from(self.bytes.len() - at).expect("an attribute is shorter than 64 KB");
        self.bytes[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// Adds the bytes to a datagram, as [`Request::finish`] makes them.
    pub(crate) fn append_to(&self, datagram: &mut Vec<u8>, sequence: u32, flags: u16) {
        datagram.extend(self.clone().finish(sequence, flags));
        datagram.resize(aligned(datagram.len()), 0);
    }

    /// The bytes to send, as number `sequence`, with more flags.
    pub(crate) fn finish(mut self, sequence: u32, flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("a message is shorter than 4 GB");
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let [f0, f1] = flags.to_ne_bytes();
        self.bytes[6] |= f0;
        self.bytes[7] |= f1;
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'m> {
    /// The subsystem's number in the upper octet, the command in the lower; below 16 one of netlink's own.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Of the request that it answers; 0 for news.
    pub sequence: u32,
    /// What stands behind the header.
    pub payload: &'m [u8],
}

impl<'m> Message<'m> {
    /// The command, if the message is one of a subsystem.
    pub fn command(&self, subsystem: Subsystem) -> Option<u8> {
        let [of, command] = self.kind.to_be_bytes();
        (of == subsystem as u8).then_some(command)
    }

    /// The family of the addresses concerned, and the attributes, of a message of a subsystem.
    pub fn netfilter(&self) -> Result<(u8, Attributes<'m>), Malformed> {
        let (header, attributes) = self
            .payload
            .split_first_chunk::<NETFILTER_HEADER>()
            .ok_or(Malformed("netfilter's header is cut off"))?;
        Ok((header[0], Attributes::new(attributes)))
    }
}

/// The messages of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Messages<'m> {
    rest: &'m [u8],
}

impl<'m> Messages<'m> {
    /// Reads what was received at once.
    pub fn new(bytes: &'m [u8]) -> Self {
        Messages { rest: bytes }
    }
}

impl<'m> Iterator for Messages<'m> {
    type Item = Result<Message<'m>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = read(self.rest);
        self.rest = read.as_ref().map_or(&[], |(_, rest)| rest);
        Some(read.map(|(message, _)| message))
    }
}

fn read(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), Malformed> {
    let header: &[u8; MESSAGE_HEADER] =
        bytes.first_chunk().ok_or(Malformed("a message's header is cut off"))?;
    let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
    let length = usize::try_from(u32::from_ne_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
    let payload = bytes
        .get(MESSAGE_HEADER..length)
        .ok_or(Malformed("a message is longer than its datagram, or shorter than its header"))?;
    let message = Message {
        kind: u16::from_ne_bytes([k0, k1]),
        flags: u16::from_ne_bytes([f0, f1]),
        sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
        payload,
    };
    Ok((message, bytes.get(aligned(length)..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_made() {
        let mut request = Request::new(Subsystem::Ipset, 9, Request::EXCLUSIVE, 2, 7);
        request.put_u8(1, 7).put_text(2, "set").nest(7, |data| {
            data.put_be32(4, 65_536).nest(1, |ip| {
                ip.put(1, &[10, 0, 0, 1]);
            });
        });
        let length = request.size();
        let bytes = request.finish(3, 4);
        assert_eq!(bytes.len(), length);
        let twice = [&bytes[..], &bytes[..]].concat();
        for message in Messages::new(&twice) {
            let message = message.unwrap();
            assert_eq!((message.sequence, message.flags), (3, REQUEST | Request::EXCLUSIVE | 4));
            assert_eq!(message.command(Subsystem::Ipset), Some(9));
            assert_eq!(message.command(Subsystem::Conntrack), None);
            let (family, attributes) = message.netfilter().unwrap();
            assert_eq!((family, attributes.count()), (2, 3));
            assert_eq!(attributes.find(2).unwrap().unwrap().text(), Ok("set"));
            let data = attributes.find(7).unwrap().unwrap().nested();
            assert_eq!(data.find(4).unwrap().unwrap().be32(), Ok(65_536));
            let ip = data.find(1).unwrap().unwrap().nested().find(1).unwrap().unwrap();
            assert_eq!(ip.array(), Ok([10, 0, 0, 1]));
        }
        assert_eq!(Messages::new(&twice).count(), 2);
    }

    #[test]
    fn a_batch_begins_and_ends_with_its_subsystem() {
        let mut datagram = Vec::new();
        Request::batch_begin(Subsystem::Nftables, Some(258)).append_to(&mut datagram, 1, 0);
        Request::batch_end(Subsystem::Nftables).append_to(&mut datagram, 2, 0);
        let messages: Vec<Message<'_>> = Messages::new(&datagram).map(Result::unwrap).collect();
        let kinds: Vec<u16> = messages.iter().map(|message| message.kind).collect();
        assert_eq!(kinds, [BATCH_BEGIN, BATCH_END]);
        assert!(messages.iter().all(|message| message.payload[..4] == [0, 0, 0, 10]));
        let generation = messages[0].netfilter().unwrap().1.find(BATCH_GENERATION).unwrap().unwrap();
        assert_eq!(generation.be32(), Ok(258));
    }

    #[test]
    fn damage_is_told_once_and_ends_it() {
        let bytes = Request::new(Subsystem::Ipset, 1, 0, 0, 0).finish(1, 0);
        for cut in 1..bytes.len() {
            let mut messages = Messages::new(&bytes[..cut]);
            assert!(messages.next().unwrap().is_err(), "{cut}");
            assert!(messages.next().is_none(), "{cut}");
        }
        let mut short = bytes.clone();
        short[..4].copy_from_slice(&15u32.to_ne_bytes());
        assert!(Messages::new(&short).next().unwrap().is_err());
        let bare = Message { kind: 0, flags: 0, sequence: 0, payload: &[0; 3] };
        assert!(bare.netfilter().is_err());
    }
}
