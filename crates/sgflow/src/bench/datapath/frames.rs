//! The frames of a connection, each with a number by which it is known again.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use etherparse::{PacketBuilder, VlanId};
use policy::{MacAddr, PortProtocol};

/// ARP (RFC 826) and what is in an 802.1Q tag.
const ARP: [u8; 2] = [0x08, 0x06];
const VLAN: [u8; 2] = [0x81, 0x00];
/// The shortest frame without its checksum (IEEE 802.3).
const SHORTEST: usize = 60;
/// A window that is never full.
const WINDOW: u16 = 65_000;

/// Who sends or receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Host {
    pub(super) mac: MacAddr,
    pub(super) ip: IpAddr,
}

/// A connection to be tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Attempt {
    pub(super) client: Host,
    pub(super) server: Host,
    pub(super) protocol: PortProtocol,
    pub(super) client_port: u16,
    pub(super) server_port: u16,
}

/// Frames of a connection, in their order: of TCP the handshake, of UDP three datagrams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Client to server.
    First,
    /// Server to client.
    Reply,
    /// Client to server.
    Third,
}

/// The frame of a step, on the VLAN `tag` if any.
pub(super) fn frame(attempt: &Attempt, step: Step, number: u32, tag: Option<u16>) -> Result<Vec<u8>> {
    let Attempt { client, server, protocol, client_port, server_port } = *attempt;
    let (from, to, ports) = match step {
        Step::First | Step::Third => (client, server, (client_port, server_port)),
        Step::Reply => (server, client, (server_port, client_port)),
    };
    let ethernet = PacketBuilder::ethernet2(from.mac.0, to.mac.0);
    let tag = tag.map(VlanId::try_new).transpose()?;
    let packet = match (from.ip, to.ip, tag) {
        (IpAddr::V4(from), IpAddr::V4(to), None) => ethernet.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to), None) => ethernet.ipv6(from.octets(), to.octets(), 64),
        (IpAddr::V4(from), IpAddr::V4(to), Some(tag)) => {
            ethernet.single_vlan(tag).ipv4(from.octets(), to.octets(), 64)
        }
        (IpAddr::V6(from), IpAddr::V6(to), Some(tag)) => {
            ethernet.single_vlan(tag).ipv6(from.octets(), to.octets(), 64)
        }
        _ => bail!("a connection from {} to {}", from.ip, to.ip),
    };
    let mut bytes = Vec::with_capacity(SHORTEST + 40);
    match (protocol, step) {
        (PortProtocol::Udp, _) => {
            packet.udp(ports.0, ports.1).write(&mut bytes, &number.to_be_bytes())?;
        }
        (PortProtocol::Tcp, Step::First) => {
            packet.tcp(ports.0, ports.1, number, WINDOW).syn().write(&mut bytes, &[])?
        }
        (PortProtocol::Tcp, Step::Reply) => {
            packet.tcp(ports.0, ports.1, number, WINDOW).syn().ack(number + 1).write(&mut bytes, &[])?;
        }
        (PortProtocol::Tcp, Step::Third) => {
            packet.tcp(ports.0, ports.1, number + 1, WINDOW).ack(number + 1).write(&mut bytes, &[])?;
        }
        (other, _) => bail!("no frames of {other} are made here"),
    }
    Ok(bytes)
}

/// An ARP reply (RFC 826) from one host to another, or with `to` none a request to everybody; whoever looks for a frame
/// that has this number finds this one.
pub(super) fn arp(from: Host, to: Option<Host>, number: u32, tag: Option<u16>) -> Result<Vec<u8>> {
    let IpAddr::V4(sender) = from.ip else { bail!("ARP is of IPv4, not of {}", from.ip) };
    let destination = to.map_or(MacAddr::BROADCAST, |host| host.mac);
    let operation: u8 = if to.is_some() { 2 } else { 1 };
    let mut frame = [destination.0, from.mac.0].concat();
    frame.extend(tag.iter().flat_map(|tag| [VLAN, tag.to_be_bytes()].concat()));
    frame.extend([&ARP[..], &[0, 1, 8, 0, 6, 4, 0, operation], &from.mac.0, &sender.octets()].concat());
    // Whom it asks for or answers does not matter to a firewall.
    frame.extend([0; 10]);
    frame.resize(SHORTEST, 0);
    let end = frame.len() - 4;
    frame[end..].copy_from_slice(&number.to_be_bytes());
    Ok(frame)
}

