//! What the policy says of a packet, and why, in a line.

use std::fmt;

use policy::evaluator::{Basis, DropReason, Evaluator, Frame, Judgement, Miss, Payload, Tracking, Verdict};
use policy::{Direction, GroupId, MacAddr, Policy, Port, Rule, RuleId, SecurityGroup};
use serde::Serialize;

use crate::question::{Question, QuestionError};
use crate::words::{gap_words, group_name, rule_words};

/// Rules that are told of besides the first.
const RULES_TOLD: usize = 3;

/// What the policy says of a packet at a port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Answer {
    /// The port.
    pub port: String,
    /// Seen from the port.
    pub direction: &'static str,
    /// The packet in a line.
    pub packet: String,
    /// What it is to connection tracking: `new`, `established`, `reply`, `related` or `invalid`.
    pub state: crate::question::PacketState,
    /// Whether it passes.
    pub accepted: bool,
    /// On what ground it passes, or for what reason it does not, in the words of the law.
    pub reason: String,
    /// Every rule that admits it.
    pub rules: Vec<RuleWords>,
    /// The rules that come nearest to admitting it, the nearest first; at most three.
    pub misses: Vec<MissWords>,
    /// Why, in a sentence.
    pub why: String,
}

/// A rule that admits a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RuleWords {
    /// Its id.
    pub rule: String,
    /// The group that it stands in.
    pub group: String,
    /// The group's name, its id where it has none.
    pub group_name: String,
    /// What it allows: `tcp/443 from 10.0.0.0/8`.
    pub allows: String,
}

/// A rule that comes near to admitting a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MissWords {
    /// The rule.
    #[serde(flatten)]
    pub rule: RuleWords,
    /// What the packet has in place of it: `the source is 11.0.0.5`.
    pub but: Vec<String>,
}

impl fmt::Display for RuleWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} of {} allows {}", self.rule, self.group_name, self.allows)
    }
}

impl fmt::Display for MissWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.rule, self.but.join(", "))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.accepted { "accepted" } else { "dropped" };
        write!(f, "{} {}: {verdict} ({}): {}", self.port, self.direction, self.reason, self.why)
    }
}

impl Answer {
    /// What a policy says of this packet that does not know the port.
    #[must_use]
    pub fn of_unknown_port(&self) -> Self {
        Answer {
            accepted: false,
            reason: DropReason::NoPolicy.to_string(),
            rules: Vec::new(),
            misses: Vec::new(),
            why: "the policy does not know the port: it is closed".to_owned(),
            ..self.clone()
        }
    }
}

/// Answers from the policy alone.
///
/// # Errors
/// The question makes no sense to this policy.
pub fn answer(evaluator: &Evaluator, question: &Question) -> Result<Answer, QuestionError> {
    let policy = evaluator.policy();
    let (frame, tracking) = question.frame(policy)?;
    let judgement = evaluator.judge(&question.port, question.direction, &frame, &tracking);
    let misses = evaluator.misses(&question.port, question.direction, &frame, &tracking);
    let rules = judgement.rules.iter().filter_map(|(group, rule)| told(policy, group, rule));
    let rules: Vec<RuleWords> = rules.collect();
    let misses = misses.iter().take(RULES_TOLD).filter_map(|miss| missed(policy, miss)).collect::<Vec<_>>();
    let subject = Subject { policy, question, frame: &frame, tracking: &tracking };
    let why = subject.why(&judgement, &rules, &misses);
    Ok(Answer {
        port: question.port.to_string(),
        direction: match question.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        },
        packet: frame.to_string(),
        state: question.state,
        accepted: judgement.accepted(),
        reason: match judgement.verdict {
            Verdict::Accept(basis) => basis.to_string(),
            Verdict::Drop(reason) => reason.to_string(),
        },
        rules,
        misses,
        why,
    })
}

