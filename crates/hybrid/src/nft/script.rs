//! All that a host is to hold, as a text that nft(8) loads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;
use policy::{Ethertype, Policy, PortId};

use super::{Nft, NftRule, narrow, ruleset, wide};
use crate::bridge::{self, Element, Family};
use crate::firewall::{Firewall, Plug, RefusedRule};
use crate::sets::SetOp;

/// The text for a policy and the ports that are plugged in, and the rules that it lacks.
pub fn script(
    policy: &Policy,
    plugs: impl IntoIterator<Item = (PortId, Plug)>,
    permitted_ethertypes: &BTreeSet<u16>,
) -> (String, Vec<RefusedRule>) {
    let mut firewall = Firewall::<Nft>::new(false, None);
    firewall.apply_policy(&Policy::diff(&Policy::default(), policy));
    for (port, plug) in plugs {
        firewall.plug(&port, Some(plug));
    }
    let changes = firewall.take();
    let mut draft = Draft::default();
    for op in &changes.sets {
        draft.apply(op);
    }
    for (chain, rules) in &changes.chains {
        draft.want_chain(chain, rules.as_deref());
    }
    let permitted: Vec<Element> = bridge::permitted(permitted_ethertypes).collect();
    for element in firewall.elements().chain(&permitted) {
        draft.want(element, true);
    }
    let text = format!("{}\n{}\n{draft}", bridge::ruleset(), ruleset());
    (text, firewall.refused().collect())
}

/// What depends on ports, change by change, to be said all at once in the words of nft(8).
#[derive(Debug, Default)]
pub struct Draft {
    sets: BTreeMap<String, (Ethertype, BTreeSet<IpNet>)>,
    chains: BTreeMap<String, Vec<String>>,
    elements: BTreeSet<Element>,
}

impl Draft {
    /// An element of a map or set of the text's shall be there, or not.
    pub fn want(&mut self, element: &Element, is_wanted: bool) {
        match is_wanted {
            true => _ = self.elements.insert(element.clone()),
            false => _ = self.elements.remove(element),
        }
    }

    /// A chain shall be so, or not be there.
    pub fn want_chain(&mut self, chain: &str, rules: Option<&[NftRule]>) {
        match rules {
            Some(rules) => {
                let said = rules.iter().map(ToString::to_string).collect();
                self.chains.insert(chain.to_owned(), said);
            }
            None => _ = self.chains.remove(chain),
        }
    }

    /// A set of members shall be otherwise.
    pub fn apply(&mut self, op: &SetOp) {
        match op {
            SetOp::Create { set, ethertype } => {
                self.sets.insert(set.clone(), (*ethertype, BTreeSet::new()));
            }
            SetOp::Destroy { set } => _ = self.sets.remove(set),
            SetOp::Add { set, net } => _ = self.sets.get_mut(set).map(|(_, members)| members.insert(*net)),
            SetOp::Remove { set, net } => _ = self.sets.get_mut(set).map(|(_, members)| members.remove(net)),
        }
    }
}

impl Draft {
    /// How many members all sets have.
    pub fn members(&self) -> usize {
        self.sets.values().map(|(_, members)| members.len()).sum()
    }

    /// What is in other tables than those of these families is not said.
    pub fn leave_others_out(&mut self, families: &BTreeSet<Family>) {
        self.elements.retain(|element| families.contains(&element.family));
        if !families.contains(&Family::Inet) {
            self.sets.clear();
            self.chains.clear();
        }
    }

    /// The sets are there, and nobody in them.
    pub fn leave_members_out(&mut self) {
        self.sets.values_mut().for_each(|(_, members)| members.clear());
    }
}

impl fmt::Display for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (set, (ethertype, members)) in &self.sets {
            let of = match ethertype {
                Ethertype::Ipv4 => "ipv4_addr",
                Ethertype::Ipv6 => "ipv6_addr",
            };
            let is_single = |net: &&IpNet| net.prefix_len() == net.max_prefix_len();
            let (single, wider): (Vec<&IpNet>, Vec<&IpNet>) = members.iter().partition(is_single);
            let single: Vec<String> = single.iter().map(|net| net.addr().to_string()).collect();
            let wider: Vec<String> = wider.iter().map(ToString::to_string).collect();
            for (name, flags, members) in [(narrow(set), "", single), (wide(set), " flags interval;", wider)]
            {
                writeln!(f, "add set inet sgflow {name} {{ type {of};{flags} }}")?;
                if !members.is_empty() {
                    writeln!(f, "add element inet sgflow {name} {{ {} }}", members.join(", "))?;
                }
            }
        }
        for chain in self.chains.keys() {
            writeln!(f, "add chain inet sgflow {chain}")?;
        }
        for (chain, rules) in &self.chains {
            for rule in rules {
                writeln!(f, "add rule inet sgflow {chain} {rule}")?;
            }
        }
        for element in &self.elements {
            writeln!(f, "add element {} sgflow {} {{ {element} }}", element.family, element.set)?;
        }
        Ok(())
    }
}
