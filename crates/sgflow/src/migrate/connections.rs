//! Which connections of a port the side it is moved to does not know, and what becomes of them.
//!
//! Their next packet is judged as a first one there. That comes from whichever end has something to say; where the policy does not admit it from that end,
//! the connection stands still until the other one speaks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use agent::config::Config;
use agent::unixctl::{Control, vswitchd_socket};
use anyhow::Context as _;
use conntrack::{Connection, Conntrack, Ends, Status, Tuple};
use hybrid::iptables::Iptables;
use hybrid::mark::REVOKED;
use hybrid::{Admission, Detail, Devices, Firewall, FirstPacket, Plug};
use ovsdb::Remote;
use policy::{Direction, Policy, Port};

/// How long the switch may take to list the connections of a zone.
const LIST_WITHIN: Duration = Duration::from_secs(20);
/// Where the sockets of a host are when the database is reached over the network.
const DEFAULT_RUNDIR: &str = "/var/run/openvswitch";
/// `TCP_CONNTRACK_TIME_WAIT`, `TCP_CONNTRACK_CLOSE`: nothing is to come any more (enum tcp_conntrack).
const OVER: [u8; 2] = [7, 8];
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

/// The connections of a zone of the kernel's tables that have been answered and are not over.
pub(super) fn of_kernel(zone: u16) -> anyhow::Result<BTreeSet<Known>> {
    let mut known = BTreeSet::new();
    Conntrack::open()?.dump(Some(zone), |connection| {
        if is_alive(&connection) {
            known.insert(Known { original: connection.original, reply: connection.reply });
        }
    })?;
    Ok(known)
}

fn is_alive(connection: &Connection) -> bool {
    let is_over = connection.tcp_state.is_some_and(|state| OVER.contains(&state));
    connection.status.has(Status::SEEN_REPLY) && connection.mark & REVOKED == 0 && !is_over
}

/// The connections of a zone of the switch that are admitted and not over.
pub(super) async fn of_switch(config: &Config, datapath: &str, zone: u16) -> anyhow::Result<BTreeSet<Known>> {
    let rundir = match &config.ovsdb.remote {
        Remote::Unix(path) => path.parent().unwrap_or(Path::new("")),
        Remote::Tcp(_) | Remote::Ssl(_) => Path::new(DEFAULT_RUNDIR),
    };
    let mut control = Control::connect(vswitchd_socket(rundir).await?).await?;
    // All bridges of one type are in one datapath (ovs-vswitchd(8), "Datapath Commands").
    let parameters = [format!("{datapath}@ovs-{datapath}"), format!("zone={zone}")];
    let parameters = parameters.each_ref().map(String::as_str);
    let text = control.ask_about("dpctl/dump-conntrack", &parameters, LIST_WITHIN).await?;
    Ok(text.lines().filter_map(known).collect())
}

/// A line of `dpctl/dump-conntrack` (lib/ct-dpif.c: `ct_dpif_format_entry`); none of what is over, not admitted, or of no address.
fn known(line: &str) -> Option<Known> {
    let is_over =
        ["TIME_WAIT", "CLOSED", "CLOSING"].iter().any(|state| line.contains(&format!("state={state}")));
    if is_over || !line.contains(",mark=") {
        return None;
    }
    let (protocol, _) = line.split_once(',')?;
    let protocol = number(protocol)?;
    Some(Known { original: tuple(protocol, line, "orig=(")?, reply: tuple(protocol, line, "reply=(")? })
}

/// The names of `ct_dpif_format_ipproto` (lib/ct-dpif.c), or a number.
fn number(protocol: &str) -> Option<u8> {
    let names = [("icmp", 1), ("tcp", 6), ("udp", 17), ("dccp", 33), ("icmpv6", 58), ("sctp", 132)];
    let named = names.iter().find(|(name, _)| *name == protocol).map(|(_, number)| *number);
    named.or_else(|| match protocol {
        "udplite" => Some(136),
        "igmp" => Some(2),
        _ => protocol.trim_start_matches("proto=").parse().ok(),
    })
}

fn tuple(protocol: u8, line: &str, begins: &str) -> Option<Tuple> {
    let (_, rest) = line.split_once(begins)?;
    let (inside, _) = rest.split_once(')')?;
    let field = |name: &str| inside.split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let small = |name: &str| field(name).and_then(|text| text.parse::<u16>().ok());
    let octet = |name: &str| field(name).and_then(|text| text.parse::<u8>().ok());
    let ends = match (small("sport"), small("dport"), octet("type")) {
        (Some(source), Some(destination), _) => Ends::Ports { source, destination },
        (_, _, Some(icmp_type)) => {
            Ends::Icmp { icmp_type, code: octet("code").unwrap_or(0), id: small("id").unwrap_or(0) }
        }
        _ => Ends::Addresses,
    };
    let (source, destination) = (field("src")?.parse().ok()?, field("dst")?.parse().ok()?);
    Some(Tuple { source, destination, protocol, ends })
}

/// What becomes of the connections of a port that begin anew, under a policy.
pub(super) fn outlook(
    policy: &Policy,
    port: &Port,
    devices: &Devices,
    connections: impl IntoIterator<Item = Known>,
    goes_loose: bool,
) -> Outlook {
    let mut firewall: Firewall<Iptables> = Firewall::new(false);
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

    const LINES: &str = "\
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=4000),zone=4097,mark=3,protoinfo=(state=ESTABLISHED)
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4001,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=4001),zone=4097,mark=3,protoinfo=(state=TIME_WAIT)
udp,orig=(src=fe80::1,dst=fe80::2,sport=5,dport=53),reply=(src=fe80::2,dst=fe80::1,sport=53,dport=5),zone=4097
icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=7,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=7,type=0,code=0),zone=4097,mark=3
";

    #[test]
    fn what_lives_and_is_admitted_is_read_from_the_switchs_list() {
        let known: Vec<String> =
            LINES.lines().filter_map(known).map(|known| known.original.to_string()).collect();
        assert_eq!(
            known,
            [
                "proto=6 src=10.0.0.1 dst=10.0.0.2 sport=4000 dport=80",
                "proto=1 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=7"
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
        let connection = LINES.lines().find_map(known).expect("the first");
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
