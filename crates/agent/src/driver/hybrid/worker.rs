//! The thread that makes the kernel as the policy says.
//!
//! One round takes in everything that has come: sets that are new, and members that go; rules; members that come; then the bridge's table, by
//! which ports are opened; then the connections that were there before. So at no instant something is admitted that neither the old policy nor
//! the new one admits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hybrid::{Changes, Devices, Firewall, Plug};
use ipset::Ipset;
use policy::{PolicyDelta, PortId};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, error, warn};

use super::Failure;
use super::bridge::Bridge;
use super::iptables::Iptables;
use super::revoke::Revocation;
use super::zones::PortZones;
use crate::engine::{Fault, Report, SecurityEffect, Sent, Status};
use crate::mirror::Plan;

/// How often what the kernel holds is looked at.
const AUDIT: Duration = Duration::from_secs(10);
/// So many looks ask whether there was a change, then one what there is.
const LOOKS: u32 = 6;
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The policy changed.
    Policy(PolicyDelta),
    /// A port is plugged in so, or no more.
    Plug(PortId, Option<Devices>),
    /// All ports of this host have been told of.
    Complete,
}

/// What is told of it.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// What is enforced.
    pub(super) status: Status,
    /// What is not as it should be.
    pub(super) faults: Vec<Fault>,
    /// Nothing is left to do.
    pub(super) settled: bool,
}

/// See the module's documentation.
pub(super) struct Worker {
    pub(super) firewall: Firewall,
    pub(super) sets: Plan,
    pub(super) ipset: Ipset,
    pub(super) iptables: Iptables,
    pub(super) bridge: Bridge,
    pub(super) revocation: Revocation,
    pub(super) zones: PortZones,
    pub(super) state: Arc<Mutex<State>>,
    pub(super) reports: UnboundedSender<Report>,
    pub(super) sent: Sent,
    /// Ports that came or went, and are not looked after yet.
    pub(super) plugs: BTreeMap<PortId, Option<Devices>>,
    /// Ports that wait for a zone.
    pub(super) without_zone: BTreeMap<PortId, Devices>,
    pub(super) has_policy: bool,
    pub(super) is_complete: bool,
    pub(super) is_read: bool,
    /// Of the kernel's tables, when all was as it shall be.
    pub(super) generation: Option<u32>,
    pub(super) looks: u32,
    pub(super) pending: Changes,
    /// What failed in the last round.
    pub(super) failure: Option<String>,
    pub(super) told: Told,
}

/// What has been told already.
#[derive(Debug, Default)]
pub(super) struct Told {
    refused: BTreeSet<String>,
    no_policy: BTreeSet<PortId>,
}

