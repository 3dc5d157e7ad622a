//! All that a host is to hold, as a text that nft(8) loads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ipnet::IpNet;
use policy::{Ethertype, Policy, PortId};

use super::{Nft, RULESET, narrow, wide};
use crate::bridge;
use crate::firewall::{Firewall, Plug, RefusedRule};
use crate::sets::SetOp;

/// The text for a policy and the ports that are plugged in, and the rules that it lacks.
pub fn script(
    policy: &Policy,
    plugs: impl IntoIterator<Item = (PortId, Plug)>,
    permitted_ethertypes: &BTreeSet<u16>,
) -> (String, Vec<RefusedRule>) {
    let mut firewall = Firewall::<Nft>::new(false);
    firewall.apply_policy(&Policy::diff(&Policy::default(), policy));
    for (port, plug) in plugs {
        firewall.plug(&port, Some(plug));
    }
    let changes = firewall.take();
    let mut text = format!("{}\n{RULESET}\n", bridge::RULESET);
    put_sets(&mut text, changes.sets);
    for chain in changes.chains.keys() {
        _ = writeln!(text, "add chain inet sgflow {chain}");
    }
    for (chain, rules) in &changes.chains {
        for rule in rules.iter().flatten() {
            _ = writeln!(text, "add rule inet sgflow {chain} {rule}");
        }
    }
    let permitted: Vec<_> = bridge::permitted(permitted_ethertypes).collect();
    for element in firewall.elements().chain(&permitted) {
        _ = writeln!(text, "add element {} sgflow {} {{ {element} }}", element.family, element.set);
    }
    (text, firewall.refused().collect())
}

/// Sets with their members, whatever the order in which these came and went.
fn put_sets(text: &mut String, ops: Vec<SetOp>) {
    let mut sets: BTreeMap<String, (Ethertype, BTreeSet<IpNet>)> = BTreeMap::new();
    for op in ops {
        match op {
            SetOp::Create { set, ethertype } => _ = sets.insert(set, (ethertype, BTreeSet::new())),
            SetOp::Destroy { set } => _ = sets.remove(&set),
            SetOp::Add { set, net } => _ = sets.get_mut(&set).map(|(_, members)| members.insert(net)),
            SetOp::Remove { set, net } => _ = sets.get_mut(&set).map(|(_, members)| members.remove(&net)),
        }
    }
    for (set, (ethertype, members)) in sets {
        let of = match ethertype {
            Ethertype::Ipv4 => "ipv4_addr",
            Ethertype::Ipv6 => "ipv6_addr",
        };
        let (narrow, wide) = (narrow(&set), wide(&set));
        _ = writeln!(text, "add set inet sgflow {narrow} {{ type {of}; }}");
        _ = writeln!(text, "add set inet sgflow {wide} {{ type {of}; flags interval; }}");
        for net in members {
            match net.prefix_len() == net.max_prefix_len() {
                true => _ = writeln!(text, "add element inet sgflow {narrow} {{ {} }}", net.addr()),
                false => _ = writeln!(text, "add element inet sgflow {wide} {{ {net} }}"),
            }
        }
    }
}
