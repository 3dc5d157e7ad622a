//! The evaluator against the sentences of the semantics page, and against laws that follow from it.

mod connections;
mod egress;
mod ingress;
mod laws;
mod rules;
mod tracker;

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::{MacAddr, document};

pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

pub(super) fn policy(text: &str) -> Policy {
    let parsed = document::parse(&[("policy.yaml", text)], None);
    assert_eq!(parsed.diagnostics, []);
    parsed.policy
}

/// A policy of ports alone, each `(id, last octet of its MAC and addresses, more fields)`: net 10.0.0.0/24 and
/// fd00::/64.
pub(super) fn ports(ports: &[(&str, u8, &str)]) -> String {
    let port = |(id, n, more): &(&str, u8, &str)| {
        format!(
            "- {{id: {id}, network_id: n, mac_address: 'fa:16:3e:00:00:{n:02x}', \
             fixed_ips: [{{ip_address: 10.0.0.{n}}}, {{ip_address: 'fd00::{n:x}'}}]{more}}}\n"
        )
    };
    format!("ports:\n{}", ports.iter().map(port).collect::<String>())
}

pub(super) fn mac(n: u8) -> MacAddr {
    MacAddr([0xfa, 0x16, 0x3e, 0, 0, n])
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A frame from station `from` to station `to`.
pub(super) fn frame(from: u8, to: u8, payload: Payload) -> Frame {
    Frame { eth_src: mac(from), eth_dst: mac(to), vlan: None, payload }
}

pub(super) fn packet(src: &str, dst: &str, protocol: u8, transport: Transport) -> Payload {
    Payload::Ip(IpPacket { src: ip(src), dst: ip(dst), protocol, fragment: Fragment::No, transport })
}

pub(super) fn ported(protocol: u8, src: (&str, u16), dst: (&str, u16)) -> Payload {
    packet(src.0, dst.0, protocol, Transport::Ports { src: src.1, dst: dst.1, tcp_flags: 0 })
}

pub(super) fn udp(src: (&str, u16), dst: (&str, u16)) -> Payload {
    ported(17, src, dst)
}

pub(super) fn tcp(src: (&str, u16), dst: (&str, u16), tcp_flags: u8) -> Payload {
    packet(src.0, dst.0, 6, Transport::Ports { src: src.1, dst: dst.1, tcp_flags })
}

pub(super) fn icmp(src: &str, dst: &str, icmp_type: u8, code: u8) -> Payload {
    let protocol = if src.contains(':') { 58 } else { 1 };
    packet(src, dst, protocol, Transport::Icmp { icmp_type, code, nd_target: None, quoted: None })
}

pub(super) fn error(src: &str, dst: &str, icmp_type: u8, about: Payload) -> Payload {
    let Payload::Ip(about) = about else { panic!("errors are about packets") };
    let protocol = if src.contains(':') { 58 } else { 1 };
    let quoted = Some(about.tuple());
    packet(src, dst, protocol, Transport::Icmp { icmp_type, code: 0, nd_target: None, quoted })
}

pub(super) fn arp(sha: u8, spa: &str) -> Payload {
    let (spa, tpa) = (spa.parse().unwrap(), Ipv4Addr::new(10, 0, 0, 9));
    Payload::Arp { op: 1, sha: mac(sha), spa, tha: MacAddr([0; 6]), tpa }
}

pub(super) fn fragment(part: Fragment, payload: Payload) -> Payload {
    let Payload::Ip(packet) = payload else { panic!("fragments are of packets") };
    let transport = if part == Fragment::Later { Transport::None } else { packet.transport };
    Payload::Ip(IpPacket { fragment: part, transport, ..packet })
}

/// The verdict as a word: the basis of what is accepted, the reason of what is dropped with a dash before.
pub(super) fn word(judgement: &Judgement) -> String {
    match judgement.verdict {
        Verdict::Accept(basis) => basis.to_string(),
        Verdict::Drop(reason) => format!("-{reason}"),
    }
}

/// The verdict on a frame that conntrack has not seen before.
pub(super) fn verdict(evaluator: &Evaluator, port: &str, direction: Direction, frame: &Frame) -> String {
    word(&evaluator.judge(&port.into(), direction, frame, &Tracking::first(frame)))
}
