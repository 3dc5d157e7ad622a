//! The moves.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::config::Config;
use agent::driver::{converge_once, remove_all};
use anyhow::Context as _;
use hybrid::mark::REVOKED;
use policy::{Policy, PortId};

use super::connections::{Outlook, alive, kernel_goes_loose, outlook};
use super::database;
use super::links;
use super::lock::Lock;
use super::survey::{Found, Place, Survey};
use super::switch::{Enforcer, Late, Switch, enforcer};
use super::told::Told;
use crate::exit::Exit;
use crate::options::hybrid_setup;
use crate::tracked::{of_kernel, of_switch};

/// So many connections are listed one by one.
const LISTED: usize = 20;

/// What is to be done.
pub(super) struct Migration<'a> {
    pub(super) config: &'a Config,
    pub(super) policy: &'a Arc<Policy>,
    /// Only these; all if there are none.
    pub(super) ports: BTreeSet<PortId>,
    pub(super) back: bool,
    /// Connections may stand still.
    pub(super) yes: bool,
    pub(super) timeout: Duration,
    pub(super) told: Told,
}

/// A port to be moved, or finished.
struct Task {
    found: Found,
    is_refused: bool,
}

impl Migration<'_> {
    /// Says what [`Migration::run`] would do.
    pub(super) async fn check(&self, apply: bool) -> anyhow::Result<Exit> {
        let survey = Survey::take(self.config).await?;
        let mut is_good = true;
        let mut obstacles = survey.obstacles_for_all(self.config);
        match enforcer(self.config, apply).await {
            Err(error) => obstacles.push(error.to_string()),
            // What is not enforced yet is what --apply does first.
            Ok(Enforcer::Ourselves) => {}
            Ok(enforcer @ Enforcer::Agent) => {
                let settled = self.switch(enforcer).settle().await;
                obstacles.extend(settled.err().map(|error| error.to_string()));
            }
        }
        for obstacle in &obstacles {
            self.told.host("refused", obstacle);
        }
        let tasks = self.tasks(&survey).await?;
        for task in &tasks {
            is_good &= !task.is_refused;
            if !task.is_refused {
                let text = match task.found.place == self.target() {
                    true => "to be finished",
                    false => "can be moved",
                };
                self.told.port(&task.found.port, "check", text);
            }
        }
        self.tell_leftovers(&survey);
        if tasks.is_empty() {
            self.told.host("check", "no port is to be moved");
        }
        Ok(if is_good && obstacles.is_empty() { Exit::Done } else { Exit::Refused })
    }

    /// Moves.
    pub(super) async fn run(&self, apply: bool) -> anyhow::Result<Exit> {
        let switch = self.switch(enforcer(self.config, apply).await?);
        let _lock = Lock::take(self.config).await?;
        let survey = Survey::take(self.config).await?;
        let obstacles = survey.obstacles_for_all(self.config);
        if !obstacles.is_empty() {
            anyhow::bail!(obstacles.join("\n"));
        }
        // What a move broke off in the middle has left closed is no fault of the flows.
        switch.settle().await?;
        let tasks = self.tasks(&survey).await?;
        let (refused, tasks): (Vec<Task>, Vec<Task>) = tasks.into_iter().partition(|task| task.is_refused);
        if self.back {
            self.prepare(&survey, &tasks, &switch)?;
        }
        let mut failure = None;
        for Task { found, .. } in &tasks {
            if let Err(error) = self.move_port(found, &switch).await {
                self.told.port(&found.port, "failed", &format!("{error:#}"));
                failure = Some(if error.is::<Late>() { Exit::TimedOut } else { Exit::Failed });
                break;
            }
        }
        self.clean(&switch, !tasks.is_empty()).await?;
        if let Some(exit) = failure {
            return Ok(exit);
        }
        if !tasks.is_empty() && !switch.is_exact().await? {
            self.told.host("failed", "the switch is not the policy: see sgflow verify");
            return Ok(Exit::Differs);
        }
        if tasks.is_empty() && refused.is_empty() {
            self.told.host("done", "no port was to be moved");
        }
        Ok(if refused.is_empty() { Exit::Done } else { Exit::Refused })
    }

    fn switch(&self, enforcer: Enforcer) -> Switch<'_> {
        Switch { config: self.config, policy: self.policy, enforcer, timeout: self.timeout }
    }

    fn target(&self) -> Place {
        if self.back { Place::Hybrid } else { Place::Switch }
    }

    /// Ports that are not as they shall be, with what stands in the way said.
    async fn tasks(&self, survey: &Survey) -> anyhow::Result<Vec<Task>> {
        let mut tasks = Vec::new();
        for port in &self.ports {
            if !survey.ports.iter().any(|found| found.port == *port) {
                let text = format!(
                    "no interface of {} is this port's and called qvo… or tap…",
                    self.config.integration_bridge
                );
                anyhow::bail!("port {port}: {text}");
            }
        }
        for found in &survey.ports {
            let is_meant = match self.ports.is_empty() {
                true => survey.was_hybrid(found) || !self.back && survey.has_leftovers(found),
                false => self.ports.contains(&found.port),
            };
            let is_there = found.place == self.target()
                && !(survey.was_hybrid(found) && survey.is_astray(found))
                && (self.back || !survey.has_leftovers(found));
            if !is_meant || is_there {
                continue;
            }
            let obstacles = survey.obstacles(found, self.policy, self.back);
            for obstacle in &obstacles {
                self.told.port(&found.port, "refused", obstacle);
            }
            let mut is_refused = !obstacles.is_empty();
            if !is_refused && found.place != self.target() {
                let outlook = self.outlook(survey, found).await?;
                self.tell_outlook(&found.port, &outlook);
                if !outlook.stall.is_empty() && !self.yes {
                    self.told.port(
                        &found.port,
                        "refused",
                        "give --yes to move it although connections may stand still",
                    );
                    is_refused = true;
                }
            }
            tasks.push(Task { found: found.clone(), is_refused });
        }
        Ok(tasks)
    }

    /// What becomes of connections that the other side does not know.
    async fn outlook(&self, survey: &Survey, found: &Found) -> anyhow::Result<Outlook> {
        let Some(port) = self.policy.ports.get(&found.port).filter(|port| !port.is_trusted()) else {
            return Ok(Outlook::default());
        };
        let devices = &found.devices;
        let by = if found.place == Place::Switch { devices.tap() } else { devices.outer() };
        let zone = survey.plugged(&by).and_then(|plugged| plugged.zone);
        let at_switch = match zone {
            Some(zone) => {
                alive(of_switch(self.config, Some(&survey.bridge.datapath), zone).await?, |mark| mark != 0)
            }
            None => BTreeSet::new(),
        };
        let (unknown, goes_loose) = match self.back {
            // The zone behind the bridge is a new one.
            true => (at_switch, kernel_goes_loose()?),
            false => {
                let zone = survey.in_force.zones.get(devices.end());
                let at_bridge =
                    alive(zone.map(|zone| of_kernel(*zone)).transpose()?.unwrap_or_default(), |mark| {
                        mark & REVOKED == 0
                    });
                (at_bridge.difference(&at_switch).copied().collect(), true)
            }
        };
        Ok(outlook(self.policy, port, devices, unknown, goes_loose))
    }

    fn tell_outlook(&self, port: &PortId, outlook: &Outlook) {
        let Outlook { go_on, stall } = outlook;
        if *go_on + stall.len() > 0 {
            let text = format!(
                "{} are not known at the other side and begin anew there: {go_on} go on whoever speaks, {} may stand still",
                go_on + stall.len(),
                stall.len()
            );
            self.told.port(port, "connections", &text);
        }
        for stall in stall.iter().take(LISTED) {
            self.told.port(port, "stall", &stall.to_string());
        }
        if stall.len() > LISTED {
            self.told.port(port, "stall", &format!("and {} more", stall.len() - LISTED));
        }
    }

    fn tell_leftovers(&self, survey: &Survey) {
        for found in survey.ports.iter().filter(|found| found.place == Place::Switch) {
            if survey.has_leftovers(found) {
                let text = format!("bridge, pair or rules of tap{}", found.devices.end());
                self.told.port(&found.port, "left-over", &text);
            }
        }
        for devices in survey.strays() {
            self.told.host("left-over", &format!("bridge or pair of {devices}, which is gone"));
        }
        let of_ports: BTreeSet<&str> = survey.ports.iter().map(|found| found.devices.end()).collect();
        for end in survey.in_force.zones.keys().filter(|end| !of_ports.contains(end.as_str())) {
            self.told.host("left-over", &format!("rules of tap{end}, which is no port's"));
        }
        if survey.hybrid().is_empty() && survey.in_force.table {
            self.told.host("left-over", "the table of the bridges, without a port");
        }
    }

    /// On the way back: bridges, and rules in force there before the first guest stands on one.
    fn prepare(&self, survey: &Survey, tasks: &[Task], switch: &Switch<'_>) -> anyhow::Result<()> {
        let mut plugs = survey.hybrid();
        for Task { found, .. } in tasks {
            links::make(&found.devices, &survey.links)?;
            self.told.port(&found.port, "made", &format!("bridge {}", found.devices.bridge()));
            plugs.insert(found.port.clone(), found.devices.clone());
        }
        if tasks.is_empty() {
            return Ok(());
        }
        converge_once(&hybrid_setup(self.config), switch.delta(), &plugs)?;
        self.told.host("rules", &format!("in force for {} ports behind bridges", plugs.len()));
        Ok(())
    }

    async fn move_port(&self, found: &Found, switch: &Switch<'_>) -> anyhow::Result<()> {
        let began = Instant::now();
        let Found { port, devices, place } = found;
        let (from, to) = match self.back {
            true => (devices.tap(), devices.outer()),
            false => (devices.outer(), devices.tap()),
        };
        let moved = async {
            match place {
                Place::Both => self.unplug(&from, found).await?,
                place if *place == self.target() => self.follow(found).await?,
                Place::Hybrid | Place::Switch => self.replug(&from, &to, found).await?,
            }
            self.told.port(port, "moved", &format!("{to} in place of {from}"));
            switch.wait_until_open(port, &to).await
        };
        if let Err(error) = moved.await {
            if *place != self.target() {
                self.put_back(&to, &from, found, switch)
                    .await
                    .with_context(|| format!("{error:#}; and to put it back"))?;
                self.told.port(port, "back", &format!("{from} in place of {to}, as it was"));
            }
            return Err(error);
        }
        let text =
            format!("open at {to}, flows as the policy says, after {:.2} s", began.elapsed().as_secs_f32());
        self.told.port(port, "verified", &text);
        if !self.back {
            links::remove(devices, &links::read()?)?;
            self.told.port(port, "removed", &format!("bridge {}", devices.bridge()));
        }
        Ok(())
    }

    /// One interface in place of the other. The guest's device is taken off and comes back when the switch has let go of the other.
    async fn replug(&self, from: &str, to: &str, found: &Found) -> anyhow::Result<()> {
        let bridge = database::read(self.config).await?;
        let plugged = bridge.plugged.iter().find(|plugged| plugged.name == from);
        let plugged = plugged.with_context(|| format!("interface {from} is not there any more"))?;
        links::detach(&found.devices)?;
        let replugged =
            database::replug(self.config, &bridge, plugged, to, to == found.devices.tap(), self.timeout)
                .await;
        // Wherever its port is now.
        self.follow(found).await?;
        replugged
    }

    async fn unplug(&self, name: &str, found: &Found) -> anyhow::Result<()> {
        let bridge = database::read(self.config).await?;
        if let Some(plugged) = bridge.plugged.iter().find(|plugged| plugged.name == name) {
            database::unplug(self.config, &bridge, plugged, self.timeout).await?;
        }
        self.follow(found).await
    }

    /// Sees to it that the guest's device is where the database says that its port is.
    async fn follow(&self, found: &Found) -> anyhow::Result<()> {
        let Found { devices, .. } = found;
        let bridge = database::read(self.config).await?;
        let is_plugged = |name: String| bridge.plugged.iter().any(|plugged| plugged.name == name);
        if !is_plugged(devices.tap()) {
            return links::attach(devices);
        }
        let links = links::read()?;
        let master = links.get(&devices.tap()).and_then(|link| link.master.clone());
        if master == Some(devices.bridge()) {
            links::detach(devices)?;
        }
        links::up(&devices.tap())
    }

    async fn put_back(&self, from: &str, to: &str, found: &Found, switch: &Switch<'_>) -> anyhow::Result<()> {
        let bridge = database::read(self.config).await?;
        match bridge.plugged.iter().any(|plugged| plugged.name == from) {
            true => self.replug(from, to, found).await?,
            false => self.follow(found).await?,
        }
        switch.wait_until_open(&found.port, to).await
    }

    /// Takes away what belongs to no port behind a bridge: plumbing and rules.
    async fn clean(&self, switch: &Switch<'_>, is_moved: bool) -> anyhow::Result<()> {
        let survey = Survey::take(self.config).await?;
        if self.ports.is_empty() {
            for devices in survey.strays() {
                links::remove(&devices, &survey.links)?;
                self.told.host("removed", &format!("what was left of {devices}"));
            }
        }
        let plugs = survey.hybrid();
        let ends: BTreeSet<&str> = plugs.values().map(hybrid::Devices::end).collect();
        let has_leftovers = survey.in_force.zones.keys().any(|end| !ends.contains(end.as_str()));
        let setup = hybrid_setup(self.config);
        // Rules of before may be Neutron's, which have no such table.
        if plugs.is_empty() && (survey.in_force.table || is_moved) {
            remove_all(&setup, self.config.ipset_mirror)?;
            self.told.host("removed", "all rules and sets of hybrid bridges: no port is left behind one");
        } else if !plugs.is_empty() && (is_moved || has_leftovers) {
            converge_once(&setup, switch.delta(), &plugs)?;
            self.told.host("rules", &format!("in force for {} ports behind bridges", plugs.len()));
        }
        Ok(())
    }
}
