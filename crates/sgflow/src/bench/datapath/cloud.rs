//! The policy under which packets are measured, and the connections that are tried: one port that speaks raw frames, two that
//! speak TCP, and hosts behind the network, half of them members of the groups that the rules name.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use policy::{
    Direction, Ethertype, GroupId, MacAddr, Policy, Port, PortProtocol, PortRange, Remote, Rule,
    SecurityGroup, Service,
};

use super::frames::{Attempt, Host};

/// Hosts behind the network that are members, and as many that are not.
pub(super) const MEMBERS: usize = 200;
/// Connections of a scenario in which all are admitted.
pub(super) const CONNECTIONS: usize = 10_000;
/// Ports that a scan goes through.
const SCANNED: u16 = 4096;
/// Where the two ports that speak TCP are served.
pub(super) const STREAM_PORT: u16 = 5201;

/// Services that hosts ask for: some are open to everybody, some to members or a prefix, some to nobody. All that all hosts may ask
/// for are fewer than the 10,000 megaflows that ovs-vswitchd begins to take some away at, until it has learned that it is fast
/// (`udpif_revalidator`, ofproto/ofproto-dpif-upcall.c, 3.1), so that counts are exact.
const TCP: [u16; 13] = [22, 25, 80, 443, 445, 3306, 8000, 8050, 8100, 9005, 9011, 31000, 33000];
const UDP: [u16; 11] = [53, 123, 161, 514, 1194, 4500, 5001, 5999, 6081, 20000, 30000];

/// A local port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Local {
    /// Its id, and the name of its VM.
    pub(super) name: &'static str,
    number: u8,
}

/// Speaks raw frames.
pub(super) const RAW: Local = Local { name: "raw", number: 10 };
/// Speak TCP with each other.
pub(super) const SENDER: Local = Local { name: "sender", number: 11 };
pub(super) const RECEIVER: Local = Local { name: "receiver", number: 12 };

impl Local {
    pub(super) fn mac(self) -> MacAddr {
        MacAddr([0xfa, 0x16, 0x3e, 0, 0, self.number])
    }

    pub(super) fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, self.number)
    }

    fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, self.number.into())
    }

    pub(super) fn host(self, ethertype: Ethertype) -> Host {
        host(self.mac(), self.ipv4(), self.ipv6(), ethertype)
    }
}

/// A host behind the network; those below [`MEMBERS`] are members.
pub(super) fn remote(number: usize, ethertype: Ethertype) -> Host {
    // 512 addresses in an order without order (a multiplier that is odd), as a cloud gives them out in time: members and others
    // are each other's neighbours.
    let mixed = u16::try_from(number * 181 % 512).expect("below 512");
    let [high, low] = mixed.to_be_bytes();
    let mac = MacAddr([0xfa, 0x16, 0x3e, 1, high, low]);
    host(
        mac,
        Ipv4Addr::new(10, 0, 2 + high, low),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 2, mixed),
        ethertype,
    )
}

fn host(mac: MacAddr, ipv4: Ipv4Addr, ipv6: Ipv6Addr, ethertype: Ethertype) -> Host {
    let ip = match ethertype {
        Ethertype::Ipv4 => ipv4.into(),
        Ethertype::Ipv6 => ipv6.into(),
    };
    Host { mac, ip }
}

/// Everybody behind the network.
pub(super) fn remotes(ethertype: Ethertype) -> impl Iterator<Item = Host> {
    (0..2 * MEMBERS).map(move |number| remote(number, ethertype))
}

/// Groups `web` and `base` are of the raw port, `stream` and `base` of the two others; members are in `clients`, half of them in
/// `admins` too.
pub(super) fn policy() -> Policy {
    let groups = [web(), base(), stream(), group("clients", Vec::new()), group("admins", Vec::new())];
    let mut ports = vec![
        port(RAW.name, RAW.host(Ethertype::Ipv4), RAW.ipv6().into(), &["web", "base"]),
        port(SENDER.name, SENDER.host(Ethertype::Ipv4), SENDER.ipv6().into(), &["stream", "base"]),
        port(RECEIVER.name, RECEIVER.host(Ethertype::Ipv4), RECEIVER.ipv6().into(), &["stream", "base"]),
    ];
    for number in 0..MEMBERS {
        let groups: &[&str] = if number < MEMBERS / 2 { &["clients", "admins"] } else { &["clients"] };
        let ipv6 = remote(number, Ethertype::Ipv6).ip;
        ports.push(port(&format!("member-{number}"), remote(number, Ethertype::Ipv4), ipv6, groups));
    }
    Policy {
        groups: groups.into_iter().map(|group| (group.id.clone(), Arc::new(group))).collect(),
        ports: ports.into_iter().map(|port| (port.id.clone(), Arc::new(port))).collect(),
        ..Policy::default()
    }
}

