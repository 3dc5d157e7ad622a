//! A dump of the bridge in the bytes of the wire.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use bytes::BytesMut;
use lab::Ovs;
use rust_openflow::message::{Framer, HEADER_LENGTH, OFP14_VERSION, Xid};
use rust_openflow::{FlowEntry, FlowFilter, Message};

use crate::BRIDGE;

/// Octets between the header of a multipart reply and its first entry: type, flags and padding (OpenFlow 1.4 §7.3.5).
const MULTIPART_HEADER: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);

/// The flows of the bridge whose bytes, as the switch sends them, are not those that the same flow is written in again.
///
/// # Errors
/// The bridge does not answer, or with something that cannot be read.
pub fn flows_rewritten_otherwise(ovs: &Ovs) -> io::Result<Vec<String>> {
    let mut stream = UnixStream::connect(ovs.mgmt(BRIDGE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = BytesMut::new();
    Message::Hello(vec![OFP14_VERSION]).encode(Xid(1), &mut request).map_err(io::Error::other)?;
    let dump = Message::FlowStatsRequest(FlowFilter::default());
    dump.encode(Xid(2), &mut request).map_err(io::Error::other)?;
    stream.write_all(&request)?;
    let (mut framer, mut buffer, mut wrong) = (Framer::default(), vec![0; 65536], Vec::new());
    loop {
        while let Some(message) = framer.next_message().map_err(io::Error::other)? {
            let (_, decoded) = Message::decode(&message).map_err(io::Error::other)?;
            if let Message::FlowStatsReply(part) = decoded {
                wrong.extend(entries_otherwise(&message[HEADER_LENGTH + MULTIPART_HEADER..], &part.items)?);
                if !part.more {
                    return Ok(wrong);
                }
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => framer.push(&buffer[..length]),
        }
    }
}

/// Every entry begins with its own length.
fn entries_otherwise(mut bytes: &[u8], entries: &[FlowEntry]) -> io::Result<Vec<String>> {
    let mut wrong = Vec::new();
    for entry in entries {
        let mut again = BytesMut::new();
        entry.encode(&mut again).map_err(io::Error::other)?;
        let length = match bytes {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let (sent, rest) = bytes.split_at_checked(length).ok_or(io::ErrorKind::UnexpectedEof)?;
        if sent != &again[..] {
            wrong.push(format!("a flow that is written in other bytes: {}", entry.flow));
        }
        bytes = rest;
    }
    match bytes.is_empty() {
        true => Ok(wrong),
        false => Err(io::Error::other("bytes behind the last entry")),
    }
}
