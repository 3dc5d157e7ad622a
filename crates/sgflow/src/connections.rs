//! `sgflow connections`: what a port's conntrack zone holds, and the rule that admits each connection now.

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
use policy::document::protocol_name;
use policy::evaluator::{Datapath, Detail, Evaluator, Settings};
use policy::{Direction, Ethertype, Policy, Port};
use serde_json::{Value, json};

use crate::apply::seconds;
use crate::exit::Exit;
use crate::explain::{find_port, policy_of};
use crate::held::Held;
use crate::options::{SettingsOptions, hybrid_setup};
use crate::tracked::{self, Entry};

/// List the connections of a port, each with the rule that admits it now, or with what keeps the rules from it
///
/// With --proposed, also which of them would be cut if that document were the policy. Nothing is changed.
#[derive(Args, Debug)]
pub(crate) struct ConnectionsCommand {
    /// The port: its id, the beginning of its id, or its interface by Neutron's name (tap…, qvo…)
    port: String,

    /// A policy that is not in force: say which connections it would cut
    #[arg(long, value_name = "PATH")]
    proposed: Option<std::path::PathBuf>,

    #[command(flatten)]
    settings: SettingsOptions,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    timeout: f64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A connection of a port, and what the policy says of its next packet.
pub(crate) struct Listed {
    entry: Entry,
    direction: Direction,
    /// By the policy in force.
    now: Answer,
    /// By the one that is proposed.
    then: Option<Answer>,
}

impl ConnectionsCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let config = self.settings.config()?;
        let (policy, is_complete) = policy_of(&config).await?;
        let port = find_port(&policy, &self.port)?;
        let proposed = match self.proposed {
            Some(path) => Some(policy_of(&Config { policy_path: path, ..config.clone() }).await?.0),
            None => None,
        };
        let within = Duration::from_secs_f64(self.timeout);
        let zone = zone_of(&config, &policy, port, within).await?;
        let entries = match config.firewall_driver {
            FirewallDriver::OpenvSwitch => tracked::of_switch(&config, None, zone).await?,
            _ => tracked::of_kernel(zone)?,
        };
        let judges = Judges::new(&config, &policy, proposed.as_ref());
        let listed: Vec<Listed> =
            entries.into_iter().map(|entry| judges.judge(port, entry)).collect::<Result<_, _>>()?;
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&json_of(port, zone, &listed))?),
            false => print!("{}", text_of(port, zone, &listed, proposed.is_some())),
        }
        Ok(if is_complete { Exit::Done } else { Exit::Refused })
    }
}

/// The conntrack zone of a port that is on this host.
pub(crate) async fn zone_of(
    config: &Config,
    policy: &Policy,
    port: &Port,
    within: Duration,
) -> anyhow::Result<u16> {
    let zone = match config.firewall_driver {
        FirewallDriver::Noop => {
            bail!("firewall_driver {}: there is nothing to look at", config.firewall_driver)
        }
        FirewallDriver::IptablesHybrid | FirewallDriver::Nftables => {
            let zones = in_force(&hybrid_setup(config))?.zones;
            // Neutron names the devices after the first characters of the id.
            let name: String = port.id.as_str().chars().take(11).collect();
            let devices = Devices::of_interface(&format!("qvo{name}"));
            devices.and_then(|devices| zones.get(devices.end()).copied())
        }
        FirewallDriver::OpenvSwitch => {
            let held = Held::read(config, policy, within).await?;
            let local = held.found.ports.iter().find(|local| local.id == port.id);
            local.and_then(|local| held.readable.zone_of(local.ofport))
        }
    };
    zone.with_context(|| {
        format!("port {}: it is not on this host, or closed, or trusted: it has no zone", port.id)
    })
}

/// Policies that a connection is judged by.
pub(crate) struct Judges {
    now: Evaluator,
    then: Option<Evaluator>,
}

impl Judges {
    pub(crate) fn new(config: &Config, policy: &Policy, proposed: Option<&Policy>) -> Self {
        let settings = Settings {
            permitted_ethertypes: config.permitted_ethertypes.clone(),
            datapath: Datapath { tracks_sctp_ports: config.firewall_driver != FirewallDriver::OpenvSwitch },
        };
        Judges {
            now: Evaluator::new(policy, settings.clone()),
            then: proposed.map(|proposed| Evaluator::new(proposed, settings)),
        }
    }

    /// A connection is judged by its first packet (semantics, "Revocation is exact").
    pub(crate) fn judge(&self, port: &Port, entry: Entry) -> anyhow::Result<Listed> {
        let direction =
            if is_ports(port, entry.original.source) { Direction::Egress } else { Direction::Ingress };
        let question = question(port, direction, &entry.original);
        let then = match &self.then {
            // A port that is gone there takes its connections along.
            Some(judge) if judge.policy().ports.contains_key(&port.id) => Some(answer(judge, &question)?),
            Some(_) | None => None,
        };
        Ok(Listed { now: answer(&self.now, &question)?, then, direction, entry })
    }
}

fn is_ports(port: &Port, address: IpAddr) -> bool {
    port.fixed_ips.contains(&address)
        || port.allowed_address_pairs.iter().any(|pair| pair.ip.contains(&address))
}

/// The next packet of a connection, the way of its first.
fn question(port: &Port, direction: Direction, original: &Tuple) -> Question {
    let (own, peer) = match direction {
        Direction::Egress => (original.source, original.destination),
        Direction::Ingress => (original.destination, original.source),
    };
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
        direction,
        peer,
        peer_mac: None,
        own: Some(own),
        own_mac,
        vlan: None,
        content: Content::Ip { protocol: original.protocol, detail, nd_target: None },
        state: PacketState::Established,
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
            "stamped": self.entry.is_admitted(),
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
        let stamped = if self.entry.is_admitted() { "" } else { ", not stamped as admitted" };
        let word = if self.now.accepted { "admitted" } else { "not admitted" };
        write!(f, "\n    {}: {word}{stamped}: {}", self.direction, self.now.why)?;
        if let Some(then) = self.then.as_ref().filter(|_| self.now.accepted) {
            let word = if then.accepted { "goes on" } else { "WOULD BE CUT" };
            write!(f, "\n    then {word}: {}", then.why)?;
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
