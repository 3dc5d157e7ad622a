//! What a host is to hold, of a policy and of the ports that are plugged in: chains, sets, and the elements of the bridge's table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use policy::{Direction, Ethertype, GroupId, MacAddr, PolicyDelta, Port, PortId, RuleId, SecurityGroup};

use crate::admitted::{self, Admitted, Chosen};
use crate::bridge::{Element, Standing, elements};
use crate::device::Devices;
use crate::dialect::{ChainOf, Dialect, GroupRules, PortChains, RemoteEnd};
use crate::iptables::Iptables;
use crate::members::bound_members;
use crate::names::Names;
use crate::sets::{Remote, SetOp, Sets};

/// Both families, as chains have them.
pub(crate) const FAMILIES: [Ethertype; 2] = [Ethertype::Ipv4, Ethertype::Ipv6];
pub(crate) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];
/// Ports are kept in so many parts by their zones.
pub(crate) const BUCKETS: u16 = 64;

/// Which of them is that of a zone.
pub(crate) fn bucket(zone: u16) -> u16 {
    zone % BUCKETS
}

/// A port that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plug {
    /// Its devices.
    pub devices: Devices,
    /// The zone of its connections, which is no other port's.
    pub zone: u16,
}

/// What is to be changed.
#[derive(Debug)]
pub struct Changes<D: Dialect = Iptables> {
    /// Of the sets, in order.
    pub sets: Vec<SetOp>,
    /// Chains as they shall be; none shall be gone.
    pub chains: BTreeMap<D::Key, Option<ChainOf<D>>>,
    /// Elements of the tables of nftables that shall be there, or not any more.
    pub elements: BTreeMap<Element, bool>,
    /// Zones in which less may be admitted than before.
    pub shrunk: BTreeSet<u16>,
    /// Zones in which more may be.
    pub grown: BTreeSet<u16>,
}

impl<D: Dialect> Default for Changes<D> {
    fn default() -> Self {
        Changes {
            sets: Vec::new(),
            chains: BTreeMap::new(),
            elements: BTreeMap::new(),
            shrunk: BTreeSet::new(),
            grown: BTreeSet::new(),
        }
    }
}

/// A rule that cannot be said, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RefusedRule {
    /// The group it stands in.
    pub group: GroupId,
    /// The rule.
    pub rule: RuleId,
    /// Why.
    pub reason: &'static str,
}

/// A group that local ports are filtered by.
#[derive(Debug)]
pub(crate) struct Carried {
    /// Ends the names of its chains.
    name: String,
    pub(crate) ports: BTreeSet<PortId>,
    /// As its chains were rendered last.
    rendered: Option<Arc<SecurityGroup>>,
}

/// See the module's documentation. A change costs what it changes.
#[derive(Debug)]
pub struct Firewall<D: Dialect = Iptables> {
    /// Whose connections are sampled, if not everybody's.
    chosen: Option<Chosen>,
    pub(crate) sets: Sets,
    pub(crate) plugs: BTreeMap<PortId, Plug>,
    /// Filtered local ports that a policy knows.
    pub(crate) ports: BTreeMap<PortId, PortChains>,
    port_names: Names,
    pub(crate) groups: BTreeMap<GroupId, Carried>,
    /// The groups that these ports are filtered by.
    pub(crate) groups_of: BTreeMap<PortId, BTreeSet<GroupId>>,
    group_names: Names,
    /// Rules of these groups that cannot be said.
    pub(crate) refused: BTreeMap<GroupId, Vec<(RuleId, &'static str)>>,
    /// Local ports that no policy knows.
    unknown: BTreeSet<PortId>,
    /// Local ports by what leads to them.
    pub(crate) buckets: BTreeMap<u16, BTreeMap<u16, PortId>>,
    /// Members that count only with their MAC, by group, and how many ports bring each.
    pub(crate) bound: BTreeMap<GroupId, BTreeMap<(IpNet, MacAddr), u32>>,
    /// Which carried groups have rules with a remote.
    pub(crate) naming: BTreeMap<Remote, BTreeSet<GroupId>>,
    elements: BTreeMap<PortId, BTreeSet<Element>>,
    /// Elements that ports have no more, or anew, since the last time.
    gone: BTreeSet<Element>,
    come: BTreeSet<Element>,
    chains: BTreeMap<D::Key, ChainOf<D>>,
    dirty_ports: BTreeSet<PortId>,
    dirty_groups: BTreeSet<GroupId>,
    dirty_buckets: BTreeSet<u16>,
    changes: Changes<D>,
}

impl<D: Dialect> Firewall<D> {
    /// No policy, no ports: what remains are the chains that do not depend on them.
    pub fn new(compress: bool, admitted: Option<&Admitted>) -> Self {
        let mut firewall = Firewall {
            chosen: admitted.and_then(|admitted| admitted.chosen.clone()),
            sets: D::sets(compress),
            plugs: BTreeMap::new(),
            ports: BTreeMap::new(),
            port_names: Names::default(),
            groups: BTreeMap::new(),
            groups_of: BTreeMap::new(),
            group_names: Names::default(),
            refused: BTreeMap::new(),
            unknown: BTreeSet::new(),
            buckets: BTreeMap::new(),
            bound: BTreeMap::new(),
            naming: BTreeMap::new(),
            elements: BTreeMap::new(),
            gone: BTreeSet::new(),
            come: BTreeSet::new(),
            chains: BTreeMap::new(),
            dirty_ports: BTreeSet::new(),
            dirty_groups: BTreeSet::new(),
            dirty_buckets: BTreeSet::new(),
            changes: Changes::default(),
        };
        for (key, chain) in D::base() {
            firewall.set_chain(key, Some(chain));
        }
        firewall.lead_to_buckets();
        firewall.settle_bound();
        firewall
    }