fn find<'p>(policy: &'p Policy, group: &GroupId, rule: &RuleId) -> Option<(&'p SecurityGroup, &'p Rule)> {
    let group = policy.groups.get(group)?;
    Some((group, group.rules.iter().find(|known| known.id == *rule)?))
}

fn told(policy: &Policy, group: &GroupId, rule: &RuleId) -> Option<RuleWords> {
    let (_, found) = find(policy, group, rule)?;
    Some(RuleWords {
        rule: rule.to_string(),
        group: group.to_string(),
        group_name: group_name(policy, group).to_owned(),
        allows: rule_words(policy, group, found),
    })
}

fn missed(policy: &Policy, miss: &Miss) -> Option<MissWords> {
    let (group, rule) = find(policy, &miss.group, &miss.rule)?;
    let but = miss.differences.iter().map(|gap| gap_words(policy, group, rule, *gap)).collect();
    Some(MissWords { rule: told(policy, &miss.group, &miss.rule)?, but })
}

/// What a verdict is about.
struct Subject<'a> {
    policy: &'a Policy,
    question: &'a Question,
    frame: &'a Frame,
    tracking: &'a Tracking,
}

impl Subject<'_> {
    fn why(&self, judgement: &Judgement, rules: &[RuleWords], misses: &[MissWords]) -> String {
        let port = self.policy.ports.get(&self.question.port);
        match judgement.verdict {
            Verdict::Accept(Basis::Rule) => by_rules(rules),
            Verdict::Accept(basis) => self.settled(basis, port.map(AsRef::as_ref)),
            Verdict::Drop(DropReason::NoRule | DropReason::Revoked) => {
                self.unadmitted(misses, port.map(AsRef::as_ref))
            }
            Verdict::Drop(reason) => self.refused(reason, port.map(AsRef::as_ref)),
        }
    }

    fn settled(&self, basis: Basis, port: Option<&Port>) -> String {
        match basis {
            Basis::Trusted if port.is_some_and(|port| !port.port_security_enabled) => {
                "the port is trusted: its port security is off".to_owned()
            }
            Basis::Trusted => {
                let owner = port.map_or("", |port| port.device_owner.as_str());
                format!("the port is trusted: its owner is {owner}")
            }
            Basis::Arp if self.question.direction == Direction::Egress => {
                "ARP from an address of the port needs no rule".to_owned()
            }
            Basis::Arp => "ARP to a port needs no rule".to_owned(),
            Basis::Dhcp => "DHCP needs no rule".to_owned(),
            Basis::NeighbourDiscovery => "neighbour and listener discovery needs no rule".to_owned(),
            Basis::PermittedEthertype => "the ethertype is in permitted_ethertypes".to_owned(),
            Basis::Rule => String::new(),
        }
    }

    fn unadmitted(&self, misses: &[MissWords], port: Option<&Port>) -> String {
        if let Some(nearest) = misses.first() {
            let RuleWords { rule, group_name, allows, .. } = &nearest.rule;
            let but = nearest.but.join(", ");
            return format!("nearest is rule {rule} of {group_name}, which allows {allows}; {but}");
        }
        let is_stateful = |group: &GroupId| self.policy.groups.get(group).is_none_or(|group| group.stateful);
        let stateful = port.is_some_and(|port| port.security_groups.iter().any(is_stateful));
        // A connection is judged by the direction of its first packet; stateless groups know of none.
        let asked = match self.tracking {
            Tracking::Connection(connection) if stateful => connection.original,
            _ => self.question.direction,
        };
        let stateless = if stateful { "" } else { ", and is stateless: an answer needs a rule of its own" };
        let groups: Vec<&str> = port
            .into_iter()
            .flat_map(|port| &port.security_groups)
            .map(|group| group_name(self.policy, group))
            .collect();
        match groups.as_slice() {
            [] => "the port has no security group, so no rule".to_owned(),
            [one] => format!("its group {one} has no {asked} rule{stateless}"),
            several => format!("none of its groups {} has an {asked} rule", several.join(", ")),
        }
    }

    fn refused(&self, reason: DropReason, port: Option<&Port>) -> String {
        let macs = || port.map(macs_of).unwrap_or_default();
        let pairs = |mac| port.map(|port| addresses_of(port, mac)).unwrap_or_default();
        let mac = self.frame.eth_src;
        match reason {
            DropReason::Vlan => "a port may not send frames with a VLAN tag of its own".to_owned(),
            DropReason::SpoofedMac => format!("the source MAC is {mac}; the port may use {}", macs()),
            DropReason::SpoofedIp => format!(
                "the source is {}; with MAC {mac} the port may use {}",
                source(self.frame),
                pairs(mac)
            ),
            DropReason::SpoofedArp => format!(
                "the ARP sender is {}; with MAC {mac} the port may use {}",
                source(self.frame),
                pairs(mac)
            ),
            DropReason::SpoofedNd => format!(
                "the advertisement is for {}; with MAC {mac} the port may use {}",
                target(self.frame),
                pairs(mac)
            ),
            DropReason::DhcpServer => "a port may not answer DHCP".to_owned(),
            DropReason::RouterAdvertisement => "a port may not advertise a router".to_owned(),
            DropReason::Ethertype => {
                "neither ARP, RARP, IPv4, IPv6 nor one of permitted_ethertypes".to_owned()
            }
            DropReason::CtInvalid => "connection tracking calls the packet invalid".to_owned(),
            DropReason::NotForPort => {
                format!("the destination MAC is {}; the port has {}", self.frame.eth_dst, macs())
            }
            DropReason::NoPolicy => "the policy does not know the port: it is closed".to_owned(),
            DropReason::NoRule | DropReason::Revoked => String::new(),
        }
    }
}

