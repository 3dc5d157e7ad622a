//! One step of a cycle: what to do next, when nothing is under way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pipeline::{Binding, FlowBody, FlowKind, decode_cookie};
use policy::PortId;
use reconcile::Change;
use rust_openflow::{Flow, FlowKey};

use super::flows::{Flows, count, join};
use super::{
    BundleFailure, Consequence, DatabaseWrite, Effect, Engine, FlowChange, FlowRefused, Job, LOCK_GRACE,
    Refusal, Report, STATIC_RETRY, Sent, Stage, Waiting,
};

impl Engine {
    /// Begins the next thing to do, if nothing is under way and nothing stands in the way. `true`: ask again.
    pub(super) fn step(&mut self) -> bool {
        if let Some(write) = self.fail_mode_write() {
            self.write(vec![write]);
            return false;
        }
        let obstacle = self.obstacle();
        if self.waiting != obstacle {
            let report = obstacle.clone().map_or(Report::Resumed, Report::Waiting);
            self.report(report);
            self.waiting = obstacle;
        }
        if self.waiting_for_others() || self.busy.is_some() {
            return false;
        }
        if self.link.is_down() {
            return self.connect();
        }
        if !self.link.is_up() {
            return false;
        }
        if self.recheck() || self.progress.drifted {
            // What the switch holds is not known, or will not be before a pause is over.
            return false;
        }
        self.report_applied() || self.sweep() || self.provide_zones() || self.cycle()
    }

    /// What people have to know about, because only they or somebody else can change it.
    fn obstacle(&self) -> Option<Waiting> {
        let database = &self.database;
        if !database.seen {
            let reason = database.lost.clone();
            return reason.is_some().then_some(Waiting::Database { reason });
        }
        if !database.connected {
            return Some(Waiting::Database { reason: database.lost.clone() });
        }
        if !database.locked {
            let overdue = self.now >= database.lock_asked_at + LOCK_GRACE;
            return overdue.then(|| Waiting::Lock { name: Engine::lock_name(&self.options.bridge) });
        }
        let Some(bridge) = self.host.bridge() else {
            return Some(Waiting::Bridge { name: self.options.bridge.clone() });
        };
        if let Some(fail_mode) = bridge.unsafe_fail_mode().filter(|_| !self.is_enforced()) {
            let waiting = Waiting::FailMode { bridge: bridge.name.clone(), fail_mode: fail_mode.to_owned() };
            return (!self.options.set_fail_mode).then_some(waiting);
        }
        if database.awaited.is_some() {
            return Some(Waiting::Configuration);
        }
        if self.must_wait_for_restoration() {
            return Some(Waiting::Restoration);
        }
        if !self.policy_known {
            return Some(Waiting::Policy);
        }
        if self.now < self.progress.stalled_until {
            return Some(Waiting::StaticFlows);
        }
        if !self.link.is_up() && self.link.reason().is_some() {
            return Some(Waiting::Switch { reason: self.link.reason().cloned() });
        }
        let needed = self.generations_wanted()?;
        self.ledger.next_mark(needed).is_none().then_some(Waiting::Generations)
    }

    /// A switch that has begun without flows gets those back that the one before it had. Like ovs-vswitchd itself, which asks
    /// only until it hears the first "no", we do not care once we have come to an understanding with it.
    pub(super) fn must_wait_for_restoration(&self) -> bool {
        self.host.configuration().restoring && !self.link.is_up()
    }

