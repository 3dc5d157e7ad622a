//! What stands above IP, as bytes and back.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header};
use policy::evaluator::{Detail, Fragment, IpPacket, Transport, Tuple};
use policy::{Ethertype, MacAddr, PortProtocol};

/// Bytes of a payload where nothing depends on them.
const PAYLOAD_BYTES: usize = 8;

/// The first sequence number of either side. Segments of one connection then follow each other for a tracker that looks at
/// windows: SYN has this number, every other segment the next, and every acknowledgement is of the SYN.
const FIRST_SEQUENCE: u32 = 1000;

/// IP protocol number of GRE, and its shortest header (RFC 2784): the kernel's tracker reads it, and calls anything else invalid.
const GRE: u8 = 47;
const GRE_HEADER: [u8; 4] = [0, 0, 0x08, 0x00];

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The datagram's content: header, checksum and payload; `total` bytes if that is given and the header leaves room.
pub(crate) fn segment(packet: &IpPacket, id: u16, eth_src: MacAddr, total: Option<usize>) -> Vec<u8> {
    let mut bytes = match packet.transport {
        Transport::Ports { src, dst, tcp_flags } => ports_header(packet.protocol, src, dst, tcp_flags),
        Transport::Icmp { icmp_type, code, nd_target, quoted } => {
            icmp_message(packet.ethertype(), (icmp_type, code), nd_target, quoted, id, eth_src)
        }
        Transport::None if packet.protocol == GRE && packet.fragment != Fragment::Later => {
            GRE_HEADER.to_vec()
        }
        Transport::None => Vec::new(),
    };
    let header = bytes.len();
    let length = total.unwrap_or(header + payload_length(packet));
    // A pattern that is not the same in any two parts of a datagram.
    let payload =
        (header..length.max(header)).map(|position| u8::try_from(position % 251).expect("below 251"));
    bytes.extend(payload);
    finish(packet, &mut bytes);
    bytes
}

/// A TCP segment with payload that opens a connection would be held back; a message has all that it needs; what shows no
/// header of a protocol that has one ends before it.
fn payload_length(packet: &IpPacket) -> usize {
    let has_header =
        PortProtocol::from_number(packet.protocol).is_some() || packet.protocol == packet.ethertype().icmp();
    match packet.transport {
        Transport::None if has_header => 0,
        Transport::Ports { tcp_flags, .. } if tcp_flags & SYN != 0 => 0,
        Transport::Ports { .. } if packet.protocol == PortProtocol::Sctp.number() => 0,
        Transport::Icmp { icmp_type, .. } if !is_echo(packet.ethertype(), icmp_type) => 0,
        _ => PAYLOAD_BYTES,
    }
}