    /// The policy changed.
    pub fn apply_policy(&mut self, delta: &PolicyDelta) {
        for (id, new) in &delta.ports {
            let old = self.sets.port(id).cloned();
            self.change_bound(old.as_deref(), new.as_deref());
            if self.plugs.contains_key(id) {
                self.dirty_ports.insert(id.clone());
            }
        }
        for (id, new) in &delta.groups {
            let Some(carried) = self.groups.get(id) else { continue };
            self.dirty_groups.insert(id.clone());
            let old = self.sets.group(id);
            let has_chosen =
                |group: &SecurityGroup| self.chosen.as_ref().is_some_and(|chosen| chosen.has_rule_of(group));
            let concerns =
                |group: Option<&Arc<SecurityGroup>>| group.map(|group| (group.stateful, has_chosen(group)));
            if concerns(old) != concerns(new.as_ref()) {
                self.dirty_ports.extend(carried.ports.iter().cloned());
            }
        }
        self.sets.apply_policy(delta);
    }

    /// A port came to this host, with these devices, or went. Gives back how it was plugged in before.
    pub fn plug(&mut self, port: &PortId, plug: Option<Plug>) -> Option<Plug> {
        let before = match plug {
            Some(plug) => self.plugs.insert(port.clone(), plug),
            None => self.plugs.remove(port),
        };
        if before.as_ref() != self.plugs.get(port) {
            self.dirty_ports.insert(port.clone());
        }
        before
    }

    /// Ports that are plugged in, and how.
    pub fn plugs(&self) -> impl Iterator<Item = (&PortId, &Plug)> {
        self.plugs.iter()
    }

    /// What is to be done since the last time.
    pub fn take(&mut self) -> Changes<D> {
        let dirty = std::mem::take(&mut self.dirty_ports);
        // First those that went: another may have their devices by now.
        let (there, gone): (Vec<_>, Vec<_>) =
            dirty.into_iter().partition(|port| self.plugs.contains_key(port));
        for port in gone.iter().chain(&there) {
            self.settle_port(port);
        }
        for group in std::mem::take(&mut self.dirty_groups) {
            self.settle_group(&group);
        }
        for number in std::mem::take(&mut self.dirty_buckets) {
            self.settle_bucket(number);
        }
        self.settle_bound();
        // What one port has no more another may have by now: two that exchange their zones.
        let (gone, come) = (std::mem::take(&mut self.gone), std::mem::take(&mut self.come));
        self.changes.elements.extend(gone.difference(&come).map(|element| (element.clone(), false)));
        self.changes.elements.extend(come.difference(&gone).map(|element| (element.clone(), true)));
        let sets = self.sets.take();
        self.note_members(&sets);
        Changes { sets, ..std::mem::take(&mut self.changes) }
    }

    /// Every chain as it shall be.
    pub fn chains(&self) -> &BTreeMap<D::Key, ChainOf<D>> {
        &self.chains
    }

    /// Every element of the tables of nftables that shall be there.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.elements.values().flatten()
    }

    /// Local ports that no policy knows: they are closed.
    pub fn without_policy(&self) -> &BTreeSet<PortId> {
        &self.unknown
    }

