//! The drivers for hosts with hybrid bridges: `iptables_hybrid` and `nftables`.
//!
//! The database says which ports there are; a thread of its own ([`worker`]) keeps the kernel as the policy says, in the network namespace in which
//! it was started. Nothing is written to the database but the lock that keeps two of us from one bridge.

mod backend;
mod encode;
mod held_set;
mod iptables;
mod lacks;
mod listing;
mod once;
mod program;
mod revoke;
mod samples;
mod tables;
mod with_iptables;
mod with_nftables;
mod worker;
mod zones;

use std::collections::BTreeSet;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use ovsdb::session::{self, SessionEvents, SessionHandle};
use ovsdb::{Remote, SessionConfig, SessionEvent, TlsConfig};
use policy::{Policy, PolicyDelta, PortId};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;

use super::openvswitch::rows;
use super::{Driver, listing as listing_of_all};
use crate::api::{
    Drops, DropsQuery, GroupPage, KernelSets, PortEntry, PortPage, PortState, Question, SetFill,
};
use crate::engine::{Engine, Facts, Fault, Health, Report, Status, Waiting};
use crate::host::{ClosedInterface, HostView, HybridPorts, PortSight};
use crate::observe::{self, HostObserver, RuleReader, Sources};
use backend::Backend;
use hybrid::bridge::Family;
use hybrid::samples::Samples;
use hybrid::{Devices, Firewall};
use iptables::Iptables;
pub use iptables::Variant;
use listing::Show;
pub use once::{InForce, OnceError, converge_once, in_force, remove_all};
pub use program::programs_started;
use samples::SampleRules;
pub(crate) use tables::SINCE;
use with_iptables::WithIptables;
use with_nftables::WithNftables;
use worker::{Order, State, Worker};

/// How long the lock may take before that is worth a word.
const LOCK_GRACE: Duration = Duration::from_secs(1);

/// What the driver has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HybridSetup {
    /// The Open_vSwitch database.
    pub remote: Remote,
    /// Certificates, for an `ssl:` remote.
    pub tls: Option<TlsConfig>,
    /// The integration bridge.
    pub bridge: String,
    /// Ethertypes that pass besides ARP, RARP, IPv4 and IPv6.
    pub permitted_ethertypes: BTreeSet<u16>,
    /// Neighbouring addresses in ipsets become prefixes that hold exactly the same.
    pub compress: bool,
    /// Which iptables, where the rules are in one.
    pub iptables: Variant,
    /// What of drops is looked at.
    pub observe: observe::Options,
}

/// How packets are sampled here.
struct Sampling {
    samples: Samples,
    /// Why not, if none are though some shall be.
    not_sampled: Option<String>,
}

impl Sampling {
    fn of(setup: &HybridSetup) -> Result<Self, HybridError> {
        let samples = setup.observe.kernel_samples();
        let not_sampled = if samples.is_none() { None } else { lacks::samples()? };
        let samples = if not_sampled.is_some() { Samples::default() } else { samples };
        Ok(Sampling { samples, not_sampled })
    }
}

