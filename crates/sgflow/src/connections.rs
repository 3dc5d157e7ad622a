//! `sgflow connections`: what a port's conntrack zone holds, and the rule that admits each connection now.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent::config::{Config, FirewallDriver};
use agent::driver::in_force;
use anyhow::{Context as _, bail};
use clap::Args;
use conntrack::{Ends, Tuple};
use explain::answer::{Answer, answer};
use explain::question::{Content, PacketState, Question};
use hybrid::Devices;
use hybrid::mark::{BEGUN_BY_PORT, REVOKED};
use policy::document::protocol_name;
use policy::evaluator::{Detail, Evaluator};
use policy::{Direction, Ethertype, Policy, Port, PortId, PortProtocol};
use serde_json::{Value, json};

use crate::apply::seconds;
use crate::exit::Exit;
use crate::explain::{Host, ID_IN_NAME, judged_by, policy_after, policy_of};
use crate::held::Held;
use crate::options::{SettingsOptions, hybrid_setup};
use crate::text::{folded, printable};
use crate::tracked::{self, Entry};

/// List the connections of a port, each with the rule that admits it now, or with what keeps the rules from it
///
/// With --proposed, also which of them would be cut if that document were the policy. Nothing is changed.
#[derive(Args, Debug)]
pub(crate) struct ConnectionsCommand {
    /// The port: its id, the beginning of its id (four characters or more), or the name of its interface
    port: String,

    /// A policy that is not in force: say which connections it would cut
    #[arg(long, value_name = "PATH")]
    proposed: Option<std::path::PathBuf>,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
}

/// A connection of a port, and what the policy says of its next packet.
pub(crate) struct Listed {
    entry: Entry,
    direction: Direction,
    /// Whether the firewall has noted that it admits it.
    is_stamped: bool,
    /// By the policy in force.
    now: Answer,
    /// By the one that is proposed.
    then: Option<Answer>,
}

impl ConnectionsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let is_given = self.settings.policy_given().is_some();
        let config = self.settings.config()?;
        let (policy, is_read) = policy_of(&config, is_given).await?;
        let within = Duration::from_secs_f64(self.timeout);
        let id = Host { config: &config, within }.port_called(&policy, &self.port).await?;
        let port = policy.ports.get(&id).context("the policy has what it was asked for")?;
        let (proposed, is_proposed_whole) = match &self.proposed {
            Some(path) => policy_after(&policy, path).map(|(policy, is_whole)| (Some(policy), is_whole))?,
            None => (None, true),
        };
        let seen = Seen::of(&config, &policy, within).await?;
        let zone = seen.zone_of(port)?;
        let entries = match seen {
            Seen::Switch(ref held) => {
                let mut entries = tracked::of_switch(&config, None, zone).await?;
                // One zone for a network.
                if held.readable.is_neutrons() {
                    let ends = |entry: &Entry| [entry.original.source, entry.original.destination];
                    entries.retain(|entry| ends(entry).into_iter().any(|address| has_address(port, address)));
                }
                entries
            }
            Seen::Kernel(_) => tracked::of_kernel(zone)?,
        };
        let is_complete = is_read && is_proposed_whole && seen.held().is_none_or(|held| held.is_complete);
        let enforced = seen.held().map_or(&policy, |held| &held.policy);
        let judges = Judges::new(&config, enforced, proposed.as_ref(), &seen);
        let listed: Vec<Listed> =
            entries.into_iter().map(|entry| judges.judge(port, entry)).collect::<Result<_, _>>()?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&json_of(port, zone, &listed))?),
            false => {
                let mut text = text_of(port, zone, &listed, proposed.is_some());
                if seen.held().is_some_and(|held| held.readable.is_neutrons()) {
                    text += "Neutron's own driver filters here; the zone is that of the network\n";
                }
                print!("{}", folded(&text));
            }
        }
        Ok(if is_complete { Exit::Done } else { Exit::Refused })
    }
}

/// What Neutron's own driver writes on connections that no rule admits any more (openvswitch_firewall/constants.py: `CT_MARK_INVALID`).
const REVOKED_BY_NEUTRON: u32 = 1;

/// What enforces the policy here, as far as connections depend on it.
pub(crate) enum Seen {
    /// The bridge.
    Switch(Box<Held>),
    /// Zones by what the names of a port's devices end in.
    Kernel(BTreeMap<String, u16>),
}

