//! The thread that makes the kernel as the policy says.
//!
//! One round takes in everything that has come: first what is in the kernel's tables ([`Backend::put_in_force`]), then the connections that
//! were there before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hybrid::admitted::CHOSEN;
use hybrid::{Changes, Devices, Firewall, Plug};
use policy::{PolicyDelta, PortId};
use rustix::thread::{MembarrierCommand, membarrier};
use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, error, warn};

use super::Failure;
use super::backend::Backend;
use super::listing::{Show, Standing, complete_port, group_page};
use super::revoke::Revocation;
use super::samples::SampleRules;
use super::zones::PortZones;
use crate::api::{KernelSets, SetFill};
use crate::engine::{Facts, Fault, Report, SecurityEffect, Sent, Stage, Status};
use crate::host::Plugging;
use crate::metrics::FULLEST;

/// How often it is asked whether somebody changed the kernel's tables: that is one number.
const AUDIT: Duration = Duration::from_secs(2);
/// So many, then everything is read, also of the old iptables.
const LOOKS_AT_ALL: u32 = 30;
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Instead of membarrier, on kernels without: longer than a packet can be under way.
const GRACE: Duration = Duration::from_millis(20);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Order {
    /// The policy changed.
    Policy(PolicyDelta),
    /// A port is plugged in so from now on.
    Plug(PortId, Plugging),
    /// All ports of this host have been told of, and nobody else may write.
    Write,
    /// Somebody else may write from now on, and we may not.
    Pause,
    /// Somebody wants to see something.
    Show(Show),
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
    /// How many orders had been taken by then.
    pub(super) taken: u64,
    /// What would be changed, if nothing is.
    pub(super) planned: Vec<String>,
    /// What has been done.
    pub(super) facts: Facts,
    /// The kernel's sets in sum.
    pub(super) sets: KernelSets,
    /// The fullest.
    pub(super) fullest: Vec<SetFill>,
}

/// See the module's documentation.
pub(super) struct Worker<B: Backend> {
    firewall: Firewall<B::Dialect>,
    /// What looks, if something does.
    samples: Option<SampleRules>,
    backend: B,
    revocation: Revocation,
    zones: PortZones,
    state: Arc<Mutex<State>>,
    reports: UnboundedSender<Report>,
    sent: Sent,
    /// Ports that came or went, and are not looked after yet.
    plugs: BTreeMap<PortId, Option<Devices>>,
    /// Ports that wait for a zone.
    without_zone: BTreeMap<PortId, Devices>,
    /// Ports that are plugged in by an interface that is on no hybrid bridge.
    elsewhere: BTreeMap<PortId, String>,
    /// Zones that may hold connections of an earlier owner.
    new_zones: BTreeSet<u16>,
    has_policy: bool,
    /// Something has been put in force.
    is_in_force: bool,
    /// Orders, so far.
    taken: u64,
    may_write: bool,
    is_read: bool,
    only_looks: bool,
    planned: Vec<String>,
    looks: u32,
    /// Zones whose connections are to be judged again, as less or more may be admitted.
    shrunk: BTreeSet<u16>,
    grown: BTreeSet<u16>,
    counts: Counts,
    /// When the first order came that the next round follows from.
    since: Option<Instant>,
    /// What failed in the last round.
    failure: Option<String>,
    told: Told,
}

/// What has happened so often since the driver began.
#[derive(Debug, Default)]
struct Counts {
    failures: u64,
    read_backs: u64,
    zones_flushed: u64,
    cut: u64,
    revived: u64,
}

/// What has been told already.
#[derive(Debug, Default)]
struct Told {
    refused: BTreeSet<String>,
    no_policy: BTreeSet<PortId>,
}

