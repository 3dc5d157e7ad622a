//! A page on a host of the hybrid bridge.
//!
//! A page says who gets a frame where the integration bridge hands it to the owner of its destination alone ([`Switch::Knows`]).
//! Where the bridge has learned nothing ([`Switch::Floods`]), what leaves a host goes to all. So a frame that its sender's filter lets
//! out comes out at the network and at each trusted port, which receives everything; and at a filtered port where the page says so,
//! and nowhere else: "Delivered are frames to one of its MACs, and group-addressed or flooded ones" (semantics, ingress 1), and what
//! strangers own a filtered port does not get to see (flows/cases/uplink/unknown-destination.md).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use ::tests::case::{Binding, Case, PacketLine, Step};
use ::tests::verdict::Said;
use hybrid::bridge::Family;
use hybrid::drops::{By, COUNTED, reasons};
use nftables::{Nftables, TableId};
use policy::{Policy, PortId};

use crate::hybrid_firewall::{HybridDriver, HybridFirewall, Switch, tagged, untagged};
use crate::page::{datagrams, shown};
use crate::page_firewall::{FirewallError, PageFirewall, Sighting};
use crate::parts::joined_parts;

/// Pages whose law is about Open vSwitch and what its userspace datapath calls things, each with the reason: on the kernel's
/// tracker their verdicts are others.
pub const ABOUT_OPEN_VSWITCH: &[(&str, &str)] = &[
    (
        "icmp/query-with-a-code.md",
        "\"queries with a code\" are what the userspace tracker calls invalid (extract_l4_icmp, lib/conntrack.c); the kernel's tracks them with \
         their code (icmp_pkt_to_tuple, nf_conntrack_proto_icmp.c), so that the answer is a reply",
    ),
    (
        "ranges/port-zero.md",
        "\"Conntrack itself calls a tracked TCP or UDP frame with port 0 invalid\": the userspace tracker does (extract_l4_udp, \
         lib/conntrack.c), the kernel's takes port 0 for a port like any other",
    ),
];

/// What goes wrong around a page.
pub type PageError = Box<dyn std::error::Error>;

/// A datagram of which something else became than the page says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Its lines on the page, from 1, with their texts.
    pub lines: Vec<(usize, String)>,
    /// Who should get what.
    pub expected: Sighting,
    /// Who gets what.
    pub seen: Sighting,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (line, text) in &self.lines {
            writeln!(f, "line {line}: {text}")?;
        }
        write!(f, "    expected: {}\n    seen:     {}", shown(&self.expected), shown(&self.seen))
    }
}

/// Plays a page on a host with a driver. Of those of [`ABOUT_OPEN_VSWITCH`] and those with a trunk it says that they are skipped.
///
/// # Errors
/// The page cannot be played, or something else becomes of a frame than it says.
pub fn holds_on_hybrid<D: HybridDriver>(path: &Path, page: &str, switch: Switch) -> Result<(), PageError> {
    if let Some((page, reason)) = ABOUT_OPEN_VSWITCH.iter().find(|(page, _)| path.ends_with(page)) {
        eprintln!("{page}: skipped, {reason}");
        return Ok(());
    }
    let case = Case::parse(page)?;
    let first = &case.steps[0];
    let mut firewall = match HybridFirewall::<D>::start(&first.bindings, &first.config) {
        Err(FirewallError::Trunk(name)) => {
            eprintln!("{}: skipped, {name} is a trunk", path.display());
            return Ok(());
        }
        other => other?.with_switch(switch),
    };
    let mut differences = Vec::new();
    let mut drops = Drops::new();
    for step in &case.steps {
        if (&step.bindings, &step.config) != (&first.bindings, &first.config) {
            return Err(
                "the bindings or the configuration change on the way, which is not provided for".into()
            );
        }
        firewall.put_in_force(&step.policy)?;
        differences.extend(differences_on_hybrid(&firewall, step)?.iter().map(Difference::to_string));
        count_expected_drops(step, &mut drops);
    }
    if D::COUNTS {
        let counted = counted_drops(&firewall)?;
        if counted != drops {
            differences.push(format!("dropped: expected {drops:?}, counted {counted:?}"));
        }
    }
    if differences.is_empty() { Ok(()) } else { Err(differences.join("\n").into()) }
}