    /// Rules that admit nothing because they cannot be said.
    pub fn refused(&self) -> impl Iterator<Item = RefusedRule> {
        self.refused.iter().flat_map(|(group, rules)| {
            rules.iter().map(|(rule, reason)| RefusedRule {
                group: group.clone(),
                rule: rule.clone(),
                reason,
            })
        })
    }

    /// Whether the policy wants a port to be filtered, wherever it is.
    pub fn filters(&self, port: &PortId) -> bool {
        self.sets.port(port).is_some_and(|port| !port.is_trusted())
    }

    /// How many ports are plugged in.
    pub fn port_count(&self) -> usize {
        self.plugs.len()
    }

    fn settle_port(&mut self, id: &PortId) {
        let plug = self.plugs.get(id).cloned();
        let policy = self.sets.port(id).cloned();
        let filtered = policy.as_deref().filter(|port| plug.is_some() && !port.is_trusted());
        match plug.is_some() && policy.is_none() {
            true => _ = self.unknown.insert(id.clone()),
            false => _ = self.unknown.remove(id),
        }
        let groups = filtered.map(|port| port.security_groups.clone()).unwrap_or_default();
        self.carry(id, &groups);
        self.sets.bind(id, filtered.is_some());
        let chains =
            plug.as_ref().filter(|_| filtered.is_some()).map(|plug| self.port_chains(id, plug, &groups));
        let is_tracked = chains.as_ref().is_some_and(|chains| !chains.stateful.is_empty());
        let leading = chains.as_ref().map(D::elements).unwrap_or_default();
        self.set_port_chains(id, chains);
        let wanted = plug.as_ref().map(|plug| {
            let standing = match policy.as_deref() {
                None => Standing::Closed,
                Some(port) if port.is_trusted() => Standing::Trusted,
                Some(port) => Standing::Filtered { port, zone: plug.zone, is_tracked },
            };
            elements(&plug.devices, standing)
        });
        let is_chosen = is_tracked && filtered.is_some_and(|port| self.is_chosen(id, port));
        let sampled = plug.as_ref().filter(|_| is_chosen).map(|plug| admitted::element(plug.zone));
        self.set_elements(id, wanted.into_iter().flatten().chain(leading).chain(sampled).collect());
    }

    /// Whether its connections are sampled, as everybody's are not.
    fn is_chosen(&self, id: &PortId, port: &Port) -> bool {
        let groups = port.security_groups.iter().filter_map(|group| self.sets.group(group));
        self.chosen.as_ref().is_some_and(|chosen| chosen.has(id, port, groups.map(Arc::as_ref)))
    }

    /// The port is filtered by these groups.
    fn carry(&mut self, id: &PortId, groups: &BTreeSet<GroupId>) {
        let before = match groups.is_empty() {
            true => self.groups_of.remove(id),
            false => self.groups_of.insert(id.clone(), groups.clone()),
        };
        for group in before.iter().flatten().filter(|group| !groups.contains(*group)) {
            let carried = self.groups.get_mut(group).expect("what carries a group is counted with it");
            carried.ports.remove(id);
            if carried.ports.is_empty() {
                self.dirty_groups.insert(group.clone());
            }
        }
        for group in groups {
            let names = &mut self.group_names;
            let carried = self.groups.entry(group.clone()).or_insert_with(|| Carried {
                name: names.take(group.as_str()),
                ports: BTreeSet::new(),
                rendered: None,
            });
            if carried.ports.is_empty() {
                self.dirty_groups.insert(group.clone());
            }
            carried.ports.insert(id.clone());
        }
    }

    fn port_chains(&mut self, id: &PortId, plug: &Plug, groups: &BTreeSet<GroupId>) -> PortChains {
        let is_stateful = |group: &&GroupId| self.sets.group(group).is_some_and(|group| group.stateful);
        let name = |group: &GroupId| self.groups.get(group).map(|carried| carried.name.clone());
        let (stateful, stateless): (Vec<&GroupId>, Vec<&GroupId>) = groups.iter().partition(is_stateful);
        PortChains {
            devices: plug.devices.clone(),
            zone: plug.zone,
            name: self.port_names.take(id.as_str()),
            stateful: stateful.into_iter().filter_map(name).collect(),
            stateless: stateless.into_iter().filter_map(name).collect(),
        }
    }

