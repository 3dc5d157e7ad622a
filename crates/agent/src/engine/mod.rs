//! The engine: events in, effects out, and no clock, socket or file in between.
//!
//! ```text
//!   policy source          Open_vSwitch database                     switch
//!        │ delta                 │ rows                                 ▲ │
//!        ▼                       ▼                                      │ │ flows, answers
//!  ┌──────────────────────────────────────────────────────────────┐     │ │
//!  │   Policy            HostView ──► attachments                 │     │ │
//!  │     │                   │             │                      │     │ │
//!  │     │                   │          Ledger ◄──────────────────┼─────┼─┼──► zones, generations: written to
//!  │     │                   ▼             │ zone ready           │     │ │    the database before they are used
//!  │     └────────────► inbox ◄────────────┘                      │     │ │
//!  │                      │ (coalesced while a bundle is out)     │     │ │
//!  │                      ▼                                       │     │ │
//!  │                  Renderer ──► commit ──► Tracker ◄───────────┼─────┼─┘
//!  │                                             │ pending        │     │
//!  └─────────────────────────────────────────────┼────────────────┘     │
//!                                                └──► one atomic bundle ┘
//! ```
//!
//! One cycle: take in what is new; reserve the generations it needs; commit; send *one* atomic bundle; wait for the
//! datapath's caches; report "applied"; remove what a cached first stage might still
//! have reached, in a second bundle. Start, reconnect, drift and an ordinary change are the same cycle with another
//! difference between wanted and actual.
//!
//! What always holds, and where it is kept:
//!
//! - At most one thing is under way (`busy`): what arrives meanwhile waits, coalesced, for the next cycle.
//! - No flow-mod is sent before the lock of the bridge is ours, the bridge is fail-safe, the switch has been read back
//!   and there is a policy (`obstacle`). Without a policy the switch keeps what it has. Nothing is sent while the
//!   database is away: the lock went with it, and ovs-vswitchd (3.1) itself takes no OpenFlow without its database.
//! - A zone is bound to a port only when it is flushed and recorded in the database as this port's
//!   (`Ledger::ready_zone`); a generation
//!   is used only below the recorded mark (`GenerationPool`).
//! - The tracker learns what the switch holds from a read-back or from a bundle's success and from nothing else: a
//!   bundle without an answer ends the connection, and the next one begins with a read-back.
//! - What anybody else does to our flows, ovs-vswitchd included (it drops all of a bridge's flows when the bridge's
//!   fail_mode changes, or its first controller comes or its last one goes), is a reason to read back (`recheck`).
//! - "Applied" is reported when the tables and the caches are as the policy says, and not before.
//! - A refused flow never keeps others from being applied, and never leaves anything more open than without it.

mod event;
mod facts;
mod flows;
mod health;
mod ledger;
mod link;
mod look;
mod plan;
mod pretend;
mod report;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ovsdb::Uuid;
use pipeline::{Config, Hook, Known, NetworkPort, OfPort, Zone, is_to_be_taken_over};
use policy::{AddressGroupId, GroupId, Policy, PolicyDelta, PortId, RuleId};
use rust_openflow::Flow;

pub use event::{
    BundleFailure, DatabaseEvent, DatabaseWrite, Effect, Event, FlowChange, LinkId, Refusal, Revalidation,
    SwitchEvent,
};
pub use facts::Facts;
pub use flows::{concerns_us, join};
pub use health::{Fault, Health, SecurityEffect};
pub use look::PortStanding;
pub use report::{Consequence, FlowRefused, Report, Sent, Stage, Waiting};

use crate::host::{AttachmentChange, BridgeRow, ClosedInterface, HostView, NetworkPorts, RowChange, Spot};
use facts::Counts;
use flows::{Flows, count};
use ledger::Ledger;
use link::Link;

/// How long the lock may take before that is worth a word.
const LOCK_GRACE: Duration = Duration::from_secs(1);
/// Wait after a transaction that failed.
const WRITE_RETRY: Duration = Duration::from_secs(1);
/// How long after a read-back the switch is read again, when an earlier connection ended with a bundle under way: what
/// was in its socket by then ovs-vswitchd may still take, a few messages at a time, beside the new connection's.
const RECHECK: Duration = Duration::from_secs(2);
/// How long after a read-back for changes by others the next one is made at the earliest, however many there are.
const READ_BACK_PAUSE: Duration = Duration::from_secs(1);
/// Wait after the switch refused a flow without which the firewall cannot work.
const STATIC_RETRY: Duration = Duration::from_secs(30);

