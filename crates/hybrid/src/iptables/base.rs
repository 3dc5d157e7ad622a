//! The chains that do not depend on any port.

use policy::Ethertype;

use super::{Chain, PREFIX, Table};
use crate::mark::{ACCEPTED, BEGUN_BY_PORT, BOUND, FROM_PORT, JUDGED, REVOKED, SIGNATURE, SIGNATURE_MASK};

/// A chain of the kernel's own, and the rule in it that leads to ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hook {
    /// Its table.
    pub table: Table,
    /// Its name.
    pub chain: &'static str,
    /// What of ours it leads to, less [`PREFIX`]; that rule stands first.
    pub to: &'static str,
}

/// Where packets come to our chains.
pub const HOOKS: [Hook; 2] = [
    Hook { table: Table::Raw, chain: "PREROUTING", to: "PREROUTING" },
    Hook { table: Table::Filter, chain: "FORWARD", to: "FORWARD" },
];

/// The chains of one family that do not depend on any port, by table and name, but those that lead to the ports.
pub(super) fn base_chains(ethertype: Ethertype) -> Vec<(Table, String, Chain)> {
    let rule = |words: &str, target: &str| format!("{words}-j {target}");
    let to = |chain: &str| format!("{PREFIX}{chain}");
    let mark = |value: u32, mask: u32| format!("-m mark --mark {value:#x}/{mask:#x} ");
    let set_mark = |value: u32| format!("-j MARK --set-xmark {value:#x}/{value:#x}");
    let (icmp, echo_reply) = match ethertype {
        Ethertype::Ipv4 => ("-p icmp ", "-m icmp --icmp-type 0 "),
        Ethertype::Ipv6 => ("-p ipv6-icmp ", "-m icmp6 --icmpv6-type 129 "),
    };
    let filter = [
        ("FORWARD", vec![rule(&mark(SIGNATURE, SIGNATURE_MASK), &to("sg-chain"))]),
        ("sg-accept", vec![set_mark(JUDGED), "-j ACCEPT".to_owned()]),
        (
            "sg-bound",
            vec![format!("-j CONNMARK --set-xmark {BOUND:#x}/{BOUND:#x}"), rule("", &to("sg-accept"))],
        ),
        // "ICMP and ICMPv6 that conntrack calls invalid …, except echo replies … are judged packet by packet against the same
        // rules. Any other invalid frame: dropped, `ct-invalid`" (semantics, "Rules and connections").
        (
            "sg-invalid",
            vec![
                rule(&format!("{icmp}{echo_reply}"), &to("sg-ct-drop")),
                rule(icmp, "RETURN"),
                rule("", &to("sg-ct-drop")),
            ],
        ),
        // One for each reason (`crate::drops`).
        ("sg-fallback", vec!["-j DROP".to_owned()]),
        ("sg-revoked", vec!["-j DROP".to_owned()]),
        ("sg-ct-drop", vec!["-j DROP".to_owned()]),
    ];
    let raw = [(
        "sg-untrack",
        vec!["-j CT --notrack".to_owned(), set_mark(ACCEPTED | JUDGED), "-j ACCEPT".to_owned()],
    )];
    let named = |table: Table| move |(name, chain): (&str, Chain)| (table, format!("{PREFIX}{name}"), chain);
    filter.into_iter().map(named(Table::Filter)).chain(raw.into_iter().map(named(Table::Raw))).collect()
}

/// The beginning of `sg-chain`: what is said without asking the rules of a port.
pub(super) fn before_ports(ethertype: Ethertype) -> Chain {
    let to = |chain: &str| format!("-j {PREFIX}{chain}");
    let icmp = match ethertype {
        Ethertype::Ipv4 => "icmp",
        Ethertype::Ipv6 => "ipv6-icmp",
    };
    vec![
        format!("-m mark --mark {ACCEPTED:#x}/{ACCEPTED:#x} {}", to("sg-accept")),
        // "a connection that no rule would admit any more passes no packet in either direction".
        format!("-m connmark --mark {REVOKED:#x}/{REVOKED:#x} {}", to("sg-revoked")),
        // What is known of a connection has no MAC: each packet shows it.
        format!(
            "-m connmark --mark {BOUND:#x}/{BOUND:#x} -m conntrack --ctstate ESTABLISHED {}",
            to("sg-remote")
        ),
        format!("-m conntrack --ctstate ESTABLISHED {}", to("sg-accept")),
        format!(
            "-p {icmp} -m connmark --mark {BOUND:#x}/{BOUND:#x} -m conntrack --ctstate RELATED {}",
            to("sg-remote")
        ),
        // "Replies of, and ICMP errors related to, an accepted connection are accepted": what a helper expects is asked for rules.
        format!("-p {icmp} -m conntrack --ctstate RELATED {}", to("sg-accept")),
        format!("-m conntrack --ctstate INVALID {}", to("sg-invalid")),
        format!(
            "-m mark --mark {FROM_PORT:#x}/{FROM_PORT:#x} -m conntrack --ctstate NEW -j CONNMARK --set-xmark {BEGUN_BY_PORT:#x}/{BEGUN_BY_PORT:#x}"
        ),
    ]
}