    /// When something becomes due by time alone.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let lock = self.database.lock_asked_at + LOCK_GRACE;
        let lock = (self.database.connected && !self.database.locked).then_some(lock);
        let reconnect = self.link.is_down().then_some(self.link.retry_at());
        let others = [self.database.retry_at, self.progress.stalled_until];
        let recheck = self.progress.recheck_at;
        let drift = self.progress.drifted.then_some(self.progress.read_back_after);
        lock.into_iter()
            .chain(reconnect)
            .chain(recheck)
            .chain(drift)
            .chain(self.takeover_until)
            .chain(others)
            .filter(|time| *time > self.now)
            .min()
    }

    /// Whether there is nothing to do but to wait, also when that is not worth a word yet.
    fn waiting_for_others(&self) -> bool {
        let fail_safe = self.host.bridge().is_some_and(|bridge| bridge.unsafe_fail_mode().is_none());
        !(self.database.seen && self.database.locked)
            || !(fail_safe || self.is_enforced())
            || !matches!(self.waiting, None | Some(Waiting::Switch { .. }))
    }

    fn fail_mode_write(&self) -> Option<DatabaseWrite> {
        let bridge = self.host.bridge_id()?;
        let secure = self.host.bridge()?.unsafe_fail_mode().is_none();
        let may = self.options.set_fail_mode && self.database.locked && self.may_write();
        (!secure && may && self.busy.is_none()).then_some(DatabaseWrite::FailModeSecure { bridge })
    }

    fn may_write(&self) -> bool {
        self.database.connected && self.now >= self.database.retry_at
    }

    fn write(&mut self, writes: Vec<DatabaseWrite>) {
        self.effects.push(Effect::Write(writes.clone()));
        self.busy = Some(Job::Write(writes));
    }

    fn connect(&mut self) -> bool {
        if self.now >= self.link.retry_at() {
            let id = self.link.connect();
            self.effects.push(Effect::Connect(id));
        }
        false
    }

    /// What the renderer was told is in the switch, and in its caches.
    fn report_applied(&mut self) -> bool {
        let applied = self.flows.as_ref().is_some_and(|flows| !flows.debt.revalidate && flows.is_converged());
        if !applied || self.progress.uncommitted || !self.progress.unreported {
            return false;
        }
        self.progress.unreported = false;
        let sent = std::mem::take(&mut self.progress.since_report);
        if let Some(since) = self.progress.since.take().filter(|_| sent.bundles > 0) {
            self.effects.push(Effect::Stage(Stage::Applied, since));
        }
        self.report(Report::Applied(sent));
        true
    }

    /// Reads back what the switch holds where it may have changed without us.
    ///
    /// A change by others that comes while the flows are on their way may be in them or not: it stays noted, and is
    /// looked for once more.
    fn recheck(&mut self) -> bool {
        let late = self.progress.recheck_at.take_if(|time| self.now >= *time).is_some();
        let drifted = self.progress.drifted && self.now >= self.progress.read_back_after;
        if late || drifted {
            self.progress.drifted = false;
            self.effects.push(Effect::ReadBack(self.link.id()));
            self.busy = Some(Job::ReadBack);
        }
        late || drifted
    }

    /// The second bundle, before anything new is told to the renderer.
    fn sweep(&mut self) -> bool {
        let Some(flows) = self.flows.as_mut() else { return false };
        let applied = !self.progress.uncommitted && !self.progress.unreported;
        if !flows.debt.sweep || flows.debt.revalidate || !applied {
            return false;
        }
        flows.sweep();
        let changes = flows.pending();
        if !changes.is_empty() {
            self.send(changes);
        }
        true
    }

    /// Zones for ports that have none: flushed, then recorded. The ports stay closed until then; everything else
    /// goes on when the database cannot be written to.
    fn provide_zones(&mut self) -> bool {
        for port in std::mem::take(&mut self.unzoned) {
            let Some(spot) = self.host.spot(&port) else { continue };
            if let Err(exhausted) = self.ledger.provide_zone(spot.interface, &port) {
                self.report(Report::NoZone(port.clone(), exhausted));
                self.no_zone.insert(port);
                continue;
            }
            self.inbox.ports.insert(port);
        }
        let zones = self.ledger.to_flush();
        if !zones.is_empty() {
            self.effects.push(Effect::FlushZones(self.link.id(), zones.clone()));
            self.busy = Some(Job::Flush(zones));
            return true;
        }
        if !self.may_write() {
            return false;
        }
        let writes = self.ledger.missing_writes(&self.host);
        if writes.is_empty() {
            return false;
        }
        self.write(writes);
        true
    }

    /// Feeds, commits and sends; or revalidates what was sent before.
    fn cycle(&mut self) -> bool {
        let retired = |flows: &Flows| flows.debt.sweep && flows.debt.revalidate && flows.is_converged();
        if self.flows.as_ref().is_some_and(retired) {
            // A cached first stage still goes by a set that is out of use: no member that comes now may be admitted by it.
            self.revalidate();
            return false;
        }
        self.feed();
        if let Some(needed) = self.generations_wanted() {
            self.reserve_generations(needed);
            return false;
        }
        let (Some(flows), Some(pool)) = (self.flows.as_mut(), self.ledger.pool.as_mut()) else {
            return false;
        };
        let mut refused = Vec::new();
        let committed = flows.commit(pool, &mut refused);
        for rule in refused {
            self.refused_rules.entry(rule.group.clone()).or_default().insert(rule.rule.clone(), rule.reason);
            self.effects.push(Effect::Report(Report::RuleRefused(rule)));
        }
        match committed {
            Ok(None) => self.progress.unreported |= std::mem::take(&mut self.progress.uncommitted),
            Ok(Some(drift)) => {
                self.effects.push(Effect::Audited(drift));
                return true;
            }
            // Not for want of generations: the pool was looked at a moment ago.
            Err(_) => return false,
        }
        let changes = flows.pending();
        if !changes.is_empty() {
            // "'Reported applied' means: in the switch, and its caches revalidated" (semantics, "Rules and connections"), growth
            // too: what was refused a moment ago is cached as a drop (docs/decisions/0008).
            flows.debt.revalidate = true;
            self.note(Stage::Rendered);
            self.send(changes);
        } else if flows.debt.revalidate {
            self.revalidate();
        } else if self.progress.unreported {
            return true;
        } else if self.is_done() && !std::mem::replace(&mut self.progress.settled, true) {
            self.report(Report::Settled);
        }
        false
    }

    fn revalidate(&mut self) {
        self.effects.push(Effect::Revalidate(self.link.id()));
        self.busy = Some(Job::Revalidate);
    }

    /// Whether nothing that was begun is left to do, given that the switch holds what is wanted.
    fn is_done(&self) -> bool {
        self.unrecorded.is_empty() && self.progress.recheck_at.is_none()
    }

    /// Tells the renderer what is new.
    fn feed(&mut self) {
        let Some(flows) = self.flows.as_mut() else { return };
        let renderer = &mut flows.renderer;
        let inbox = std::mem::take(&mut self.inbox);
        if inbox.changed.len() + inbox.ports.len() + inbox.networks.len() > 0 {
            self.progress.settled = false;
            self.progress.uncommitted = true;
        }
        self.progress.since = self.progress.since.or(inbox.since);
        renderer.apply_policy(&inbox.changed.in_policy(&self.policy));
        for (ofport, attachment) in inbox.networks {
            renderer.network_port(ofport, attachment);
        }
        for port in &inbox.ports {
            let spot = self.host.spot(port).filter(|_| !self.quarantine.contains(port));
            let binding = spot.and_then(|spot| {
                let zone = self.ledger.ready_zone(&spot.interface, port, &self.host)?;
                Some(Binding { ofport: spot.ofport, vlan: spot.vlan, zone })
            });
            if spot.is_some() && binding.is_none() && !self.no_zone.contains(port) {
                self.unrecorded.insert(port.clone());
            }
            renderer.station(port, spot.and_then(|spot| spot.mac));
            renderer.bind(port, binding);
            self.effects.push(Effect::Local(port.clone(), self.host.spot(port).is_some()));
        }
        let looked_at: BTreeSet<PortId> = inbox.changed.ports.union(&inbox.ports).cloned().collect();
        for port in looked_at {
            let lacking = self.host.spot(&port).is_some() && !self.policy.ports.contains_key(&port);
            if !lacking {
                self.no_policy.remove(&port);
            } else if self.no_policy.insert(port.clone()) {
                self.report(Report::NoPolicy(port));
            }
        }
    }

    /// How many generations the next commit wants reserved, if more than are.
    fn generations_wanted(&self) -> Option<u32> {
        let needed = self.flows.as_ref()?.renderer.generations_needed();
        (needed > self.ledger.pool.as_ref()?.remaining()).then_some(needed)
    }

    fn reserve_generations(&mut self, needed: u32) {
        if let (Some(bridge), Some(mark), true) =
            (self.bridge, self.ledger.next_mark(needed), self.may_write())
        {
            self.write(vec![DatabaseWrite::Generation { bridge, mark }]);
        }
    }

    /// What is under way has come so far. What is mended, or swept, follows from no event.
    fn note(&mut self, stage: Stage) {
        if let Some(since) = self.progress.since {
            self.effects.push(Effect::Stage(stage, since));
        }
    }

    fn send(&mut self, changes: Arc<[FlowChange]>) {
        self.progress.settled = false;
        self.effects.push(Effect::Bundle(self.link.id(), Arc::clone(&changes)));
        self.busy = Some(Job::Bundle(changes));
    }

    pub(super) fn on_bundled(&mut self, changes: &Arc<[FlowChange]>, result: Result<(), BundleFailure>) {
        match result {
            Ok(()) => {
                let sent: Sent = count(changes);
                self.progress.total += sent;
                self.progress.since_report += sent;
                self.note(Stage::Acknowledged);
                self.report(Report::Taken(sent));
                if let Some(flows) = &mut self.flows {
                    flows.confirm(changes);
                }
            }
            Err(BundleFailure::Unknown { reason }) => {
                self.counts.bundles_unknown += 1;
                self.progress.straggler = true;
                self.link_lost(reason);
            }
            Err(BundleFailure::Refused(refusals)) => {
                self.counts.bundles_refused += 1;
                for refusal in &refusals {
                    self.on_refusal(changes, refusal);
                }
                if refusals.is_empty() {
                    self.stall();
                }
            }
        }
    }

    /// The switch would not take one flow, so it took none: the rest is tried again without what the flow is about.
    fn on_refusal(&mut self, changes: &[FlowChange], Refusal { index, error }: &Refusal) {
        let change = index.and_then(|index| changes.get(index));
        let (flow, consequence) = match change {
            Some(Change::Add { key, new } | Change::Modify { key, new, .. }) => {
                (join(key, new).to_string(), self.isolate(key, new))
            }
            Some(Change::Delete { key, old }) => (join(key, old).to_string(), Consequence::NothingApplied),
            None => ("(it does not say which)".to_owned(), Consequence::NothingApplied),
        };
        if consequence == Consequence::NothingApplied {
            self.stall();
        }
        self.report(Report::FlowRefused(FlowRefused { flow, error: error.clone(), consequence }));
    }

    /// Takes the object of a refused flow out of what is wanted.
    ///
    /// A port's flows stand and fall together: the port is closed. A flow of a set, a rule, a remote, a member or a
    /// network only ever admits or delivers something: without it less is admitted, never more. Static flows drop
    /// things, and none of them may be missing.
    fn isolate(&mut self, key: &FlowKey, body: &FlowBody) -> Consequence {
        match decode_cookie(body.cookie) {
            Some((FlowKind::Static, _)) | None => Consequence::NothingApplied,
            Some((FlowKind::Port, ofport)) => {
                let at = |port: &PortId| self.host.spot(port).map(|spot| u64::from(spot.ofport.0));
                let port = self.host.spots().map(|(port, _)| port).find(|port| at(port) == Some(ofport));
                match port.cloned() {
                    Some(port) => {
                        self.quarantine.insert(port.clone());
                        self.inbox.ports.insert(port.clone());
                        Consequence::PortClosed(port)
                    }
                    None => self.leave_out(key, body),
                }
            }
            Some((
                FlowKind::Set
                | FlowKind::Rule
                | FlowKind::Remote
                | FlowKind::Member
                | FlowKind::Network
                | FlowKind::Observe,
                _,
            )) => self.leave_out(key, body),
        }
    }

    fn leave_out(&mut self, key: &FlowKey, body: &FlowBody) -> Consequence {
        if let Some(flows) = &mut self.flows {
            flows.withhold(key, body);
        }
        Consequence::LeftOut
    }

    /// Nothing can be applied: wait, then try as it is.
    fn stall(&mut self) {
        self.progress.stalled_until = self.now + STATIC_RETRY;
    }

    /// Every wanted flow, in the order of tables and priorities.
    pub fn wanted_flows(&self) -> Vec<Flow> {
        self.flows.iter().flat_map(Flows::wanted).map(|(key, body)| join(key, body)).collect()
    }
}
