//! `sgflow diff`: what a policy would change if it were put in force now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use agent::audit::joints;
use agent::config::{Config, FirewallDriver};
use agent::driver::{Hybrid, in_force};
use agent::engine::FlowChange;
use anyhow::bail;
use clap::Args;
use hybrid::Devices;
use policy::{Direction, Policy, Port, PortId};
use serde_json::{Value, json};
use verify::symbolic::{Difference, Fault, State, differences};

use crate::apply::{converge, seconds};
use crate::connections::{Judges, Listed};
use crate::exit::Exit;
use crate::explain::policy_of;
use crate::held::Held;
use crate::options::{SettingsOptions, hybrid_setup};
use crate::tracked;

/// Say what a policy would change if it were put in force now: flows, which packets would pass or stop passing, connections cut
///
/// What is compared is what the switch holds, not another document: --policy is the new one. For each port and direction for which
/// packets would be treated otherwise, one such packet is shown; that no other port is named is a proof that there is none. Nothing
/// is changed.
///
/// Exit codes: 0 nothing would change; 1 nothing could be compared; 2 as 0, but something of the document was refused; 4
/// something would change.
#[derive(Args, Debug)]
pub(crate) struct DiffCommand {
    #[command(flatten)]
    settings: SettingsOptions,

    /// Print every flow or rule that would change
    #[arg(long)]
    flows: bool,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    timeout: f64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What would change.
#[derive(Default)]
struct Diff {
    /// Lines for flows or rules: a sign, and what it is.
    lines: Vec<String>,
    /// Packets that would pass, or would not any more, one for each port and direction.
    reach: Vec<Reach>,
    /// Connections that live and would be cut, by port.
    cut: Vec<(PortId, Listed)>,
    /// Why there is no proof about packets.
    unproven: Option<String>,
}

/// What would become of packets of a port.
struct Reach {
    port: PortId,
    direction: Direction,
    opens: bool,
    example: String,
    rules: Vec<String>,
}

impl DiffCommand {
    pub(crate) async fn run(self) -> anyhow::Result<Exit> {
        let config = self.settings.config()?;
        let (policy, is_complete) = policy_of(&config).await?;
        let within = Duration::from_secs_f64(self.timeout);
        let diff = match config.firewall_driver {
            FirewallDriver::Noop => {
                bail!("firewall_driver {}: there is nothing to compare", config.firewall_driver)
            }
            FirewallDriver::OpenvSwitch => of_switch(&config, &policy, within).await?,
            FirewallDriver::IptablesHybrid | FirewallDriver::Nftables => {
                of_kernel(&config, &policy, within).await?
            }
        };
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(&diff.json())?),
            false => print!("{}", diff.text(self.flows)),
        }
        Ok(match (diff.is_empty(), is_complete) {
            (false, _) => Exit::Differs,
            (true, false) => Exit::Refused,
            (true, true) => Exit::Done,
        })
    }
}

async fn of_switch(config: &Config, policy: &Policy, within: Duration) -> anyhow::Result<Diff> {
    let held = Held::read(config, policy, within).await?;
    let mut diff = Diff { lines: held.found.drift.iter().map(line_of).collect(), ..Diff::default() };
    let ports = &held.found.ports;
    let joints = joints(held.found.hook);
    match differences(&held.tables, joints, policy, &config.permitted_ethertypes, ports) {
        Ok(found) => diff.reach = reach_of(found),
        Err(reason) => diff.unproven = Some(reason.to_string()),
    }
    let judges = Judges::new(config, policy, None);
    for local in ports {
        let (Some(port), Some(zone)) = (policy.ports.get(&local.id), held.readable.zone_of(local.ofport))
        else {
            continue;
        };
        let entries = tracked::of_switch(config, None, zone).await?;
        diff.add_cut(&judges, port, entries)?;
    }
    Ok(diff)
}

async fn of_kernel(config: &Config, policy: &Policy, within: Duration) -> anyhow::Result<Diff> {
    let has_nftables = config.firewall_driver == FirewallDriver::Nftables;
    let mut driver = Hybrid::looking(hybrid_setup(config), has_nftables)?;
    converge(&mut driver, Policy::diff(&Policy::default(), policy), within).await?;
    let unproven = Some("packets are proved for flows of Open vSwitch only".to_owned());
    let mut diff = Diff { lines: driver.planned(), unproven, ..Diff::default() };
    let judges = Judges::new(config, policy, None);
    let zones = in_force(&hybrid_setup(config))?.zones;
    for port in policy.ports.values() {
        let name: String = port.id.as_str().chars().take(11).collect();
        let devices = Devices::of_interface(&format!("qvo{name}"));
        let Some(zone) = devices.and_then(|devices| zones.get(devices.end()).copied()) else { continue };
        diff.add_cut(&judges, port, tracked::of_kernel(zone)?)?;
    }
    Ok(diff)
}