impl<B: Backend> Worker<B> {
    /// Nothing is known, nobody has given orders; `firewall` has no policy yet. Without `samples` it does not matter what looks.
    ///
    /// # Errors
    /// The kernel's connections cannot be reached.
    pub(super) fn new(
        backend: B,
        firewall: Firewall<B::Dialect>,
        samples: Option<SampleRules>,
        state: Arc<Mutex<State>>,
        reports: UnboundedSender<Report>,
    ) -> Result<Self, conntrack::Error> {
        Ok(Worker {
            firewall,
            samples,
            backend,
            revocation: Revocation::open()?,
            zones: PortZones::default(),
            state,
            reports,
            sent: Sent::default(),
            plugs: BTreeMap::new(),
            without_zone: BTreeMap::new(),
            elsewhere: BTreeMap::new(),
            new_zones: BTreeSet::new(),
            has_policy: false,
            is_in_force: false,
            taken: 0,
            may_write: false,
            is_read: false,
            only_looks: false,
            planned: Vec::new(),
            looks: 0,
            shrunk: BTreeSet::new(),
            grown: BTreeSet::new(),
            counts: Counts::default(),
            since: None,
            failure: None,
            told: Told::default(),
        })
    }

    /// From now on nothing is changed.
    pub(super) fn only_look(&mut self) {
        self.only_looks = true;
    }

