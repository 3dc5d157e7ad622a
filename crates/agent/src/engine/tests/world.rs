//! A switch and a database in memory that do what the engine wants, or fail as a test wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ovsdb::Uuid;
use pipeline::{Hook, OfPort, Zone};
use policy::{Policy, PortId};
use reconcile::Change;
use rust_openflow::{Action, Field, Flow, FlowKey};

use super::judge::{Judge, Plugged};
use crate::engine::flows::join;
use crate::engine::{
    BundleFailure, DatabaseEvent, DatabaseWrite, Effect, Engine, Event, FlowChange, LinkId, Options, Refusal,
    Report, Revalidation, Stage, SwitchEvent,
};
use crate::host::{BridgeRow, Configuration, FlowTableRow, InterfaceRow, PortRow, RowChange, Tag};

pub(super) const BRIDGE: Uuid = Uuid::from_u128(1);

/// What a test may have go wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// The switch refuses to add or modify flows whose text contains this.
    pub(super) refused: Vec<(String, &'static str)>,
    /// Nobody listens on the bridge's socket.
    pub(super) switch_gone: bool,
    /// The next bundle is applied (or not) and its answer lost.
    pub(super) lose_bundle_answer: Option<bool>,
    /// The next bundle is applied when the next connection has been read back, and its answer lost.
    pub(super) late_bundle: bool,
    /// The database refuses to write.
    pub(super) write_refused: bool,
    /// The next revalidation gets no answer.
    pub(super) hold_revalidation: bool,
    /// The next read-back gets no answer.
    pub(super) hold_read_back: bool,
    /// The switch does not take what the database says before it is told to.
    pub(super) slow_switch: bool,
}

/// What is under way between the engine and its world, where somebody else says what comes next. Each line is in order.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// From the policy source, the database and the switch.
    to_engine: [VecDeque<Event>; 3],
    /// To the database, and to the switch.
    to_world: [VecDeque<Effect>; 2],
    /// The connection that the switch still has.
    alive: Option<LinkId>,
}

/// A line, by where it comes from or goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    Policy,
    FromDatabase,
    FromSwitch,
    ToDatabase,
    ToSwitch,
}

pub(super) struct World {
    pub(super) engine: Engine,
    /// Nothing is done before it is asked for, if there are any.
    pub(super) lines: Option<Lines>,
    /// Looks at what frames meet.
    pub(super) judge: Option<Judge>,
    /// What it found.
    pub(super) broken: Option<String>,
    pub(super) flows: BTreeMap<FlowKey, Flow>,
    pub(super) bridge: Option<BridgeRow>,
    pub(super) ports: BTreeMap<Uuid, PortRow>,
    pub(super) interfaces: BTreeMap<Uuid, InterfaceRow>,
    pub(super) flow_tables: BTreeMap<Uuid, FlowTableRow>,
    pub(super) policy: Policy,
    pub(super) faults: Faults,
    pub(super) link: LinkId,
    /// Everything that happened at the edge, in order, in a word each.
    pub(super) log: Vec<String>,
    pub(super) reports: Vec<Report>,
    /// Stages of changes, each with the time of the event that it follows from.
    pub(super) stages: Vec<(Stage, Duration)>,
    pub(super) now: Duration,
    /// So often the switch was read back.
    pub(super) read_backs: usize,
    configuration: Configuration,
    /// What somebody who restarts the switch is about to give back to it.
    saved: Option<BTreeMap<FlowKey, Flow>>,
    /// The fail_mode as the switch has taken it.
    fail_mode: Option<String>,
    /// The highest mark that the database ever said.
    highest_mark: u32,
    /// Of a connection that has ended.
    stragglers: Option<Vec<FlowChange>>,
    /// They came after the read-back, so the engine cannot know what the switch holds.
    surprised: bool,
    wake_at: Option<Duration>,
}

