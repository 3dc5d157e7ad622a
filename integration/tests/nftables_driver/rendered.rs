//! What a host is to hold under a policy, in the words of nft(8).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use hybrid::nft::{Nft, RULESET, narrow, wide};
use hybrid::{Devices, Firewall, Plug, SetOp};
use ipnet::IpNet;
use policy::{Ethertype, Policy};

/// All of it, for these ports with their zones.
pub(crate) fn script(policy: &Policy, ports: &BTreeMap<String, u16>) -> String {
    let mut firewall = Firewall::<Nft>::new(false);
    firewall.apply_policy(&Policy::diff(&Policy::default(), policy));
    for (port, zone) in ports {
        let devices = Devices::of_interface(&format!("qvo{port}")).expect("a device");
        firewall.plug(&port.as_str().into(), Some(Plug { devices, zone: *zone }));
    }
    let changes = firewall.take();
    let mut text = format!("{}\n{RULESET}\n", hybrid::bridge::RULESET);
    let (mut sets, mut members) = (BTreeMap::new(), BTreeMap::<String, BTreeSet<IpNet>>::new());
    for op in changes.sets {
        match op {
            SetOp::Create { set, ethertype } => _ = sets.insert(set, ethertype),
            SetOp::Destroy { set } => _ = sets.remove(&set),
            SetOp::Add { set, net } => assert!(members.entry(set).or_default().insert(net)),
            SetOp::Remove { set, net } => assert!(members.entry(set).or_default().remove(&net)),
        }
    }
    for (set, ethertype) in &sets {
        let of = match ethertype {
            Ethertype::Ipv4 => "ipv4_addr",
            Ethertype::Ipv6 => "ipv6_addr",
        };
        _ = writeln!(text, "add set inet sgflow {} {{ type {of}; }}", narrow(set));
        _ = writeln!(text, "add set inet sgflow {} {{ type {of}; flags interval; }}", wide(set));
    }
    for (set, net) in members.iter().flat_map(|(set, nets)| nets.iter().map(move |net| (set, net))) {
        match net.prefix_len() == net.max_prefix_len() {
            true => _ = writeln!(text, "add element inet sgflow {} {{ {} }}", narrow(set), net.addr()),
            false => _ = writeln!(text, "add element inet sgflow {} {{ {net} }}", wide(set)),
        }
    }
    for chain in changes.chains.keys() {
        _ = writeln!(text, "add chain inet sgflow {chain}");
    }
    for (chain, rules) in &changes.chains {
        for rule in rules.iter().flatten() {
            _ = writeln!(text, "add rule inet sgflow {chain} {rule}");
        }
    }
    let permitted: Vec<_> = hybrid::bridge::permitted(&[0x88cc].into()).collect();
    for element in firewall.elements().chain(&permitted) {
        _ = writeln!(text, "add element {} sgflow {} {{ {element} }}", element.family, element.set);
    }
    text
}
