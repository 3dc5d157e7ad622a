//! How the daemon is, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{SetFill, rfc3339};
use crate::engine::{Facts, Fault, Health, Sent, Stage, Waiting};
use crate::metrics::{Histogram, Latency, SourceNumbers};

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
    /// How many objects the source or the driver refuses.
    pub refused: usize,
    /// What the datapath was told; nothing is known of it where the daemon is older than the command that asks.
    #[serde(default)]
    pub changes: Changes,
    /// What others have changed.
    pub drift: Drift,
    /// Where the policy comes from, and how far it is what is said there.
    pub source: SourceStatus,
    /// The kernel's sets of members in sum, where there are any.
    pub kernel_sets: Option<KernelSets>,
    /// Numbers in use, by what they stand for: with `openvswitch` sets of groups, remotes, zones and generations.
    pub ids: BTreeMap<String, u64>,
}

/// What the datapath was told since the daemon began, and how long that took.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes {
    /// Flows, rules and elements that were not there.
    pub added: u64,
    /// Those that were there otherwise.
    pub modified: u64,
    /// Those that are not there any more.
    pub deleted: u64,
    /// Bundles, or transactions, that the datapath has taken.
    pub bundles: u64,
    /// Those that it refused.
    pub bundles_refused: u64,
    /// Those of which nobody knows what became of them.
    pub bundles_unknown: u64,
    /// How long changes took, by stage in their order.
    pub latency: Vec<StageLatency>,
}

/// How long it took from the first event that a change follows from to a stage of the change.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StageLatency {
    /// `rendered`: what is to be sent is known; `acknowledged`: the datapath has taken it; `applied`: its caches, and its connections, are so too.
    pub stage: String,
    /// How many changes have come so far.
    pub count: u64,
    /// How long all of them took together, in microseconds.
    pub sum_us: u64,
    /// The same changes by how long they took, shortest first.
    pub buckets: Vec<LatencyBucket>,
}

/// Changes that took about as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// No longer than this, in microseconds; null of those that took longer than any other bucket says.
    pub most_us: Option<u64>,
    /// How many, without those of the buckets before.
    pub count: u64,
}

/// What others have changed, and was put right, since the daemon began.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drift {
    /// How many flows, rules and elements; how many sets, where members were not counted.
    pub mended: u64,
    /// When the last of them, in UTC (RFC 3339).
    pub last: Option<String>,
}

/// How the source of the policy is.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SourceStatus {
    /// As `policy.source` in the settings.
    pub kind: String,
    /// For how many seconds the policy has not been what the source says; 0 if it is.
    pub lag_s: u64,
    /// When the source was heard of last, in UTC (RFC 3339).
    pub heard: Option<String>,
    /// When it changed the policy last.
    pub changed: Option<String>,
    /// When the newest document was written.
    pub written: Option<String>,
    /// The number of the last change that was taken, where changes have numbers.
    pub sequence: Option<u64>,
}

/// The kernel's sets of members in sum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelSets {
    /// How many there are.
    pub sets: usize,
    /// How many members are in them.
    pub members: usize,
    /// How many they have room for; 0 where there is no limit.
    pub max_members: u64,
    /// The one that is fullest.
    pub fullest: Option<SetFill>,
}

impl Changes {
    /// Of what a driver has done, and how long that took.
    pub(crate) fn of(facts: &Facts, latency: &Latency) -> Self {
        let Sent { added, modified, deleted, bundles } = facts.sent;
        Changes {
            added: added as u64,
            modified: modified as u64,
            deleted: deleted as u64,
            bundles: bundles as u64,
            bundles_refused: facts.bundles_refused,
            bundles_unknown: facts.bundles_unknown,
            latency: latency.stages().map(|(stage, times)| StageLatency::of(stage, times)).collect(),
        }
    }
}

impl StageLatency {
    fn of(stage: Stage, times: &Histogram) -> Self {
        let buckets = times.buckets().map(|(most_us, count)| LatencyBucket { most_us, count });
        StageLatency {
            stage: stage.name().to_owned(),
            count: times.count(),
            sum_us: u64::try_from(times.sum().as_micros()).unwrap_or(u64::MAX),
            buckets: buckets.collect(),
        }
    }
}

