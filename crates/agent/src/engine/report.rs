//! What the engine tells people. Every report says what it means for security: closed, kept, or in force.

use std::fmt;
use std::time::Duration;

use pipeline::RefusedRule;
use policy::PortId;

use crate::host::{ClosedInterface, ZonesExhausted};

/// How far a change has come on its way to the datapath.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// What is to be sent is known.
    Rendered,
    /// The datapath has taken it.
    Acknowledged,
    /// Its caches, and its connections, are so too.
    Applied,
}

impl Stage {
    /// In their order.
    pub const ALL: [Stage; 3] = [Stage::Rendered, Stage::Acknowledged, Stage::Applied];

    /// As a label.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Rendered => "rendered",
            Stage::Acknowledged => "acknowledged",
            Stage::Applied => "applied",
        }
    }
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// What Neutron's own driver had admitted goes on by our zones from now on, or not at all.
    TakenOver,
    /// A change has come to this stage, so long after the first event that it follows from.
    Stage(Stage, Duration),
    /// Nothing can be done before this changes.
    Waiting(Waiting),
    /// What was waited for is there.
    Resumed,
    /// The switch has taken a bundle; its caches follow.
    Taken(Sent),
    /// The policy given so far is in the switch, and in its caches.
    Applied(Sent),
    /// Nothing is left to do; told again whenever an interface changed.
    Settled,
    /// The switch refused a flow.
    FlowRefused(FlowRefused),
    /// A rule that this driver cannot enforce: it admits nothing.
    RuleRefused(RefusedRule),
    /// An interface through which no frame passes.
    Closed(ClosedInterface),
    /// A local port that no document knows: it is closed.
    NoPolicy(PortId),
    /// No zone is left for a port: it is closed.
    NoZone(PortId, ZonesExhausted),
    /// The connection to the switch is gone; the switch keeps the flows it has.
    SwitchLost(String),
    /// The connection to the database is gone, and the lock with it; the switch keeps the flows it has.
    DatabaseLost(String),
    /// A transaction failed; it is tried again.
    WriteFailed(String),
    /// The caches' state could not be asked for; we waited instead.
    RevalidationWaited {
        /// Why.
        reason: String,
        /// How long.
        time: Duration,
    },
    /// The bridge's fail_mode is not `secure` any more.
    FailModeChanged(String),
    /// The switch's flows are not as we left them: so many are added, changed back and deleted now.
    Drifted(Sent),
    /// Flows of others stand where they go round the firewall.
    ForeignFlows {
        /// How many.
        count: usize,
        /// One of them, in ovs-ofctl's text.
        example: String,
    },
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// A connection to the database.
    Database {
        /// Why there is none, once that is known.
        reason: Option<String>,
    },
    /// The lock that keeps two agents from one bridge.
    Lock {
        /// Its name.
        name: String,
    },
    /// The bridge.
    Bridge {
        /// Its name.
        name: String,
    },
    /// A bridge that drops what no flow admits.
    FailMode {
        /// The bridge.
        bridge: String,
        /// Its fail_mode.
        fail_mode: String,
    },
    /// ovs-vswitchd, to take the fail_mode that we gave the bridge.
    Configuration,
    /// Whoever restarts ovs-vswitchd, to give it its saved flows back.
    Restoration,
    /// A first policy.
    Policy,
    /// A connection to the bridge.
    Switch {
        /// Why there is none, once that is known.
        reason: Option<String>,
    },
    /// The switch, to take the flows that do not depend on any port.
    StaticFlows,
    /// Numbers for generations, of which there are 2^32.
    Generations,
}

/// Flow changes that the switch took, by kind, and bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sent {
    /// Flows that were not there.
    pub added: usize,
    /// Flows that were there with other actions or another cookie.
    pub modified: usize,
    /// Flows that are not there any more.
    pub deleted: usize,
    /// In so many bundles.
    pub bundles: usize,
}

/// A flow that the switch would not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRefused {
    /// The flow, in ovs-ofctl's text.
    pub flow: String,
    /// The OpenFlow error by name.
    pub error: String,
    /// What becomes of it.
    pub consequence: Consequence,
}

/// What a refused flow means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The port is closed, until it or the connection to the switch changes.
    PortClosed(PortId),
    /// What this flow would admit is not admitted; nothing else changes.
    LeftOut,
    /// Without it the firewall cannot work: nothing is applied, the switch keeps what it has.
    NothingApplied,
}

impl Sent {
    /// Flow-mods of every kind.
    pub fn flow_mods(&self) -> usize {
        self.added + self.modified + self.deleted
    }
}

impl std::ops::AddAssign for Sent {
    fn add_assign(&mut self, other: Sent) {
        self.added += other.added;
        self.modified += other.modified;
        self.deleted += other.deleted;
        self.bundles += other.bundles;
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because =
            |reason: &Option<String>| reason.as_ref().map(|r| format!(" ({r})")).unwrap_or_default();
        match self {
            Waiting::Database { reason } => write!(f, "the Open_vSwitch database{}", because(reason)),
            Waiting::Lock { name } => {
                write!(f, "the database lock {name}, which another sgflow holds for this bridge")
            }
            Waiting::Bridge { name } => write!(f, "a bridge called {name}"),
            Waiting::FailMode { bridge, fail_mode } => write!(
                f,
                "fail_mode secure on bridge {bridge}: it is {fail_mode}, so the bridge forwards everything when it \
                 has no flows; set it, or let sgflow with --set-fail-mode"
            ),
            Waiting::Configuration => f.write_str("ovs-vswitchd to take the bridge's new fail_mode"),
            Waiting::Restoration => f.write_str(
                "ovs-vswitchd to get its saved flows back: other_config:flow-restore-wait is true",
            ),
            Waiting::Policy => f.write_str("a policy"),
            Waiting::Switch { reason } => write!(f, "the bridge's OpenFlow socket{}", because(reason)),
            Waiting::Generations => f.write_str("numbers for new generations: all 2^32 were used"),
            Waiting::StaticFlows => f.write_str("the switch to take the flows it refused"),
        }
    }
}

impl fmt::Display for FlowRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FlowRefused { flow, error, consequence } = self;
        write!(f, "the switch refused a flow with {error}: {flow}: ")?;
        match consequence {
            Consequence::PortClosed(port) => write!(f, "port {port} is closed"),
            Consequence::LeftOut => f.write_str("what it would admit is not admitted"),
            Consequence::NothingApplied => f.write_str("nothing was applied, the switch keeps what it has"),
        }
    }
}