    fn set_port_chains(&mut self, id: &PortId, new: Option<PortChains>) {
        let old = self.ports.get(id).cloned();
        if old == new {
            return;
        }
        for chains in old.iter().chain(&new) {
            self.dirty_buckets.insert(bucket(chains.zone));
            self.changes.shrunk.insert(chains.zone);
            self.changes.grown.insert(chains.zone);
        }
        if let Some(old) = &old {
            let ports = self.buckets.entry(bucket(old.zone)).or_default();
            if ports.get(&old.zone) == Some(id) {
                ports.remove(&old.zone);
            }
            if new.is_none() {
                self.port_names.give_back(&old.name);
            }
        }
        if let Some(new) = &new {
            self.buckets.entry(bucket(new.zone)).or_default().insert(new.zone, id.clone());
        }
        let named = old.as_ref().or(new.as_ref()).expect("one of them is there: they differ");
        for (key, chain) in D::port(&named.name, new.as_ref()) {
            self.set_chain(key, chain);
        }
        match new {
            Some(new) => self.ports.insert(id.clone(), new),
            None => self.ports.remove(id),
        };
    }

    fn set_elements(&mut self, id: &PortId, wanted: BTreeSet<Element>) {
        let held = self.elements.remove(id).unwrap_or_default();
        self.gone.extend(held.difference(&wanted).cloned());
        self.come.extend(wanted.difference(&held).cloned());
        if !wanted.is_empty() {
            self.elements.insert(id.clone(), wanted);
        }
    }

    fn settle_group(&mut self, id: &GroupId) {
        let Some(carried) = self.groups.get(id) else { return };
        let name = carried.name.clone();
        let before = carried.rendered.clone();
        let group = self.sets.group(id).filter(|_| !carried.ports.is_empty()).cloned();
        self.name_remotes(id, before.as_deref(), group.as_deref());
        let said = D::group(&name, group.as_deref().map(|group| self.group_rules(group)).as_ref());
        let (mut loses, mut gains) = (false, false);
        for (key, chain) in said {
            let before = self.chains.get(&key).map_or(&[][..], Vec::as_slice);
            let after = chain.as_deref().unwrap_or_default();
            // Rules only admit: what is there besides takes nothing away.
            loses |= !holds(after, before);
            gains |= !holds(before, after);
            self.set_chain(key, chain);
        }
        self.note_group(id, loses, gains);
        let refused = group.iter().flat_map(|group| &group.rules);
        let refused: Vec<_> = refused.filter_map(|rule| Some((rule.id.clone(), D::why_not(rule)?))).collect();
        match refused.is_empty() {
            true => _ = self.refused.remove(id),
            false => _ = self.refused.insert(id.clone(), refused),
        }
        let carried = self.groups.get_mut(id).expect("it was there just now");
        if carried.ports.is_empty() {
            self.group_names.give_back(&name);
            self.groups.remove(id);
        } else {
            carried.rendered = group;
        }
    }

    fn name_remotes(&mut self, id: &GroupId, before: Option<&SecurityGroup>, after: Option<&SecurityGroup>) {
        let remotes = |group: Option<&SecurityGroup>| -> BTreeSet<Remote> {
            group
                .into_iter()
                .flat_map(|group| &group.rules)
                .filter_map(|rule| Remote::of(&rule.remote))
                .collect()
        };
        let (before, after) = (remotes(before), remotes(after));
        for remote in before.difference(&after) {
            if let Some(groups) = self.naming.get_mut(remote) {
                groups.remove(id);
                if groups.is_empty() {
                    self.naming.remove(remote);
                }
            }
        }
        for remote in after {
            self.naming.entry(remote).or_default().insert(id.clone());
        }
    }

