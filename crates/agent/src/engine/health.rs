//! How the datapath is at the moment, and what of it is not as the policy wants.

use std::fmt;

use policy::PortId;

use super::look::{NO_POLICY, NO_ZONE};
use super::{Engine, Progress, Waiting};

/// What is wrong with one object while the rest is enforced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The object, as `port p-1` or `rule r1 of security group sg-1`.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// What that means for security.
    pub effect: SecurityEffect,
}

impl Fault {
    /// What is not looked at, and why.
    pub(crate) fn unseen((object, reason): (String, String)) -> Self {
        Fault { object, reason, effect: SecurityEffect::Unseen }
    }
}

/// What a fault means for security.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityEffect {
    /// No frame passes there.
    Closed,
    /// Less is admitted than the policy says, nothing more.
    LeftOut,
    /// What was in force stays in force; what is new is closed.
    Kept,
    /// Frames may go round the firewall.
    Open,
    /// Everything passes as the policy says, and is not looked at as it should be.
    Unseen,
}

impl fmt::Display for SecurityEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SecurityEffect::Closed => "closed",
            SecurityEffect::LeftOut => "left-out",
            SecurityEffect::Kept => "kept",
            SecurityEffect::Open => "open",
            SecurityEffect::Unseen => "unseen",
        })
    }
}

/// How the datapath is.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Health {
    /// What keeps everything from being applied.
    pub waiting: Option<Waiting>,
    /// Nothing is left to do.
    pub settled: bool,
    /// What is not as the policy wants, in order of objects.
    pub faults: Vec<Fault>,
}

impl Engine {
    /// How the datapath is. Costs as much as there are faults and closed interfaces.
    pub fn health(&self) -> Health {
        let mut faults = self.port_faults();
        for closed in self.host.closed().filter(|closed| !closed.is_awaited()) {
            let object = format!("interface {}", closed.interface);
            let reason = closed.reason.to_string();
            faults.push(Fault { object, reason, effect: SecurityEffect::Closed });
        }
        faults.extend(self.refused_rules.iter().flat_map(|(group, rules)| {
            rules.iter().map(move |(rule, reason)| Fault {
                object: format!("rule {rule} of security group {group}"),
                reason: (*reason).to_owned(),
                effect: SecurityEffect::LeftOut,
            })
        }));
        faults.extend(self.flows.iter().flat_map(|flows| flows.withheld()).map(|flow| Fault {
            object: format!("flow {flow}"),
            reason: "the switch refuses it".to_owned(),
            effect: SecurityEffect::LeftOut,
        }));
        if let (count @ 1.., example) = &self.foreign {
            let reason = format!("{count} of others stand among or before ours, such as {example}");
            let object = format!("bridge {}", self.options.bridge);
            faults.push(Fault { object, reason, effect: SecurityEffect::Open });
        }
        if self.progress.fail_mode_told {
            let reason =
                "its fail_mode is not secure any more: without flows it forwards everything".to_owned();
            let object = format!("bridge {}", self.options.bridge);
            faults.push(Fault { object, reason, effect: SecurityEffect::Open });
        }
        faults.sort_unstable();
        Health { waiting: self.waiting.clone(), settled: self.is_settled(), faults }
    }

    /// Whether nothing is left to do of what was given so far.
    fn is_settled(&self) -> bool {
        let Progress { settled, uncommitted, unreported, drifted, .. } = self.progress;
        let is_fed = self.inbox.changed.len() + self.inbox.ports.len() + self.inbox.networks.len() == 0;
        settled && is_fed && !uncommitted && !unreported && !drifted && self.busy.is_none()
    }

    fn port_faults(&self) -> Vec<Fault> {
        let because = |ports: &mut dyn Iterator<Item = &PortId>, reason: &str| -> Vec<Fault> {
            let fault = |port: &PortId| Fault {
                object: format!("port {port}"),
                reason: reason.to_owned(),
                effect: SecurityEffect::Closed,
            };
            ports.map(fault).collect()
        };
        [
            because(&mut self.quarantine.iter(), "the switch refuses a flow of it"),
            because(&mut self.no_policy.iter(), NO_POLICY),
            because(&mut self.no_zone.iter(), NO_ZONE),
        ]
        .concat()
    }
}