fn line_of(change: &FlowChange) -> String {
    let key = change.key();
    match change.new_value() {
        Some(body) => {
            let sign = if change.old_value().is_some() { '~' } else { '+' };
            format!("{sign} {}", agent::engine::join(key, body))
        }
        None => format!("- table={}, priority={},{}", key.table, key.priority, key.matches),
    }
}

/// One packet for each port, direction and kind of change; a connection's first before others.
fn reach_of(differences: Vec<Difference>) -> Vec<Reach> {
    let mut by_port: BTreeMap<(PortId, Direction, bool), Difference> = BTreeMap::new();
    for difference in differences {
        // What the switch lets pass and the policy does not is what would end.
        let opens = match difference.fault {
            Fault::Closes => true,
            Fault::Opens => false,
            Fault::Stamps => continue,
        };
        let key = (difference.port.clone(), difference.direction, opens);
        let is_better = |known: &Difference| known.state != State::New && difference.state == State::New;
        if by_port.get(&key).is_none_or(is_better) {
            by_port.insert(key, difference);
        }
    }
    let reach = |((port, direction, opens), difference): (_, Difference)| Reach {
        port,
        direction,
        opens,
        example: format!("{:?}: {}", difference.state, difference.packet),
        rules: difference.rules.iter().map(ToString::to_string).collect(),
    };
    by_port.into_iter().map(reach).collect()
}

/// A packet without what the tracker says of it, and the port that stands for any.
fn in_short(example: &str) -> String {
    let (state, packet) = example.split_once(": ").unwrap_or(("", example));
    let own = packet.split(',').filter(|term| !term.starts_with("ct_") && !term.starts_with("in_port="));
    format!("{state}: {}", own.collect::<Vec<_>>().join(","))
}

impl Diff {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.reach.is_empty()
    }

    /// Connections that the firewall has noted as admitted and that the policy does not admit.
    fn add_cut(&mut self, judges: &Judges, port: &Port, entries: Vec<tracked::Entry>) -> anyhow::Result<()> {
        for entry in entries.into_iter().filter(|entry| entry.is_admitted() && !entry.is_over()) {
            let listed = judges.judge(port, entry)?;
            if !listed.is_admitted() {
                self.cut.push((port.id.clone(), listed));
            }
        }
        Ok(())
    }

    fn text(&self, with_flows: bool) -> String {
        if self.is_empty() {
            return "nothing would change\n".to_owned();
        }
        let count = |sign: char| self.lines.iter().filter(|line| line.starts_with(sign)).count();
        let mut text = match ['+', '~', '-'].map(count) {
            [0, 0, 0] => format!("{} changes\n", self.lines.len()),
            [added, modified, deleted] => {
                format!("flows: {added} added, {modified} modified, {deleted} deleted\n")
            }
        };
        if with_flows {
            self.lines.iter().for_each(|line| _ = writeln!(text, "  {line}"));
        }
        match &self.unproven {
            Some(reason) => _ = writeln!(text, "packets: not compared: {reason}"),
            None if self.reach.is_empty() => text += "packets: none would be treated otherwise\n",
            None => text += "packets that would be treated otherwise, one for each port and direction:\n",
        }
        for Reach { port, direction, opens, example, rules } in &self.reach {
            let word = if *opens { "+ passes" } else { "- dropped" };
            let rules =
                if rules.is_empty() { String::new() } else { format!(" (rule {})", rules.join(", ")) };
            _ = writeln!(text, "  {word}: {port} {direction}{rules}\n      {}", in_short(example));
        }
        _ = writeln!(text, "connections that would be cut: {}", self.cut.len());
        for (port, listed) in &self.cut {
            _ = writeln!(text, "  {port}: {listed}");
        }
        text
    }

    fn json(&self) -> Value {
        let reach = self.reach.iter().map(|Reach { port, direction, opens, example, rules }| {
            json!({
                "port": port.to_string(),
                "direction": direction.to_string(),
                "would": if *opens { "pass" } else { "drop" },
                "example": example,
                "rules": rules,
            })
        });
        let cut = self.cut.iter().map(|(port, listed)| {
            let mut value = listed.json();
            value["port"] = Value::from(port.to_string());
            value
        });
        json!({
            "changes": self.lines,
            "packets": reach.collect::<Vec<_>>(),
            "unproven": self.unproven,
            "cut": cut.collect::<Vec<_>>(),
        })
    }
}
