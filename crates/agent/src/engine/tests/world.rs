//! A switch and a database in memory that do what the engine wants, or fail as a test wants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ovsdb::Uuid;
use pipeline::{OfPort, Zone};
use policy::{Policy, PortId};
use reconcile::Change;
use rust_openflow::{Action, Field, Flow, FlowKey};

use crate::engine::flows::join;
use crate::engine::{
    BundleFailure, DatabaseEvent, DatabaseWrite, Effect, Engine, Event, FlowChange, LinkId, Options, Refusal,
    Report, Revalidation, SwitchEvent,
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

pub(super) struct World {
    pub(super) engine: Engine,
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
    pub(super) now: Duration,
    /// So often the switch was read back.
    pub(super) read_backs: usize,
    configuration: Configuration,
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
            now: Duration::ZERO,
            read_backs: 0,
            configuration: Configuration::default(),
            fail_mode: Some("secure".into()),
            highest_mark: 0,
            stragglers: None,
            surprised: false,
            wake_at: None,
        }
    }

    pub(super) fn options() -> Options {
        Options {
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
        let policy = std::mem::take(&mut self.policy);
        self.connect_database();
        self.set_policy(policy);
    }

    pub(super) fn set_policy(&mut self, policy: Policy) {
        let delta = Policy::diff(&self.policy, &policy);
        self.policy = policy;
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
        let (port_id, id) = (Uuid::from_u128(1000 + u128::from(number)), interface_id(number));
        let port = PortRow { name: interface.name.clone(), interfaces: [id].into(), tag: Tag::None };
        self.interfaces.insert(id, interface.clone());
        self.ports.insert(port_id, port.clone());
        let bridge = self.bridge.as_mut().expect("there is a bridge");
        bridge.ports.insert(port_id);
        let bridge = bridge.clone();
        self.rows(vec![
            RowChange::Bridge(BRIDGE, Some(bridge)),
            RowChange::Port(port_id, Some(port)),
            RowChange::Interface(id, Some(interface)),
        ]);
    }

    pub(super) fn unplug(&mut self, number: u16) {
        let port_id = Uuid::from_u128(1000 + u128::from(number));
        self.ports.remove(&port_id);
        self.interfaces.remove(&interface_id(number));
        let bridge = self.bridge.as_mut().expect("there is a bridge");
        bridge.ports.remove(&port_id);
        let bridge = bridge.clone();
        self.rows(vec![
            RowChange::Bridge(BRIDGE, Some(bridge)),
            RowChange::Port(port_id, None),
            RowChange::Interface(interface_id(number), None),
        ]);
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
        Some(Event::Switch(self.link, SwitchEvent::Drift))
    }

    pub(super) fn rows(&mut self, rows: Vec<RowChange>) {
        self.give(vec![Event::Database(DatabaseEvent::Rows(rows))]);
    }

    pub(super) fn zone(&self, number: u16) -> Option<Zone> {
        self.interfaces.get(&interface_id(number)).and_then(|row| row.zone)
    }

    /// The switch ends the connection.
    pub(super) fn cut(&mut self) {
        let link = self.link;
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

    /// Gives events to the engine and does everything it wants, until it wants no more.
    pub(super) fn give(&mut self, events: Vec<Event>) {
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

    pub(super) fn perform(&mut self, effect: Effect) -> Vec<Event> {
        let switch = |link, event| vec![Event::Switch(link, event)];
        match effect {
            Effect::Connect(link) if self.faults.switch_gone => {
                switch(link, SwitchEvent::Lost { reason: "nobody there".into() })
            }
            Effect::Connect(link) => {
                self.link = link;
                self.log.push("connect".into());
                switch(link, SwitchEvent::Connected)
            }
            Effect::Disconnect(_) => {
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
                switch(link, SwitchEvent::Flows(flows))
            }
            Effect::FlushZones(link, zones) => {
                let zones: Vec<u16> = zones.iter().map(|zone| zone.0).collect();
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
                    Report::Settled => self.log.push("settled".into()),
                    _ => {}
                }
                self.reports.push(report);
                Vec::new()
            }
            Effect::Audited(_) => Vec::new(),
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
            let held = self.flows.get(change.key()).map(|flow| (flow.cookie, &flow.actions));
            let expected = change.old_value().map(|old| (old.cookie, &old.actions));
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
        bridge.chain(ports).chain(interfaces).chain(tables).collect()
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
