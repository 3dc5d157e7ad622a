//! The Open vSwitch driver: the engine, and the connections that do what it wants.
//!
//! One task runs the engine; whatever takes time is a task of its own that sends one event back. Everything that has
//! arrived is given to the engine at once, so that it becomes one bundle.

mod listing;
mod revalidate;
pub(super) mod rows;
mod switch;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ovsdb::session::{self, SessionEvents, SessionHandle};
use ovsdb::{Remote, SessionConfig, SessionEvent, TlsConfig};
use pipeline::Hook;
use policy::{MacAddr, Policy, PolicyDelta, PortId};
use rust_openflow::client::Target;
use rust_openflow::{Flow, FlowMod};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::{debug, error};
use verify::symbolic::LocalPort;

use super::Driver;
use crate::api::{Drops, DropsQuery, GroupPage, KernelSets, PortPage, Question, SetFill};
use crate::engine::{
    DatabaseEvent, Effect, Engine, Event, Facts, Fault, FlowChange, Health, LinkId, Options, Report,
    Revalidation, Status, SwitchEvent,
};
use crate::host::{ClosedInterface, Spot};
use crate::mirror::Mirror;
use crate::observe::{self, Observer, Place};
use switch::Switch;

/// Where the sockets of a host are when the database is reached over the network.
const DEFAULT_RUNDIR: &str = "/var/run/openvswitch";
/// Answers that wait for the engine; the tasks wait beyond that.
const ANSWERS: usize = 64;

/// What the driver has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// The Open_vSwitch database.
    pub remote: Remote,
    /// Certificates, for an `ssl:` remote.
    pub tls: Option<TlsConfig>,
    /// The bridge's OpenFlow socket (`unix:PATH` or `tcp:HOST:PORT`) when it is not `<bridge>.mgmt` beside the
    /// database's socket.
    pub openflow: Option<String>,
    /// What the engine is for.
    pub engine: Options,
    /// Keep the members of remotes as the kernel's sets besides.
    pub mirror: Option<MirrorOptions>,
    /// What to look at besides, if anything.
    pub observe: Option<observe::Options>,
    /// Read everything, change nothing: [`OpenvSwitch::planned`] says what would be sent.
    pub dry_run: bool,
}

/// How the members of remotes are kept as the kernel's sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MirrorOptions {
    /// Neighbouring addresses become prefixes that hold exactly the same.
    pub compress: bool,
}

/// What a switch was found to hold.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Where frames enter the firewall.
    pub hook: Hook,
    /// Every flow of the bridge, whosever it is.
    pub held: Vec<Flow>,
    /// What would make ours what they should be.
    pub drift: Arc<[FlowChange]>,
    /// The local ports.
    pub ports: Vec<LocalPort>,
    /// The MACs that their plugs say they have.
    pub stations: BTreeMap<PortId, MacAddr>,
}

impl Found {
    /// The policy as it is in force: a port of which it has the id alone is the station that its plug says it is.
    #[must_use]
    pub fn as_plugged(&self, mut policy: Policy) -> Policy {
        for (id, mac) in &self.stations {
            if let Some(port) = policy.ports.get_mut(id)
                && port.mac == MacAddr::UNKNOWN
            {
                Arc::make_mut(port).mac = *mac;
            }
        }
        policy
    }
}