impl Seen {
    async fn of(config: &Config, policy: &Policy, within: Duration) -> anyhow::Result<Self> {
        match config.firewall_driver {
            FirewallDriver::Noop => {
                bail!("firewall_driver {}: there is nothing to look at", config.firewall_driver)
            }
            FirewallDriver::IptablesHybrid | FirewallDriver::Nftables => Self::kernel(config),
            FirewallDriver::OpenvSwitch => {
                Ok(Seen::Switch(Box::new(Held::read(config, policy, within).await?)))
            }
        }
    }

    pub(crate) fn kernel(config: &Config) -> anyhow::Result<Self> {
        Ok(Seen::Kernel(in_force(&hybrid_setup(config))?.zones))
    }

    fn held(&self) -> Option<&Held> {
        match self {
            Seen::Switch(held) => Some(held),
            Seen::Kernel(_) => None,
        }
    }

    /// The conntrack zone of a port that is on this host.
    fn zone_of(&self, port: &Port) -> anyhow::Result<u16> {
        let zone = match self {
            Seen::Switch(held) => {
                let local = held.found.ports.iter().find(|local| local.id == port.id);
                match held.readable.is_neutrons() {
                    // `reg6`, the network's VLAN on this bridge.
                    true => local.map(|local| local.vlan),
                    false => local.and_then(|local| held.readable.zone_of(local.ofport)),
                }
            }
            Seen::Kernel(zones) => zone_in(zones, &port.id),
        };
        let none =
            || format!("port {}: it is not on this host, or closed, or trusted: it has no zone", port.id);
        zone.with_context(none)
    }

    /// The way of a connection's first packet, by what the firewall has noted on it.
    fn direction_of(&self, mark: u32) -> Option<Direction> {
        match self {
            Seen::Switch(held) => held.readable.direction_of(mark),
            Seen::Kernel(_) if mark & BEGUN_BY_PORT != 0 => Some(Direction::Egress),
            Seen::Kernel(_) => Some(Direction::Ingress),
        }
    }

    /// Whether the firewall lets a connection with this mark go on as it is.
    pub(crate) fn is_admitted(&self, mark: u32) -> bool {
        match self {
            Seen::Switch(held) if held.readable.is_neutrons() => mark != REVOKED_BY_NEUTRON,
            Seen::Switch(held) => held.readable.is_in_force(mark),
            Seen::Kernel(_) => mark & REVOKED == 0,
        }
    }
}

/// The zone of a port under the drivers for hybrid bridges: Neutron names the devices after the first characters of the id.
pub(crate) fn zone_in(zones: &BTreeMap<String, u16>, port: &PortId) -> Option<u16> {
    let name: String = port.as_str().chars().take(ID_IN_NAME).collect();
    let devices = Devices::of_interface(&format!("qvo{name}"))?;
    zones.get(devices.end()).copied()
}

/// Policies that a connection is judged by.
pub(crate) struct Judges<'a> {
    now: Evaluator,
    then: Option<Evaluator>,
    seen: &'a Seen,
}

impl<'a> Judges<'a> {
    pub(crate) fn new(config: &Config, policy: &Policy, proposed: Option<&Policy>, seen: &'a Seen) -> Self {
        Judges {
            now: Evaluator::new(policy, judged_by(config)),
            then: proposed.map(|proposed| Evaluator::new(proposed, judged_by(config))),
            seen,
        }
    }

    /// A connection is judged by its first packet (semantics, "Revocation is exact").
    pub(crate) fn judge(&self, port: &Port, entry: Entry) -> anyhow::Result<Listed> {
        let by_address =
            || if has_address(port, entry.original.source) { Direction::Egress } else { Direction::Ingress };
        let direction = self.seen.direction_of(entry.mark).unwrap_or_else(by_address);
        let question = question(port, direction, &entry.original);
        let now = answer(&self.now, &question)?;
        let then = match &self.then {
            Some(judge) if judge.policy().ports.contains_key(&port.id) => Some(answer(judge, &question)?),
            Some(_) => Some(now.of_unknown_port()),
            None => None,
        };
        let is_stamped = self.seen.is_admitted(entry.mark);
        Ok(Listed { now, then, direction, is_stamped, entry })
    }
}

/// Whether the port may use the address: "(mac_address, each fixed IP), each allowed address pair, and for IPv6 also each MAC's EUI-64
/// link-local address" (semantics, "egress").
fn has_address(port: &Port, address: IpAddr) -> bool {
    let macs = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac).chain([port.mac]);
    port.fixed_ips.contains(&address)
        || port.allowed_address_pairs.iter().any(|pair| pair.ip.contains(&address))
        || macs.map(|mac| IpAddr::V6(mac.link_local())).any(|own| own == address)
}