/// What a frame that arrived is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Of a connection with this number.
    Connection(u32),
    /// An [`arp`] of this number.
    Fence(u32),
    /// Not ours.
    Other,
}

/// Reads what [`frame`] and [`arp`] have written. Of the third frame of TCP the number is one more.
pub(super) fn kind(frame: &[u8]) -> Result<Kind> {
    let tagged = frame.get(12..14) == Some(&VLAN);
    let network = frame.get(if tagged { 16 } else { 12 }..).context("a frame without a type")?;
    let number = |bytes: Option<&[u8]>| -> Result<u32> {
        let bytes = bytes.and_then(<[u8]>::first_chunk::<4>);
        Ok(u32::from_be_bytes(*bytes.context("a frame that ends before its number")?))
    };
    let (protocol, header) = match network {
        [0x08, 0x06, ..] => return number(frame.last_chunk::<4>().map(|last| &last[..])).map(Kind::Fence),
        [0x08, 0x00, packet @ ..] => (packet.get(9), 20),
        [0x86, 0xdd, packet @ ..] => (packet.get(6), 40),
        _ => return Ok(Kind::Other),
    };
    let transport = network.get(2 + header..);
    let place = match protocol {
        Some(6) => 4,
        Some(17) => 8,
        _ => return Ok(Kind::Other),
    };
    number(transport.and_then(|bytes| bytes.get(place..))).map(Kind::Connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: u8, ip: &str) -> Host {
        Host { mac: MacAddr([2, 0, 0, 0, 0, number]), ip: ip.parse().unwrap() }
    }

    #[test]
    fn every_frame_is_known_again_by_its_number() {
        for (client, server) in [("10.0.0.1", "10.0.0.2"), ("2001:db8::1", "2001:db8::2")] {
            for (protocol, of_third) in [(PortProtocol::Tcp, 0x0102_0305), (PortProtocol::Udp, 0x0102_0304)] {
                for tag in [None, Some(10)] {
                    let (client, server) = (host(1, client), host(2, server));
                    let attempt = Attempt { client, server, protocol, client_port: 1000, server_port: 80 };
                    let numbers = [Step::First, Step::Reply, Step::Third]
                        .map(|step| kind(&frame(&attempt, step, 0x0102_0304, tag).unwrap()).unwrap());
                    let expected = [0x0102_0304, 0x0102_0304, of_third].map(Kind::Connection);
                    assert_eq!(numbers, expected, "{attempt:?} {tag:?}");
                }
            }
        }
    }

    #[test]
    fn a_reply_goes_back_and_acknowledges() {
        let (client, server) = (host(1, "10.0.0.1"), host(2, "10.0.0.2"));
        let attempt =
            Attempt { client, server, protocol: PortProtocol::Tcp, client_port: 1000, server_port: 80 };
        let reply = frame(&attempt, Step::Reply, 7, None).unwrap();
        let sliced = etherparse::SlicedPacket::from_ethernet(&reply).unwrap();
        let Some(etherparse::TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
        assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 1000));
        assert_eq!(
            (tcp.syn(), tcp.ack(), tcp.sequence_number(), tcp.acknowledgment_number()),
            (true, true, 7, 8)
        );
        assert_eq!(reply[..12], [client.mac.0, server.mac.0].concat());
    }

    #[test]
    fn a_fence_is_known_again_and_is_arp() {
        let hosts = (host(1, "10.0.0.1"), host(2, "10.0.0.2"));
        for (to, tag) in [(None, None), (Some(hosts.1), Some(10))] {
            let fence = arp(hosts.0, to, 9, tag).unwrap();
            assert_eq!(kind(&fence).unwrap(), Kind::Fence(9));
            let sliced = etherparse::SlicedPacket::from_ethernet(&fence).unwrap();
            let Some(etherparse::NetSlice::Arp(arp)) = sliced.net else { panic!("no ARP") };
            assert_eq!(arp.sender_protocol_addr(), [10, 0, 0, 1]);
        }
    }

    #[test]
    fn frames_of_others_are_told_apart() {
        let mld = [
            &[0x33, 0x33, 0, 0, 0, 0x16, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 36, 0, 1][..],
            &[0; 68],
        ];
        assert_eq!(kind(&mld.concat()).unwrap(), Kind::Other);
        assert!(kind(&[0; 8]).is_err());
    }
}
