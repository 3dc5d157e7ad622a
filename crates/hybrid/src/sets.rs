//! Which sets there are to be: one for each remote that a rule of a local port names, and family; and what is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use policy::{AddressGroup, AddressGroupId, Ethertype, GroupId, PolicyDelta, Port, PortId, SecurityGroup};

use crate::cover::{Cover, Edit};
use crate::members::{Members, free_members};
use crate::name::set_name;

/// The other end of a rule, where that has members.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Remote {
    /// The members of a security group.
    Group(GroupId),
    /// The addresses of an address group.
    AddressGroup(AddressGroupId),
}

impl Remote {
    /// Of a rule, if it has members.
    pub(crate) fn of(remote: &policy::Remote) -> Option<Self> {
        match remote {
            policy::Remote::Any | policy::Remote::Prefix(_) => None,
            policy::Remote::Group(id) => Some(Remote::Group(id.clone())),
            policy::Remote::AddressGroup(id) => Some(Remote::AddressGroup(id.clone())),
        }
    }
}

/// What is to be done to the sets, one after the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SetOp {
    /// From now on there shall be a set, empty at first.
    Create {
        /// Its name.
        set: String,
        /// Of its members.
        ethertype: Ethertype,
    },
    /// There shall be none of that name any more.
    Destroy {
        /// Its name.
        set: String,
    },
    /// The set shall hold this prefix; one of 0 bits only where single addresses are kept apart ([`Sets::apart`]).
    Add {
        /// The name of the set.
        set: String,
        /// What it shall hold.
        net: IpNet,
    },
    /// It shall not hold it any more.
    Remove {
        /// The name of the set.
        set: String,
        /// What it shall not hold.
        net: IpNet,
    },
}

type Key = (Remote, Ethertype);

/// A set that a rule names.
#[derive(Debug)]
struct Named {
    set: String,
    /// How many rules of local ports' groups name it.
    rules: u32,
    elements: Elements,
}

/// What is in a set.
#[derive(Debug)]
enum Elements {
    /// Each member's own prefix, and how many members bring it.
    Each(BTreeMap<IpNet, u32>),
    /// The fewest that hold the same.
    Fewest(Cover),
    /// Single addresses, which each come once ([`Members`]), and the fewest prefixes that hold the same as all longer ones do. An address may
    /// lie in one of them.
    Apart(Cover),
}

/// How members become elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    Each,
    Fewest,
    Apart,
}

/// See the module's documentation. A change costs what it changes: no set is walked but one that comes or goes, no port or rule
/// but those of the change.
#[derive(Debug)]
pub struct Sets {
    style: Style,
    groups: BTreeMap<GroupId, Arc<SecurityGroup>>,
    address_groups: BTreeMap<AddressGroupId, Arc<AddressGroup>>,
    ports: BTreeMap<PortId, Arc<Port>>,
    local: BTreeSet<PortId>,
    /// How many local ports carry a group.
    carried: BTreeMap<GroupId, u32>,
    /// How many ports, or entries, bring an address to a remote.
    members: BTreeMap<Remote, Members>,
    named: BTreeMap<Key, Named>,
    /// Of the sets that are, and whose members are in them.
    names: BTreeMap<String, Remote>,
    ops: Vec<SetOp>,
}

impl Sets {
    /// No policy, no ports. With `compress`, neighbouring addresses become prefixes that hold exactly the same.
    pub fn new(compress: bool) -> Self {
        Self::of_style(if compress { Style::Fewest } else { Style::Each })
    }

    /// No policy, no ports. No two prefixes of a set overlap that are longer than one address, and a set may hold one of 0 bits: for who
    /// keeps single addresses apart from others.
    pub fn apart() -> Self {
        Self::of_style(Style::Apart)
    }

    fn of_style(style: Style) -> Self {
        Sets {
            style,
            groups: BTreeMap::new(),
            address_groups: BTreeMap::new(),
            ports: BTreeMap::new(),
            local: BTreeSet::new(),
            carried: BTreeMap::new(),
            members: BTreeMap::new(),
            named: BTreeMap::new(),
            names: BTreeMap::new(),
            ops: Vec::new(),
        }
    }

    /// The policy changed.
    pub fn apply_policy(&mut self, delta: &PolicyDelta) {
        for (id, group) in &delta.groups {
            self.set_group(id, group.clone());
        }
        for (id, group) in &delta.address_groups {
            self.set_address_group(id, group.clone());
        }
        for (id, port) in &delta.ports {
            self.set_port(id, port.clone());
        }
    }

    /// A port came to this host, or went.
    pub fn bind(&mut self, port: &PortId, is_local: bool) {
        let changed = if is_local { self.local.insert(port.clone()) } else { self.local.remove(port) };
        let Some(policy) = self.ports.get(port).filter(|_| changed).cloned() else { return };
        match is_local {
            true => self.carry(&policy),
            false => self.carry_no_more(&policy),
        }
    }

    /// What is to be done since the last time.
    pub fn take(&mut self) -> Vec<SetOp> {
        std::mem::take(&mut self.ops)
    }

