//! The security-group log: what is admitted and dropped, told once a packet's kind and minute. Pure.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use policy::evaluator::{Detail, Payload};
use policy::{Direction, GroupId, MacAddr, PolicyDelta, PortId, RuleId};
use serde::Serialize;

use super::book::{Fate, Sighting};
use super::judge::Judge;
use super::{Events, LogChoice};
use crate::api::rfc3339_ms;

/// For so long what comes again is only counted.
const AGAIN: Duration = Duration::from_secs(60);
/// Different packets that are remembered; beyond, the eldest is told of and forgotten.
const REMEMBERED: usize = 16_384;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Line {
    /// The first packet of a connection was admitted.
    Accept(Entry),
    /// A packet was dropped.
    Drop(Entry),
    /// Packets of which no sample came, so that nobody knows whether they belong here.
    Limited(Limited),
}

/// A packet in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    pub(super) time: String,
    pub(super) port: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) direction: Option<String>,
    /// Why it was dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// Which rules admit it: by the policy as it is now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) rules: Vec<RuleEntry>,
    /// The port's security groups.
    pub(super) groups: Vec<String>,
    pub(super) eth_src: String,
    pub(super) eth_dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) vlan: Option<u16>,
    pub(super) ethertype: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) src: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dst: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) src_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dst_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icmp_type: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) icmp_code: Option<u8>,
    pub(super) length: u32,
    /// How many more samples of the same came since the line that told of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repeated: Option<u64>,
}

/// A rule that admits a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RuleEntry {
    pub(super) rule: String,
    pub(super) group: String,
    pub(super) group_name: String,
    /// The group at the other end, where the rule names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remote_group: Option<String>,
}

/// How many packets were dropped, or admitted, of which no sample came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Limited {
    pub(super) time: String,
    pub(super) dropped: u64,
    pub(super) accepted: u64,
    /// Lines that could not be written.
    pub(super) unwritten: u64,
}

/// What makes two packets the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    port: Option<PortId>,
    direction: Option<Direction>,
    fate: Fate,
    eth_src: MacAddr,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Ip(policy::evaluator::Tuple),
    Other(String),
}

#[derive(Debug)]
struct Told {
    at: Duration,
    repeated: u64,
    line: Line,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Log {
    choice: LogChoice,
    pub(super) judge: Judge,
    told: HashMap<Kind, Told>,
}

impl Log {
    pub(super) fn new(choice: LogChoice, judge: Judge) -> Self {
        Log { choice, judge, told: HashMap::new() }
    }

    pub(super) fn policy(&mut self, delta: PolicyDelta) {
        self.judge.apply(delta);
    }

    /// Whether this port's admitted connections are to be sampled.
    pub(super) fn wants_admitted(&self, port: &PortId) -> bool {
        self.choice.events.accepts() && self.concerns(port, None)
    }

    /// Whether this log is about every port.
    pub(super) fn is_of_all(&self) -> bool {
        self.choice.is_of_all()
    }

    /// What is told of.
    pub(super) fn events(&self) -> Events {
        self.choice.events
    }

    /// What it is to be about that the policy does not know, in words; nothing before there is a policy.
    pub(super) fn unknown(&self) -> Vec<String> {
        let (LogChoice { ports, groups, rules, .. }, policy) = (&self.choice, self.judge.policy());
        if !self.choice.is_policy_whole || policy.ports.is_empty() && policy.groups.is_empty() {
            return Vec::new();
        }
        let mut all: Vec<String> = Vec::new();
        let ports = ports.iter().filter(|port| !policy.ports.contains_key(*port));
        all.extend(ports.map(|port| format!("ports: the policy knows no port {port}")));
        let groups = groups.iter().filter(|group| !policy.groups.contains_key(*group));
        all.extend(groups.map(|group| format!("groups: the policy knows no security group {group}")));
        if !rules.is_empty() {
            let known: BTreeSet<&RuleId> =
                policy.groups.values().flat_map(|group| &group.rules).map(|rule| &rule.id).collect();
            let rules = rules.iter().filter(|rule| !known.contains(rule));
            all.extend(rules.map(|rule| format!("rules: the policy knows no rule {rule}")));
        }
        all
    }

    /// Whether it depends on where a rule stands.
    pub(super) fn goes_by_rules(&self) -> bool {
        !self.choice.rules.is_empty()
    }

    /// Whether every port's admitted connections are to be sampled.
    pub(super) fn wants_all_admitted(&self) -> bool {
        self.choice.events.accepts() && self.is_of_all()
    }

    /// A sample; the line to write, if it is one of something new.
    pub(super) fn take(&mut self, seen: &Sighting, now: Duration, unix: Duration) -> Option<Line> {
        let events = self.choice.events;
        let is_wanted = match seen.fate {
            Fate::Dropped(_) => events != Events::Accept,
            Fate::Admitted => events.accepts(),
        };
        if !is_wanted {
            return None;
        }
        let kind = Kind::of(seen);
        if let Some(told) = self.told.get_mut(&kind) {
            told.repeated += 1;
            return None;
        }
        let rules = match (&seen.fate, &seen.port, seen.direction) {
            (Fate::Admitted, Some(port), Some(direction)) => {
                self.judge.admitting(port, direction, &seen.frame)
            }
            _ => Vec::new(),
        };
        let concerned = match &seen.port {
            Some(port) => self.concerns(port, Some(&rules)),
            None => self.is_of_all(),
        };
        if !concerned {
            return None;
        }
        let entry = self.entry(seen, &rules, unix);
        let line = match seen.fate {
            Fate::Dropped(_) => Line::Drop(entry),
            Fate::Admitted => Line::Accept(entry),
        };
        self.told.insert(kind, Told { at: now, repeated: 0, line: line.clone() });
        Some(line)
    }