/// What an engine is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The integration bridge.
    pub bridge: String,
    /// Make its fail_mode `secure` when it is not.
    pub set_fail_mode: bool,
    /// Ethertypes that pass besides ARP, RARP, IPv4 and IPv6.
    pub permitted_ethertypes: BTreeSet<u16>,
    /// Interfaces that lead to the network although their type does not say so.
    pub network_ports: NetworkPorts,
    /// Where frames enter the firewall.
    pub hook: Hook,
    /// How long connections that Neutron's own driver has admitted go on by its zones; beside Neutron's agent alone.
    pub takeover_timeout: Duration,
}

/// What is enforced at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Status {
    /// Local ports that are bound.
    pub ports: usize,
    /// Local ports that are closed because no policy knows them.
    pub ports_without_policy: usize,
    /// Distinct sets of security groups.
    pub sets: usize,
    /// Flows.
    pub flows: usize,
    /// Everything sent since the engine began.
    pub sent: Sent,
}

/// The state machine. See the module's documentation.
#[derive(Debug)]
pub struct Engine {
    options: Options,
    policy: Policy,
    policy_known: bool,
    host: HostView,
    /// The first rows have been seen.
    began: bool,
    bridge: Option<Uuid>,
    /// The bridge whose flows we have looked after: it is not given up when its fail_mode changes.
    enforced: Option<Uuid>,
    database: Database,
    ledger: Ledger,
    link: Link,
    flows: Option<Flows>,
    inbox: Inbox,
    busy: Option<Job>,
    /// Ports closed because the switch refused a flow of theirs.
    quarantine: BTreeSet<PortId>,
    /// Rules that this driver cannot enforce, and why.
    refused_rules: BTreeMap<GroupId, BTreeMap<RuleId, &'static str>>,
    /// Local ports told to be without policy.
    no_policy: BTreeSet<PortId>,
    /// Local ports told to be without zone.
    no_zone: BTreeSet<PortId>,
    /// Local ports that may need a zone.
    unzoned: BTreeSet<PortId>,
    /// Local ports whose zone waits for the database.
    unrecorded: BTreeSet<PortId>,
    progress: Progress,
    counts: Counts,
    /// Until when connections of Neutron's own driver are taken over; once begun, it is not begun again.
    takeover_until: Option<Duration>,
    /// As last told.
    waiting: Option<Waiting>,
    /// Flows of others, as last told: how many, and one of them.
    foreign: (usize, String),
    effects: Vec<Effect>,
    now: Duration,
}

#[derive(Debug, Default)]
struct Database {
    connected: bool,
    /// Its rows have been seen.
    seen: bool,
    /// The lock is ours.
    locked: bool,
    lock_asked_at: Duration,
    lost: Option<String>,
    retry_at: Duration,
    /// The number of the configuration that ovs-vswitchd has to take before its flow tables are to be relied on.
    awaited: Option<i64>,
}

/// What the renderer has not been told yet.
#[derive(Debug, Default)]
struct Inbox {
    changed: Changed,
    ports: BTreeSet<PortId>,
    networks: BTreeMap<OfPort, Option<NetworkPort>>,
    /// When the first of it came.
    since: Option<Duration>,
}

/// Objects of the policy that changed, however often: a source that is faster than the switch takes no memory for it.
#[derive(Debug, Default)]
struct Changed {
    groups: BTreeSet<GroupId>,
    address_groups: BTreeSet<AddressGroupId>,
    ports: BTreeSet<PortId>,
}

impl Changed {
    /// Everything that there is.
    fn all(policy: &Policy) -> Self {
        Changed {
            groups: policy.groups.keys().cloned().collect(),
            address_groups: policy.address_groups.keys().cloned().collect(),
            ports: policy.ports.keys().cloned().collect(),
        }
    }