    /// The set of a remote's members, if a rule of a local port names it.
    pub fn set_of(&self, remote: &Remote, ethertype: Ethertype) -> Option<&str> {
        self.named.get(&(remote.clone(), ethertype)).map(|named| named.set.as_str())
    }

    /// Whose members are in a set.
    pub(crate) fn remote_of(&self, set: &str) -> Option<&Remote> {
        self.names.get(set)
    }

    /// A security group of the policy.
    pub(crate) fn group(&self, id: &GroupId) -> Option<&Arc<SecurityGroup>> {
        self.groups.get(id)
    }

    /// The security groups of the policy.
    pub(crate) fn groups(&self) -> &BTreeMap<GroupId, Arc<SecurityGroup>> {
        &self.groups
    }

    /// Its address groups.
    pub(crate) fn address_groups(&self) -> &BTreeMap<AddressGroupId, Arc<AddressGroup>> {
        &self.address_groups
    }

    /// How many distinct prefixes a remote has by address alone, of IPv4 and of IPv6.
    pub(crate) fn member_counts(&self, remote: &Remote) -> [usize; 2] {
        self.members.get(remote).map_or([0; 2], Members::counts)
    }

    /// The ports of the policy.
    pub(crate) fn ports(&self) -> &BTreeMap<PortId, Arc<Port>> {
        &self.ports
    }

    /// A port of the policy.
    pub(crate) fn port(&self, id: &PortId) -> Option<&Arc<Port>> {
        self.ports.get(id)
    }

    /// The members of a remote, by address alone; none if it has none.
    pub(crate) fn members(&self, remote: &Remote) -> Option<&Members> {
        self.members.get(remote)
    }

    fn set_group(&mut self, id: &GroupId, new: Option<Arc<SecurityGroup>>) {
        let old = match &new {
            Some(group) => self.groups.insert(id.clone(), Arc::clone(group)),
            None => self.groups.remove(id),
        };
        if self.carried.contains_key(id) {
            // Added first, so that what both name is not taken away in between.
            self.name(new.as_deref());
            self.name_no_more(old.as_deref());
        }
    }

    fn set_address_group(&mut self, id: &AddressGroupId, new: Option<Arc<AddressGroup>>) {
        let old = match &new {
            Some(group) => self.address_groups.insert(id.clone(), Arc::clone(group)),
            None => self.address_groups.remove(id),
        };
        let held =
            |group: Option<Arc<AddressGroup>>| group.map(|group| group.addresses.clone()).unwrap_or_default();
        self.change_members(&Remote::AddressGroup(id.clone()), &held(old), &held(new));
    }

    fn set_port(&mut self, id: &PortId, new: Option<Arc<Port>>) {
        let old = match &new {
            Some(port) => self.ports.insert(id.clone(), Arc::clone(port)),
            None => self.ports.remove(id),
        };
        let held = |port: &Option<Arc<Port>>| port.as_deref().map(free_members).unwrap_or_default();
        let groups = |port: &Option<Arc<Port>>| {
            port.as_deref().map(|port| port.security_groups.clone()).unwrap_or_default()
        };
        let (old_members, new_members) = (held(&old), held(&new));
        let (old_groups, new_groups) = (groups(&old), groups(&new));
        let nobody = BTreeSet::new();
        for group in old_groups.union(&new_groups) {
            let before = if old_groups.contains(group) { &old_members } else { &nobody };
            let after = if new_groups.contains(group) { &new_members } else { &nobody };
            self.change_members(&Remote::Group(group.clone()), before, after);
        }
        if self.local.contains(id) {
            if let Some(port) = &new {
                self.carry(port);
            }
            if let Some(port) = &old {
                self.carry_no_more(port);
            }
        }
    }

    /// A local port's groups are those of one port more.
    fn carry(&mut self, port: &Port) {
        for group in groups_that_filter(port) {
            let count = self.carried.entry(group.clone()).or_default();
            *count += 1;
            if *count == 1 {
                let group = self.groups.get(group).cloned();
                self.name(group.as_deref());
            }
        }
    }

    fn carry_no_more(&mut self, port: &Port) {
        for group in groups_that_filter(port) {
            let count = self.carried.get_mut(group).expect("only what was carried is carried no more");
            *count -= 1;
            if *count == 0 {
                self.carried.remove(group);
                let group = self.groups.get(group).cloned();
                self.name_no_more(group.as_deref());
            }
        }
    }

    /// The rules of a group name their remotes.
    fn name(&mut self, group: Option<&SecurityGroup>) {
        for key in keys(group) {
            if let Some(named) = self.named.get_mut(&key) {
                named.rules += 1;
                continue;
            }
            let set = self.free_name(&key);
            self.ops.push(SetOp::Create { set: set.clone(), ethertype: key.1 });
            let elements = match self.style {
                Style::Each => Elements::Each(BTreeMap::new()),
                Style::Fewest => Elements::Fewest(Cover::default()),
                Style::Apart => Elements::Apart(Cover::default()),
            };
            let mut named = Named { set, rules: 1, elements };
            for net in self.members.get(&key.0).into_iter().flat_map(Members::nets) {
                if Ethertype::of(&net) == key.1 {
                    named.hold(net, &mut self.ops);
                }
            }
            self.named.insert(key, named);
        }
    }

