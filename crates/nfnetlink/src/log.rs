//! Packets that rules have sent to a group of the kernel's log (`log group`, `NFLOG`): include/uapi/linux/netfilter/nfnetlink_log.h.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::net::SendFlags;

use crate::attribute::Attribute;
use crate::message::{Malformed, Message, Request, Subsystem};
use crate::socket::{ACKNOWLEDGE, ERROR, Error, Socket, WAIT, receive};

/// `NFULNL_MSG_PACKET`, `NFULNL_MSG_CONFIG`.
const PACKET: u8 = 0;
const CONFIG: u8 = 1;

/// `NFULA_CFG_*`, and of commands `NFULNL_CFG_CMD_*`, of modes `NFULNL_COPY_PACKET`.
mod config {
    pub(super) const COMMAND: u16 = 1;
    pub(super) const MODE: u16 = 2;
    pub(super) const THRESHOLD: u16 = 5;
    pub(super) const BIND: u8 = 1;
    pub(super) const UNBIND: u8 = 2;
    pub(super) const COPY_PACKET: u8 = 2;
}

/// `NFULA_*`, and in [`attr::VLAN`] `NFULA_VLAN_*`.
mod attr {
    pub(super) const HEADER: u16 = 1;
    pub(super) const MARK: u16 = 2;
    pub(super) const IN: u16 = 4;
    pub(super) const OUT: u16 = 5;
    pub(super) const PHYSICAL_IN: u16 = 6;
    pub(super) const PHYSICAL_OUT: u16 = 7;
    pub(super) const PAYLOAD: u16 = 9;
    pub(super) const PREFIX: u16 = 10;
    pub(super) const LINK_HEADER: u16 = 16;
    pub(super) const VLAN: u16 = 20;
    pub(super) const BRIDGE_LINK_HEADER: u16 = 21;
    pub(super) const VLAN_PROTOCOL: u16 = 1;
    pub(super) const VLAN_TAG: u16 = 2;
}

/// Both addresses of an Ethernet frame.
const ADDRESSES: usize = 12;

/// A packet that a rule has sent to the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Logged {
    /// The family of the rule's table (`NFPROTO_*`).
    pub family: u8,
    /// What the rule says of it.
    pub prefix: String,
    /// Its mark; 0 is none.
    pub mark: u32,
    /// The number of the device that it came in by: of a bridge's port where there is one.
    pub device_in: Option<u32>,
    /// The number of the device that it leaves by, alike.
    pub device_out: Option<u32>,
    /// The frame as far as it was asked for, its tag put back; without addresses of hardware where it has none (yet).
    pub frame: Vec<u8>,
}

impl Logged {
    /// Reads a message; none if it is no packet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(message: &Message<'_>) -> Result<Option<Self>, Malformed> {
        if message.command(Subsystem::Log) != Some(PACKET) {
            return Ok(None);
        }
        let (family, attributes) = message.netfilter()?;
        let mut read = Logged { family, ..Logged::default() };
        let (mut ethertype, mut payload, mut tag) = ([0; 2], &[][..], None);
        let (mut link, mut bridge_link) = (None, None);
        let (mut device_in, mut device_out) = (None, None);
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind {
                attr::HEADER => {
                    let header: [u8; 4] = attribute.array()?;
                    ethertype = [header[0], header[1]];
                }
                attr::MARK => read.mark = attribute.be32()?,
                attr::IN => device_in = Some(attribute.be32()?),
                attr::OUT => device_out = Some(attribute.be32()?),
                attr::PHYSICAL_IN => read.device_in = Some(attribute.be32()?),
                attr::PHYSICAL_OUT => read.device_out = Some(attribute.be32()?),
                attr::PAYLOAD => payload = attribute.value,
                attr::PREFIX => read.prefix = attribute.text()?.to_owned(),
                attr::LINK_HEADER => link = Some(attribute.value),
                attr::BRIDGE_LINK_HEADER => bridge_link = Some(attribute.value),
                attr::VLAN => tag = Some(vlan(attribute)?),
                _ => {}
            }
        }
        read.device_in = read.device_in.or(device_in);
        read.device_out = read.device_out.or(device_out);
        let addresses = bridge_link.or(link).and_then(|header| header.first_chunk::<ADDRESSES>());
        read.frame.extend(addresses.unwrap_or(&[0; ADDRESSES]));
        read.frame.extend(tag.iter().flatten());
        read.frame.extend(ethertype);
        read.frame.extend(payload);
        Ok(Some(read))
    }
}

/// A tag as a frame has it.
fn vlan(attribute: Attribute<'_>) -> Result<[u8; 4], Malformed> {
    let part = |kind| -> Result<[u8; 2], Malformed> {
        attribute.nested().find(kind)?.ok_or(Malformed("a tag without its parts"))?.array()
    };
    let ([p0, p1], [t0, t1]) = (part(attr::VLAN_PROTOCOL)?, part(attr::VLAN_TAG)?);
    Ok([p0, p1, t0, t1])
}

