//! How the daemon is, for people and for programs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::engine::{Fault, Health, Waiting};

/// How far the datapath is as the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// It is, and its caches too.
    Converged,
    /// Something is under way.
    Converging,
    /// It is but for the objects named.
    Degraded,
    /// What it takes to enforce a change is not there; what was in force stays.
    Disconnected,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Condition::Converged => "converged",
            Condition::Converging => "converging",
            Condition::Degraded => "degraded",
            Condition::Disconnected => "disconnected",
        })
    }
}

/// The answer to `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// What enforces the policy.
    pub firewall_driver: String,
    /// How far the datapath is.
    pub condition: Condition,
    /// What is waited for, if something is.
    pub waiting: Option<String>,
    /// What is not as the policy wants, in order of objects.
    pub faults: Vec<FaultDocument>,
    /// What is enforced.
    pub enforced: Totals,
}

/// What is enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Local ports that are bound.
    pub ports: usize,
    /// Distinct sets of security groups.
    pub sets: usize,
    /// Flows that are wanted.
    pub flows: usize,
    /// Flow-mods sent since the daemon began.
    pub flow_mods: usize,
}

/// A [`Fault`] as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultDocument {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
    /// What that means for security: `closed`, `left-out`, `kept` or `open`.
    pub effect: String,
}

impl From<Fault> for FaultDocument {
    fn from(fault: Fault) -> Self {
        FaultDocument { object: fault.object, reason: fault.reason, effect: fault.effect.to_string() }
    }
}

impl Condition {
    /// Of a datapath, and of what is wrong with the policy documents.
    pub fn of(health: &Health, documents_are_good: bool) -> Self {
        match &health.waiting {
            // The switch and the database are there: it is their content that stands in the way.
            Some(Waiting::StaticFlows | Waiting::Generations) => Condition::Degraded,
            Some(_) => Condition::Disconnected,
            None if !health.settled => Condition::Converging,
            None if health.faults.is_empty() && documents_are_good => Condition::Converged,
            None => Condition::Degraded,
        }
    }
}

impl fmt::Display for Status {
    /// A line for people, and one for each fault.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { version: _, firewall_driver: _, condition, waiting, faults, enforced } = self;
        let Totals { ports, sets, flows, flow_mods } = enforced;
        write!(f, "{condition}")?;
        if let Some(waiting) = waiting {
            write!(f, ": waiting for {waiting}")?;
        }
        write!(f, " ({ports} ports, {sets} sets of groups, {flows} flows; {flow_mods} flow-mods sent)")?;
        for FaultDocument { object, reason, effect } in faults {
            write!(f, "\n  {effect:8} {object}: {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::SecurityEffect;

    #[test]
    fn the_condition_is_the_worst_that_is_so() {
        let fault = Fault { object: "port p-1".into(), reason: "r".into(), effect: SecurityEffect::Closed };
        let settled = Health { settled: true, ..Health::default() };
        let faulty = Health { faults: vec![fault], ..settled.clone() };
        let waiting = |waiting| Health { waiting: Some(waiting), ..faulty.clone() };
        assert_eq!(Condition::of(&settled, true), Condition::Converged);
        assert_eq!(Condition::of(&settled, false), Condition::Degraded);
        assert_eq!(Condition::of(&faulty, true), Condition::Degraded);
        assert_eq!(Condition::of(&Health { settled: false, ..faulty.clone() }, true), Condition::Converging);
        assert_eq!(Condition::of(&waiting(Waiting::StaticFlows), true), Condition::Degraded);
        assert_eq!(Condition::of(&waiting(Waiting::Switch { reason: None }), true), Condition::Disconnected);
    }

    #[test]
    fn people_read_a_line_a_fault() {
        let fault = FaultDocument {
            object: "port p-1".into(),
            reason: "no policy knows it".into(),
            effect: "closed".into(),
        };
        let status = Status {
            version: "0.1.0".into(),
            firewall_driver: "openvswitch".into(),
            condition: Condition::Degraded,
            waiting: None,
            faults: vec![fault],
            enforced: Totals { ports: 2, sets: 1, flows: 90, flow_mods: 92 },
        };
        expect_test::expect![[r"
            degraded (2 ports, 1 sets of groups, 90 flows; 92 flow-mods sent)
              closed   port p-1: no policy knows it"]]
        .assert_eq(&status.to_string());
    }
}