/// The next packet of a connection, the way of its first.
fn question(port: &Port, direction: Direction, original: &Tuple) -> Question {
    let (own, peer) = match direction {
        Direction::Egress => (original.source, original.destination),
        Direction::Ingress => (original.destination, original.source),
    };
    // Tracked without ports: whoever asks by an error about the connection asks for the connection alone.
    let is_without_ports = original.protocol == PortProtocol::Sctp.number()
        && original.ends == (Ends::Ports { source: 0, destination: 0 });
    let detail = match original.ends {
        Ends::Ports { source, destination } => Detail::Ports { src: source, dst: destination },
        Ends::Icmp { icmp_type, code, .. } => Detail::Icmp { icmp_type, code },
        Ends::Addresses => Detail::None,
    };
    let with_own = |pair: &&policy::AddressPair| pair.ip.contains(&own);
    let pair_mac = port.allowed_address_pairs.iter().find(with_own).and_then(|pair| pair.mac);
    let own_mac = pair_mac.filter(|_| !port.fixed_ips.contains(&own));
    Question {
        port: port.id.clone(),
        direction: if is_without_ports { direction.opposite() } else { direction },
        peer,
        peer_mac: None,
        own: Some(own),
        own_mac,
        vlan: None,
        content: Content::Ip { protocol: original.protocol, detail, nd_target: None },
        state: if is_without_ports { PacketState::Related } else { PacketState::Established },
    }
}

impl Listed {
    /// Whether the policy admits it.
    pub(crate) fn is_admitted(&self) -> bool {
        self.now.accepted
    }

    /// Whether a change would cut it that lives now.
    pub(crate) fn is_cut(&self) -> bool {
        self.now.accepted && self.then.as_ref().is_some_and(|then| !then.accepted)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "direction": self.direction.to_string(),
            "protocol": self.entry.original.protocol,
            "source": end_text(self.entry.original.source, self.entry.original.ends, true),
            "destination": end_text(self.entry.original.destination, self.entry.original.ends, false),
            "tcp_state": self.entry.tcp_state,
            "stamped": self.is_stamped,
            "admitted": self.now.accepted,
            "rules": self.now.rules,
            "why": self.now.why,
            "would_be_cut": self.then.as_ref().map(|_| self.is_cut()),
            "would_why": self.then.as_ref().map(|then| then.why.clone()),
        })
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry { original, tcp_state, .. } = &self.entry;
        let ethertype = if original.source.is_ipv4() { Ethertype::Ipv4 } else { Ethertype::Ipv6 };
        write!(
            f,
            "{} {} -> {}",
            protocol_name(original.protocol, ethertype),
            end_text(original.source, original.ends, true),
            end_text(original.destination, original.ends, false)
        )?;
        if let Some(state) = tcp_state {
            write!(f, " {state}")?;
        }
        let stamped = if self.is_stamped { "" } else { ", not stamped as admitted" };
        let word = if self.now.accepted { "admitted" } else { "not admitted" };
        write!(f, "\n    {}: {word}{stamped}: {}", self.direction, printable(&self.now.why))?;
        if let Some(then) = self.then.as_ref().filter(|_| self.now.accepted) {
            let word = if then.accepted { "goes on" } else { "WOULD BE CUT" };
            write!(f, "\n    then {word}: {}", printable(&then.why))?;
        }
        Ok(())
    }
}

fn end_text(address: IpAddr, ends: Ends, is_source: bool) -> String {
    match (ends, is_source) {
        (Ends::Ports { source, .. }, true) => SocketAddr::new(address, source).to_string(),
        (Ends::Ports { destination, .. }, false) => SocketAddr::new(address, destination).to_string(),
        (Ends::Icmp { .. } | Ends::Addresses, _) => address.to_string(),
    }
}

fn text_of(port: &Port, zone: u16, listed: &[Listed], is_compared: bool) -> String {
    let mut text = format!("{}: {} connections in zone {zone}", port.id, listed.len());
    if is_compared {
        text += &format!(", {} would be cut", listed.iter().filter(|listed| listed.is_cut()).count());
    }
    text.push('\n');
    for listed in listed {
        text += &format!("  {listed}\n");
    }
    text
}

fn json_of(port: &Port, zone: u16, listed: &[Listed]) -> Value {
    json!({
        "port": port.id.to_string(),
        "zone": zone,
        "connections": listed.iter().map(Listed::json).collect::<Vec<_>>(),
    })
}