/// A driver that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HybridError {
    /// The kernel's sets cannot be reached.
    #[error(transparent)]
    Ipset(#[from] ::ipset::Error),
    /// The kernel's connections cannot be reached.
    #[error(transparent)]
    Conntrack(#[from] conntrack::Error),
    /// The kernel's tables cannot be reached.
    #[error(transparent)]
    Nftables(#[from] nftables::Error),
    /// The kernel is built without something that rules are made of.
    #[error("the kernel cannot do what rules are made of: {0}")]
    Lacks(String),
    /// Bridged packets do not come to the tables of IP.
    #[error("{path}: {reason}: bridged packets would go round the firewall (is br_netfilter loaded?)")]
    Netfilter {
        /// The setting.
        path: String,
        /// What is wrong with it.
        reason: std::io::Error,
    },
    /// No thread.
    #[error("the thread of the driver: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why the kernel is not as it shall be.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Its sets.
    #[error(transparent)]
    Ipset(#[from] ::ipset::Error),
    /// Its connections.
    #[error(transparent)]
    Conntrack(#[from] conntrack::Error),
    /// Its tables.
    #[error(transparent)]
    Nftables(#[from] nftables::Error),
    /// Something else.
    #[error("{object}: {reason}")]
    Other { object: String, reason: String },
}

impl Failure {
    fn other(object: &str, reason: impl ToString) -> Self {
        Failure::Other { object: object.to_owned(), reason: reason.to_string() }
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Hybrid {
    /// Of the driver, as the settings have it.
    name: &'static str,
    /// Since when the lock is waited for.
    began: Instant,
    session: SessionEvents,
    // Ends the session when it is dropped.
    _handle: SessionHandle,
    lock: String,
    bridge: String,
    ports: HybridPorts,
    only_looks: bool,
    locked: bool,
    /// The rows have been seen.
    seen: bool,
    lost: Option<String>,
    /// What the worker was told last.
    may_write: bool,
    orders: Sender<Order>,
    observer: Option<HostObserver>,
    /// How many there were.
    ordered: u64,
    reports: UnboundedReceiver<Report>,
    state: Arc<Mutex<State>>,
    waiting: Option<Waiting>,
    waited: Vec<Report>,
    /// How often the database went away.
    losses: u64,
}

impl Hybrid {
    /// Starts, with rules in iptables. Must be called on a tokio runtime, in the network namespace of the bridges.
    ///
    /// # Errors
    /// The kernel lacks something, or there is no right to use it.
    pub fn new(setup: HybridSetup) -> Result<Self, HybridError> {
        send_bridged_packets_to_netfilter()?;
        let (sampling, unsampled) = (Sampling::of(&setup)?, Arc::new(OnceLock::new()));
        let backend = WithIptables::open(
            &setup.permitted_ethertypes,
            setup.iptables,
            sampling.samples.dropped,
            Arc::clone(&unsampled),
        )?;
        let variant = setup.iptables;
        let rules: RuleReader =
            Box::new(move || Iptables::counted(variant).map_err(|failure| failure.to_string()));
        let observer = HostObserver::start(Sources {
            options: setup.observe.clone(),
            not_sampled: sampling.not_sampled.clone(),
            unsampled,
            rules: Some(rules),
        })?;
        let looks = SampleRules::open(&[Family::Bridge], sampling.samples)?;
        Self::with("iptables_hybrid", backend, setup, Some((observer, looks)))
    }

    /// Starts, with everything in nftables; which iptables, and whether ipsets are compressed, does not matter. Must be called as
    /// [`Hybrid::new`].
    ///
    /// # Errors
    /// As of [`Hybrid::new`].
    pub fn with_nftables(setup: HybridSetup) -> Result<Self, HybridError> {
        send_bridged_packets_to_netfilter()?;
        let sampling = Sampling::of(&setup)?;
        let backend = WithNftables::open(&setup.permitted_ethertypes, setup.iptables)?;
        let observer = HostObserver::start(Sources {
            options: setup.observe.clone(),
            not_sampled: sampling.not_sampled.clone(),
            unsampled: Arc::default(),
            rules: None,
        })?;
        let looks = SampleRules::open(&[Family::Bridge, Family::Inet], sampling.samples)?;
        Self::with("nftables", backend, setup, Some((observer, looks)))
    }

    /// Starts to look, and changes nothing: [`Hybrid::planned`] says what would be changed. With everything in nftables, or with rules in iptables.
    /// Must be called as [`Hybrid::new`].
    ///
    /// # Errors
    /// There is no right to look.
    pub fn looking(setup: HybridSetup, has_nftables: bool) -> Result<Self, HybridError> {
        let iptables = setup.iptables;
        match has_nftables {
            true => {
                let backend = WithNftables::open(&setup.permitted_ethertypes, iptables)?;
                Self::with("nftables", backend, setup, None)
            }
            false => {
                let backend = WithIptables::looking(&setup.permitted_ethertypes, iptables)?;
                Self::with("iptables_hybrid", backend, setup, None)
            }
        }
    }

    /// What would be changed, by one who only looks.
    pub fn planned(&self) -> Vec<String> {
        self.locked().planned.clone()
    }

    /// Without an observer it only looks.
    fn with<B: Backend<Dialect: Send> + Send + 'static>(
        name: &'static str,
        backend: B,
        setup: HybridSetup,
        watched: Option<(HostObserver, SampleRules)>,
    ) -> Result<Self, HybridError> {
        let only_looks = watched.is_none();
        let (observer, samples) = watched.unzip();
        let admitted = samples.as_ref().and_then(SampleRules::admitted);
        let firewall = Firewall::new(setup.compress, admitted);
        let HybridSetup { remote, tls, bridge, .. } = setup;
        let (orders, ordered) = channel();
        let (sender, reports) = unbounded_channel();
        let state = Arc::new(Mutex::new(State::default()));
        let mut worker = Worker::new(backend, firewall, samples, Arc::clone(&state), sender)?;
        if only_looks {
            worker.only_look();
        }
        // It ends with the sender.
        thread::Builder::new().name("hybrid".to_owned()).spawn(move || worker.work(&ordered))?;
        let config =
            SessionConfig { tls, monitors: rows::monitors(), ..SessionConfig::new(remote, rows::DATABASE) };
        let (handle, session) = session::spawn(config);
        let lock = Engine::lock_name(&bridge);
        if !only_looks {
            let (handle, lock) = (handle.clone(), lock.clone());
            tokio::spawn(async move { handle.lock(lock).await });
        }
        Ok(Hybrid {
            name,
            began: Instant::now(),
            session,
            _handle: handle,
            lock,
            ports: HybridPorts::new(HostView::new(&bridge, BTreeSet::new())),
            bridge,
            only_looks,
            locked: false,
            seen: false,
            lost: None,
            may_write: false,
            orders,
            observer,
            ordered: 0,
            reports,
            state,
            waiting: None,
            waited: Vec::new(),
            losses: 0,
        })
    }

    fn on_session(&mut self, event: Option<SessionEvent>) {
        match event {
            Some(SessionEvent::Connected) => self.lost = None,
            Some(SessionEvent::Update(changes)) => {
                self.seen = true;
                for (port, plugging) in self.ports.change(rows::changes(&changes)) {
                    if let Some(observer) = &self.observer {
                        observer.local(port.clone(), plugging.devices.clone());
                    }
                    self.order(Order::Plug(port, plugging));
                }
            }
            Some(SessionEvent::Locked(name)) if name == self.lock => self.locked = true,
            Some(SessionEvent::Stolen(name)) if name == self.lock => {
                self.locked = false;
                self.began = Instant::now();
            }
            Some(SessionEvent::Locked(_) | SessionEvent::Stolen(_)) => {}
            Some(SessionEvent::Disconnected { reason }) => {
                // Not each attempt that comes to nothing.
                self.losses += u64::from(self.lost.is_none());
                self.locked = false;
                self.began = Instant::now();
                self.lost = Some(reason);
            }
            None => self.lost = Some("the session ended".to_owned()),
        }
        // The lock goes with the connection: whoever else gets it before us writes from then on.
        let may_write = self.seen && self.has_turn() && self.ports.has_bridge();
        if self.may_write != may_write {
            self.may_write = may_write;
            self.order(if may_write { Order::Write } else { Order::Pause });
            if let Some(observer) = &self.observer {
                observer.look(may_write);
            }
        }
        self.tell_waiting();
    }

    /// Who changes nothing needs no lock.
    fn has_turn(&self) -> bool {
        self.locked || self.only_looks
    }

    fn tell_waiting(&mut self) {
        let waiting = if self.lost.is_some() {
            Some(Waiting::Database { reason: self.lost.clone() })
        } else if self.seen && !self.ports.has_bridge() {
            Some(Waiting::Bridge { name: self.bridge.clone() })
        } else if self.seen && !self.has_turn() && self.began.elapsed() >= LOCK_GRACE {
            Some(Waiting::Lock { name: self.lock.clone() })
        } else {
            None
        };
        if self.waiting != waiting {
            let report = waiting.clone().map_or(Report::Resumed, Report::Waiting);
            self.waited.push(report);
            self.waiting = waiting;
        }
    }

    fn order(&mut self, order: Order) {
        self.ordered += 1;
        if self.orders.send(order).is_err() {
            error!("the driver's thread has ended; what the kernel holds stays as it is");
        }
    }

    /// What is asked is no order: it is not counted.
    fn show(&self, show: Show) {
        if self.orders.send(Order::Show(show)).is_err() {
            error!("the driver's thread has ended; what the kernel holds stays as it is");
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver for Hybrid {
    fn name(&self) -> &'static str {
        self.name
    }

    fn policy(&mut self, delta: PolicyDelta) {
        if let Some(observer) = &self.observer {
            observer.policy(&delta);
        }
        self.order(Order::Policy(delta));
    }

    async fn report(&mut self) -> Report {
        loop {
            if let Some(report) = self.waited.pop() {
                return report;
            }
            let is_to_be_told = self.seen && !self.has_turn() && self.waiting.is_none();
            tokio::select! {
                event = self.session.recv() => self.on_session(event),
                Some(report) = self.reports.recv() => return report,
                () = tokio::time::sleep_until(self.began + LOCK_GRACE), if is_to_be_told => self.tell_waiting(),
            }
        }
    }

    fn is_plugged(&self, port: &PortId) -> bool {
        self.ports.is_plugged(port)
    }

    fn plugged(&self) -> Option<BTreeSet<PortId>> {
        self.seen.then(|| self.ports.plugged().cloned().collect())
    }

    fn closed(&self) -> Vec<ClosedInterface> {
        Vec::new()
    }

    fn health(&self) -> Health {
        let state = self.locked();
        let settled = state.settled && state.taken == self.ordered;
        let unseen = self.observer.iter().flat_map(HostObserver::troubles).map(Fault::unseen);
        let faults = state.faults.iter().cloned().chain(unseen).collect();
        Health { waiting: self.waiting.clone(), settled, faults }
    }

    fn status(&self) -> Status {
        self.locked().status
    }

    fn facts(&self) -> Facts {
        Facts { database_losses: self.losses, ..self.locked().facts.clone() }
    }

    fn kernel_sets(&self) -> Option<KernelSets> {
        Some(self.locked().sets.clone())
    }

    fn fullest_sets(&self, most: usize) -> Vec<SetFill> {
        self.locked().fullest.iter().take(most).cloned().collect()
    }

    fn list_ports(&mut self, question: Question<PortPage>) {
        let Question { query, refused, answer } = question;
        let all = self.ports.sights().map(|PortSight { port, interface, ofport, vlan }| PortEntry {
            interface,
            ofport: ofport.map(|ofport| ofport.0),
            vlan,
            ..PortEntry::new(port.as_str(), PortState::Pending)
        });
        // Samples of what is dropped name the guest's device.
        let is_it = |port: &PortEntry, name: &str| {
            let interface = port.interface.as_deref().unwrap_or_default();
            let devices = Devices::of_interface(interface);
            interface == name
                || devices.is_some_and(|of| [of.tap(), of.inner()].iter().any(|own| own == name))
        };
        let page = listing_of_all::ports(&query, all, is_it);
        self.show(Show::Ports { page, refused, answer });
    }

    fn list_groups(&mut self, question: Question<GroupPage>) {
        self.show(Show::Groups(question));
    }

    fn tell_drops(&mut self, query: DropsQuery, answer: oneshot::Sender<Drops>) {
        if let Some(observer) = &self.observer {
            observer.drops(query, answer);
        }
    }

    fn tell_policy(&mut self, answer: oneshot::Sender<Option<Policy>>) {
        self.show(Show::Policy(answer));
    }
}

/// Where it is said that bridged packets come to the tables of IP (kernel, Documentation/networking/ip-sysctl.rst, "/proc/sys/net/bridge"); with a tag
/// of VLAN 0 too, which is none.
const SETTINGS: [&str; 3] =
    ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables", "bridge-nf-filter-vlan-tagged"];

fn send_bridged_packets_to_netfilter() -> Result<(), HybridError> {
    for setting in SETTINGS {
        let path = format!("/proc/sys/net/bridge/{setting}");
        let set = || match std::fs::read_to_string(&path)?.trim() {
            "1" => Ok(()),
            _ => std::fs::write(&path, "1"),
        };
        set().map_err(|reason| HybridError::Netfilter { path: path.clone(), reason })?;
    }
    Ok(())
}