impl World {
    /// A bridge without ports and a database that is connected and gave the lock.
    pub(super) fn new(options: Options) -> Self {
        let bridge = BridgeRow {
            name: options.bridge.clone(),
            fail_mode: Some("secure".into()),
            ..BridgeRow::default()
        };
        World {
            engine: Engine::new(options),
            lines: None,
            judge: None,
            broken: None,
            flows: BTreeMap::new(),
            bridge: Some(bridge),
            ports: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            flow_tables: BTreeMap::new(),
            policy: Policy::default(),
            faults: Faults::default(),
            link: LinkId(0),
            log: Vec::new(),
            reports: Vec::new(),
            stages: Vec::new(),
            now: Duration::ZERO,
            read_backs: 0,
            configuration: Configuration::default(),
            saved: None,
            fail_mode: Some("secure".into()),
            highest_mark: 0,
            stragglers: None,
            surprised: false,
            wake_at: None,
        }
    }

    pub(super) fn options() -> Options {
        Options {
            hook: Hook::Bridge,
            takeover_timeout: Duration::from_secs(300),
            bridge: "br-int".into(),
            set_fail_mode: false,
            permitted_ethertypes: BTreeSet::new(),
            network_ports: BTreeSet::new(),
        }
    }

    /// Database, rows and lock, as at every start.
    pub(super) fn connect_database(&mut self) {
        let rows = self.all_rows();
        self.give(vec![
            Event::Database(DatabaseEvent::Connected),
            Event::Database(DatabaseEvent::Rows(rows)),
            Event::Database(DatabaseEvent::Locked),
        ]);
    }

    /// Another process on the same switch and database.
    pub(super) fn restart(&mut self) {
        self.restart_with(World::options());
    }

    pub(super) fn restart_with(&mut self, options: Options) {
        self.engine = Engine::new(options);
        self.log.clear();
        self.reports.clear();
        self.abandon();
        let policy = std::mem::take(&mut self.policy);
        self.connect_database();
        self.set_policy(policy);
    }

    pub(super) fn set_policy(&mut self, policy: Policy) {
        let delta = Policy::diff(&self.policy, &policy);
        self.policy = policy;
        self.changed();
        self.give(vec![Event::Policy(delta)]);
    }

    /// The policy of this document.
    pub(super) fn document(&mut self, text: &str) {
        let parsed = policy::document::parse(&[("test", text)], None);
        assert_eq!(parsed.diagnostics, [], "{text}");
        self.set_policy(parsed.policy);
    }

    /// Plugs in a local port with row id and ofport `number`.
    pub(super) fn plug(&mut self, number: u16, port: &str) {
        let interface = InterfaceRow {
            name: format!("tap{number}"),
            ofport: Some(OfPort(number)),
            iface_id: Some(PortId::from(port)),
            ..InterfaceRow::default()
        };
        self.plug_interface(number, interface);
    }

    pub(super) fn plug_interface(&mut self, number: u16, interface: InterfaceRow) {
        let rows = self.plug_rows(number, interface);
        self.rows(rows);
    }

    /// Gives the Port of a plug a tag.
    pub(super) fn tag(&mut self, number: u16, vlan: u16) {
        let id = Uuid::from_u128(1000 + u128::from(number));
        let port = self.ports.get_mut(&id).expect("it is plugged in");
        port.tag = Tag::Column(vlan);
        let row = RowChange::Port(id, Some(port.clone()));
        self.rows(vec![row]);
    }

    /// One interface in the place of another, in one transaction.
    pub(super) fn replug(&mut self, from: u16, to: u16, interface: InterfaceRow) {
        let mut rows = self.unplug_rows(from);
        rows.extend(self.plug_rows(to, interface));
        self.rows(rows);
    }

    fn plug_rows(&mut self, number: u16, interface: InterfaceRow) -> Vec<RowChange> {
        let (port_id, id) = (Uuid::from_u128(1000 + u128::from(number)), interface_id(number));
        let port = PortRow { name: interface.name.clone(), interfaces: [id].into(), tag: Tag::None };
        self.interfaces.insert(id, interface.clone());
        self.ports.insert(port_id, port.clone());
        let bridge = self.bridge.as_mut().expect("there is a bridge");
        bridge.ports.insert(port_id);
        let bridge = bridge.clone();
        vec![
            RowChange::Bridge(BRIDGE, Some(bridge)),
            RowChange::Port(port_id, Some(port)),
            RowChange::Interface(id, Some(interface)),
        ]
    }

