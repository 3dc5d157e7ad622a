//! What a host is to hold, of a policy and of the ports that are plugged in: chains, sets, and the elements of the bridge's table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use policy::{Direction, Ethertype, GroupId, MacAddr, PolicyDelta, Port, PortId, RuleId, SecurityGroup};

use crate::bridge::{Element, Standing, Tracking, elements};
use crate::device::Devices;
use crate::iptables::{
    Chain, ChainKey, Names, PREFIX, PortChains, RemoteWords, Table, base_chains, before_ports, bound_line,
    bucket, bucket_jumps, filter_bucket, group_kind, of_chain, raw_bucket, rule_line, why_not,
};
use crate::members::bound_members;
use crate::sets::{Remote, SetOp, Sets};

/// Both families, as chains have them.
pub(crate) const FAMILIES: [Ethertype; 2] = [Ethertype::Ipv4, Ethertype::Ipv6];
const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// A port that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plug {
    /// Its devices.
    pub devices: Devices,
    /// The zone of its connections, which is no other port's.
    pub zone: u16,
}

/// What is to be changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Of the sets, in order.
    pub sets: Vec<SetOp>,
    /// Chains as they shall be; none shall be gone.
    pub chains: BTreeMap<ChainKey, Option<Chain>>,
    /// Elements of the bridge's table that shall be there, or not any more.
    pub elements: BTreeMap<Element, bool>,
    /// Zones in which less may be admitted than before.
    pub shrunk: BTreeSet<u16>,
    /// Zones in which more may be.
    pub grown: BTreeSet<u16>,
}

/// A rule that iptables cannot say, and why.
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
struct Carried {
    /// Ends the names of its chains.
    name: String,
    ports: BTreeSet<PortId>,
    /// As its chains were rendered last.
    rendered: Option<Arc<SecurityGroup>>,
}