    fn name_no_more(&mut self, group: Option<&SecurityGroup>) {
        for key in keys(group) {
            let named = self.named.get_mut(&key).expect("only what was named is named no more");
            named.rules -= 1;
            if named.rules == 0 {
                let named = self.named.remove(&key).expect("it was there just now");
                self.names.remove(&named.set);
                self.ops.push(SetOp::Destroy { set: named.set });
            }
        }
    }

    /// The name of a remote's set; another one where ids are so alike that their names are one.
    fn free_name(&mut self, (remote, ethertype): &Key) -> String {
        let mut name = set_name(remote, *ethertype);
        for more in 1.. {
            if !self.names.contains_key(&name) {
                break;
            }
            let cut: String = set_name(remote, *ethertype).chars().take(24).collect();
            name = format!("{cut}~{more}");
        }
        self.names.insert(name.clone(), remote.clone());
        name
    }

    fn change_members(&mut self, remote: &Remote, before: &BTreeSet<IpNet>, after: &BTreeSet<IpNet>) {
        for net in after.difference(before) {
            if self.members.entry(remote.clone()).or_default().add(*net)
                && let Some(named) = self.named.get_mut(&(remote.clone(), Ethertype::of(net)))
            {
                named.hold(*net, &mut self.ops);
            }
        }
        for net in before.difference(after) {
            let members = self.members.get_mut(remote).expect("only what was brought is taken away");
            if !members.remove(*net) {
                continue;
            }
            if members.is_empty() {
                self.members.remove(remote);
            }
            if let Some(named) = self.named.get_mut(&(remote.clone(), Ethertype::of(net))) {
                named.let_go(*net, &mut self.ops);
            }
        }
    }
}

impl Named {
    fn hold(&mut self, net: IpNet, ops: &mut Vec<SetOp>) {
        let edit = match &mut self.elements {
            Elements::Each(counts) => {
                let mut add = elements(net);
                add.retain(|element| {
                    let count = counts.entry(*element).or_default();
                    *count += 1;
                    *count == 1
                });
                Edit { add, remove: Vec::new() }
            }
            Elements::Fewest(cover) => in_elements(cover.add(net)),
            Elements::Apart(_) if is_single(net) => Edit { add: vec![net], remove: Vec::new() },
            Elements::Apart(cover) => cover.add(net),
        };
        self.tell(edit, ops);
    }

    fn let_go(&mut self, net: IpNet, ops: &mut Vec<SetOp>) {
        let edit = match &mut self.elements {
            Elements::Each(counts) => {
                let mut remove = elements(net);
                remove.retain(|element| {
                    let count = counts.get_mut(element).expect("only what is held is let go");
                    *count -= 1;
                    *count == 0 && counts.remove(element).is_some()
                });
                Edit { add: Vec::new(), remove }
            }
            Elements::Fewest(cover) => in_elements(cover.remove(net)),
            Elements::Apart(_) if is_single(net) => Edit { add: Vec::new(), remove: vec![net] },
            Elements::Apart(cover) => cover.remove(net),
        };
        self.tell(edit, ops);
    }

    fn tell(&self, edit: Edit, ops: &mut Vec<SetOp>) {
        ops.extend(edit.add.into_iter().map(|net| SetOp::Add { set: self.set.clone(), net }));
        ops.extend(edit.remove.into_iter().map(|net| SetOp::Remove { set: self.set.clone(), net }));
    }
}

/// A port that is trusted is not filtered, whatever groups it carries.
fn groups_that_filter(port: &Port) -> impl Iterator<Item = &GroupId> {
    port.security_groups.iter().filter(|_| !port.is_trusted())
}

/// The sets that the rules of a group name, each once a rule.
fn keys(group: Option<&SecurityGroup>) -> Vec<Key> {
    let rules = group.into_iter().flat_map(|group| &group.rules);
    rules.filter_map(|rule| Some((Remote::of(&rule.remote)?, rule.ethertype))).collect()
}

/// One address.
fn is_single(net: IpNet) -> bool {
    net.prefix_len() == net.max_prefix_len()
}

/// A prefix as a set can hold it: everything is its two halves.
fn elements(net: IpNet) -> Vec<IpNet> {
    match net.prefix_len() {
        0 => net.subnets(1).expect("halves are longer").collect(),
        _ => vec![net],
    }
}

/// A half that becomes part of everything, or stays of it, is no change.
fn in_elements(edit: Edit) -> Edit {
    let elements = |nets: Vec<IpNet>| nets.into_iter().flat_map(elements).collect::<Vec<_>>();
    let (mut add, mut remove) = (elements(edit.add), elements(edit.remove));
    if add.len() > 1 || remove.len() > 1 {
        let both: BTreeSet<IpNet> = add.iter().filter(|net| remove.contains(net)).copied().collect();
        add.retain(|net| !both.contains(net));
        remove.retain(|net| !both.contains(net));
    }
    Edit { add, remove }
}