    pub(super) fn unplug(&mut self, number: u16) {
        let rows = self.unplug_rows(number);
        self.rows(rows);
    }

    fn unplug_rows(&mut self, number: u16) -> Vec<RowChange> {
        let port_id = Uuid::from_u128(1000 + u128::from(number));
        self.ports.remove(&port_id);
        self.interfaces.remove(&interface_id(number));
        let bridge = self.bridge.as_mut().expect("there is a bridge");
        bridge.ports.remove(&port_id);
        let bridge = bridge.clone();
        vec![
            RowChange::Bridge(BRIDGE, Some(bridge)),
            RowChange::Port(port_id, None),
            RowChange::Interface(interface_id(number), None),
        ]
    }

    pub(super) fn set_interface(&mut self, number: u16, change: impl FnOnce(&mut InterfaceRow)) {
        let row = self.interfaces.get_mut(&interface_id(number)).expect("plugged in");
        change(row);
        let row = row.clone();
        self.rows(vec![RowChange::Interface(interface_id(number), Some(row))]);
    }

    pub(super) fn set_bridge(&mut self, bridge: Option<BridgeRow>) {
        self.bridge.clone_from(&bridge);
        let mut events = vec![Event::Database(DatabaseEvent::Rows(vec![RowChange::Bridge(BRIDGE, bridge)]))];
        events.extend(self.take_configuration());
        self.give(events);
    }

    pub(super) fn set_fail_mode(&mut self, fail_mode: &str) {
        let mut bridge = self.bridge.clone();
        bridge.as_mut().expect("bridge").fail_mode = Some(fail_mode.to_owned());
        self.set_bridge(bridge);
    }

    /// The switch takes what the database says: another fail_mode costs it all of its flows.
    pub(super) fn take_configuration(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let fail_mode = self.bridge.as_ref().and_then(|bridge| bridge.fail_mode.clone());
        if self.bridge.is_some() && fail_mode != self.fail_mode {
            self.fail_mode = fail_mode;
            events.extend(self.others_change(BTreeMap::clear));
        }
        self.configuration.taken = self.configuration.wanted;
        events.push(Event::Database(DatabaseEvent::Rows(vec![RowChange::Configuration(self.configuration)])));
        events
    }

    /// Somebody else changes flows; gives what the switch tells of it.
    pub(super) fn others_change(
        &mut self,
        change: impl FnOnce(&mut BTreeMap<FlowKey, Flow>),
    ) -> Option<Event> {
        change(&mut self.flows);
        self.surprised = true;
        if let Some(judge) = &mut self.judge {
            judge.opened();
        }
        Some(Event::Switch(self.link, SwitchEvent::Drift))
    }

    /// Somebody else deletes flows; the switch tells of it.
    pub(super) fn others_delete(&mut self, mut is_gone: impl FnMut(&Flow) -> bool) {
        let told = self.others_change(|flows| flows.retain(|_, flow| !is_gone(flow)));
        self.give(told.into_iter().collect());
    }

    pub(super) fn rows(&mut self, rows: Vec<RowChange>) {
        self.changed();
        self.give(vec![Event::Database(DatabaseEvent::Rows(rows))]);
    }

    pub(super) fn zone(&self, number: u16) -> Option<Zone> {
        self.interfaces.get(&interface_id(number)).and_then(|row| row.zone)
    }

    /// The switch ends the connection.
    pub(super) fn cut(&mut self) {
        let link = self.link;
        if self.lines.as_ref().is_some_and(|lines| lines.alive != Some(link)) {
            return;
        }
        self.lose_link();
        self.give(vec![Event::Switch(link, SwitchEvent::Lost { reason: "cut".into() })]);
    }

    /// Time passes until the engine asked to be woken, at most so often.
    pub(super) fn pass_time(&mut self, times: usize) {
        for _ in 0..times {
            let Some(time) = self.wake_at.take() else { return };
            self.now = self.now.max(time);
            self.give(vec![Event::Tick]);
        }
    }