/// What Neutron gives every group: out to anybody.
fn base() -> SecurityGroup {
    let rules = [
        ("e4", Ethertype::Ipv4, Direction::Egress, Service::Any),
        ("e6", Ethertype::Ipv6, Direction::Egress, Service::Any),
        ("i4-icmp", Ethertype::Ipv4, Direction::Ingress, Service::Icmp { icmp_type: None, code: None }),
        ("i6-icmp", Ethertype::Ipv6, Direction::Ingress, Service::Icmp { icmp_type: None, code: None }),
    ];
    let rules = rules.map(|(id, ethertype, direction, service)| Rule {
        id: id.into(),
        direction,
        ethertype,
        service,
        remote: Remote::Any,
    });
    group("base", rules.into())
}

fn stream() -> SecurityGroup {
    let service = ports(PortProtocol::Tcp, STREAM_PORT, STREAM_PORT);
    let rule = |ethertype: Ethertype| ingress("stream", ethertype, service, Remote::Group("stream".into()));
    group("stream", vec![rule(Ethertype::Ipv4), rule(Ethertype::Ipv6)])
}

/// Single ports and ranges, to anybody, to members and to a prefix.
fn web() -> SecurityGroup {
    use PortProtocol::{Tcp, Udp};
    let mut rules = Vec::new();
    for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
        let prefix = match ethertype {
            Ethertype::Ipv4 => ipnet::Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 2, 0), 24).into(),
            Ethertype::Ipv6 => {
                ipnet::Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 2, 0), 120).into()
            }
        };
        let from = |name: &str| Remote::Group(name.into());
        let services = [
            (Tcp, 80, 80, Remote::Any),
            (Tcp, 443, 443, Remote::Any),
            (Tcp, 9000, 9010, Remote::Any),
            (Udp, 1194, 1194, Remote::Any),
            (Tcp, 22, 22, from("admins")),
            (Udp, 161, 161, from("admins")),
            (Tcp, 3306, 3306, from("clients")),
            (Tcp, 5432, 5432, from("clients")),
            (Tcp, 8000, 8099, from("clients")),
            (Tcp, 30000, 32767, from("clients")),
            (Udp, 5000, 5999, from("clients")),
            (Udp, 53, 53, Remote::Prefix(prefix)),
            (Udp, 20000, 29999, Remote::Prefix(prefix)),
        ];
        let rule =
            |(protocol, min, max, remote)| ingress("web", ethertype, ports(protocol, min, max), remote);
        rules.extend(services.map(rule));
    }
    group("web", rules)
}

fn group(id: &str, mut rules: Vec<Rule>) -> SecurityGroup {
    rules.sort_by(|one, other| one.id.cmp(&other.id));
    SecurityGroup { id: id.into(), name: id.to_owned(), stateful: true, rules }
}

fn ingress(group: &str, ethertype: Ethertype, service: Service, remote: Remote) -> Rule {
    let id = format!("{group}-{ethertype}-{service:?}");
    Rule { id: id.as_str().into(), direction: Direction::Ingress, ethertype, service, remote }
}

fn ports(protocol: PortProtocol, min: u16, max: u16) -> Service {
    Service::Ports { protocol, range: Some(PortRange { min, max }) }
}

fn port(id: &str, host: Host, ipv6: IpAddr, groups: &[&str]) -> Port {
    Port {
        id: id.into(),
        network_id: "net".into(),
        mac: host.mac,
        fixed_ips: [host.ip, ipv6].into(),
        allowed_address_pairs: BTreeSet::new(),
        security_groups: groups.iter().map(|group| GroupId::from(*group)).collect(),
        port_security_enabled: true,
        device_owner: "compute:nova".into(),
        host: None,
    }
}

