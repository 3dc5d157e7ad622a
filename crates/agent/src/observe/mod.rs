//! What happens to frames: what is dropped, counted by port and reason and shown by samples, and the security-group log.
//!
//! An observer (`Observer`, `HostObserver`) works beside a driver and never before it: it has a connection of its own to the switch, tasks of its own, and
//! what it puts into the switch only looks ([`pipeline::Observed`]). Where it fails, nothing is counted by port, and nothing else happens.
//!
//! | what | where |
//! |---|---|
//! | samples and counts by port | `book`, pure |
//! | the log: what is new, what came again, which rule admits it | `log` and `judge`, pure |
//! | the switch | `openflow`; sums that never fall: `ledger`, pure |
//! | hosts with hybrid bridges | `netfilter`; what iptables counts: `rule_counters`, pure |
//! | files and the journal | `output` |

mod book;
mod frame;
mod judge;
mod ledger;
mod log;
mod netfilter;
mod openflow;
mod output;
mod rule_counters;
mod security_log;
#[cfg(test)]
mod tests;
mod troubles;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hybrid::admitted::{Admitted, Chosen};
use hybrid::samples::Samples;
use pipeline::OfPort;
use policy::evaluator::Settings;
use policy::{GroupId, PolicyDelta, PortId, RuleId};
use rust_openflow::client::Target;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::api::{Drops, DropsQuery};
pub(crate) use netfilter::{HostObserver, RuleReader, Sources};
pub use output::LogTarget;
use troubles::Troubles;

/// Dropped packets that are sampled a second when nothing else is said: enough to see whose they are, too few to cost anything.
pub const SAMPLES: u32 = 10;

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many dropped packets a second are sampled; 0: none, and with Open vSwitch nothing is counted by port.
    pub samples: u32,
    /// The security-group log, if there is one.
    pub log: Option<LogChoice>,
    /// Ethertypes that pass besides ARP, RARP, IPv4 and IPv6.
    pub permitted_ethertypes: BTreeSet<u16>,
}

impl Options {
    /// How many dropped packets a second are sampled, for the log as well.
    pub fn drop_rate(&self) -> u32 {
        let logged = self.log.as_ref().filter(|log| log.events != Events::Accept).map_or(0, |log| log.rate);
        logged.max(self.samples)
    }
}

impl Options {
    /// What the kernel is to sample on a host with hybrid bridges.
    pub(crate) fn kernel_samples(&self) -> Samples {
        let admitted = self.log.as_ref().filter(|log| log.events.accepts()).map(|log| {
            let LogChoice { ports, groups, rules, .. } = log.clone();
            Admitted { rate: log.rate, chosen: (!log.is_of_all()).then_some(Chosen { ports, groups, rules }) }
        });
        Samples { dropped: self.drop_rate(), admitted }
    }
}

impl LogChoice {
    /// Whether it is about every port.
    pub(self) fn is_of_all(&self) -> bool {
        self.ports.is_empty() && self.groups.is_empty() && self.rules.is_empty()
    }
}

impl Default for Options {
    fn default() -> Self {
        Options { samples: SAMPLES, log: None, permitted_ethertypes: BTreeSet::new() }
    }
}

/// What is logged, and where to. With neither ports, groups nor rules: what happens at every port; else what one of them has to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChoice {
    /// Where to.
    pub target: LogTarget,
    /// What is told of.
    pub events: Events,
    /// Ports.
    pub ports: BTreeSet<PortId>,
    /// Security groups: what happens at ports that carry one.
    pub groups: BTreeSet<GroupId>,
    /// Rules: what one of them admits.
    pub rules: BTreeSet<RuleId>,
    /// The policy of this host is all there is, so that a name that it does not know is a mistake; hosts that are told only what concerns
    /// them do not know that.
    pub is_policy_whole: bool,
    /// How many packets a second are sampled for it, of what is dropped and of what is admitted each.
    pub rate: u32,
}

/// What a log tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Events {
    /// First packets that are admitted.
    Accept,
    /// Packets that are dropped.
    Drop,
    /// Both.
    #[default]
    All,
}

impl Events {
    pub(self) fn accepts(self) -> bool {
        self != Events::Drop
    }

    pub(self) fn drops(self) -> bool {
        self != Events::Accept
    }
}

/// Events that there are not.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("security_log.events {0:?} is unknown; known are accept, drop and all")]
pub struct EventsError(String);

impl FromStr for Events {
    type Err = EventsError;

    fn from_str(text: &str) -> Result<Self, EventsError> {
        match text {
            "accept" => Ok(Events::Accept),
            "drop" => Ok(Events::Drop),
            "all" => Ok(Events::All),
            _ => Err(EventsError(text.to_owned())),
        }
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Events::Accept => "accept",
            Events::Drop => "drop",
            Events::All => "all",
        })
    }
}

/// Where a local port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) ofport: OfPort,
    pub(crate) interface: String,
}

/// What an observer is told.
#[derive(Debug)]
enum Order {
    Policy(PolicyDelta),
    Local(PortId, Option<Place>),
    /// The policy is in force: the switch is ours to look at.
    Begin,
    Drops(DropsQuery, oneshot::Sender<Drops>),
}

/// An observer at work; it ends when dropped, and its flows stay, for the next to go on with.
#[derive(Debug)]
pub(crate) struct Observer {
    orders: mpsc::UnboundedSender<Order>,
    has_log: bool,
    troubles: Troubles,
}

impl Observer {
    /// Looks at the switch that speaks OpenFlow at `target`, once it is told to [begin](Self::begin). Must be called on a tokio runtime.
    ///
    /// # Errors
    /// There is no thread to be had for the log.
    pub(crate) fn start(options: Options, target: Target) -> io::Result<Self> {
        let (orders, ordered) = mpsc::unbounded_channel();
        let settings =
            Settings { permitted_ethertypes: options.permitted_ethertypes.clone(), ..Settings::default() };
        let has_log = options.log.is_some();
        let troubles = Troubles::default();
        let eye = openflow::Eye::new(options, troubles.clone(), settings)?;
        // It ends with the sender.
        tokio::spawn(eye.watch(ordered, target));
        Ok(Observer { orders, has_log, troubles })
    }

    /// The policy changed.
    pub(crate) fn policy(&self, delta: &PolicyDelta) {
        if self.has_log {
            self.order(Order::Policy(delta.clone()));
        }
    }

    /// A port came to this host, or is elsewhere on it, or went.
    pub(crate) fn local(&self, port: PortId, place: Option<Place>) {
        self.order(Order::Local(port, place));
    }

    /// The policy is in force.
    pub(crate) fn begin(&self) {
        self.order(Order::Begin);
    }

    /// What the security-group log cannot tell of, and why.
    pub(crate) fn troubles(&self) -> Vec<(String, String)> {
        self.troubles.all()
    }

    /// Answers with what is dropped.
    pub(crate) fn drops(&self, query: DropsQuery, answer: oneshot::Sender<Drops>) {
        self.order(Order::Drops(query, answer));
    }

    fn order(&self, order: Order) {
        // Without a receiver the runtime is ending.
        _ = self.orders.send(order);
    }
}

/// Now, since the epoch of Unix.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