/// One group of the log of the network namespace of the thread that opened it, listened to.
#[derive(Debug)]
pub struct Log {
    socket: Socket,
    group: u16,
}

impl Log {
    /// Listens to a group; of each packet so many bytes come at most, behind the header of its link.
    ///
    /// # Errors
    /// There is no such log in the kernel, no right to it, or somebody listens to the group already.
    pub fn listen(group: u16, bytes: u32) -> Result<Self, Error> {
        let mut socket = Socket::open()?;
        let mut bind = Request::new(Subsystem::Log, CONFIG, 0, 0, group);
        bind.put_u8(config::COMMAND, config::BIND);
        socket.call(bind)?;
        let mut mode = Request::new(Subsystem::Log, CONFIG, 0, 0, group);
        let [b0, b1, b2, b3] = bytes.to_be_bytes();
        mode.put(config::MODE, &[b0, b1, b2, b3, config::COPY_PACKET, 0]);
        // Each at once, not when there are a hundred or a second is over.
        mode.put(config::THRESHOLD, &1_u32.to_be_bytes());
        socket.call(mode)?;
        Ok(Log { socket, group })
    }

    /// What ends the listening, from another thread.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub fn end(&self) -> io::Result<LogEnd> {
        Ok(LogEnd { socket: self.socket.socket.as_fd().try_clone_to_owned()?, group: self.group })
    }

    /// Waits for packets, and gives `each` those that have come at once; false: the listening has ended.
    ///
    /// # Errors
    /// Packets were lost because nobody read them in time ([`Error::is_overrun`]), or something came that cannot be read.
    pub fn read(&mut self, mut each: impl FnMut(Logged)) -> Result<bool, Error> {
        for message in receive(&self.socket.socket, &mut self.socket.received, WAIT)? {
            let message = message?;
            // Nothing is asked here any more but to end.
            if message.kind == ERROR {
                return Ok(false);
            }
            if let Some(logged) = Logged::read(&message)? {
                each(logged);
            }
        }
        Ok(true)
    }
}

/// Ends the listening to a group when it is dropped.
#[derive(Debug)]
pub struct LogEnd {
    socket: OwnedFd,
    group: u16,
}

impl Drop for LogEnd {
    fn drop(&mut self) {
        let mut unbind = Request::new(Subsystem::Log, CONFIG, 0, 0, self.group);
        unbind.put_u8(config::COMMAND, config::UNBIND);
        // The kernel's answer wakes who reads.
        let sent = rustix::net::send(&self.socket, &unbind.finish(0, ACKNOWLEDGE), SendFlags::empty());
        debug_assert!(sent.is_ok(), "{sent:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Messages;

    /// As the kernel tells of a frame in a bridge's table (Linux 6.18), in another order.
    fn packet() -> Vec<u8> {
        let mut packet = Request::new(Subsystem::Log, PACKET, 0, 7, 21351);
        packet
            .put(attr::BRIDGE_LINK_HEADER, &[2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 8, 0])
            .put(attr::PAYLOAD, &[0x45, 0, 0])
            .put(attr::HEADER, &[8, 0, 0, 0])
            .put_be32(attr::IN, 9)
            .put_be32(attr::PHYSICAL_IN, 5)
            .put_be32(attr::OUT, 7)
            .put_be32(attr::MARK, 0x5310_8001)
            .put_text(attr::PREFIX, "spoofed-ip")
            .nest(attr::VLAN, |vlan| {
                vlan.put(attr::VLAN_PROTOCOL, &[0x81, 0]).put(attr::VLAN_TAG, &[0, 7]);
            });
        packet.into_bytes()
    }

    fn read(bytes: &[u8]) -> Result<Option<Logged>, Malformed> {
        Messages::new(bytes).next().expect("a message").and_then(|message| Logged::read(&message))
    }

    #[test]
    fn a_packet_is_read_with_its_tag() {
        let expected = Logged {
            family: 7,
            prefix: "spoofed-ip".to_owned(),
            mark: 0x5310_8001,
            device_in: Some(5),
            device_out: Some(7),
            frame: vec![2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 0x81, 0, 0, 7, 8, 0, 0x45, 0, 0],
        };
        assert_eq!(read(&packet()), Ok(Some(expected)));
        let other = Request::new(Subsystem::Log, CONFIG, 0, 0, 0).into_bytes();
        assert_eq!(read(&other), Ok(None));
        let bare = Request::new(Subsystem::Log, PACKET, 0, 2, 0).into_bytes();
        assert_eq!(read(&bare).unwrap().unwrap().frame, [0; 14]);
    }

    #[test]
    fn damage_is_told_and_is_no_panic() {
        let whole = packet();
        for cut in 0..whole.len() {
            let mut bytes = whole[..cut].to_vec();
            if let Some(length) = bytes.get_mut(..4) {
                length.copy_from_slice(&u32::try_from(cut).unwrap().to_ne_bytes());
            }
            for message in Messages::new(&bytes) {
                _ = message.and_then(|message| Logged::read(&message));
            }
        }
        for at in 16..whole.len() {
            for octet in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = octet;
                _ = read(&bytes);
            }
        }
    }
}