/// Header with its checksum and length fields zero.
fn ports_header(protocol: u8, src: u16, dst: u16, flags: u8) -> Vec<u8> {
    let mut bytes = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    match PortProtocol::from_number(protocol) {
        Some(PortProtocol::Tcp) => {
            let sequence = if flags & SYN != 0 { FIRST_SEQUENCE } else { FIRST_SEQUENCE + 1 };
            let acknowledged = if flags & ACK != 0 { FIRST_SEQUENCE + 1 } else { 0 };
            bytes.extend(sequence.to_be_bytes());
            bytes.extend(acknowledged.to_be_bytes());
            // RFC 9293, section 3.1: data offset 5 words, flags, window, checksum, urgent pointer.
            bytes.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        // RFC 4340, section 5.1: data offset, CCVal and CsCov 0, checksum, X = 1 with type 0 (request), 48 bits of
        // sequence number; section 5.2: service code.
        Some(PortProtocol::Dccp) => bytes.extend([5, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        // RFC 9260, section 3: verification tag 0 for an INIT chunk, checksum; section 3.3.2: INIT of 20 bytes, tag 1,
        // window 65535, one stream each way, initial TSN 1.
        Some(PortProtocol::Sctp) => {
            bytes.extend([0, 0, 0, 0, 0, 0, 0, 0]);
            bytes.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
        }
        // Length, or checksum coverage, which may be 0 for all (RFC 3828, section 3.1), and checksum.
        _ => bytes.extend([0, 0, 0, 0]),
    }
    bytes
}

/// Fills in length and checksum.
fn finish(packet: &IpPacket, bytes: &mut [u8]) {
    let position = match PortProtocol::from_number(packet.protocol) {
        _ if bytes.len() < 8 => return,
        Some(PortProtocol::Tcp) => 16,
        Some(PortProtocol::Udp) => {
            let length = u16::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
            bytes[4..6].copy_from_slice(&length);
            6
        }
        Some(PortProtocol::UdpLite | PortProtocol::Dccp) => 6,
        Some(PortProtocol::Sctp) => {
            let checksum = crc32c(bytes).to_le_bytes();
            return bytes[8..12].copy_from_slice(&checksum);
        }
        None if packet.protocol == packet.ethertype().icmp() => 2,
        None => return,
    };
    // RFC 768, RFC 792, RFC 8200 section 8.1: the sum covers a pseudo header, but for ICMP in IPv4.
    let length = u32::try_from(bytes.len()).expect("a datagram has at most 65535 bytes").to_be_bytes();
    let sum = match (packet.src, packet.dst) {
        (IpAddr::V4(_), _) if packet.protocol == Ethertype::Ipv4.icmp() => Sum16BitWords::new(),
        (IpAddr::V4(src), IpAddr::V4(dst)) => Sum16BitWords::new()
            .add_slice(&src.octets())
            .add_slice(&dst.octets())
            .add_slice(&[0, packet.protocol])
            .add_slice(&length),
        _ => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            Sum16BitWords::new()
                .add_slice(&octets(packet.src))
                .add_slice(&octets(packet.dst))
                .add_slice(&length)
                .add_slice(&[0, packet.protocol])
        }
    };
    // 0 would mean "no checksum" in UDP.
    let checksum = sum.add_slice(bytes).to_ones_complement_with_no_zero().to_ne_bytes();
    bytes[position..position + 2].copy_from_slice(&checksum);
}

/// CRC-32C of an SCTP packet whose checksum field is zero (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82f6_3b78;
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * REVERSED_POLYNOMIAL))
    });
    !crc
}

fn is_echo(family: Ethertype, icmp_type: u8) -> bool {
    match family {
        Ethertype::Ipv4 => matches!(icmp_type, 0 | 8),
        Ethertype::Ipv6 => matches!(icmp_type, 128 | 129),
    }
}

fn icmp_message(
    family: Ethertype,
    (icmp_type, code): (u8, u8),
    nd_target: Option<Ipv6Addr>,
    quoted: Option<Tuple>,
    id: u16,
    eth_src: MacAddr,
) -> Vec<u8> {
    let mut bytes = vec![icmp_type, code, 0, 0];
    if is_echo(family, icmp_type) {
        bytes.extend(id.to_be_bytes());
        bytes.extend(1u16.to_be_bytes());
        return bytes;
    }
    // Reserved or unused in every message below.
    bytes.extend([0; 4]);
    match (family, icmp_type) {
        // RFC 792: originate, receive and transmit timestamp.
        (Ethertype::Ipv4, 13 | 14) => bytes.extend([0; 12]),
        // RFC 2710, section 3: multicast address.
        (Ethertype::Ipv6, 130..=132) => bytes.extend([0; 16]),
        // RFC 4861, section 4.2: reachable time, retransmission timer.
        (Ethertype::Ipv6, 134) => bytes.extend([0; 8]),
        // RFC 4861, sections 4.3 and 4.4: target, and the sender's address as an option of type 1 or 2.
        (Ethertype::Ipv6, 135 | 136) => {
            bytes.extend(nd_target.unwrap_or(Ipv6Addr::UNSPECIFIED).octets());
            bytes.extend([if icmp_type == 135 { 1 } else { 2 }, 1]);
            bytes.extend(eth_src.0);
        }
        _ => bytes.extend(quoted.map(|tuple| quoted_packet(&tuple)).unwrap_or_default()),
    }
    bytes
}