    fn group_rules<'g>(&self, group: &'g SecurityGroup) -> GroupRules<'g> {
        let mut rules = Vec::new();
        for rule in group.rules.iter().filter(|rule| D::why_not(rule).is_none()) {
            let remote = Remote::of(&rule.remote);
            let set = remote.as_ref().and_then(|remote| self.sets.set_of(remote, rule.ethertype));
            rules.extend(RemoteEnd::of(&rule.remote, set).map(|end| (rule, end)));
            let bound = remote.iter().flat_map(|remote| self.bound_of(remote, rule.ethertype));
            rules.extend(bound.map(|(net, mac)| (rule, RemoteEnd::Bound(net, mac))));
        }
        // What is admitted by addresses alone need not show a MAC.
        rules.sort_by_key(|(_, end)| matches!(end, RemoteEnd::Bound(..)));
        GroupRules { stateful: group.stateful, rules }
    }

    fn settle_bound(&mut self) {
        let is_named = |group: &GroupId| self.naming.contains_key(&Remote::Group(group.clone()));
        let named = self.bound.iter().filter(|(group, _)| is_named(group));
        let bound: BTreeSet<(IpNet, MacAddr)> =
            named.flat_map(|(_, members)| members.keys().copied()).collect();
        for (key, chain) in D::bound(&bound) {
            self.set_chain(key, Some(chain));
        }
    }

    fn bound_of(&self, remote: &Remote, ethertype: Ethertype) -> impl Iterator<Item = (IpNet, MacAddr)> {
        let bound = match remote {
            Remote::Group(group) => self.bound.get(group),
            Remote::AddressGroup(_) => None,
        };
        let bound = bound.into_iter().flat_map(BTreeMap::keys).copied();
        bound.filter(move |(net, _)| Ethertype::of(net) == ethertype)
    }

    fn change_bound(&mut self, old: Option<&Port>, new: Option<&Port>) {
        for (port, comes) in [(old, false), (new, true)] {
            let Some(port) = port else { continue };
            let members = bound_members(port);
            if members.is_empty() {
                continue;
            }
            for group in &port.security_groups {
                let bound = self.bound.entry(group.clone()).or_default();
                for member in &members {
                    let count = bound.entry(*member).or_default();
                    *count = if comes { *count + 1 } else { *count - 1 };
                    if *count == 0 {
                        bound.remove(member);
                    }
                }
                if bound.is_empty() {
                    self.bound.remove(group);
                }
                let naming = self.naming.get(&Remote::Group(group.clone()));
                self.dirty_groups.extend(naming.into_iter().flatten().cloned());
            }
        }
    }

    fn settle_bucket(&mut self, number: u16) {
        let ports = self.buckets.get(&number).into_iter().flat_map(BTreeMap::values);
        let chains: Vec<&PortChains> = ports.filter_map(|id| self.ports.get(id)).collect();
        let said = D::bucket(number, &chains);
        if self.buckets.get(&number).is_some_and(BTreeMap::is_empty) {
            self.buckets.remove(&number);
        }
        for (key, chain) in said {
            self.set_chain(key, chain);
        }
        self.lead_to_buckets();
    }

    fn lead_to_buckets(&mut self) {
        for (key, chain) in D::ways(&self.buckets.keys().copied().collect(), &self.chains) {
            self.set_chain(key, Some(chain));
        }
    }

    fn set_chain(&mut self, key: D::Key, chain: Option<ChainOf<D>>) {
        if self.chains.get(&key) == chain.as_ref() {
            return;
        }
        match &chain {
            Some(chain) => self.chains.insert(key.clone(), chain.clone()),
            None => self.chains.remove(&key),
        };
        self.changes.chains.insert(key, chain);
    }

    /// Rules of a group went, or came.
    fn note_group(&mut self, id: &GroupId, loses: bool, gains: bool) {
        let zones: Vec<u16> = self.zones_of(id).collect();
        if loses {
            self.changes.shrunk.extend(&zones);
        }
        if gains {
            self.changes.grown.extend(&zones);
        }
    }

    /// The conntrack zones of all ports that are plugged in.
    pub fn zones(&self) -> impl Iterator<Item = u16> {
        self.ports.values().map(|port| port.zone)
    }

    fn zones_of(&self, group: &GroupId) -> impl Iterator<Item = u16> {
        let ports = self.groups.get(group).into_iter().flat_map(|carried| &carried.ports);
        ports.filter_map(|port| self.ports.get(port)).map(|port| port.zone)
    }

    /// Members came or went: whose connections that concerns.
    fn note_members(&mut self, ops: &[SetOp]) {
        let (mut grown, mut shrunk) = (BTreeSet::new(), BTreeSet::new());
        for op in ops {
            match op {
                SetOp::Add { set, .. } => _ = grown.insert(set.as_str()),
                SetOp::Remove { set, .. } => _ = shrunk.insert(set.as_str()),
                SetOp::Create { .. } | SetOp::Destroy { .. } => {}
            }
        }
        let zones = |sets: BTreeSet<&str>| -> BTreeSet<u16> {
            let remotes = sets.into_iter().filter_map(|set| self.sets.remote_of(set));
            let groups = remotes.flat_map(|remote| self.naming.get(remote).into_iter().flatten());
            groups.flat_map(|group| self.zones_of(group)).collect()
        };
        let (grown, shrunk) = (zones(grown), zones(shrunk));
        self.changes.grown.extend(grown);
        self.changes.shrunk.extend(shrunk);
    }
}

/// Whether a chain has all rules of another.
fn holds<R: PartialEq>(chain: &[R], other: &[R]) -> bool {
    // As a rule something came, or went, at the end.
    chain.starts_with(other) || other.iter().all(|rule| chain.contains(rule))
}