impl SourceStatus {
    /// Of a source of this kind, in words.
    pub fn of(kind: &str, numbers: SourceNumbers) -> Self {
        let SourceNumbers { lag_s, heard, changed, written, sequence } = numbers;
        SourceStatus {
            kind: kind.to_owned(),
            lag_s,
            heard: heard.map(rfc3339),
            changed: changed.map(rfc3339),
            written: written.map(rfc3339),
            sequence,
        }
    }
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
    /// What that means for security: `closed`, `left-out`, `kept`, `open` or `unseen`.
    pub effect: String,
}

impl From<Fault> for FaultDocument {
    fn from(fault: Fault) -> Self {
        FaultDocument { object: fault.object, reason: fault.reason, effect: fault.effect.to_string() }
    }
}

impl Condition {
    /// Each.
    pub const ALL: [Condition; 4] =
        [Condition::Converged, Condition::Converging, Condition::Degraded, Condition::Disconnected];

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
    /// A line for people that says the most, and one for each fault, and for each other thing there is to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Status { condition, waiting, faults, enforced, .. } = self;
        let Totals { ports, sets, flows, flow_mods } = enforced;
        write!(f, "{condition}")?;
        if let Some(waiting) = waiting {
            write!(f, ": waiting for {waiting}")?;
        }
        write!(f, " ({ports} ports, {sets} sets of groups, {flows} flows; {flow_mods} flow-mods sent)")?;
        for FaultDocument { object, reason, effect } in faults {
            write!(f, "\n  {effect:8} {object}: {reason}")?;
        }
        self.fmt_rest(f)
    }
}

impl Status {
    fn fmt_rest(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SourceStatus { kind, lag_s, changed, sequence, .. } = &self.source;
        write!(f, "\n  source   {kind}")?;
        if let Some(changed) = changed {
            write!(f, ", changed {changed}")?;
        }
        if let Some(sequence) = sequence {
            write!(f, ", change {sequence}")?;
        }
        if *lag_s > 0 {
            write!(f, "; not followed for {lag_s} s")?;
        }
        let ids: Vec<String> = self.ids.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        if !ids.is_empty() {
            write!(f, "\n  in use   {}", ids.join(", "))?;
        }
        if let Some(KernelSets { sets, members, max_members, fullest }) = &self.kernel_sets {
            write!(f, "\n  sets     {sets} in the kernel, {members} members")?;
            if *max_members > 0 {
                write!(f, " of {max_members}")?;
            }
            if let Some(SetFill { name, members, max_members: Some(room) }) = fullest {
                write!(f, "; the fullest {name} {members} of {room}")?;
            }
        }
        if let Drift { mended: mended @ 1.., last } = &self.drift {
            let last = last.as_deref().unwrap_or("unknown");
            write!(f, "\n  drift    {mended} put right that others had changed, last {last}")?;
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
    fn an_older_daemon_is_understood() {
        let text = r#"{"version": "0.0.9", "firewall_driver": "noop", "condition": "converged", "waiting": null, "faults": [],
            "enforced": {"ports": 0, "sets": 0, "flows": 0, "flow_mods": 0}, "refused": 0, "drift": {"mended": 0, "last": null},
            "source": {"kind": "file", "lag_s": 0, "heard": null, "changed": null, "written": null, "sequence": null},
            "kernel_sets": null, "ids": {}}"#;
        let status: Status = serde_json::from_str(text).expect("a status");
        assert_eq!(status.changes, Changes::default());
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
            refused: 0,
            changes: Changes::default(),
            drift: Drift { mended: 3, last: Some(rfc3339(1_795_929_525)) },
            source: SourceStatus {
                kind: "store".into(),
                lag_s: 7,
                changed: Some(rfc3339(1_795_929_525)),
                sequence: Some(41),
                ..SourceStatus::default()
            },
            kernel_sets: Some(KernelSets {
                sets: 2,
                members: 9,
                max_members: 131_072,
                fullest: Some(SetFill { name: "NIPv4g".into(), members: 8, max_members: Some(65_536) }),
            }),
            ids: [("remote".into(), 1), ("zone".into(), 2)].into(),
        };
        expect_test::expect![[r"
            degraded (2 ports, 1 sets of groups, 90 flows; 92 flow-mods sent)
              closed   port p-1: no policy knows it
              source   store, changed 2026-11-29T05:18:45Z, change 41; not followed for 7 s
              in use   remote 1, zone 2
              sets     2 in the kernel, 9 members of 131072; the fullest NIPv4g 8 of 65536
              drift    3 put right that others had changed, last 2026-11-29T05:18:45Z"]]
        .assert_eq(&status.to_string());
    }
}