/// See the module's documentation. A change costs what it changes.
#[derive(Debug)]
pub struct Firewall {
    pub(crate) sets: Sets,
    plugs: BTreeMap<PortId, Plug>,
    /// Filtered local ports that a policy knows.
    pub(crate) ports: BTreeMap<PortId, PortChains>,
    port_names: Names,
    groups: BTreeMap<GroupId, Carried>,
    /// The groups that these ports are filtered by.
    pub(crate) groups_of: BTreeMap<PortId, BTreeSet<GroupId>>,
    group_names: Names,
    /// Rules of these groups that cannot be said.
    refused: BTreeMap<GroupId, Vec<(RuleId, &'static str)>>,
    /// Local ports that no policy knows.
    unknown: BTreeSet<PortId>,
    /// Local ports by what leads to them.
    pub(crate) buckets: BTreeMap<u16, BTreeMap<u16, PortId>>,
    /// Members that count only with their MAC, by group, and how many ports bring each.
    pub(crate) bound: BTreeMap<GroupId, BTreeMap<(IpNet, MacAddr), u32>>,
    /// Which carried groups have rules with a remote.
    naming: BTreeMap<Remote, BTreeSet<GroupId>>,
    elements: BTreeMap<PortId, BTreeSet<Element>>,
    chains: BTreeMap<ChainKey, Chain>,
    dirty_ports: BTreeSet<PortId>,
    dirty_groups: BTreeSet<GroupId>,
    dirty_buckets: BTreeSet<u16>,
    changes: Changes,
}

impl Firewall {
    /// No policy, no ports: what remains are the chains that do not depend on them.
    pub fn new(compress: bool) -> Self {
        let mut firewall = Firewall {
            sets: Sets::new(compress),
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
            chains: BTreeMap::new(),
            dirty_ports: BTreeSet::new(),
            dirty_groups: BTreeSet::new(),
            dirty_buckets: BTreeSet::new(),
            changes: Changes::default(),
        };
        for ethertype in FAMILIES {
            for (table, name, chain) in base_chains(ethertype) {
                firewall.set_chain(ChainKey { ethertype, table, name }, Some(chain));
            }
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
            if old.map(|group| group.stateful) != new.as_ref().map(|group| group.stateful) {
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

    /// What is to be done since the last time.
    pub fn take(&mut self) -> Changes {
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
        let sets = self.sets.take();
        self.note_members(&sets);
        Changes { sets, ..std::mem::take(&mut self.changes) }
    }

    /// Every chain as it shall be.
    pub fn chains(&self) -> &BTreeMap<ChainKey, Chain> {
        &self.chains
    }

    /// Every element of the bridge's table that shall be there.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.elements.values().flatten()
    }

    /// Local ports that no policy knows: they are closed.
    pub fn without_policy(&self) -> &BTreeSet<PortId> {
        &self.unknown
    }

    /// Rules that admit nothing because iptables cannot say them.
    pub fn refused(&self) -> impl Iterator<Item = RefusedRule> {
        self.refused.iter().flat_map(|(group, rules)| {
            rules.iter().map(|(rule, reason)| RefusedRule {
                group: group.clone(),
                rule: rule.clone(),
                reason,
            })
        })
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
        let tracking = chains.as_ref().map_or(Tracking::None, PortChains::tracking);
        self.set_port_chains(id, chains);
        let wanted = plug.as_ref().map(|plug| {
            let standing = match policy.as_deref() {
                None => Standing::Closed,
                Some(port) if port.is_trusted() => Standing::Trusted,
                Some(port) => Standing::Filtered { port, zone: plug.zone, tracking },
            };
            elements(&plug.devices, standing)
        });
        self.set_elements(id, wanted.unwrap_or_default());
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
        for direction in DIRECTIONS {
            let name = named.chain(direction);
            for ethertype in FAMILIES {
                let key = |table| ChainKey { ethertype, table, name: name.clone() };
                self.set_chain(key(Table::Filter), new.as_ref().map(|new| new.filter(direction)));
                let raw = new.as_ref().filter(|new| !new.stateless.is_empty()).map(|new| new.raw(direction));
                self.set_chain(key(Table::Raw), raw);
            }
        }
        match new {
            Some(new) => self.ports.insert(id.clone(), new),
            None => self.ports.remove(id),
        };
    }

    fn set_elements(&mut self, id: &PortId, wanted: BTreeSet<Element>) {
        let held = self.elements.remove(id).unwrap_or_default();
        for element in held.difference(&wanted) {
            self.changes.elements.insert(element.clone(), false);
        }
        for element in wanted.difference(&held) {
            self.changes.elements.insert(element.clone(), true);
        }
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
        for ethertype in FAMILIES {
            for direction in DIRECTIONS {
                let chain = group.as_deref().map(|group| self.group_chain(group, direction, ethertype));
                let name = format!("{PREFIX}{}{name}", group_kind(direction));
                let stateful = group.as_deref().is_none_or(|group| group.stateful);
                for (table, is_its) in [(Table::Filter, stateful), (Table::Raw, !stateful)] {
                    let key = ChainKey { ethertype, table, name: name.clone() };
                    let before = self.chains.get(&key).cloned().unwrap_or_default();
                    let after = chain.clone().filter(|_| is_its);
                    self.note_group(id, &before, after.as_deref().unwrap_or_default());
                    self.set_chain(key, after);
                }
            }
        }
        let refused = group.iter().flat_map(|group| &group.rules);
        let refused: Vec<_> = refused.filter_map(|rule| Some((rule.id.clone(), why_not(rule)?))).collect();
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

    fn group_chain(&self, group: &SecurityGroup, direction: Direction, ethertype: Ethertype) -> Chain {
        let (target, bound_target) = match group.stateful {
            true => (format!("{PREFIX}sg-accept"), format!("{PREFIX}sg-bound")),
            false => (format!("{PREFIX}sg-untrack"), format!("{PREFIX}sg-untrack")),
        };
        let mut chain = Chain::new();
        for rule in of_chain(&group.rules, direction, ethertype).filter(|rule| why_not(rule).is_none()) {
            let remote = Remote::of(&rule.remote);
            let set = remote.as_ref().and_then(|remote| self.sets.set_of(remote, ethertype));
            if let Some(words) = RemoteWords::of(&rule.remote, set) {
                chain.push(rule_line(rule, &words, rule.id.as_str(), &target));
            }
            let bound = remote.iter().flat_map(|remote| self.bound_of(remote, ethertype));
            chain.extend(bound.map(|(net, mac)| {
                rule_line(rule, &RemoteWords::Bound(net, mac), rule.id.as_str(), &bound_target)
            }));
        }
        chain
    }

    /// Where each packet of a connection is asked for its MAC that a member was admitted by.
    fn settle_bound(&mut self) {
        for ethertype in FAMILIES {
            let is_named = |group: &GroupId| self.naming.contains_key(&Remote::Group(group.clone()));
            let named = self.bound.iter().filter(|(group, _)| is_named(group));
            let members = named.flat_map(|(_, members)| members.keys().copied());
            let bound: BTreeSet<(IpNet, MacAddr)> =
                members.filter(|(net, _)| Ethertype::of(net) == ethertype).collect();
            let target = format!("{PREFIX}sg-accept");
            let line = |(net, mac): &(IpNet, MacAddr)| {
                DIRECTIONS.map(|direction| bound_line(direction, *net, *mac, &target))
            };
            let mut chain: Chain = bound.iter().flat_map(line).collect();
            chain.push(format!("-j {PREFIX}sg-fallback"));
            self.set_chain(
                ChainKey { ethertype, table: Table::Filter, name: format!("{PREFIX}sg-remote") },
                Some(chain),
            );
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
        let ports = self.buckets.get(&number).filter(|ports| !ports.is_empty());
        let is_there = ports.is_some();
        let chains: Vec<&PortChains> =
            ports.into_iter().flat_map(BTreeMap::values).filter_map(|id| self.ports.get(id)).collect();
        let filter = filter_bucket(chains.iter().copied());
        let raw = raw_bucket(chains.iter().copied());
        if !is_there {
            self.buckets.remove(&number);
        }
        for ethertype in FAMILIES {
            let key =
                |table, chain: &str| ChainKey { ethertype, table, name: format!("{PREFIX}{chain}-{number}") };
            self.set_chain(key(Table::Filter, "sg"), is_there.then(|| filter.clone()));
            self.set_chain(key(Table::Raw, "raw"), Some(raw.clone()).filter(|raw| !raw.is_empty()));
        }
        self.lead_to_buckets();
    }

    fn lead_to_buckets(&mut self) {
        for ethertype in FAMILIES {
            let mut filter = before_ports(ethertype);
            filter.extend(bucket_jumps(self.buckets.keys().copied(), "sg"));
            filter.push(format!("-j {PREFIX}sg-fallback"));
            let key = |bucket: &u16| ChainKey {
                ethertype,
                table: Table::Raw,
                name: format!("{PREFIX}raw-{bucket}"),
            };
            let is_there = |bucket: &u16| self.chains.contains_key(&key(bucket));
            let raw = bucket_jumps(self.buckets.keys().copied().filter(is_there), "raw");
            for (table, name, chain) in [(Table::Filter, "sg-chain", filter), (Table::Raw, "PREROUTING", raw)]
            {
                self.set_chain(ChainKey { ethertype, table, name: format!("{PREFIX}{name}") }, Some(chain));
            }
        }
    }

    fn set_chain(&mut self, key: ChainKey, chain: Option<Chain>) {
        if self.chains.get(&key) == chain.as_ref() {
            return;
        }
        match &chain {
            Some(chain) => self.chains.insert(key.clone(), chain.clone()),
            None => self.chains.remove(&key),
        };
        self.changes.chains.insert(key, chain);
    }

    /// Rules of a group changed. Each of them only admits: less is admitted where one went, more where one came.
    fn note_group(&mut self, id: &GroupId, before: &[String], after: &[String]) {
        let [before, after]: [BTreeSet<&String>; 2] = [before, after].map(|chain| chain.iter().collect());
        let zones: Vec<u16> = self.zones_of(id).collect();
        if !before.is_subset(&after) {
            self.changes.shrunk.extend(&zones);
        }
        if !after.is_subset(&before) {
            self.changes.grown.extend(&zones);
        }
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
