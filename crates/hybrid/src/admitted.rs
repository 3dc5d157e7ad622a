//! What is admitted, sampled for whoever logs it: the first packet of each connection, behind whatever rules have let it pass, so that it is one chain
//! of nftables under both drivers.
//!
//! Conntrack confirms a connection when its first packet leaves, so that what comes again before there is an answer is none. First packets
//! are counted in the set [`COUNTED`], by the family of IP, whether a sample is taken of them or not.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use policy::{GroupId, Port, PortId, RuleId, SecurityGroup};

use crate::bridge::{Element, Family, Key};
use crate::mark;
use crate::samples::sample;

/// What a sample is told with.
pub const PREFIX: &str = "accept";
/// The set that counts.
pub const COUNTED: &str = "first-packets";
/// The set of ports whose connections are counted and sampled, where not all are.
pub const CHOSEN: &str = "chosen";

/// What of the connections that are admitted is sampled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// So many first packets a second.
    pub rate: u32,
    /// Of which ports; none: of all.
    pub chosen: Option<Chosen>,
}

/// Ports: those that one of these has to do with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Ports themselves.
    pub ports: BTreeSet<PortId>,
    /// Ports that carry one of these groups.
    pub groups: BTreeSet<GroupId>,
    /// Ports of a group that has one of these rules.
    pub rules: BTreeSet<RuleId>,
}

impl Chosen {
    /// Whether a group has one of the rules.
    pub(crate) fn has_rule_of(&self, group: &SecurityGroup) -> bool {
        !self.rules.is_empty() && group.rules.iter().any(|rule| self.rules.contains(&rule.id))
    }

    /// Whether it is one of the ports, which has these groups.
    pub(crate) fn has<'g>(
        &self,
        id: &PortId,
        port: &Port,
        mut groups: impl Iterator<Item = &'g SecurityGroup>,
    ) -> bool {
        self.ports.contains(id)
            || port.security_groups.iter().any(|group| self.groups.contains(group))
            || groups.any(|group| self.has_rule_of(group))
    }
}

/// What says that the connections of the port of this zone are sampled.
pub(crate) fn element(zone: u16) -> Element {
    let key = vec![Key::Mark(mark::SIGNATURE | u32::from(zone))];
    Element { family: Family::Inet, set: CHOSEN, key, data: None }
}

/// The chain that samples, in the words of nft(8), and its sets.
pub(crate) fn chain(Admitted { rate, chosen }: &Admitted) -> String {
    let (of_port, judged) = (mark::SIGNATURE_MASK | mark::ZONE, mark::SIGNATURE_MASK | mark::JUDGED);
    let mut text = format!("\tset {COUNTED} {{ typeof meta nfproto; size 2; flags dynamic; }}\n");
    if chosen.is_some() {
        _ = writeln!(text, "\tset {CHOSEN} {{ type mark; }}");
    }
    text.push_str("\n\tchain log-admitted {\n");
    // Behind what judges, which is at 0.
    text.push_str("\t\ttype filter hook forward priority 10; policy accept;\n");
    _ = writeln!(text, "\t\tmeta mark & {judged:#010x} != {:#010x} accept", mark::SIGNATURE | mark::JUDGED);
    text.push_str(
        "\t\tct status & confirmed != 0 accept\n\t\tct state established,invalid,untracked accept\n",
    );
    if chosen.is_some() {
        _ = writeln!(text, "\t\tmeta mark & {of_port:#010x} != @{CHOSEN} accept");
    }
    _ = writeln!(
        text,
        "\t\tupdate @{COUNTED} {{ meta nfproto counter }}\n\t\t{}\n\t}}",
        sample(*rate, PREFIX)
    );
    text
}