fn by_rules(rules: &[RuleWords]) -> String {
    let Some((first, others)) = rules.split_first() else { return String::new() };
    let mut words = first.to_string();
    let also: Vec<String> =
        others.iter().take(RULES_TOLD).map(|rule| format!("{} of {}", rule.rule, rule.group_name)).collect();
    if !also.is_empty() {
        words += &format!(" (so {} {}", if others.len() == 1 { "does" } else { "do" }, also.join(", "));
        if let Some(more) = others.len().checked_sub(RULES_TOLD).filter(|more| *more > 0) {
            words += &format!(" and {more} more");
        }
        words += ")";
    }
    words
}

fn macs_of(port: &Port) -> String {
    let pairs = port.allowed_address_pairs.iter().filter_map(|pair| pair.mac);
    let all: std::collections::BTreeSet<MacAddr> = pairs.chain([port.mac]).collect();
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

fn addresses_of(port: &Port, mac: MacAddr) -> String {
    let fixed = port.fixed_ips.iter().filter(|_| mac == port.mac).map(ToString::to_string);
    let pairs = port.allowed_address_pairs.iter().filter(|pair| pair.mac.unwrap_or(port.mac) == mac);
    let pairs = pairs.map(|pair| pair.ip.to_string());
    let all: Vec<String> = fixed.chain(pairs).collect();
    if all.is_empty() { "no address".to_owned() } else { all.join(", ") }
}

fn source(frame: &Frame) -> String {
    match &frame.payload {
        Payload::Ip(packet) => packet.src.to_string(),
        Payload::Arp { spa, .. } => spa.to_string(),
        Payload::Rarp | Payload::Other(_) => "not to be read".to_owned(),
    }
}

fn target(frame: &Frame) -> String {
    let target = match &frame.payload {
        Payload::Ip(packet) => match packet.transport {
            policy::evaluator::Transport::Icmp { nd_target, .. } => nd_target,
            _ => None,
        },
        _ => None,
    };
    target.map_or_else(|| "no address".to_owned(), |target| target.to_string())
}
