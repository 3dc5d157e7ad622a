//! A rule of a group as one rule of a chain.

use ipnet::IpNet;
use policy::{Direction, Ethertype, MacAddr, PortProtocol, PortRange, Rule, Service};

use crate::dialect::RemoteEnd;
use crate::mark::{BEGUN_BY_PORT, FROM_PORT};

/// Why a rule cannot be said with iptables, if it cannot: it is refused then, and admits nothing.
pub(super) fn why_not(rule: &Rule) -> Option<&'static str> {
    match (rule.ethertype, rule.service) {
        // ip6_tables walks over them (net/ipv6/exthdrs_core.c: `ipv6_find_hdr`), and `-p` is what stands behind.
        (Ethertype::Ipv6, Service::Protocol(43 | 44 | 51 | 60)) => {
            Some("an IPv6 extension header is no protocol to iptables")
        }
        _ => None,
    }
}

/// The words of a rule, with `remote` as the words for its remote; `comment` says whose it is.
pub(super) fn rule_line(rule: &Rule, remote: &RemoteEnd, comment: &str, target: &str) -> String {
    let mut words = Vec::new();
    if let RemoteEnd::Prefix(net) | RemoteEnd::Bound(net, _) = remote {
        words.extend(prefix(rule.direction, *net));
    }
    words.extend(service(rule.ethertype, rule.service));
    match remote {
        RemoteEnd::Set(set) => words.push(format!("-m set --match-set {set} {}", way(rule.direction))),
        RemoteEnd::Bound(_, mac) => words.push(remote_mac(rule.direction, *mac)),
        RemoteEnd::Prefix(_) | RemoteEnd::Any => {}
    }
    words.push(format!("-m comment --comment {}", quoted(comment)));
    words.push(format!("-j {target}"));
    words.join(" ")
}

/// The words for a packet from, or to, a member that counts only with its MAC, of a connection that began one way. An error that is told of a connection
/// has that one's remote, wherever it comes from.
pub(super) fn bound_line(way: Direction, begun: Direction, net: IpNet, mac: MacAddr, target: &str) -> String {
    let not = |direction| if direction == Direction::Ingress { "! " } else { "" };
    let from_port = format!("-m mark {}--mark {FROM_PORT:#x}/{FROM_PORT:#x}", not(way));
    let begun_by_port = format!("-m connmark {}--mark {BEGUN_BY_PORT:#x}/{BEGUN_BY_PORT:#x}", not(begun));
    let end = match begun {
        Direction::Ingress => "--ctorigsrc",
        Direction::Egress => "--ctorigdst",
    };
    let remote = (net.prefix_len() > 0).then(|| format!("-m conntrack {end} {net}"));
    let words = [from_port, begun_by_port].into_iter().chain(remote);
    words.chain([remote_mac(way, mac), format!("-j {target}")]).collect::<Vec<_>>().join(" ")
}

/// `-m mac` knows the source alone. The destination is read by a program that the kernel runs (linux/filter.h, Documentation/networking/filter.rst:
/// `SKF_LL_OFF`, -0x200000, is where the hardware's header begins).
fn remote_mac(direction: Direction, mac: MacAddr) -> String {
    if direction == Direction::Ingress {
        return format!("-m mac --mac-source {mac}");
    }
    const LINK_LAYER: u32 = 0xffe0_0000;
    let [a, b, c, d, e, f] = mac.octets();
    let (high, low) = (u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]));
    // Loads of four and two octets (32, 40), each compared (21), and "all of it" or "nothing" (6).
    format!(
        "-m bpf --bytecode \"6,32 0 0 {LINK_LAYER},21 0 3 {high},40 0 0 {},21 0 1 {low},6 0 0 65535,6 0 0 0\"",
        LINK_LAYER + 4
    )
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "src",
        Direction::Egress => "dst",
    }
}

/// iptables-save says nothing of what holds everything.
fn prefix(direction: Direction, net: IpNet) -> Option<String> {
    let option = match direction {
        Direction::Ingress => "-s",
        Direction::Egress => "-d",
    };
    (net.prefix_len() > 0).then(|| format!("{option} {net}"))
}

fn service(ethertype: Ethertype, service: Service) -> Option<String> {
    Some(match service {
        Service::Any => return None,
        Service::Ports { protocol, range } => ports(protocol, range),
        Service::Icmp { icmp_type, code } => icmp(ethertype, icmp_type, code),
        Service::Protocol(number) => format!("-p {number}"),
    })
}

fn ports(protocol: PortProtocol, range: Option<PortRange>) -> String {
    let Some(PortRange { min, max }) = range else { return format!("-p {protocol}") };
    let ports = if min == max { min.to_string() } else { format!("{min}:{max}") };
    match protocol {
        // Every port is what iptables-save does not print; that there is one at all is asked all the same.
        PortProtocol::Tcp | PortProtocol::Udp if (min, max) == (0, u16::MAX) => {
            format!("-p {protocol} -m {protocol}")
        }
        PortProtocol::Tcp | PortProtocol::Udp => format!("-p {protocol} -m {protocol} --dport {ports}"),
        PortProtocol::Sctp | PortProtocol::Dccp | PortProtocol::UdpLite => {
            format!("-p {protocol} -m multiport --dports {ports}")
        }
    }
}