/// Everybody asks for every service, in an order without order.
pub(super) fn mixed(ethertype: Ethertype) -> Vec<Attempt> {
    let services: Vec<(PortProtocol, u16)> = TCP
        .map(|port| (PortProtocol::Tcp, port))
        .into_iter()
        .chain(UDP.map(|port| (PortProtocol::Udp, port)))
        .collect();
    let hosts: Vec<Host> = remotes(ethertype).collect();
    let count = hosts.len() * services.len();
    // 7,919 is prime and no factor of the count, so each pair comes once.
    (0..count)
        .map(|turn| turn * 7919 % count)
        .map(|place| {
            let (protocol, service) = services[place % services.len()];
            into_raw(hosts[place / services.len()], protocol, client_port(place), service)
        })
        .collect()
}

/// A member, and then somebody else, tries one port after the other.
pub(super) fn scan() -> Vec<Attempt> {
    [0, MEMBERS]
        .into_iter()
        .flat_map(|number| (1..=SCANNED).map(move |service| (remote(number, Ethertype::Ipv4), service)))
        .map(|(host, service)| into_raw(host, PortProtocol::Tcp, 40_000, service))
        .collect()
}

/// Members connect to what is open to them.
pub(super) fn incoming() -> Vec<Attempt> {
    (0..CONNECTIONS)
        .map(|number| {
            let service = [80, 3306, 8050, 31000][number % 4];
            into_raw(
                remote(number % MEMBERS, Ethertype::Ipv4),
                PortProtocol::Tcp,
                client_port(number),
                service,
            )
        })
        .collect()
}

/// The raw port connects to everybody behind the network.
pub(super) fn outgoing() -> Vec<Attempt> {
    (0..CONNECTIONS)
        .map(|number| Attempt {
            client: RAW.host(Ethertype::Ipv4),
            server: remote(number % (2 * MEMBERS), Ethertype::Ipv4),
            protocol: PortProtocol::Tcp,
            client_port: client_port(number),
            server_port: TCP[number / (2 * MEMBERS) % TCP.len()],
        })
        .collect()
}

fn into_raw(client: Host, protocol: PortProtocol, client_port: u16, server_port: u16) -> Attempt {
    let ethertype = if client.ip.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
    Attempt { client, server: RAW.host(ethertype), protocol, client_port, server_port }
}

/// Of the kernel's usual range, another each time.
fn client_port(number: usize) -> u16 {
    u16::try_from(32_768 + number % 28_000).expect("below 60,768")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_connections_of_a_scenario_are_the_same() {
        for attempts in [mixed(Ethertype::Ipv4), mixed(Ethertype::Ipv6), scan(), incoming(), outgoing()] {
            let tuples: BTreeSet<_> = attempts
                .iter()
                .map(|one| {
                    (one.client.ip, one.server.ip, one.protocol.to_string(), one.client_port, one.server_port)
                })
                .collect();
            assert_eq!(tuples.len(), attempts.len());
        }
        assert_eq!(mixed(Ethertype::Ipv4).len(), 9_600);
        assert_eq!(incoming().len(), CONNECTIONS);
    }

    #[test]
    fn members_and_others_have_addresses_of_their_own() {
        for ethertype in [Ethertype::Ipv4, Ethertype::Ipv6] {
            let hosts: BTreeSet<_> = remotes(ethertype).map(|host| (host.ip, host.mac)).collect();
            assert_eq!(hosts.len(), 2 * MEMBERS);
        }
    }

    #[test]
    fn the_policy_is_one_that_a_document_can_say() {
        let policy = policy();
        let text = crate::bench::document::of(&policy).to_string();
        let parsed = policy::document::parse(&[("bench.json", &text)], None);
        assert_eq!(parsed.diagnostics, []);
        assert!(parsed.policy.groups == policy.groups && parsed.policy.ports == policy.ports);
        let web = &policy.groups[&GroupId::from("web")];
        let ids: BTreeSet<_> = web.rules.iter().map(|rule| &rule.id).collect();
        assert_eq!(ids.len(), web.rules.len());
    }
}
