//! `sgflow diff`: what a policy would change if it were put in force now.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use agent::apply::look;
use agent::audit::{joints, judging};
use agent::config::{Config, FirewallDriver};
use agent::driver::{Driver as _, Hybrid};
use agent::engine::FlowChange;
use anyhow::bail;
use clap::Args;
use pipeline::is_ours;
use policy::{Direction, Policy, PortId};
use rust_openflow::{Flow, FlowKey};
use serde_json::{Value, json};
use verify::Tables;
use verify::symbolic::{Difference, Fault, State, changes, differences};

use crate::apply::seconds;
use crate::connections::{Judges, Listed, Seen, zone_in};
use crate::exit::Exit;
use crate::explain::policy_of;
use crate::held::{Held, enforceable};
use crate::options::{SettingsOptions, hybrid_setup};
use crate::text::{folded, printable};
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
    /// Print every flow or rule that would change
    #[arg(long)]
    flows: bool,

    /// Seconds to wait for the database, the bridge and the switch
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    timeout: f64,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    settings: SettingsOptions,
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
    /// Ports that would be closed with what they have: the policy does not know them.
    closed: Vec<(PortId, usize)>,
    /// Why there is no proof about packets.
    unproven: Option<String>,
    /// Why connections could not be listed.
    unlisted: Option<String>,
    /// Whether the datapath can have all of the policy.
    is_whole: bool,
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
        let is_given = self.settings.policy_given().is_some();
        let config = self.settings.config()?;
        let (policy, is_complete) = policy_of(&config, is_given).await?;
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
        Ok(match (diff.is_empty(), diff.is_whole) {
            (false, _) => Exit::Differs,
            (true, is_whole) if is_whole && is_complete => Exit::Done,
            (true, _) => Exit::Refused,
        })
    }
}

async fn of_switch(config: &Config, policy: &Policy, within: Duration) -> anyhow::Result<Diff> {
    let held = Held::read(config, policy, within).await?;
    let mut diff = Diff {
        lines: held.found.drift.iter().map(line_of).collect(),
        is_whole: held.is_complete,
        ..Diff::default()
    };
    match reach(config, &held) {
        Ok(reach) => diff.reach = reach,
        Err(reason) => diff.unproven = Some(format!("{reason:#}")),
    }
    let local = held.found.ports.clone();
    let enforced = held.policy.clone();
    if held.readable.is_neutrons() {
        diff.unlisted =
            Some("they are in the zones of Neutron's own driver: sgflow connections PORT".to_owned());
        return Ok(diff);
    }
    match tracked::of_all_zones(config).await {
        Ok(mut by_zone) => {
            let zones: Vec<_> = local.iter().map(|port| held.readable.zone_of(port.ofport)).collect();
            let seen = Seen::Switch(Box::new(held));
            let judges = Judges::new(config, &enforced, None, &seen);
            for (port, zone) in local.iter().zip(zones) {
                let entries = zone.and_then(|zone| by_zone.remove(&zone)).unwrap_or_default();
                diff.add_cut(&judges, &seen, &enforced, &port.id, entries)?;
            }
        }
        Err(reason) => diff.unlisted = Some(format!("{reason:#}")),
    }
    Ok(diff)
}