impl Worker {
    /// Works until nobody gives orders any more.
    pub(super) fn work(&mut self, orders: &Receiver<Order>) {
        loop {
            let wait = if self.failure.is_some() { RETRY } else { AUDIT };
            match orders.recv_timeout(wait) {
                Ok(order) => {
                    self.take(order);
                    // All that is there by now is one change.
                    while let Ok(order) = orders.try_recv() {
                        self.take(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Before there is a policy, and all ports are known, what the kernel has stays as it is.
            if self.has_policy && self.is_complete {
                self.round();
            }
        }
    }

    fn take(&mut self, order: Order) {
        match order {
            Order::Policy(delta) => {
                self.firewall.apply_policy(&delta);
                self.has_policy = true;
            }
            Order::Plug(port, devices) => _ = self.plugs.insert(port, devices),
            Order::Complete => self.is_complete = true,
        }
    }

    /// Looks whether somebody else changed something. The old iptables alone has no number that says so.
    fn look(&mut self) {
        self.looks += 1;
        let is_long_ago = self.looks.is_multiple_of(LOOKS);
        if let Err(reason) = self.sets.look(&mut self.ipset, is_long_ago) {
            warn!(%reason, "the kernel's sets cannot be looked at");
        }
        let generation = self.bridge.generation().ok();
        self.is_read &= !is_long_ago && generation.is_some() && generation == self.generation;
    }

    fn round(&mut self) {
        let result = self.settle();
        match &result {
            Ok(sent) => {
                self.failure = None;
                if *sent != Sent::default() {
                    self.sent += *sent;
                }
                _ = self.reports.send(Report::Applied(*sent));
            }
            Err(reason) => {
                error!(%reason, "what the kernel holds is not as it should be; trying again");
                self.failure = Some(reason.to_string());
                self.is_read = false;
            }
        }
        self.tell();
        if result.is_ok() {
            _ = self.reports.send(Report::Settled);
        }
    }

    fn settle(&mut self) -> Result<Sent, Failure> {
        if !self.is_read {
            self.iptables.read_back()?;
            self.bridge.read_back()?;
            for (end, zone) in self.bridge.zones() {
                self.zones.hold(&end, zone);
            }
            self.is_read = true;
        }
        self.plug_in()?;
        let changes = self.firewall.take();
        self.pending.shrunk.extend(&changes.shrunk);
        self.pending.grown.extend(&changes.grown);
        self.sets.want(changes.sets);
        for (key, chain) in changes.chains {
            self.iptables.want(key, chain);
        }
        for (element, is_wanted) in changes.elements {
            self.bridge.want(&element, is_wanted);
        }
        let mut sent = Sent::default();
        if self.iptables.is_to_be_changed() {
            self.sets.before_rules(&mut self.ipset)?;
            let [added, modified, deleted] = self.iptables.put_in_force()?;
            sent += Sent { added, modified, deleted, bundles: 1 };
        }
        self.sets.complete();
        let done = self.sets.run(&mut self.ipset);
        // What is filled anew is one change.
        sent += Sent { added: done.added, modified: done.rebuilt, deleted: done.deleted, bundles: 0 };
        if let Some((object, reason)) = done.failures.first() {
            return Err(Failure::other(object, reason));
        }
        if self.bridge.is_to_be_changed() {
            let [added, modified, deleted] = self.bridge.put_in_force()?;
            sent += Sent { added, modified, deleted, bundles: 1 };
        }
        self.judge()?;
        if sent.bundles > 0 || self.generation.is_none() {
            self.generation = Some(self.bridge.generation()?);
        }
        Ok(sent)
    }

    /// Ports with their zones; a new zone is empty before it is used.
    fn plug_in(&mut self) -> Result<(), Failure> {
        while let Some((port, devices)) = self.plugs.pop_first() {
            self.plug(&port, devices.as_ref());
        }
        Ok(self.revocation.empty()?)
    }

    fn plug(&mut self, port: &PortId, devices: Option<&Devices>) {
        self.without_zone.remove(port);
        let Some(devices) = devices else {
            if let Some(before) = self.firewall.plug(port, None) {
                self.zones.release(before.devices.end());
                // There is one for somebody else now.
                let waiting = std::mem::take(&mut self.without_zone);
                self.plugs.extend(waiting.into_iter().map(|(port, devices)| (port, Some(devices))));
            }
            return;
        };
        let (zone, is_new) = match self.zones.provide(devices.end()) {
            Ok(provided) => provided,
            Err(reason) => {
                self.without_zone.insert(port.clone(), devices.clone());
                _ = self.reports.send(Report::NoZone(port.clone(), reason));
                return;
            }
        };
        if is_new {
            self.revocation.hand_over(zone);
        }
        self.firewall.plug(port, Some(Plug { devices: devices.clone(), zone }));
    }

    fn judge(&mut self) -> Result<(), Failure> {
        let Changes { shrunk, grown, .. } = std::mem::take(&mut self.pending);
        if shrunk.is_empty() && grown.is_empty() {
            return Ok(());
        }
        match self.revocation.judge(&self.firewall, &shrunk, &grown) {
            Ok(judged) => {
                if judged.cut + judged.revived > 0 {
                    debug!(cut = judged.cut, revived = judged.revived, "connections judged again");
                }
                Ok(())
            }
            Err(error) => {
                self.pending = Changes { shrunk, grown, ..Changes::default() };
                Err(error.into())
            }
        }
    }

    fn tell(&mut self) {
        let no_policy = self.firewall.without_policy().clone();
        for port in no_policy.difference(&self.told.no_policy) {
            _ = self.reports.send(Report::NoPolicy(port.clone()));
        }
        let closed = |port: &PortId, reason: &str| Fault {
            object: format!("port {port}"),
            reason: reason.to_owned(),
            effect: SecurityEffect::Closed,
        };
        let mut faults: Vec<Fault> =
            no_policy.iter().map(|port| closed(port, "no policy knows it")).collect();
        faults.extend(self.without_zone.keys().map(|port| closed(port, "no conntrack zone is left for it")));
        let mut refused = BTreeSet::new();
        for rule in self.firewall.refused() {
            let object = format!("rule {} of security group {}", rule.rule, rule.group);
            if !self.told.refused.contains(&object) {
                let rule = pipeline::RefusedRule { group: rule.group, rule: rule.rule, reason: rule.reason };
                _ = self.reports.send(Report::RuleRefused(rule));
            }
            let reason = rule.reason.to_owned();
            faults.push(Fault { object: object.clone(), reason, effect: SecurityEffect::LeftOut });
            refused.insert(object);
        }
        let kept = |(object, reason)| Fault { object, reason, effect: SecurityEffect::Kept };
        faults.extend(self.sets.faults().map(kept));
        faults.extend(self.failure.iter().map(|reason| kept(("this host".to_owned(), reason.clone()))));
        let status = Status {
            ports: self.firewall.port_count(),
            ports_without_policy: no_policy.len(),
            sets: self.sets.counts().0,
            flows: self.iptables.rule_count(),
            sent: self.sent,
        };
        self.told.no_policy = no_policy;
        self.told.refused = refused;
        let settled = self.failure.is_none();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State { status, faults, settled };
    }
}
