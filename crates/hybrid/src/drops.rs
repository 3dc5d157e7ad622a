//! What is dropped, counted and sampled: the ends of chains that say why.
//!
//! In tables of nftables each reason has a chain, `drop-spoofed-ip`, and a set that counts at whom, `dropped-spoofed-ip`; a port is an element of
//! it from its first dropped frame on. A set that is full counts nobody new, and the frame is dropped all the same. In iptables the
//! rules of a port count themselves. Before it drops, each leads through a chain that may sample ([`crate::samples`]): so what
//! enforces is the same however much is looked at.

use std::fmt::Write as _;

use crate::bridge::Family;
use crate::iptables::PREFIX;
use crate::samples::{CHAIN, GROUP, SCALE, burst};

/// Begins the name of each set that counts; a reason follows.
pub const COUNTED: &str = "dropped-";
/// Whom a set holds at most: more than there are zones for.
const ROOM: usize = 65_535;
/// Who has had nothing dropped for so long goes: devices of ports that are gone would fill a set in the end.
const IDLE: &str = "7d";

/// By what is counted at whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// The device that the frame came in by: the guest's, or the inner end of the pair.
    Device,
    /// The frame's mark: zone and way ([`crate::mark::PORT_MASK`]).
    Mark,
}

/// The reasons for which a table drops, and by what each is counted.
pub fn reasons(family: Family) -> &'static [(&'static str, By)] {
    match family {
        Family::Bridge => &[
            ("vlan", By::Device),
            ("spoofed-mac", By::Device),
            ("spoofed-arp", By::Device),
            ("spoofed-ip", By::Device),
            ("spoofed-nd", By::Device),
            ("dhcp-server", By::Device),
            ("router-advertisement", By::Device),
            ("ethertype", By::Device),
            ("no-policy", By::Device),
            ("no-rule", By::Mark),
        ],
        Family::Inet => &[("ct-invalid", By::Mark), ("revoked", By::Mark), ("no-rule", By::Mark)],
    }
}

/// The chains that drop, in the words of nft(8). They come before those that lead to them.
pub(crate) fn chains(family: Family) -> String {
    let mut text = format!("table {family} sgflow {{\n");
    for (reason, by) in reasons(family) {
        let kind = match by {
            By::Device => "ifname",
            By::Mark => "mark",
        };
        _ = writeln!(
            text,
            "\tset {COUNTED}{reason} {{ type {kind}; size {ROOM}; flags dynamic,timeout; timeout {IDLE}; }}"
        );
    }
    for (reason, by) in reasons(family) {
        let key = match by {
            By::Device => "iifname".to_owned(),
            By::Mark => format!("meta mark & {:#010x}", crate::mark::PORT_MASK),
        };
        _ = writeln!(text, "\n\tchain {CHAIN}{reason} {{ }}");
        _ = writeln!(text, "\n\tchain drop-{reason} {{");
        _ = writeln!(text, "\t\tupdate @{COUNTED}{reason} {{ {key} counter }}");
        _ = writeln!(text, "\t\tjump {CHAIN}{reason}\n\t\tdrop\n\t}}");
    }
    text.push_str("}\n");
    text
}

/// The chains of iptables that drop, less [`PREFIX`], and why.
pub const IPTABLES_ENDS: [(&str, &str); 3] =
    [("sg-fallback", "no-rule"), ("sg-revoked", "revoked"), ("sg-ct-drop", "ct-invalid")];

/// A chain of iptables, and if it is one that drops with so many samples a second before.
pub fn with_samples(name: &str, mut chain: Vec<String>, samples: u32) -> Vec<String> {
    let is_it = |(end, _): &&(&str, &str)| name.strip_prefix(PREFIX) == Some(*end);
    if let Some((_, reason)) = IPTABLES_ENDS.iter().find(is_it)
        && samples > 0
    {
        chain.insert(0, sample_rule(reason, samples));
    }
    chain
}

/// A rule that samples, as `iptables-save` prints it.
pub fn sample_rule(reason: &str, samples: u32) -> String {
    // What iptables-save makes of it again.
    let rate = SCALE / (SCALE / samples.clamp(1, SCALE));
    let burst = burst(samples);
    format!(
        "-m limit --limit {rate}/sec --limit-burst {burst} -j NFLOG --nflog-prefix {reason} --nflog-group {GROUP}"
    )
}
