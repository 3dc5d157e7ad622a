//! The connections of a port's conntrack zone, as the switch or the kernel lists them.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::config::Config;
use agent::unixctl::{Control, vswitchd_socket};
use conntrack::{Connection, Conntrack, Ends, Status, Tuple};

use crate::held::rundir;

/// How long the switch may take to list the connections of a zone.
const LIST_WITHIN: Duration = Duration::from_secs(20);
/// The names of `ct_dpif_tcp_state_string` (lib/ct-dpif.c, 3.1), by `enum tcp_conntrack` of the kernel where that has them.
const KERNELS_STATES: [&str; 10] = [
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];
/// Nothing is to come any more.
const OVER: [&str; 4] = ["TIME_WAIT", "CLOSED", "CLOSING", "CLOSE"];

/// A tracked connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Its packets from who began it.
    pub(crate) original: Tuple,
    /// Its packets from the other side.
    pub(crate) reply: Tuple,
    /// Of TCP, by its name.
    pub(crate) tcp_state: Option<String>,
    /// Its mark: in the switch the generation that admitted it, in the kernel what the drivers for hybrid bridges note; 0 without one.
    pub(crate) mark: u32,
    /// Whether the other side has said something, where that is known.
    pub(crate) is_answered: bool,
    zone: u16,
}

impl Entry {
    /// Whether both sides have said that they are done.
    pub(crate) fn is_over(&self) -> bool {
        self.tcp_state.as_deref().is_some_and(|state| OVER.contains(&state))
    }

    /// Listed by the kernel.
    fn of_kernel(connection: &Connection) -> Self {
        let named = |state: u8| KERNELS_STATES.get(usize::from(state)).map(|name| (*name).to_owned());
        Entry {
            original: connection.original,
            reply: connection.reply,
            tcp_state: connection.tcp_state.and_then(named),
            mark: connection.mark,
            is_answered: connection.status.has(Status::SEEN_REPLY),
            zone: connection.zone,
        }
    }

    /// A line of `dpctl/dump-conntrack` (lib/ct-dpif.c: `ct_dpif_format_entry`); none of what has no addresses.
    fn of_line(line: &str) -> Option<Self> {
        let (protocol, _) = line.split_once(',')?;
        let protocol = number(protocol)?;
        let state = line.split_once("protoinfo=(state").map(|(_, rest)| rest);
        let state = state.and_then(|rest| rest.split_once('=')).map(|(_, name)| name);
        Some(Entry {
            original: tuple(protocol, line, "orig=(")?,
            reply: tuple(protocol, line, "reply=(")?,
            tcp_state: state.and_then(|name| name.split([',', ')']).next()).map(str::to_owned),
            mark: field(line, ",mark=").unwrap_or(0),
            is_answered: true,
            zone: field(line, ",zone=").unwrap_or(0),
        })
    }
}

/// A number behind these characters, outside of the tuples: these stand before it.
fn field<T: std::str::FromStr>(line: &str, begins: &str) -> Option<T> {
    let (_, rest) = line.rsplit_once(begins)?;
    rest.split([',', ')']).next()?.parse().ok()
}

/// The connections of a zone of the kernel's tables.
pub(crate) fn of_kernel(zone: u16) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    Conntrack::open()?.dump(Some(zone), |connection| entries.push(Entry::of_kernel(&connection)))?;
    Ok(entries)
}

/// The connections of a zone of the switch. Without a datapath's type, of its only one.
pub(crate) async fn of_switch(
    config: &Config,
    datapath: Option<&str>,
    zone: u16,
) -> anyhow::Result<Vec<Entry>> {
    let mut control = Control::connect(vswitchd_socket(&rundir(config)).await?).await?;
    // All bridges of one type are in one datapath (ovs-vswitchd(8), "Datapath Commands").
    let datapath = datapath.map(|datapath| format!("{datapath}@ovs-{datapath}"));
    let zone = format!("zone={zone}");
    let parameters: Vec<&str> = datapath.as_deref().into_iter().chain([zone.as_str()]).collect();
    Ok(read(&control.ask_about("dpctl/dump-conntrack", &parameters, LIST_WITHIN).await?))
}

/// All connections of the switch's only datapath, by zone.
pub(crate) async fn of_all_zones(config: &Config) -> anyhow::Result<BTreeMap<u16, Vec<Entry>>> {
    let mut control = Control::connect(vswitchd_socket(&rundir(config)).await?).await?;
    let mut by_zone: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
    for entry in read(&control.ask_about("dpctl/dump-conntrack", &[], LIST_WITHIN).await?) {
        by_zone.entry(entry.zone).or_default().push(entry);
    }
    Ok(by_zone)
}

/// Reads a list of connections.
pub(crate) fn read(text: &str) -> Vec<Entry> {
    text.lines().filter_map(Entry::of_line).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_line_by_line() {
        let text = "\
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=4000),zone=4097,mark=3,protoinfo=(state=ESTABLISHED)
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4001,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=4001),zone=4097,mark=3,protoinfo=(state=TIME_WAIT)
tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=4002,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=4002),zone=4097,protoinfo=(state_orig=SYN_SENT,state_reply=CLOSED)
udp,orig=(src=fe80::1,dst=fe80::2,sport=5,dport=53),reply=(src=fe80::2,dst=fe80::1,sport=53,dport=5),zone=4097
something else
";
        let entries = read(text);
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.tcp_state.as_deref(), entry.mark, entry.zone, entry.is_over()))
            .collect();
        assert_eq!(
            told,
            [
                (Some("ESTABLISHED"), 3, 4097, false),
                (Some("TIME_WAIT"), 3, 4097, true),
                (Some("SYN_SENT"), 0, 4097, false),
                (None, 0, 4097, false),
            ]
        );
        assert_eq!(entries[3].reply.to_string(), "proto=17 src=fe80::2 dst=fe80::1 sport=53 dport=5");
    }
}