/// How many frames of a port were dropped as they came, by the end of its device's name and reason.
type Drops = BTreeMap<(String, &'static str), u64>;

/// Those that a page says are dropped by what they show themselves.
fn count_expected_drops(step: &Step, drops: &mut Drops) {
    for packet in datagrams(step).flatten() {
        if is_stripped_by_the_switch(&step.policy, packet) || is_kept_by_bridges(&packet.bytes) {
            continue;
        }
        if let Some(Said::Drop(reason)) = packet.expected.sender {
            let reason = reason.to_string();
            let by_frame =
                reasons(Family::Bridge).iter().find(|(name, by)| *name == reason && *by == By::Device);
            if let Some((name, _)) = by_frame {
                *drops.entry((packet.from.clone(), name)).or_default() += 1;
            }
        }
    }
}

/// Those that the table of the bridge family has counted.
fn counted_drops<D: HybridDriver>(firewall: &HybridFirewall<D>) -> Result<Drops, PageError> {
    let table = TableId { family: nftables::Family::Bridge, name: "sgflow".parse()? };
    let mut nft = firewall.host().netns().enter(Nftables::open)??;
    let mut drops = Drops::new();
    for (reason, _) in reasons(Family::Bridge).iter().filter(|(_, by)| *by == By::Device) {
        for (key, counter) in nft.counters(&table.set(&format!("{COUNTED}{reason}"))?)? {
            let name = String::from_utf8_lossy(key.octets());
            if let Some(end) = name.trim_end_matches('\0').strip_prefix("tap") {
                drops.insert((end.to_owned(), reason), counter.packets);
            }
        }
    }
    Ok(drops)
}

/// Plays the frames of a step, whose policy is in force, and says what is otherwise. Datagrams in parts are compared whole, as far as
/// their parts come out at all.
///
/// # Errors
/// A frame cannot be sent or understood.
pub fn differences_on_hybrid<D: HybridDriver>(
    firewall: &HybridFirewall<D>,
    step: &Step,
) -> Result<Vec<Difference>, PageError> {
    let mut differences = Vec::new();
    for datagram in datagrams(step) {
        if datagram.iter().any(|packet| is_stripped_by_the_switch(&step.policy, packet)) {
            continue;
        }
        let mut expected = Sighting::new();
        for packet in datagram {
            firewall.receive(&packet.from, &packet.bytes)?;
            for (name, frames) in
                expected_on_hybrid(firewall.switch(), firewall.bindings(), &step.policy, packet)?
            {
                expected.entry(name).or_default().extend(frames);
            }
        }
        let mut seen = firewall.sighting()?;
        expected.values_mut().chain(seen.values_mut()).for_each(|frames| *frames = joined_parts(frames));
        if seen != expected {
            let lines = datagram.iter().map(|packet| (packet.line, packet.text.clone())).collect();
            differences.push(Difference { lines, expected, seen });
        }
    }
    Ok(differences)
}

/// Who gets a frame, and as what.
///
/// # Errors
/// No port of the bindings sends it, or it comes from a trunk without a tag.
pub fn expected_on_hybrid(
    switch: Switch,
    bindings: &[Binding],
    policy: &Policy,
    packet: &PacketLine,
) -> Result<Sighting, PageError> {
    let from = bindings.iter().find(|binding| binding.name() == packet.from).ok_or("no such port")?;
    if packet.expected.is_dropped_by_sender() || is_kept_by_bridges(&packet.bytes) {
        return Ok(Sighting::new());
    }
    let (vlan, frame) = as_handed_over(from, policy, packet)?;
    let gets = |to: &&Binding| match &to.port_id {
        _ if switch == Switch::Knows => packet.expected.delivered.contains_key(to.name()),
        _ if to.name() == from.name() => false,
        None => from.port_id.is_some() && to.tag.is_none_or(|tag| tag == vlan),
        Some(id) if is_trusted(policy, id) => to.tag == Some(vlan),
        Some(id) => packet.expected.delivered.contains_key(id),
    };
    let as_got = |to: &Binding| match to.tag {
        Some(_) => frame.clone(),
        None => tagged(vlan, &frame),
    };
    Ok(bindings.iter().filter(gets).map(|to| (to.name().to_owned(), vec![as_got(to)])).collect())
}

/// A tag of VLAN 0 from a trusted port: nothing of ours takes it away, and the page goes by that; but before a hybrid bridge's port stands
/// another switch, which does.
fn is_stripped_by_the_switch(policy: &Policy, packet: &PacketLine) -> bool {
    is_trusted(policy, &packet.from) && packet.sketch.tags.first().is_some_and(|tag| tag.vid == 0)
}

/// Destinations that a bridge keeps to itself (IEEE 802.1Q, table 8-1; `br_handle_frame`, net/bridge/br_input.c), whatever the firewall says.
fn is_kept_by_bridges(frame: &[u8]) -> bool {
    matches!(frame, [0x01, 0x80, 0xc2, 0, 0, last, ..] if last & 0xf0 == 0)
}

/// The VLAN of a frame, and the frame as it comes to the other ports of that VLAN.
fn as_handed_over(from: &Binding, policy: &Policy, packet: &PacketLine) -> Result<(u16, Vec<u8>), PageError> {
    match (&from.port_id, from.tag) {
        (None, None) => untagged(&packet.bytes).ok_or_else(|| "a frame from a trunk has a VLAN tag".into()),
        (None, Some(vlan)) => Ok((vlan, packet.bytes.clone())),
        (Some(id), Some(vlan)) => {
            let mut sketch = packet.sketch.clone();
            // "VID 0 is stripped and judged untagged" (semantics, egress 0).
            if !is_trusted(policy, id) && sketch.tags.first().is_some_and(|tag| tag.vid == 0) {
                sketch.tags.remove(0);
            }
            Ok((vlan, sketch.bytes()?))
        }
        (Some(_), None) => Err("a port without a VLAN has no hybrid bridge".into()),
    }
}

fn is_trusted(policy: &Policy, id: &str) -> bool {
    policy.ports.get(&PortId::from(id)).is_some_and(|port| port.is_trusted())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_of_these_pages_and_names_the_exceptions() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let document = std::fs::read_to_string(root.join("docs/hybrid.md")).expect("the document");
        let mut topics = 0;
        for topic in std::fs::read_dir(root.join("flows/cases")).expect("the pages") {
            let topic = topic.expect("a topic");
            let name = topic.file_name().into_string().expect("UTF-8");
            let pages = std::fs::read_dir(topic.path()).expect("its pages").count();
            let exceptions =
                ABOUT_OPEN_VSWITCH.iter().filter(|(page, _)| page.starts_with(&format!("{name}/"))).count();
            let verdict = if exceptions == 0 { "holds" } else { "all but one" };
            assert!(exceptions < 2);
            let row = format!("| {name} | {pages} | holds | {verdict} | {verdict} | {verdict} |");
            assert!(document.lines().any(|line| line.starts_with(&row)), "no row {row}");
            topics += 1;
        }
        let is_row =
            |line: &&str| line.split(" | ").nth(1).is_some_and(|pages| pages.parse::<usize>().is_ok());
        assert_eq!(document.lines().filter(is_row).count(), topics);
        assert!(ABOUT_OPEN_VSWITCH.iter().all(|(page, _)| document.contains(page)));
    }

    #[test]
    fn every_page_with_a_reason_is_there() {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../flows/cases");
        for (page, reason) in ABOUT_OPEN_VSWITCH {
            assert!(pages.join(page).is_file(), "{page}: {reason}");
        }
    }
}