/// A setup that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SetupError {
    /// The OpenFlow socket's address.
    #[error("openflow: {0}")]
    OpenFlow(String),
    /// The kernel's sets.
    #[error("ipset_mirror: {0}")]
    Mirror(String),
    /// The security-group log.
    #[error("security_log: {0}")]
    Log(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct OpenvSwitch {
    engine: Engine,
    began: Instant,
    lock: String,
    dry_run: bool,
    planned: Vec<FlowMod>,
    found: Found,
    session: SessionHandle,
    session_events: SessionEvents,
    target: Target,
    rundir: Option<PathBuf>,
    /// `other_config:max-revalidator` of the database.
    max_revalidator: Duration,
    mirror: Option<Mirror>,
    observer: Option<Observer>,
    switch: Option<Switch>,
    answers: mpsc::Sender<Answer>,
    answered: mpsc::Receiver<Answer>,
    inbox: Vec<Event>,
    reports: VecDeque<Report>,
    wake_at: Option<Duration>,
}

/// What comes back from a task.
#[derive(Debug)]
enum Answer {
    Event(Event),
    /// A connection to the switch stands.
    Connected(Box<Switch>),
}

impl OpenvSwitch {
    /// Starts to connect. Must be called on a tokio runtime; the connections end when the driver is dropped.
    pub fn new(setup: Setup) -> Result<Self, SetupError> {
        let Setup { remote, tls, openflow, engine, mirror, observe, dry_run } = setup;
        let mirror = mirror.filter(|_| !dry_run).map(|options| Mirror::start(options.compress)).transpose();
        let mirror = mirror.map_err(|error| SetupError::Mirror(error.to_string()))?;
        let (target, rundir) = target(openflow.as_deref(), &engine.bridge, &remote)?;
        let observer = observe.filter(|_| !dry_run).map(|options| Observer::start(options, target.clone()));
        let observer = observer.transpose().map_err(|error| SetupError::Log(error.to_string()))?;
        let config =
            SessionConfig { tls, monitors: rows::monitors(), ..SessionConfig::new(remote, rows::DATABASE) };
        let (session, session_events) = session::spawn(config);
        let (answers, answered) = mpsc::channel(ANSWERS);
        let lock = Engine::lock_name(&engine.bridge);
        if !dry_run {
            let (session, lock) = (session.clone(), lock.clone());
            tokio::spawn(async move { session.lock(lock).await });
        }
        Ok(OpenvSwitch {
            engine: Engine::new(engine),
            began: Instant::now(),
            lock,
            dry_run,
            planned: Vec::new(),
            found: Found::default(),
            session,
            session_events,
            target,
            rundir,
            max_revalidator: rows::DEFAULT_MAX_REVALIDATOR,
            mirror,
            observer,
            switch: None,
            answers,
            answered,
            inbox: Vec::new(),
            reports: VecDeque::new(),
            wake_at: None,
        })
    }

    /// In a dry run: what would have been sent so far, in order.
    pub fn planned(&self) -> &[FlowMod] {
        &self.planned
    }

    /// In a dry run: what the switch was found to hold when it was read last.
    pub fn found(&self) -> Found {
        let port = |(id, spot): (&PortId, &Spot)| LocalPort {
            id: id.clone(),
            ofport: spot.ofport.0,
            vlan: spot.vlan.0,
        };
        Found {
            hook: self.engine.hook(),
            ports: self.engine.spots().map(port).collect(),
            stations: self.engine.spots().filter_map(|(id, spot)| Some((id.clone(), spot.mac?))).collect(),
            ..self.found.clone()
        }
    }

    /// Bytes of OpenFlow sent on the present connection to the switch; 0 without one.
    pub fn bytes_sent(&self) -> u64 {
        self.switch.as_ref().map_or(0, Switch::bytes_written)
    }

    /// What keeps the driver from applying anything.
    pub fn waiting(&self) -> Option<&crate::engine::Waiting> {
        self.engine.waiting()
    }

    /// Waits for something to happen, and takes in everything that has happened by then.
    async fn gather(&mut self) {
        if self.inbox.is_empty() {
            let wake_at = self.wake_at.map(|time| self.began + time);
            tokio::select! {
                event = self.session_events.recv() => self.on_session(event),
                Some(answer) = self.answered.recv() => self.on_answer(answer),
                () = sleep_until(wake_at) => {
                    self.wake_at = None;
                    self.inbox.push(Event::Tick);
                }
            }
        }
        // A transaction's rows come before its answer.
        while let Some(event) = self.session_events.try_recv() {
            self.on_session(Some(event));
        }
        while let Ok(answer) = self.answered.try_recv() {
            self.on_answer(answer);
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        // What a transaction changed is in the queue before its answer is.
        while let Some(event) = self.session_events.try_recv() {
            self.on_session(Some(event));
        }
        match answer {
            Answer::Event(Event::Switch(link, SwitchEvent::Flows(flows))) if self.dry_run => {
                self.found.held.clone_from(&flows);
                let hook = self.engine.hook();
                self.found.held.iter_mut().for_each(|flow| hook.adopt(flow));
                self.inbox.push(Event::Switch(link, SwitchEvent::Flows(flows)));
            }
            Answer::Event(event) => self.inbox.push(event),
            Answer::Connected(switch) => {
                debug!("connected to the switch");
                self.inbox.push(Event::Switch(switch.link(), SwitchEvent::Connected));
                self.switch = Some(*switch);
            }
        }
    }

    fn on_session(&mut self, event: Option<SessionEvent>) {
        let event = match event {
            Some(SessionEvent::Connected) => {
                self.inbox.push(Event::Database(DatabaseEvent::Connected));
                if !self.dry_run {
                    return;
                }
                // Who changes nothing needs no lock.
                DatabaseEvent::Locked
            }
            Some(SessionEvent::Update(changes)) => {
                if let Some(time) = rows::max_revalidator(&changes) {
                    self.max_revalidator = time;
                }
                DatabaseEvent::Rows(rows::changes(&changes))
            }
            Some(SessionEvent::Locked(name)) if name == self.lock => DatabaseEvent::Locked,
            Some(SessionEvent::Stolen(name)) if name == self.lock => DatabaseEvent::Stolen,
            Some(SessionEvent::Locked(_) | SessionEvent::Stolen(_)) => return,
            Some(SessionEvent::Disconnected { reason }) => DatabaseEvent::Lost { reason },
            None => DatabaseEvent::Lost { reason: "the session ended".to_owned() },
        };
        self.inbox.push(Event::Database(event));
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Report(report) => {
                if let (Some(mirror), Report::Settled) = (&self.mirror, &report) {
                    mirror.complete();
                }
                if let (Some(observer), Report::Settled) = (&self.observer, &report) {
                    observer.begin();
                }
                self.reports.push_back(report);
            }
            Effect::Stage(stage, since) => {
                // Where the engine was is as long as it took to come to this.
                let time = self.began.elapsed().saturating_sub(since);
                self.reports.push_back(Report::Stage(stage, time));
            }
            Effect::Audited(drift) if self.dry_run => self.found.drift = drift,
            Effect::Audited(_) => {}
            Effect::Local(port, is_local) => {
                if let Some(observer) = &self.observer {
                    observer.local(port.clone(), self.place(&port));
                }
                if let Some(mirror) = &self.mirror {
                    mirror.local(port, is_local);
                }
            }
            Effect::WakeAt(time) => self.wake_at = Some(time),
            Effect::Connect(link) => self.connect(link),
            Effect::Disconnect(link) => _ = self.switch.take_if(|switch| switch.link() == link),
            Effect::Write(writes) => self.write(writes),
            Effect::ReadBack(link) => {
                debug!("the switch's flows are asked for");
                self.ask(link, |switch, answers| switch.read_back(answers));
            }
            Effect::FlushZones(link, _) if self.dry_run => {
                self.pretend(link, SwitchEvent::ZonesFlushed(Ok(())))
            }
            Effect::FlushZones(link, zones) => self.ask(link, |switch, answers| switch.flush(zones, answers)),
            Effect::Bundle(link, changes) if self.dry_run => {
                self.planned.extend(changes.iter().map(switch::flow_mod));
                self.pretend(link, SwitchEvent::Bundled(Ok(())));
            }
            Effect::Bundle(link, changes) => self.bundle(link, changes),
            Effect::Revalidate(link) if self.dry_run => {
                self.pretend(link, SwitchEvent::Revalidated(Revalidation::Confirmed));
            }
            Effect::Revalidate(link) => {
                let max_revalidator = self.max_revalidator;
                self.ask(link, |switch, answers| switch.revalidate(max_revalidator, answers));
            }
        }
    }

    fn place(&self, port: &PortId) -> Option<Place> {
        let spot = self.engine.spot(port)?;
        let interface = self.engine.interface_name(&spot).unwrap_or_default().to_owned();
        Some(Place { ofport: spot.ofport, interface })
    }

    fn bundle(&mut self, link: LinkId, changes: Arc<[FlowChange]>) {
        self.ask(link, |switch, answers| switch.bundle(&changes, answers));
    }

    fn connect(&mut self, link: LinkId) {
        let (target, rundir, answers) = (self.target.clone(), self.rundir.clone(), self.answers.clone());
        let hook = self.engine.hook();
        tokio::spawn(async move {
            let answer = match Switch::connect(link, &target, rundir, hook, answers.clone()).await {
                Ok(switch) => Answer::Connected(Box::new(switch)),
                Err(reason) => Answer::Event(Event::Switch(link, SwitchEvent::Lost { reason })),
            };
            // Without a receiver the driver is gone.
            _ = answers.send(answer).await;
        });
    }

    fn write(&mut self, writes: Vec<crate::engine::DatabaseWrite>) {
        if self.dry_run {
            self.inbox.push(Event::Database(DatabaseEvent::Rows(self.engine.pretend_written(&writes))));
            self.inbox.push(Event::Database(DatabaseEvent::Written(Ok(()))));
            return;
        }
        let transaction = writes::transaction(&self.lock, &writes);
        let (session, answers) = (self.session.clone(), self.answers.clone());
        tokio::spawn(async move {
            let result = session.transact(transaction).await;
            let written = result.map(drop).map_err(|error| error.to_string());
            _ = answers.send(Answer::Event(Event::Database(DatabaseEvent::Written(written)))).await;
        });
    }

    fn ask(&mut self, link: LinkId, job: impl FnOnce(&mut Switch, mpsc::Sender<Answer>)) {
        match self.switch.as_mut().filter(|switch| switch.link() == link) {
            Some(switch) => job(switch, self.answers.clone()),
            None => {
                error!(?link, "the engine asked a connection that there is not");
                let reason = "there is no such connection".to_owned();
                self.inbox.push(Event::Switch(link, SwitchEvent::Lost { reason }));
            }
        }
    }

    fn pretend(&mut self, link: LinkId, event: SwitchEvent) {
        self.inbox.push(Event::Switch(link, event));
    }
}

impl Driver for OpenvSwitch {
    fn name(&self) -> &'static str {
        "openvswitch"
    }

    fn policy(&mut self, delta: PolicyDelta) {
        if let Some(mirror) = &self.mirror {
            mirror.policy(delta.clone());
        }
        if let Some(observer) = &self.observer {
            observer.policy(&delta);
        }
        self.inbox.push(Event::Policy(delta));
    }

    async fn report(&mut self) -> Report {
        loop {
            if let Some(report) = self.reports.pop_front() {
                return report;
            }
            self.gather().await;
            let events = std::mem::take(&mut self.inbox);
            for effect in self.engine.handle(self.began.elapsed(), events) {
                self.perform(effect);
            }
        }
    }

    fn is_plugged(&self, port: &PortId) -> bool {
        let is_its = |closed: &ClosedInterface| closed.port.as_ref() == Some(port);
        self.engine.spot(port).is_some() || self.engine.closed().iter().any(is_its)
    }

    fn plugged(&self) -> Option<BTreeSet<PortId>> {
        let closed = self.engine.closed().into_iter().filter_map(|closed| closed.port);
        let open = self.engine.spots().map(|(port, _)| port.clone());
        self.engine.has_seen_database().then(|| open.chain(closed).collect())
    }

    fn closed(&self) -> Vec<ClosedInterface> {
        self.engine.closed()
    }

    fn health(&self) -> Health {
        let mut health = self.engine.health();
        health.settled &= self.inbox.is_empty();
        health.faults.extend(self.mirror.iter().flat_map(Mirror::faults));
        health.faults.extend(self.observer.iter().flat_map(Observer::troubles).map(Fault::unseen));
        health
    }

    fn status(&self) -> Status {
        self.engine.status()
    }

    fn facts(&self) -> Facts {
        let mut facts = self.engine.facts();
        if let Some(mirror) = &self.mirror {
            (facts.sets_mended, facts.sets_mended_at) = mirror.mended();
        }
        facts
    }

    fn kernel_sets(&self) -> Option<KernelSets> {
        self.mirror.as_ref().map(Mirror::sets)
    }

    fn fullest_sets(&self, most: usize) -> Vec<SetFill> {
        self.mirror.as_ref().map(|mirror| mirror.fullest(most)).unwrap_or_default()
    }

    fn list_ports(&mut self, question: Question<PortPage>) {
        let page = self.port_page(&question);
        // Who asked may be gone.
        _ = question.answer.send(page);
    }

    fn list_groups(&mut self, question: Question<GroupPage>) {
        let page = self.group_page(&question);
        match &self.mirror {
            Some(mirror) => mirror.complete_page(page, question.answer),
            None => _ = question.answer.send(page),
        }
    }

    fn tell_drops(&mut self, query: DropsQuery, answer: oneshot::Sender<Drops>) {
        if let Some(observer) = &self.observer {
            observer.drops(query, answer);
        }
    }

    fn tell_policy(&mut self, answer: oneshot::Sender<Option<Policy>>) {
        // Who asked may be gone.
        _ = answer.send(self.engine.policy_in_force().cloned());
    }
}

/// Where the bridge of a setup speaks OpenFlow.
pub fn openflow_target(setup: &Setup) -> Result<Target, SetupError> {
    target(setup.openflow.as_deref(), &setup.engine.bridge, &setup.remote).map(|(target, _)| target)
}

/// The bridge's socket, and the directory of the control socket of its ovs-vswitchd where that is on this host.
fn target(
    openflow: Option<&str>,
    bridge: &str,
    remote: &Remote,
) -> Result<(Target, Option<PathBuf>), SetupError> {
    let rundir = match remote {
        Remote::Unix(path) => path.parent().unwrap_or(Path::new("")).to_owned(),
        Remote::Tcp(_) | Remote::Ssl(_) => PathBuf::from(DEFAULT_RUNDIR),
    };
    let Some(text) = openflow else {
        return Ok((Target::Unix(rundir.join(format!("{bridge}.mgmt"))), Some(rundir)));
    };
    match text.parse() {
        Ok(Target::Unix(path)) => {
            let rundir = path.parent().map(Path::to_owned);
            Ok((Target::Unix(path), rundir))
        }
        Ok(tcp) => Ok((tcp, None)),
        Err(error) => Err(SetupError::OpenFlow(error.to_string())),
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