fn icmp(ethertype: Ethertype, icmp_type: Option<u8>, code: Option<u8>) -> String {
    let code = code.map(|code| format!("/{code}")).unwrap_or_default();
    match (ethertype, icmp_type) {
        (Ethertype::Ipv4, None) => "-p icmp".to_owned(),
        (Ethertype::Ipv6, None) => "-p ipv6-icmp".to_owned(),
        // To the kernel 255 is "every type" (net/netfilter/xt_tcpudp.c, ip_tables.c: `icmp_type_code_match`): the octet is read instead.
        (Ethertype::Ipv4, Some(255)) => match code.strip_prefix('/') {
            None => "-p icmp -m u32 --u32 0x0>>0x16&0x3c@0x0>>0x18=0xff".to_owned(),
            Some(code) => {
                let code: u8 = code.parse().expect("it was a number just now");
                format!("-p icmp -m u32 --u32 0x0>>0x16&0x3c@0x0>>0x10=0xff{code:02x}")
            }
        },
        (Ethertype::Ipv4, Some(icmp_type)) => format!("-p icmp -m icmp --icmp-type {icmp_type}{code}"),
        (Ethertype::Ipv6, Some(icmp_type)) => {
            format!("-p ipv6-icmp -m icmp6 --icmpv6-type {icmp_type}{code}")
        }
    }
}

/// As iptables-save quotes a text (iptables/xshared.c: `xtables_save_string`); what could end a line or the quotes is left out, and the
/// kernel takes 255 octets.
fn quoted(text: &str) -> String {
    let is_kept = |c: &char| c.is_ascii_graphic() && !"\"\\'".contains(*c) || *c == ' ';
    let text: String = text.chars().filter(is_kept).take(255).collect();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_plain && !text.is_empty() { text } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use policy::Remote;

    use super::*;

    fn line(direction: Direction, ethertype: Ethertype, service: Service, remote: &Remote) -> String {
        let rule = Rule { id: "r1".into(), direction, ethertype, service, remote: remote.clone() };
        rule_line(&rule, &RemoteEnd::of(remote, Some("NIPv4g")).unwrap(), "r1", "ok")
    }

    fn ports(protocol: PortProtocol, min: u16, max: u16) -> Service {
        Service::Ports { protocol, range: Some(PortRange { min, max }) }
    }

    #[test]
    fn rules_are_said_in_the_words_of_iptables_save() {
        use Direction::{Egress, Ingress};
        use Ethertype::{Ipv4, Ipv6};
        let net = |text: &str| Remote::Prefix(text.parse().unwrap());
        let icmp = |icmp_type, code| Service::Icmp { icmp_type, code };
        let cases = [
            (Ingress, Ipv4, Service::Any, Remote::Any, "-m comment --comment r1 -j ok"),
            (
                Ingress,
                Ipv4,
                ports(PortProtocol::Tcp, 80, 80),
                net("10.0.0.0/8"),
                "-s 10.0.0.0/8 -p tcp -m tcp --dport 80 -m comment --comment r1 -j ok",
            ),
            (
                Egress,
                Ipv4,
                ports(PortProtocol::Udp, 0, 65535),
                Remote::Any,
                "-p udp -m udp -m comment --comment r1 -j ok",
            ),
            (
                Egress,
                Ipv6,
                ports(PortProtocol::UdpLite, 1, 9),
                net("fd00::1/128"),
                "-d fd00::1/128 -p udplite -m multiport --dports 1:9 -m comment --comment r1 -j ok",
            ),
            (
                Egress,
                Ipv4,
                Service::Protocol(112),
                Remote::Group("g".into()),
                "-p 112 -m set --match-set NIPv4g dst -m comment --comment r1 -j ok",
            ),
            (
                Ingress,
                Ipv4,
                icmp(Some(255), Some(3)),
                net("0.0.0.0/0"),
                "-p icmp -m u32 --u32 0x0>>0x16&0x3c@0x0>>0x10=0xff03 -m comment --comment r1 -j ok",
            ),
            (
                Ingress,
                Ipv6,
                icmp(Some(128), Some(0)),
                Remote::Any,
                "-p ipv6-icmp -m icmp6 --icmpv6-type 128/0 -m comment --comment r1 -j ok",
            ),
        ];
        for (direction, ethertype, service, remote, wanted) in cases {
            assert_eq!(line(direction, ethertype, service, &remote), wanted);
        }
    }

    #[test]
    fn a_comment_is_one_word_whatever_it_says() {
        assert_eq!(quoted("r-1"), "r-1");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a\" -j ACCEPT\n-A FORWARD \\'é"), "\"a -j ACCEPT-A FORWARD \"");
        assert_eq!(quoted(""), "\"\"");
        assert_eq!(quoted(&"x".repeat(300)).len(), 255);
    }
}
