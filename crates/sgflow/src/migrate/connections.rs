//! Which connections of a port the side it is moved to does not know, and what becomes of them.
//!
//! Their next packet is judged as a first one there. That comes from whichever end has something to say; where the policy does not admit it from that end,
//! the connection stands still until the other one speaks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use anyhow::Context as _;
use conntrack::{Ends, Tuple};
use hybrid::iptables::Iptables;
use hybrid::{Admission, Detail, Devices, Firewall, FirstPacket, Plug};
use policy::{Direction, Policy, Port};

use crate::tracked::Entry;

/// Stands for any zone.
const SOME_ZONE: u16 = 1;

/// A connection, by the two ways its packets go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Known {
    original: Tuple,
    reply: Tuple,
}

/// A connection that stands still unless one end of it speaks first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stall {
    connection: Known,
    /// The end whose packets are admitted as first ones; none if neither's are.
    speaker: Option<IpAddr>,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.connection.original)?;
        match self.speaker {
            Some(speaker) => write!(f, "goes on only when {speaker} sends first"),
            None => f.write_str("does not go on: no rule admits it from either end"),
        }
    }
}

/// What is to become of the connections that are not known at the other side.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Outlook {
    /// So many go on, whoever speaks next.
    pub(super) go_on: usize,
    /// These may not.
    pub(super) stall: Vec<Stall>,
}

/// Those of them that have been admitted and answered, and are not over.
pub(super) fn alive(connections: Vec<Entry>, is_admitted: impl Fn(u32) -> bool) -> BTreeSet<Known> {
    let connections = connections.into_iter().filter(|entry| is_admitted(entry.mark));
    let is_alive = |entry: &Entry| entry.is_answered && !entry.is_over();
    let alive = connections.filter(is_alive);
    alive.map(|Entry { original, reply, .. }| Known { original, reply }).collect()
}

/// What becomes of the connections of a port that begin anew, under a policy.
pub(super) fn outlook(
    policy: &Policy,
    port: &Port,
    devices: &Devices,
    connections: impl IntoIterator<Item = Known>,
    goes_loose: bool,
) -> Outlook {
    let mut firewall: Firewall<Iptables> = Firewall::new(false, None);
    firewall.apply_policy(&Policy::diff(&Policy::default(), policy));
    firewall.plug(&port.id, Some(Plug { devices: devices.clone(), zone: SOME_ZONE }));
    drop(firewall.take());
    let mut outlook = Outlook::default();
    for connection in connections {
        let Known { original, reply } = connection;
        let begins = |way: &Tuple| {
            let is_picked_up = goes_loose || way.protocol != TCP;
            // A MAC that has to be shown is there, as it was.
            is_picked_up && firewall.admits(SOME_ZONE, &first_packet(port, way)) != Admission::Refused
        };
        // Of what is no connection by its protocol, the end that asked is the one to ask again.
        let is_asked_again = !KEEPS_STATE.contains(&original.protocol);
        match (begins(&original), begins(&reply)) {
            (true, true) => outlook.go_on += 1,
            (true, false) if is_asked_again => outlook.go_on += 1,
            (true, false) => outlook.stall.push(Stall { connection, speaker: Some(original.source) }),
            (false, true) => outlook.stall.push(Stall { connection, speaker: Some(reply.source) }),
            (false, false) => outlook.stall.push(Stall { connection, speaker: None }),
        }
    }
    outlook
}

const TCP: u8 = 6;
/// TCP, DCCP, SCTP: both ends hold the connection, and either may be the one to go on with it.
const KEEPS_STATE: [u8; 3] = [TCP, 33, 132];

/// Whether the kernel takes up a TCP connection in its middle (Documentation/networking/nf_conntrack-sysctl.rst).
pub(super) fn kernel_goes_loose() -> anyhow::Result<bool> {
    let setting = "/proc/sys/net/netfilter/nf_conntrack_tcp_loose";
    let text = std::fs::read_to_string(setting).context(setting)?;
    Ok(text.trim() != "0")
}

fn first_packet(port: &Port, way: &Tuple) -> FirstPacket {
    let is_ports = |address: IpAddr| {
        port.fixed_ips.contains(&address)
            || port.allowed_address_pairs.iter().any(|pair| pair.ip.contains(&address))
    };
    let direction = if is_ports(way.source) { Direction::Egress } else { Direction::Ingress };
    let detail = match way.ends {
        Ends::Ports { destination, .. } => Detail::Port(destination),
        Ends::Icmp { icmp_type, code, .. } => Detail::Icmp(icmp_type, code),
        Ends::Addresses => Detail::None,
    };
    let Tuple { source, destination, protocol, .. } = *way;
    FirstPacket { direction, source, destination, protocol, detail }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracked;

    const LINES: &str = "\
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=4000),zone=4097,mark=3,protoinfo=(state=ESTABLISHED)
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4001,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=4001),zone=4097,mark=3,protoinfo=(state=TIME_WAIT)
udp,orig=(src=fe80::1,dst=fe80::2,sport=5,dport=53),reply=(src=fe80::2,dst=fe80::1,sport=53,dport=5),zone=4097
icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=7,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=7,type=0,code=0),zone=4097,mark=3
";

    #[test]
    fn what_lives_and_is_admitted_is_read_from_the_switchs_list() {
        let known: Vec<String> = alive(tracked::read(LINES), |mark| mark != 0)
            .iter()
            .map(|known| known.original.to_string())
            .collect();
        assert_eq!(
            known,
            [
                "proto=1 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7",
                "proto=6 src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=80"
            ]
        );
    }

    #[test]
    fn a_connection_goes_on_from_the_ends_that_rules_admit() {
        let text = r#"
security_groups:
- {id: in, security_group_rules: [
    {id: i, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80}]}
- {id: out, security_group_rules: [{id: e, direction: egress, ethertype: IPv4}]}
ports:
- {id: both, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [in, out]}
- {id: one, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [in]}
- {id: none, network_id: n, mac_address: "fa:16:3e:00:00:02", fixed_ips: [{ip_address: 10.0.0.2}], security_groups: []}
"#;
        let parsed = policy::document::parse(&[("policy.yaml", text)], None);
        let policy = parsed.policy;
        let devices = Devices::of_interface("qvox").expect("a device");
        let connection = alive(tracked::read(LINES), |mark| mark != 0).pop_last().expect("that of TCP");
        let told = |id: &str, goes_loose| {
            let port = &policy.ports[&id.into()];
            let outlook = outlook(&policy, port, &devices, [connection], goes_loose);
            (outlook.go_on, outlook.stall.iter().map(|stall| stall.speaker).collect::<Vec<_>>())
        };
        assert_eq!(told("both", true), (1, vec![]));
        assert_eq!(told("both", false), (0, vec![None]));
        assert_eq!(told("one", true), (0, vec![Some([10, 0, 0, 1].into())]));
        assert_eq!(told("none", true), (0, vec![None]));
    }
}