    /// Gives events to the engine and does everything it wants, until it wants no more. With lines, they wait for their turn.
    pub(super) fn give(&mut self, events: Vec<Event>) {
        if self.lines.is_some() {
            self.line_up(events);
            return;
        }
        let mut effects = self.engine.handle(self.now, events);
        for round in 0.. {
            assert!(round < 1000, "it never ends: {:?}", self.log.last());
            let answers: Vec<Event> = effects.drain(..).flat_map(|effect| self.perform(effect)).collect();
            if answers.is_empty() {
                return;
            }
            effects = self.engine.handle(self.now, answers);
        }
    }

    fn line_up(&mut self, events: Vec<Event>) {
        for event in events {
            let line = match &event {
                Event::Policy(_) => Line::Policy,
                Event::Database(_) => Line::FromDatabase,
                Event::Switch(..) => Line::FromSwitch,
                Event::Tick => {
                    self.tell(vec![event]);
                    continue;
                }
            };
            let lines = self.lines.as_mut().expect("there are lines");
            lines.to_engine[line as usize].push_back(event);
        }
    }

    /// The engine hears of these together. What it wants waits for its turn; what it says is heard.
    fn tell(&mut self, events: Vec<Event>) {
        for effect in self.engine.handle(self.now, events) {
            let lines = self.lines.as_mut().expect("there are lines");
            match effect {
                Effect::Write(_) => lines.to_world[0].push_back(effect),
                Effect::Report(_)
                | Effect::Stage(..)
                | Effect::Audited(_)
                | Effect::Local(..)
                | Effect::WakeAt(_) => {
                    self.perform(effect);
                }
                _ => lines.to_world[1].push_back(effect),
            }
        }
    }

    /// The next things of a line happen, at most so many; whether any did.
    pub(super) fn next_of(&mut self, line: Line, at_most: usize) -> bool {
        let lines = self.lines.as_mut().expect("there are lines");
        match line {
            Line::Policy | Line::FromDatabase | Line::FromSwitch => {
                let line = &mut lines.to_engine[line as usize];
                let events: Vec<Event> = line.drain(..at_most.min(line.len())).collect();
                let any = !events.is_empty();
                if any {
                    self.tell(events);
                }
                any
            }
            Line::ToDatabase | Line::ToSwitch => {
                let number = usize::from(line == Line::ToSwitch);
                let Some(effect) = lines.to_world[number].pop_front() else { return false };
                let answers = self.perform(effect);
                self.give(answers);
                true
            }
        }
    }