    fn add(&mut self, delta: &PolicyDelta) {
        self.groups.extend(delta.groups.iter().map(|(id, _)| id.clone()));
        self.address_groups.extend(delta.address_groups.iter().map(|(id, _)| id.clone()));
        self.ports.extend(delta.ports.iter().map(|(id, _)| id.clone()));
    }

    fn len(&self) -> usize {
        self.groups.len() + self.address_groups.len() + self.ports.len()
    }

    /// The objects as they are now.
    fn in_policy(&self, policy: &Policy) -> PolicyDelta {
        let groups = self.groups.iter().map(|id| (id.clone(), policy.groups.get(id).cloned()));
        let address_groups =
            self.address_groups.iter().map(|id| (id.clone(), policy.address_groups.get(id).cloned()));
        let ports = self.ports.iter().map(|id| (id.clone(), policy.ports.get(id).cloned()));
        PolicyDelta {
            groups: groups.collect(),
            address_groups: address_groups.collect(),
            ports: ports.collect(),
        }
    }
}

/// What is under way. Exactly one answer ends it.
#[derive(Debug)]
enum Job {
    Write(Vec<DatabaseWrite>),
    Flush(Vec<Zone>),
    /// What the switch holds is read again; the first reading of a connection is no job, but a state of the link.
    ReadBack,
    Bundle(Arc<[FlowChange]>),
    Revalidate,
}

#[derive(Debug, Default)]
struct Progress {
    total: Sent,
    since_report: Sent,
    /// The renderer was told something that it has not been asked about yet.
    uncommitted: bool,
    /// Something was committed, or read back, and not reported applied yet.
    unreported: bool,
    settled: bool,
    stalled_until: Duration,
    fail_mode_told: bool,
    /// A bundle may yet be applied that an earlier connection left behind.
    straggler: bool,
    recheck_at: Option<Duration>,
    /// Flows were changed by others since the last read-back was asked for.
    drifted: bool,
    /// No read-back for that before this.
    read_back_after: Duration,
    /// When the first event came that what is under way follows from.
    since: Option<Duration>,
}