    /// Works until nobody gives orders any more.
    pub(super) fn work(&mut self, orders: &Receiver<Order>) {
        let mut look_at = Instant::now() + AUDIT;
        loop {
            // However much is to be changed, or shown.
            if Instant::now() >= look_at {
                if self.may_write {
                    self.look();
                }
                self.go_round(false);
                look_at = Instant::now() + self.pause();
            }
            match orders.recv_timeout(look_at.saturating_duration_since(Instant::now())) {
                Ok(order) => {
                    let mut is_asked = self.take(order);
                    // All that is there by now is one change.
                    while let Ok(order) = orders.try_recv() {
                        is_asked |= self.take(order);
                    }
                    if is_asked {
                        self.go_round(true);
                        look_at = look_at.min(Instant::now() + self.pause());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.failure.is_some() { RETRY } else { AUDIT }
    }

    /// Before there is a policy, and all ports are known, what the kernel has stays as it is.
    fn go_round(&mut self, is_asked: bool) {
        if self.has_policy && self.may_write {
            self.round(is_asked);
        }
    }

    /// Whether something is to be done for it.
    fn take(&mut self, order: Order) -> bool {
        if let Order::Show(show) = order {
            self.show(show);
            return false;
        }
        self.taken += 1;
        if let Order::Policy(_) | Order::Plug(..) = &order {
            self.since.get_or_insert_with(Instant::now);
        }
        match order {
            Order::Show(_) => {}
            Order::Policy(delta) => {
                self.firewall.apply_policy(&delta);
                self.has_policy = true;
            }
            Order::Plug(port, Plugging { devices, elsewhere }) => {
                match elsewhere {
                    Some(interface) => self.elsewhere.insert(port.clone(), interface),
                    None => self.elsewhere.remove(&port),
                };
                self.plugs.insert(port, devices);
            }
            Order::Write => self.may_write = true,
            Order::Pause => self.give_way(),
        }
        true
    }

    fn show(&self, show: Show) {
        match show {
            Show::Ports { mut page, refused, answer } => {
                for entry in &mut page.ports {
                    let port = PortId::from(entry.id.as_str());
                    let standing = Standing {
                        without_zone: self.without_zone.contains_key(&port),
                        elsewhere: self.elsewhere.get(&port),
                        is_in_force: self.is_in_force,
                    };
                    complete_port::<B>(entry, &self.firewall, &standing);
                    entry.refused = refused.get(&format!("port {port}")).cloned();
                }
                // Who asked may be gone, here and below.
                _ = answer.send(page);
            }
            Show::Policy(answer) => _ = answer.send(self.has_policy.then(|| self.firewall.policy())),
            Show::Groups(question) => {
                let page = group_page(&question, &self.firewall, &self.backend);
                _ = question.answer.send(page);
            }
        }
    }

    /// Whoever writes meanwhile may have another policy: when it is our turn again nothing is known of the kernel, and every connection is to be
    /// judged.
    fn give_way(&mut self) {
        self.may_write = false;
        self.is_read = false;
        self.zones.forget();
        for (port, plug) in self.firewall.plugs() {
            self.plugs.entry(port.clone()).or_insert_with(|| Some(plug.devices.clone()));
        }
        self.revocation.forget();
        self.shrunk.extend(self.firewall.zones());
        self.grown.extend(self.firewall.zones());
    }

    /// Looks whether somebody else changed something.
    fn look(&mut self) {
        self.looks += 1;
        if self.backend.look(self.looks.is_multiple_of(LOOKS_AT_ALL)) {
            self.is_read = false;
        }
    }

    /// What comes of it is told if somebody asked for it, or it is worth a word.
    fn round(&mut self, is_asked: bool) {
        let result = self.settle();
        let is_told =
            is_asked || self.failure.is_some() || !matches!(&result, Ok(sent) if *sent == Sent::default());
        match &result {
            Ok(sent) => {
                if !is_asked && self.failure.is_none() && sent.flow_mods() > 0 {
                    _ = self.reports.send(Report::Drifted(*sent));
                }
                self.failure = None;
                self.is_in_force |= !self.only_looks;
                self.sent += *sent;
                if let Some(since) = self.since.take().filter(|_| sent.flow_mods() > 0) {
                    self.note(Stage::Applied, since);
                }
                if is_told {
                    _ = self.reports.send(Report::Applied(*sent));
                }
            }
            Err(reason) => {
                self.counts.failures += 1;
                error!(%reason, "what the kernel holds is not as it should be; trying again");
                self.failure = Some(reason.to_string());
                self.is_read = false;
            }
        }
        self.tell();
        if result.is_ok() && is_told {
            _ = self.reports.send(Report::Settled);
        }
    }

    fn settle(&mut self) -> Result<Sent, Failure> {
        if !self.is_read {
            self.backend.read_back()?;
            self.counts.read_backs += 1;
            let plugged_in = self.plugs.values().flatten().map(Devices::end).collect();
            self.zones.read_back(self.backend.zones(), &plugged_in);
            self.samples.iter_mut().for_each(SampleRules::doubt);
            self.is_read = true;
        }
        self.plug_in()?;
        let mut changes = self.firewall.take();
        self.choose(&mut changes);
        if self.only_looks {
            self.backend.want(changes);
            self.planned = self.backend.pending()?;
            return Ok(Sent::default());
        }
        self.shrunk.extend(&changes.shrunk);
        self.grown.extend(&changes.grown);
        let is_change =
            !changes.chains.is_empty() || !changes.sets.is_empty() || !changes.elements.is_empty();
        self.backend.want(changes);
        let since = self.since.filter(|_| is_change);
        since.iter().for_each(|since| self.note(Stage::Rendered, *since));
        // What passes again passes from before the rules on that say so: they may no longer be the ones that it passed by.
        let revived = self.revocation.revive(&self.firewall, &self.grown)?;
        match self.backend.put_in_force() {
            Ok(sent) => {
                since.iter().for_each(|since| self.note(Stage::Acknowledged, *since));
                self.counts.revived += revived.len() as u64;
                self.cut()?;
                self.sample();
                if !revived.is_empty() {
                    debug!(connections = revived.len(), "pass again");
                }
                Ok(sent)
            }
            Err(failure) => {
                self.revocation.cut_again(&revived)?;
                Err(failure)
            }
        }
    }

    /// Whose connections are sampled is no matter of what enforces.
    fn choose(&mut self, changes: &mut Changes<B::Dialect>) {
        changes.elements.retain(|element, is_wanted| {
            let is_chosen = element.set == CHOSEN;
            if let Some(samples) = self.samples.as_mut().filter(|_| is_chosen) {
                samples.choose(element, *is_wanted);
            }
            !is_chosen
        });
    }

    /// What looks comes behind what enforces, and is in nobody's way.
    fn sample(&mut self) {
        let Some(samples) = &mut self.samples else { return };
        if samples.put_in_force() {
            self.backend.note_own_change();
        }
    }

    /// Ports with their zones; a new zone is empty before it is used.
    fn plug_in(&mut self) -> Result<(), Failure> {
        while let Some((port, devices)) = self.plugs.pop_first() {
            self.plug(&port, devices.as_ref());
        }
        if !self.new_zones.is_empty() && !self.only_looks {
            self.revocation.flush(&self.new_zones)?;
            // What was counted is no reason to keep a port closed.
            if let Err(error) = self.backend.forget_drops(&self.new_zones) {
                warn!(%error, "what was dropped at the owners of before of zones is told as their new ports'");
            }
            self.counts.zones_flushed += self.new_zones.len() as u64;
            self.new_zones.clear();
        }
        Ok(())
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
            self.new_zones.insert(zone);
        }
        self.firewall.plug(port, Some(Plug { devices: devices.clone(), zone }));
    }

    fn note(&self, stage: Stage, since: Instant) {
        _ = self.reports.send(Report::Stage(stage, since.elapsed()));
    }

    fn facts(&self, sets: usize, refused: usize) -> Facts {
        let Counts { failures, read_backs, zones_flushed, cut, revived } = self.counts;
        Facts {
            sent: self.sent,
            bundles_refused: failures,
            read_backs,
            zones_flushed,
            cut,
            revived,
            refused,
            ids: [("set", sets as u64), ("zone", self.zones.len() as u64)].into(),
            ..Facts::default()
        }
    }

    /// Cuts what is admitted no more.
    fn cut(&mut self) -> Result<(), Failure> {
        if !self.shrunk.is_empty() {
            wait_for_packets_under_way();
            let cut = self.revocation.cut(&self.firewall, &self.shrunk)?;
            self.counts.cut += cut as u64;
            if cut > 0 {
                debug!(connections = cut, "cut");
            }
        }
        self.shrunk.clear();
        self.grown.clear();
        Ok(())
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
        faults.extend(self.elsewhere.iter().filter(|(port, _)| self.firewall.filters(port)).map(
            |(port, interface)| Fault {
                object: format!("port {port}"),
                reason: format!("{interface} is on no hybrid bridge: this driver does not filter it"),
                effect: SecurityEffect::Open,
            },
        ));
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
        faults.extend(self.backend.faults().into_iter().map(kept));
        let unseen = self.samples.iter().filter_map(SampleRules::trouble);
        faults.extend(unseen.map(|reason| Fault::unseen(("samples".to_owned(), reason.to_owned()))));
        faults.extend(self.failure.iter().map(|reason| kept(("this host".to_owned(), reason.clone()))));
        let (sets, flows) = self.backend.counts();
        let status = Status {
            ports: self.firewall.port_count(),
            ports_without_policy: no_policy.len(),
            sets,
            flows,
            sent: self.sent,
        };
        let facts = self.facts(sets, refused.len());
        let (sets, fullest) = self.backend.fills(FULLEST);
        self.told.no_policy = no_policy;
        self.told.refused = refused;
        let settled = self.failure.is_none();
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State {
            status,
            faults,
            settled,
            taken: self.taken,
            planned: self.planned.clone(),
            facts,
            sets,
            fullest,
        };
    }
}

/// Returns when every packet that was judged by what was in force a moment ago is through, and its connection in the table: the kernel walks
/// a packet through its rules in one read-side section of RCU, and this waits for those (membarrier(2): `MEMBARRIER_CMD_GLOBAL`).
fn wait_for_packets_under_way() {
    if let Err(reason) = membarrier(MembarrierCommand::Global) {
        debug!(%reason, "membarrier: waited instead");
        std::thread::sleep(GRACE);
    }
}