    /// Everything that is under way happens.
    pub(super) fn drain(&mut self) {
        const ALL: [Line; 5] =
            [Line::Policy, Line::FromDatabase, Line::FromSwitch, Line::ToDatabase, Line::ToSwitch];
        for round in 0.. {
            assert!(round < 1000, "it never ends: {:?}", self.log.last());
            if !ALL.map(|line| self.next_of(line, 3)).contains(&true) {
                return;
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.lines.as_ref().is_none_or(|lines| {
            lines.to_engine.iter().all(VecDeque::is_empty) && lines.to_world.iter().all(VecDeque::is_empty)
        })
    }

    /// The process is gone, and what it was told with it. A bundle that is on its way may come in later.
    fn abandon(&mut self) {
        let Some(lines) = &mut self.lines else { return };
        let Lines { to_world: [_, to_switch], .. } = std::mem::take(lines);
        self.lose_on_the_way(to_switch);
    }

    /// The connection has ended: of what was on the way, a bundle may come in after the next one has read back.
    fn lose_on_the_way(&mut self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            if let (Effect::Bundle(_, changes), true) = (effect, self.faults.late_bundle) {
                self.faults.late_bundle = false;
                self.stragglers = Some(changes.to_vec());
            }
        }
    }

    /// What the switch has heard of last ends.
    fn lose_link(&mut self) {
        let link = self.link;
        let Some(lines) = &mut self.lines else { return };
        lines.alive = None;
        let of_link = |effect: &Effect| matches!(effect, Effect::Bundle(of, _) if *of == link);
        let (lost, others): (VecDeque<_>, VecDeque<_>) = lines.to_world[1].drain(..).partition(of_link);
        lines.to_world[1] = others;
        self.lose_on_the_way(lost);
    }

    /// Policy or devices are others.
    pub(super) fn changed(&mut self) {
        let plugged = self.plugged();
        if let Some(judge) = &mut self.judge {
            judge.changed(&self.policy, &plugged);
        }
    }

    fn plugged(&self) -> Plugged {
        let number = |id: &PortId| id.as_str().strip_prefix("p-")?.parse().ok();
        let there = |row: &InterfaceRow| Some((row.ofport?.0, number(row.iface_id.as_ref()?)?));
        self.interfaces.values().filter_map(there).collect()
    }

    /// Flows or connections may be lost.
    pub(super) fn torn(&mut self) {
        if let Some(judge) = &mut self.judge {
            judge.torn();
        }
    }

    /// The switch ends, with its flows and its tracker.
    pub(super) fn switch_ends(&mut self) {
        self.flows.clear();
        if let Some(judge) = &mut self.judge {
            judge.forget();
        }
        self.cut();
    }

    /// The switch is restarted with its flows, as `ovs-ctl restart` does: they are saved, it ends, and begins without any and
    /// with `flow-restore-wait`. The tracker is in it, or in the kernel, where it stays.
    pub(super) fn switch_is_saved(&mut self, tracker_stays: bool) {
        self.saved = Some(self.flows.clone());
        self.configuration.restoring = true;
        self.rows(vec![RowChange::Configuration(self.configuration)]);
        if tracker_stays {
            self.flows.clear();
            self.torn();
            self.cut();
        } else {
            self.switch_ends();
        }
    }

    /// The saved flows are put back, and whatever else there is by now goes.
    pub(super) fn switch_is_restored(&mut self) {
        let Some(saved) = self.saved.take() else { return };
        let told = self.others_change(|flows| *flows = saved);
        self.configuration.restoring = false;
        let done = Event::Database(DatabaseEvent::Rows(vec![RowChange::Configuration(self.configuration)]));
        self.give(told.into_iter().chain([done]).collect());
    }

    /// The flows are others.
    fn look(&mut self) {
        if let Some(judge) = &mut self.judge {
            let seen = judge.look(self.flows.values());
            self.broken = self.broken.take().or(seen.err());
        }
    }

    /// Frames go between all ports.
    pub(super) fn traffic(&mut self) {
        if let Some(judge) = &mut self.judge {
            let seen = judge.traffic(self.flows.values());
            self.broken = self.broken.take().or(seen.err());
        }
    }

    fn settled(&mut self) {
        // What was refused stays closed until the next connection, and is told of.
        let faults = self.engine.health().faults;
        let refused = faults.iter().any(|fault| fault.reason.starts_with("the switch refuses"));
        if let Some(judge) = self.judge.as_mut().filter(|_| self.stragglers.is_none()) {
            let seen = judge.settled(self.flows.values(), refused);
            self.broken = self.broken.take().or(seen.err());
        }
    }

    /// Whether the connection that an effect is about has ended, as far as the switch is concerned.
    fn is_of_the_past(&self, effect: &Effect) -> bool {
        let Some(lines) = &self.lines else { return false };
        match effect {
            Effect::ReadBack(link)
            | Effect::FlushZones(link, _)
            | Effect::Bundle(link, _)
            | Effect::Revalidate(link) => lines.alive != Some(*link),
            _ => false,
        }
    }

    pub(super) fn perform(&mut self, effect: Effect) -> Vec<Event> {
        if self.is_of_the_past(&effect) {
            return Vec::new();
        }
        let switch = |link, event| vec![Event::Switch(link, event)];
        match effect {
            Effect::Connect(link) if self.faults.switch_gone => {
                switch(link, SwitchEvent::Lost { reason: "nobody there".into() })
            }
            Effect::Connect(link) => {
                self.link = link;
                if let Some(lines) = &mut self.lines {
                    lines.alive = Some(link);
                }
                self.log.push("connect".into());
                switch(link, SwitchEvent::Connected)
            }
            Effect::Disconnect(link) => {
                if let Some(lines) = self.lines.as_mut().filter(|lines| lines.alive == Some(link)) {
                    lines.alive = None;
                }
                self.log.push("disconnect".into());
                Vec::new()
            }
            Effect::ReadBack(link) => {
                let flows = self.flows.values().cloned().collect();
                let stragglers = self.stragglers.take();
                self.read_backs += 1;
                self.surprised = stragglers.is_some();
                stragglers.iter().flatten().for_each(|change| self.put(change));
                if std::mem::take(&mut self.faults.hold_read_back) {
                    return Vec::new();
                }
                let mut events = switch(link, SwitchEvent::Flows(flows));
                if stragglers.is_some() && self.lines.is_some() {
                    // The flow monitor was asked for before.
                    events.extend(switch(link, SwitchEvent::Drift));
                }
                if let Some(judge) = self.judge.as_mut().filter(|_| stragglers.is_some()) {
                    judge.opened();
                }
                events
            }
            Effect::FlushZones(link, zones) => {
                let zones: Vec<u16> = zones.iter().map(|zone| zone.0).collect();
                if let Some(judge) = &mut self.judge {
                    zones.iter().for_each(|zone| judge.flush(*zone));
                }
                self.log.push(format!("flush {zones:?}"));
                switch(link, SwitchEvent::ZonesFlushed(Ok(())))
            }
            Effect::Bundle(link, changes) => switch(link, SwitchEvent::Bundled(self.bundle(&changes))),
            Effect::Revalidate(link) => {
                self.log.push("revalidate".into());
                if std::mem::take(&mut self.faults.hold_revalidation) {
                    return Vec::new();
                }
                switch(link, SwitchEvent::Revalidated(Revalidation::Confirmed))
            }
            Effect::Write(writes) => self.write(&writes),
            Effect::Report(report) => {
                match &report {
                    Report::Applied(_) => self.log.push("applied".into()),
                    Report::Settled => {
                        self.log.push("settled".into());
                        if self.is_quiet() {
                            self.settled();
                        }
                    }
                    _ => {}
                }
                self.reports.push(report);
                Vec::new()
            }
            Effect::Stage(stage, since) => {
                self.stages.push((stage, since));
                Vec::new()
            }
            Effect::Audited(_) | Effect::Local(..) => Vec::new(),
            Effect::WakeAt(time) => {
                self.wake_at = Some(time);
                Vec::new()
            }
        }
    }

    fn bundle(&mut self, changes: &[FlowChange]) -> Result<(), BundleFailure> {
        self.log.push(format!("bundle {}", changes.len()));
        for (index, change) in changes.iter().enumerate() {
            let Some(body) = change.new_value() else { continue };
            self.assert_reserved(&body.actions);
            let text = join(change.key(), body).to_string();
            if let Some((_, error)) = self.faults.refused.iter().find(|(part, _)| text.contains(part)) {
                let refusal = Refusal { index: Some(index), error: (*error).to_owned() };
                return Err(BundleFailure::Refused(vec![refusal]));
            }
        }
        if std::mem::take(&mut self.faults.late_bundle) {
            self.stragglers = Some(changes.to_vec());
            return Err(BundleFailure::Unknown { reason: "no answer".into() });
        }
        let lost = self.faults.lose_bundle_answer.take();
        if lost != Some(false) {
            self.apply(changes);
            self.look();
        }
        lost.map_or(Ok(()), |_| Err(BundleFailure::Unknown { reason: "no answer".into() }))
    }

    /// No connection is stamped with a generation that the database does not know of.
    fn assert_reserved(&self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::Ct(ct) => self.assert_reserved(&ct.exec),
                Action::SetField { field: Field::CtMark, value, .. } => {
                    // 0 is "unproven", and no generation.
                    assert!(
                        *value == 0 || *value < u128::from(self.highest_mark),
                        "generation {value} was not reserved"
                    );
                }
                _ => {}
            }
        }
    }

    /// A change that does not fit what the switch holds is a failure of the engine's.
    fn apply(&mut self, changes: &[FlowChange]) {
        for change in changes {
            let held = self.flows.get(change.key()).map(|flow| (flow.cookie, &*flow.actions));
            let expected = change.old_value().map(|old| (old.cookie, &*old.actions));
            assert!(held == expected || self.surprised, "{change:?} does not fit the switch: {held:?}");
            self.put(change);
        }
    }

    fn put(&mut self, change: &FlowChange) {
        match change {
            Change::Add { key, new } | Change::Modify { key, new, .. } => {
                self.flows.insert(key.clone(), join(key, new));
            }
            Change::Delete { key, .. } => _ = self.flows.remove(key),
        }
    }

    fn write(&mut self, writes: &[DatabaseWrite]) -> Vec<Event> {
        if self.faults.write_refused {
            self.log.push("write refused".into());
            return vec![Event::Database(DatabaseEvent::Written(Err("read only".into())))];
        }
        let mut rows = Vec::new();
        let mut taken = Vec::new();
        for write in writes {
            match write {
                DatabaseWrite::FailModeSecure { .. } => {
                    self.log.push("write fail_mode".into());
                    self.bridge.as_mut().expect("bridge").fail_mode = Some("secure".into());
                    self.configuration.wanted += 1;
                    rows.push(RowChange::Configuration(self.configuration));
                    if !self.faults.slow_switch {
                        taken = self.take_configuration();
                    }
                }
                DatabaseWrite::Generation { mark, .. } => {
                    self.log.push("write generation".into());
                    self.highest_mark = self.highest_mark.max(*mark);
                    self.bridge.as_mut().expect("bridge").generation = Some(mark.to_string());
                }
                DatabaseWrite::Zone { interface, zone, port } => {
                    self.log.push(format!("write zone {zone}"));
                    if let Some(row) = self.interfaces.get_mut(interface) {
                        row.zone = Some(*zone);
                        row.zone_port = Some(port.clone());
                        rows.push(RowChange::Interface(*interface, Some(row.clone())));
                    }
                }
                DatabaseWrite::Prefixes { table, name, prefixes, .. } => {
                    let id = Uuid::from_u128(2000 + u128::from(*table));
                    let prefixes = prefixes.iter().map(|field| (*field).to_owned()).collect();
                    let row = FlowTableRow { name: Some((*name).to_owned()), prefixes };
                    self.flow_tables.insert(id, row.clone());
                    self.bridge.as_mut().expect("bridge").flow_tables.insert(*table, id);
                    rows.push(RowChange::FlowTable(id, Some(row)));
                }
            }
        }
        rows.push(RowChange::Bridge(BRIDGE, self.bridge.clone()));
        let written = DatabaseEvent::Written(Ok(()));
        let mut events = vec![Event::Database(DatabaseEvent::Rows(rows)), Event::Database(written)];
        events.extend(taken);
        events
    }

    fn all_rows(&self) -> Vec<RowChange> {
        let bridge = self.bridge.iter().map(|row| RowChange::Bridge(BRIDGE, Some(row.clone())));
        let ports = self.ports.iter().map(|(id, row)| RowChange::Port(*id, Some(row.clone())));
        let interfaces = self.interfaces.iter().map(|(id, row)| RowChange::Interface(*id, Some(row.clone())));
        let tables = self.flow_tables.iter().map(|(id, row)| RowChange::FlowTable(*id, Some(row.clone())));
        let configuration = RowChange::Configuration(self.configuration);
        bridge.chain(ports).chain(interfaces).chain(tables).chain([configuration]).collect()
    }

    /// The switch holds exactly what the engine wants.
    pub(super) fn assert_converged(&self) {
        let wanted: BTreeMap<FlowKey, Flow> =
            self.engine.wanted_flows().into_iter().map(|flow| (flow.key(), flow)).collect();
        assert!(wanted == self.flows, "wanted {} flows, the switch has {}", wanted.len(), self.flows.len());
    }

    /// Whether the switch lets frames in from this OpenFlow port.
    pub(super) fn is_open(&self, ofport: u16) -> bool {
        let from = |flow: &&Flow| {
            flow.matches.get(Field::InPort).map(|(value, _)| value) == Some(u128::from(ofport))
        };
        let mut flows = self.flows.values().filter(from);
        flows.any(|flow| flow.table == pipeline::layout::egress_source::TABLE)
    }

    /// What happened since the last time.
    pub(super) fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }
}

pub(super) fn interface_id(number: u16) -> Uuid {
    Uuid::from_u128(100 + u128::from(number))
}