/// How packets would be treated otherwise than now. What flows of others do is left out where it would stay so.
fn reach(config: &Config, held: &Held) -> anyhow::Result<Vec<Reach>> {
    if held.readable.is_neutrons() {
        bail!("Neutron's own driver filters on {}, and sgflow does not yet", config.integration_bridge);
    }
    // Whatever others do with frames now, nobody here can say.
    if !held.found.held.iter().any(|flow| is_ours(flow.cookie)) && !held.found.held.is_empty() {
        bail!("flows of others are on {}, and none of sgflow's yet", config.integration_bridge);
    }
    let (joints, ethertypes) = (joints(held.found.hook), &config.permitted_ethertypes);
    let (policy, ports) = (&held.policy, held.found.ports.as_slice());
    let of = |flows: BTreeMap<FlowKey, Flow>| {
        let tables = Tables::new(flows.into_values().map(Flow::canonical));
        tables.map_err(|refused| anyhow::anyhow!("{refused}"))
    };
    let judging = judging(&held.found.held, held.found.hook);
    let mut then: BTreeMap<FlowKey, Flow> = judging.into_iter().map(|flow| (flow.key(), flow)).collect();
    let now = reach_of(changes(&of(then.clone())?, joints, policy, ethertypes, ports)?);
    if now.is_empty() {
        return Ok(now);
    }
    for change in held.found.drift.iter() {
        match change.new_value() {
            Some(body) => _ = then.insert(change.key().clone(), agent::engine::join(change.key(), body)),
            None => _ = then.remove(change.key()),
        }
    }
    let stays = reach_of(differences(&of(then)?, joints, policy, ethertypes, ports)?);
    let is_same = |one: &Reach, other: &Reach| {
        (&one.port, one.direction, one.opens) == (&other.port, other.direction, other.opens)
    };
    Ok(now.into_iter().filter(|one| !stays.iter().any(|other| is_same(one, other))).collect())
}

async fn of_kernel(config: &Config, policy: &Policy, within: Duration) -> anyhow::Result<Diff> {
    let has_nftables = config.firewall_driver == FirewallDriver::Nftables;
    let mut driver = Hybrid::looking(hybrid_setup(config), has_nftables)?;
    let applied = look(&mut driver, Policy::diff(&Policy::default(), policy), within).await?;
    let (enforced, is_whole) = enforceable(policy, &applied.refused);
    let unproven = Some("packets are proved for flows of Open vSwitch only".to_owned());
    let mut diff = Diff { lines: driver.planned(), unproven, is_whole, ..Diff::default() };
    let seen = Seen::kernel(config)?;
    let judges = Judges::new(config, &enforced, None, &seen);
    let Seen::Kernel(zones) = &seen else { return Ok(diff) };
    for port in driver.plugged().unwrap_or_default() {
        if let Some(zone) = zone_in(zones, &port) {
            diff.add_cut(&judges, &seen, &enforced, &port, tracked::of_kernel(zone)?)?;
        }
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
        self.lines.is_empty() && self.reach.is_empty() && self.cut.is_empty() && self.closed.is_empty()
    }

    /// Connections that the firewall lets go on and that the policy does not admit.
    fn add_cut(
        &mut self,
        judges: &Judges<'_>,
        seen: &Seen,
        policy: &Policy,
        id: &PortId,
        entries: Vec<tracked::Entry>,
    ) -> anyhow::Result<()> {
        let lives = |entry: &tracked::Entry| seen.is_admitted(entry.mark) && !entry.is_over();
        let entries: Vec<_> = entries.into_iter().filter(lives).collect();
        let Some(port) = policy.ports.get(id) else {
            if !entries.is_empty() {
                self.closed.push((id.clone(), entries.len()));
            }
            return Ok(());
        };
        for entry in entries {
            let listed = judges.judge(port, entry)?;
            if !listed.is_admitted() {
                self.cut.push((id.clone(), listed));
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
            self.lines.iter().for_each(|line| _ = writeln!(text, "  {}", printable(line)));
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
        let of_closed: usize = self.closed.iter().map(|(_, count)| count).sum();
        match &self.unlisted {
            Some(reason) => _ = writeln!(text, "connections: not listed: {reason}"),
            None => _ = writeln!(text, "connections that would be cut: {}", self.cut.len() + of_closed),
        }
        for (port, count) in &self.closed {
            _ = writeln!(
                text,
                "  {port}: all {count} of them: the policy does not know the port, and it is closed"
            );
        }
        for (port, listed) in &self.cut {
            text += &folded(&format!("  {port}: {listed}\n"));
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
            "closed": self.closed.iter().map(|(port, count)| json!({"port": port.to_string(), "connections": count})).collect::<Vec<_>>(),
            "unlisted": self.unlisted,
        })
    }
}
