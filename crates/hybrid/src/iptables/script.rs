//! All that a host is to hold, as texts for the programs that load it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ipnet::IpNet;
use policy::{Ethertype, Policy, PortId};

use super::{ChainKey, HOOKS, Iptables, PREFIX, RULESET, Table};
use crate::bridge::{self, Element};
use crate::firewall::{FAMILIES, Firewall, Plug, RefusedRule};
use crate::sets::SetOp;

/// The texts for a policy and the ports that are plugged in, each behind a comment that names its program, and the rules that they lack.
pub fn script(
    policy: &Policy,
    plugs: impl IntoIterator<Item = (PortId, Plug)>,
    permitted_ethertypes: &BTreeSet<u16>,
) -> (String, Vec<RefusedRule>) {
    let mut firewall = Firewall::<Iptables>::new(false, None);
    firewall.apply_policy(&Policy::diff(&Policy::default(), policy));
    for (port, plug) in plugs {
        firewall.plug(&port, Some(plug));
    }
    let changes = firewall.take();
    let mut text = "# ipset restore\n".to_owned();
    put_sets(&mut text, &changes.sets);
    for ethertype in FAMILIES {
        let tool = match ethertype {
            Ethertype::Ipv4 => "iptables",
            Ethertype::Ipv6 => "ip6tables",
        };
        _ = writeln!(text, "\n# {tool}-restore --noflush");
        for table in [Table::Raw, Table::Filter] {
            put_table(&mut text, &firewall, (ethertype, table));
        }
    }
    _ = writeln!(text, "\n# nft -f\n{}\n{RULESET}", bridge::ruleset());
    let permitted: Vec<Element> = bridge::permitted(permitted_ethertypes).collect();
    for element in firewall.elements().chain(&permitted) {
        _ = writeln!(text, "add element {} sgflow {} {{ {element} }}", element.family, element.set);
    }
    (text, firewall.refused().collect())
}

fn put_table(text: &mut String, firewall: &Firewall<Iptables>, (ethertype, table): (Ethertype, Table)) {
    let is_here = |key: &ChainKey| (key.ethertype, key.table) == (ethertype, table);
    let chains: Vec<_> = firewall.chains().iter().filter(|(key, _)| is_here(key)).collect();
    _ = writeln!(text, "*{table}");
    for (key, _) in &chains {
        _ = writeln!(text, ":{} - [0:0]", key.name);
    }
    for hook in HOOKS.iter().filter(|hook| hook.table == table) {
        _ = writeln!(text, "-I {} 1 -j {PREFIX}{}", hook.chain, hook.to);
    }
    for (key, chain) in &chains {
        for rule in *chain {
            _ = writeln!(text, "-A {} {rule}", key.name);
        }
    }
    text.push_str("COMMIT\n");
}

fn put_sets(text: &mut String, ops: &[SetOp]) {
    let mut sets: BTreeMap<&str, (Ethertype, BTreeSet<IpNet>)> = BTreeMap::new();
    for op in ops {
        match op {
            SetOp::Create { set, ethertype } => _ = sets.insert(set, (*ethertype, BTreeSet::new())),
            SetOp::Destroy { set } => _ = sets.remove(set.as_str()),
            SetOp::Add { set, net } => _ = sets.get_mut(set.as_str()).map(|(_, nets)| nets.insert(*net)),
            SetOp::Remove { set, net } => _ = sets.get_mut(set.as_str()).map(|(_, nets)| nets.remove(net)),
        }
    }
    for (set, (ethertype, nets)) in sets {
        let family = match ethertype {
            Ethertype::Ipv4 => "inet",
            Ethertype::Ipv6 => "inet6",
        };
        _ = writeln!(text, "create {set} hash:net family {family}");
        for net in nets {
            _ = writeln!(text, "add {set} {net}");
        }
    }
}