impl Engine {
    /// An engine that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Engine {
            host: match options.hook {
                Hook::Bridge => HostView::new(&options.bridge, options.network_ports.clone()),
                Hook::Transient => {
                    HostView::new(&options.bridge, options.network_ports.clone()).with_tagged_ports()
                }
            },
            options,
            began: false,
            policy: Policy::default(),
            policy_known: false,
            bridge: None,
            enforced: None,
            database: Database::default(),
            ledger: Ledger::default(),
            link: Link::default(),
            flows: None,
            inbox: Inbox::default(),
            busy: None,
            quarantine: BTreeSet::new(),
            refused_rules: BTreeMap::new(),
            no_policy: BTreeSet::new(),
            no_zone: BTreeSet::new(),
            unzoned: BTreeSet::new(),
            unrecorded: BTreeSet::new(),
            progress: Progress::default(),
            counts: Counts::default(),
            takeover_until: None,
            waiting: None,
            foreign: (0, String::new()),
            effects: Vec::new(),
            now: Duration::ZERO,
        }
    }

    /// Takes events in and says what is to be done. `now` is a time that only grows, from any beginning. Events that
    /// are there together are given together: they become one bundle.
    pub fn handle(&mut self, now: Duration, events: impl IntoIterator<Item = Event>) -> Vec<Effect> {
        self.now = self.now.max(now);
        for event in events {
            match event {
                Event::Policy(delta) => self.on_policy(delta),
                Event::Database(event) => self.on_database(event),
                Event::Switch(link, event) if self.link.is(link) => self.on_switch(event),
                Event::Switch(..) | Event::Tick => {}
            }
        }
        self.refresh_host();
        self.end_takeover();
        while self.step() {}
        if let Some(time) = self.next_deadline() {
            self.effects.push(Effect::WakeAt(time));
        }
        std::mem::take(&mut self.effects)
    }

    /// What is enforced at the moment. Costs nothing that grows with the flows: it is asked after each change.
    pub fn status(&self) -> Status {
        let (sets, flows) =
            self.flows.as_ref().map_or((0, 0), |f| (f.renderer.set_count(), f.wanted_count()));
        let ports = self.host.spots().len();
        let ports_without_policy = self.no_policy.len();
        Status { ports, ports_without_policy, sets, flows, sent: self.progress.total }
    }

    /// Where frames enter the firewall.
    pub fn hook(&self) -> Hook {
        self.options.hook
    }

    /// Where a local port is plugged in; none if it is not.
    pub fn spot(&self, port: &PortId) -> Option<Spot> {
        self.host.spot(port).cloned()
    }

    /// The local ports, with their plugs.
    pub fn spots(&self) -> impl Iterator<Item = (&PortId, &Spot)> {
        self.host.spots()
    }

    /// Whether the rows of the database were seen, so that what is plugged in is known.
    pub fn has_seen_database(&self) -> bool {
        self.database.seen
    }

    /// The interfaces that say they are a port's, and are closed for what they are.
    pub fn closed(&self) -> Vec<ClosedInterface> {
        self.host.closed().collect()
    }

    /// What keeps the engine from applying anything, as last told.
    pub fn waiting(&self) -> Option<&Waiting> {
        self.waiting.as_ref()
    }

    /// The name of the lock in the database that keeps two of us from one bridge: `sgflow_` and the bridge's name,
    /// with `_` and two hexadecimal digits for each byte that may not stand in a lock's name. That is an `<id>`
    /// (RFC 7047, 3.1 and 4.1.8): letters, digits and underscores.
    pub fn lock_name(bridge: &str) -> String {
        let spell = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("_{byte:02x}"),
        };
        bridge.bytes().fold("sgflow_".to_owned(), |name, byte| name + &spell(byte))
    }

    fn on_policy(&mut self, delta: PolicyDelta) {
        self.policy_known = true;
        if !delta.is_empty() {
            self.inbox.since.get_or_insert(self.now);
        }
        for (port, _) in &delta.ports {
            if self.quarantine.remove(port) || self.host.spot(port).is_some() {
                self.inbox.ports.insert(port.clone());
            }
        }
        for (group, _) in &delta.groups {
            self.refused_rules.remove(group);
        }
        if self.flows.is_some() {
            self.inbox.changed.add(&delta);
        }
        self.policy.apply(delta);
    }

    fn on_database(&mut self, event: DatabaseEvent) {
        match event {
            DatabaseEvent::Connected => {
                let lock_asked_at = self.now;
                self.database = Database { connected: true, lock_asked_at, ..Database::default() };
            }
            DatabaseEvent::Rows(rows) => {
                self.database.seen = true;
                self.on_rows(rows);
            }
            DatabaseEvent::Locked => {
                self.database.locked = true;
                self.start_over();
            }
            DatabaseEvent::Stolen => {
                self.database.locked = false;
                self.database.lock_asked_at = self.now;
            }
            DatabaseEvent::Lost { reason } => {
                if std::mem::take(&mut self.database.connected) {
                    self.counts.database_losses += 1;
                    self.report(Report::DatabaseLost(reason.clone()));
                }
                self.database.lost = Some(reason);
            }
            DatabaseEvent::Written(result) => self.on_written(result),
        }
    }

    fn on_written(&mut self, result: Result<(), String>) {
        let Some(Job::Write(writes)) = self.busy.take_if(|job| matches!(job, Job::Write(_))) else { return };
        match result {
            Ok(()) => {
                if writes.iter().any(|write| matches!(write, DatabaseWrite::FailModeSecure { .. })) {
                    self.database.awaited = Some(self.host.configuration().wanted);
                }
                self.ledger.written(&writes);
                self.inbox.ports.append(&mut self.unrecorded);
            }
            Err(reason) => {
                self.database.retry_at = self.now + WRITE_RETRY;
                self.report(Report::WriteFailed(reason));
            }
        }
    }

    fn on_rows(&mut self, rows: Vec<RowChange>) {
        let mut interfaces = Vec::new();
        for row in rows {
            if let RowChange::Interface(id, _) = &row {
                interfaces.push(*id);
            }
            self.host.change(row);
        }
        self.take_in_host();
        // Who waits for an interface to open wants to hear when it has, or has not.
        self.progress.settled &= interfaces.is_empty();
        let begin = !std::mem::replace(&mut self.began, true);
        let left = self.ledger.left(&interfaces, &self.host);
        for interface in interfaces {
            let loser = self.ledger.interface_changed(interface, &self.host, begin, &left);
            let port = self.host.port_at(&interface);
            self.unzoned.extend(loser.iter().chain(&port).cloned());
            self.inbox.ports.extend(port.filter(|port| self.unrecorded.remove(port)));
            self.inbox.ports.extend(loser);
        }
    }

    /// What the rows come to.
    fn take_in_host(&mut self) {
        let delta = self.host.refresh();
        if !delta.attachments.is_empty() {
            self.inbox.since.get_or_insert(self.now);
        }
        for closed in delta.closed {
            self.report(Report::Closed(closed));
        }
        for change in delta.attachments {
            match change {
                AttachmentChange::Port(port, spot) => {
                    self.quarantine.remove(&port);
                    match spot {
                        Some(_) => _ = self.unzoned.insert(port.clone()),
                        None => _ = self.unzoned.remove(&port) | self.unrecorded.remove(&port),
                    }
                    // A zone may have come free, wherever it was missing.
                    self.unzoned.extend(std::mem::take(&mut self.no_zone));
                    self.inbox.ports.insert(port);
                }
                AttachmentChange::Network(ofport, attachment) => {
                    self.inbox.networks.insert(ofport, attachment);
                }
            }
        }
    }

    /// Another bridge of the same name is another bridge.
    fn refresh_host(&mut self) {
        let bridge = self.host.bridge_id();
        if self.bridge != bridge {
            self.bridge = bridge;
            self.start_over();
        }
        let taken = self.host.configuration().taken;
        if self.database.awaited.take_if(|awaited| taken >= *awaited).is_some() {
            // The flow monitor's word of what that did may still be on its way.
            self.progress.drifted = true;
        }
        if self.must_wait_for_restoration() {
            self.drop_link();
            self.link.retry_now();
        }
        let unsafe_mode = self.host.bridge().and_then(BridgeRow::unsafe_fail_mode).map(str::to_owned);
        match unsafe_mode.filter(|_| self.is_enforced()) {
            Some(mode) if !self.progress.fail_mode_told => {
                self.progress.fail_mode_told = true;
                self.report(Report::FailModeChanged(mode));
            }
            Some(_) => {}
            None => self.progress.fail_mode_told = false,
        }
    }

    /// Whether we have looked after the flows of this bridge already.
    fn is_enforced(&self) -> bool {
        self.bridge.is_some() && self.enforced == self.bridge
    }

    /// Forgets everything that another may have changed while the bridge was not ours: what follows is as after a
    /// restart of this program, and if nobody changed anything, nothing is sent.
    fn start_over(&mut self) {
        self.drop_link();
        self.link.retry_now();
        self.flows = None;
        self.ledger.reopen();
        self.quarantine.clear();
        self.unrecorded.clear();
        self.inbox = Inbox {
            changed: Changed::default(),
            ports: self.host.spots().map(|(port, _)| port.clone()).collect(),
            networks: self.host.networks().map(|(ofport, at)| (ofport, Some(at))).collect(),
            since: self.inbox.since,
        };
        self.unzoned.extend(self.inbox.ports.iter().cloned());
        let Progress { total, straggler, .. } = self.progress;
        self.progress = Progress { total, straggler, ..Progress::default() };
    }

    fn on_switch(&mut self, event: SwitchEvent) {
        match event {
            SwitchEvent::Connected => {
                self.link.connected();
                self.progress.drifted = false;
                self.effects.push(Effect::ReadBack(self.link.id()));
            }
            SwitchEvent::Drift => self.progress.drifted = true,
            SwitchEvent::Lost { reason } => self.link_lost(reason),
            SwitchEvent::Flows(flows) => self.on_read_back(flows),
            SwitchEvent::ZonesFlushed(Err(reason)) => self.link_lost(reason),
            SwitchEvent::ZonesFlushed(Ok(())) => {
                if let Some(Job::Flush(zones)) = self.busy.take() {
                    self.counts.zones_flushed += zones.len() as u64;
                    self.ledger.flushed(&zones);
                }
            }
            SwitchEvent::Bundled(result) => {
                if let Some(Job::Bundle(changes)) = self.busy.take() {
                    self.on_bundled(&changes, result);
                }
            }
            SwitchEvent::Revalidated(revalidation) => {
                self.busy = None;
                if let Revalidation::Waited { reason, time } = revalidation {
                    self.report(Report::RevalidationWaited { reason, time });
                }
                if let Some(flows) = &mut self.flows {
                    flows.debt.revalidate = false;
                }
            }
        }
    }

    fn on_read_back(&mut self, mut read: Vec<Flow>) {
        self.counts.read_backs += 1;
        read.iter_mut().for_each(|flow| self.options.hook.adopt(flow));
        let again = self.busy.take_if(|job| matches!(job, Job::ReadBack)).is_some();
        self.link.read_back();
        self.enforced = self.bridge;
        self.tell_foreign(&read);
        let highest = Known::read(&read).highest_generation();
        self.ledger.open_pool(&self.host, highest.map(|generation| generation.0));
        let is_new = self.flows.is_none();
        let now = self.now;
        let is_left = self.options.hook == Hook::Transient && is_to_be_taken_over(&read);
        if is_left && self.takeover_until.is_none() {
            self.takeover_until = Some(now + self.options.takeover_timeout);
        }
        let is_taken_over = self.takeover_until.is_some_and(|time| now < time);
        let flows = self.flows.get_or_insert_with(|| {
            let permitted_ethertypes = self.options.permitted_ethertypes.clone();
            let config = Config { permitted_ethertypes, hook: self.options.hook };
            self.inbox.changed = Changed::all(&self.policy);
            Flows::new(&config, &read)
        });
        if is_new && is_taken_over {
            flows.renderer.take_over(true);
        }
        flows.read_back(read);
        let drift = count(&flows.pending());
        if again {
            self.progress.read_back_after = self.now + READ_BACK_PAUSE;
            if drift.flow_mods() > 0 {
                self.report(Report::Drifted(drift));
            }
        }
        for port in std::mem::take(&mut self.quarantine) {
            self.inbox.ports.insert(port);
        }
        self.progress.uncommitted = true;
        self.progress.settled = false;
        let straggler = std::mem::take(&mut self.progress.straggler);
        self.progress.recheck_at = straggler.then(|| self.now + RECHECK);
    }

    /// What Neutron's own driver has admitted goes on by our zones from now on, or not at all.
    fn end_takeover(&mut self) {
        if let Some(flows) = &mut self.flows
            && self.takeover_until.is_some_and(|time| self.now >= time)
            && flows.renderer.is_taking_over()
        {
            flows.renderer.take_over(false);
            self.progress.uncommitted = true;
            self.progress.settled = false;
            self.report(Report::TakenOver);
        }
    }

    /// Tells of flows of others among ours, unless they are those that were told of last.
    fn tell_foreign(&mut self, read: &[Flow]) {
        let mut foreign = flows::foreign(read, self.options.hook).peekable();
        let example = foreign.peek().map(ToString::to_string).unwrap_or_default();
        let told = (foreign.count(), example);
        if self.foreign != told && told.0 > 0 {
            self.report(Report::ForeignFlows { count: told.0, example: told.1.clone() });
        }
        self.foreign = told;
    }

    /// The connection is gone; the switch keeps what it has.
    fn link_lost(&mut self, reason: String) {
        if self.link.is_up() {
            self.counts.switch_losses += 1;
            self.report(Report::SwitchLost(reason.clone()));
        }
        self.drop_link();
        self.link.failed(reason, self.now);
    }

    fn drop_link(&mut self) {
        if self.link.is_down() {
            return;
        }
        self.effects.push(Effect::Disconnect(self.link.id()));
        self.link.down();
        let unfinished = self.busy.take_if(|job| !matches!(job, Job::Write(_)));
        let unchecked = self.progress.recheck_at.take().is_some();
        self.progress.straggler |= unchecked || matches!(unfinished, Some(Job::Bundle(_)));
    }

    fn report(&mut self, report: Report) {
        self.effects.push(Effect::Report(report));
    }
}