    /// What came again within the last minute, told when that is over, or when there is too much to remember.
    pub(super) fn tick(&mut self, now: Duration, unix: Duration) -> Vec<Line> {
        let mut over: Vec<Told> = self
            .told
            .extract_if(|_, told| now.saturating_sub(told.at) >= AGAIN)
            .map(|(_, told)| told)
            .collect();
        if self.told.len() > REMEMBERED {
            let mut ages: Vec<Duration> = self.told.values().map(|told| told.at).collect();
            let eldest = ages.len() - REMEMBERED;
            let (_, limit, _) = ages.select_nth_unstable(eldest);
            let limit = *limit;
            over.extend(self.told.extract_if(|_, told| told.at <= limit).map(|(_, told)| told));
        }
        over.sort_by_key(|told| told.at);
        let again = over.into_iter().filter(|told| told.repeated > 0);
        again
            .map(|Told { repeated, line, .. }| {
                let renew =
                    |entry: Entry| Entry { time: rfc3339_ms(unix), repeated: Some(repeated), ..entry };
                match line {
                    Line::Accept(entry) => Line::Accept(renew(entry)),
                    Line::Drop(entry) => Line::Drop(renew(entry)),
                    line @ Line::Limited(_) => line,
                }
            })
            .collect()
    }

    /// Whether something of the port, and if they are known of these rules, is to be logged. Before the rules are known, those are
    /// asked for that a group of the port has.
    fn concerns(&self, port: &PortId, deciding: Option<&[(GroupId, RuleId)]>) -> bool {
        let LogChoice { ports, groups, rules, .. } = &self.choice;
        if self.is_of_all() || ports.contains(port) {
            return true;
        }
        let Some(known) = self.judge.policy().ports.get(port) else { return false };
        if known.security_groups.iter().any(|group| groups.contains(group)) {
            return true;
        }
        match deciding {
            Some(deciding) => deciding.iter().any(|(_, rule)| rules.contains(rule)),
            None => {
                let of_port =
                    known.security_groups.iter().filter_map(|id| self.judge.policy().groups.get(id));
                !rules.is_empty()
                    && of_port.flat_map(|group| &group.rules).any(|rule| rules.contains(&rule.id))
            }
        }
    }

    fn entry(&self, seen: &Sighting, rules: &[(GroupId, RuleId)], unix: Duration) -> Entry {
        let policy = self.judge.policy();
        let rule_entry = |(group, id): &(GroupId, RuleId)| {
            let known = policy.groups.get(group);
            let rule = known.and_then(|group| group.rules.iter().find(|rule| rule.id == *id));
            let remote = rule.and_then(|rule| match &rule.remote {
                policy::Remote::Group(group) => Some(group.to_string()),
                policy::Remote::AddressGroup(group) => Some(group.to_string()),
                policy::Remote::Any | policy::Remote::Prefix(_) => None,
            });
            let name = known.map(|group| group.name.as_str()).filter(|name| !name.is_empty());
            RuleEntry {
                rule: id.to_string(),
                group: group.to_string(),
                group_name: name.unwrap_or(group.as_str()).to_owned(),
                remote_group: remote,
            }
        };
        let groups = seen.port.as_ref().and_then(|port| policy.ports.get(port));
        let frame = &seen.frame;
        let mut entry = Entry {
            time: rfc3339_ms(unix),
            port: seen.port.as_ref().map(ToString::to_string),
            interface: seen.interface.clone(),
            direction: seen.direction.map(|direction| direction.to_string()),
            reason: match seen.fate {
                Fate::Dropped(reason) => Some(reason),
                Fate::Admitted => None,
            },
            rules: rules.iter().map(rule_entry).collect(),
            groups: groups.iter().flat_map(|port| &port.security_groups).map(ToString::to_string).collect(),
            eth_src: frame.eth_src.to_string(),
            eth_dst: frame.eth_dst.to_string(),
            vlan: frame.vlan,
            ethertype: String::new(),
            protocol: None,
            src: None,
            dst: None,
            src_port: None,
            dst_port: None,
            icmp_type: None,
            icmp_code: None,
            length: seen.length,
            repeated: None,
        };
        match &frame.payload {
            Payload::Arp { spa, tpa, .. } => {
                entry.ethertype = "arp".to_owned();
                (entry.src, entry.dst) = (Some(spa.to_string()), Some(tpa.to_string()));
            }
            Payload::Rarp => entry.ethertype = "rarp".to_owned(),
            Payload::Other(number) => entry.ethertype = format!("{number:#06x}"),
            Payload::Ip(packet) => {
                let ethertype = packet.ethertype();
                entry.ethertype = ethertype.to_string().to_ascii_lowercase();
                entry.protocol = Some(policy::document::protocol_name(packet.protocol, ethertype));
                (entry.src, entry.dst) = (Some(packet.src.to_string()), Some(packet.dst.to_string()));
                match packet.tuple().detail {
                    Detail::Ports { src, dst } => (entry.src_port, entry.dst_port) = (Some(src), Some(dst)),
                    Detail::Icmp { icmp_type, code } => {
                        (entry.icmp_type, entry.icmp_code) = (Some(icmp_type), Some(code));
                    }
                    Detail::None => {}
                }
            }
        }
        entry
    }
}

impl Kind {
    fn of(seen: &Sighting) -> Kind {
        let what = match &seen.frame.payload {
            Payload::Ip(packet) => What::Ip(packet.tuple()),
            _ => What::Other(seen.frame.to_string()),
        };
        Kind {
            port: seen.port.clone(),
            direction: seen.direction,
            fate: seen.fate,
            eth_src: seen.frame.eth_src,
            what,
        }
    }
}