/// The packet that an error quotes: IP header and the first eight bytes of what follows (RFC 792), more in IPv6.
fn quoted_packet(tuple: &Tuple) -> Vec<u8> {
    let Tuple { src, dst, protocol, detail } = *tuple;
    let transport = match detail {
        Detail::Ports { src, dst } => Transport::Ports { src, dst, tcp_flags: SYN },
        Detail::Icmp { icmp_type, code } => {
            Transport::Icmp { icmp_type, code, nd_target: None, quoted: None }
        }
        Detail::None => Transport::None,
    };
    let packet = IpPacket { src, dst, protocol, fragment: Fragment::No, transport };
    let content = segment(&packet, 1, MacAddr([0; 6]), None);
    let length = u16::try_from(content.len()).expect("a header and a few bytes");
    let header = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header::new(length, 63, IpNumber(protocol), src.octets(), dst.octets());
            let mut header = header.expect("a header and a few bytes");
            header.header_checksum = header.calc_header_checksum();
            header.to_bytes().to_vec()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (source, destination) = (src.octets(), dst.octets());
            let next_header = IpNumber(protocol);
            let header = Ipv6Header {
                payload_length: length,
                next_header,
                hop_limit: 63,
                source,
                destination,
                ..Default::default()
            };
            header.to_bytes().to_vec()
        }
        _ => Vec::new(),
    };
    [header, content].concat()
}

/// What can be read of the header above IP.
pub(crate) fn read_transport(protocol: u8, family: Ethertype, fragment: Fragment, bytes: &[u8]) -> Transport {
    if fragment == Fragment::Later {
        return Transport::None;
    }
    let read = match PortProtocol::from_number(protocol) {
        Some(protocol) => read_ports(protocol, bytes),
        None if protocol == family.icmp() => read_icmp(family, bytes),
        None => None,
    };
    read.unwrap_or(Transport::None)
}

fn read_ports(protocol: PortProtocol, bytes: &[u8]) -> Option<Transport> {
    let [a, b, c, d] = *bytes.first_chunk::<4>()?;
    let tcp_flags = match protocol {
        PortProtocol::Tcp => *bytes.get(13)?,
        _ => 0,
    };
    Some(Transport::Ports { src: u16::from_be_bytes([a, b]), dst: u16::from_be_bytes([c, d]), tcp_flags })
}

fn read_icmp(family: Ethertype, bytes: &[u8]) -> Option<Transport> {
    let [icmp_type, code] = *bytes.first_chunk::<2>()?;
    let message = bytes.get(8..).unwrap_or_default();
    let nd_target = match (family, icmp_type) {
        (Ethertype::Ipv6, 135 | 136) => message.first_chunk::<16>().map(|target| Ipv6Addr::from(*target)),
        _ => None,
    };
    let quoted = match (family, icmp_type) {
        (Ethertype::Ipv4, 3 | 4 | 5 | 11 | 12) | (Ethertype::Ipv6, 1..=4) => read_quoted(message),
        _ => None,
    };
    Some(Transport::Icmp { icmp_type, code, nd_target, quoted })
}

fn read_quoted(bytes: &[u8]) -> Option<Tuple> {
    let (src, dst, protocol, content) = match bytes.first()? >> 4 {
        4 => {
            let (header, content) = Ipv4Header::from_slice(bytes).ok()?;
            (IpAddr::from(header.source), IpAddr::from(header.destination), header.protocol, content)
        }
        _ => {
            let (header, content) = Ipv6Header::from_slice(bytes).ok()?;
            (IpAddr::from(header.source), IpAddr::from(header.destination), header.next_header, content)
        }
    };
    let family = if src.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
    let transport = read_transport(protocol.0, family, Fragment::No, content);
    Some(IpPacket { src, dst, protocol: protocol.0, fragment: Fragment::No, transport }.tuple())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string() {
        // The check value that the catalogue of CRC algorithms gives for CRC-32/ISCSI.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
