//! The policy that the known objects come to, and what of them is refused.

use std::collections::{BTreeMap, BTreeSet};

use policy::document::parse_changes;
use policy::{AddressGroup, AddressGroupId, GroupId, Policy, PolicyDelta, PortId, Remote, SecurityGroup};

use super::known::{Dirty, HeldGroup, Known};
use crate::Refused;
use crate::edit::Edit;
use crate::rpc::object::{Kind, Rule};

/// An object by kind and id.
pub(super) type Name = (Kind, String);

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Enforced {
    pub(super) policy: Policy,
    /// Hosts of ports, where there are any.
    pub(super) hosts: BTreeMap<PortId, Vec<String>>,
    pub(super) refused: BTreeMap<Name, Vec<Refused>>,
    /// Groups that are gone while ports are still said to carry them: they are there, and admit nothing.
    hollow_groups: BTreeSet<GroupId>,
    /// The same of rules and address groups.
    hollow_address_groups: BTreeSet<AddressGroupId>,
}

/// What a step came to.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) delta: PolicyDelta,
    /// Ports whose hosts are others than before.
    pub(super) hosts: Vec<(PortId, Vec<String>)>,
    /// What others wait for.
    pub(super) wanted: BTreeSet<Name>,
}

impl Enforced {
    /// Takes over what changed. What names something that is not known waits for it, unless that is among the `unfound`: then it is refused.
    pub(super) fn follow(&mut self, known: &mut Known, unfound: &BTreeSet<Name>) -> Step {
        if std::mem::take(&mut known.has_new_referents) {
            self.try_refused_again(known);
        }
        let dirty = std::mem::take(&mut known.dirty);
        let (ready, waiting, wanted) = self.sort(dirty, known, unfound);
        known.dirty = waiting;
        for (kind, ids) in [
            (Kind::SecurityGroup, &ready.groups),
            (Kind::AddressGroup, &ready.address_groups),
            (Kind::Port, &ready.ports),
        ] {
            ids.iter().for_each(|id| _ = self.refused.remove(&(kind, id.clone())));
        }
        let document = document(&ready, known);
        let changes = parse_changes(("neutron", &document), &self.policy);
        for refused in changes.diagnostics.into_iter().map(Refused::from) {
            self.refused.entry(owner(&refused.object)).or_default().push(refused);
        }
        let mut edit = Edit::new(&mut self.policy);
        edit.apply(changes.delta);
        for id in ready.ports.iter().filter(|id| !known.ports.contains_key(*id)) {
            edit.set_port(&id.as_str().into(), None);
        }
        let gone = ready.groups.iter().filter(|id| !known.groups.contains_key(*id));
        self.hollow_groups.extend(gone.map(|id| id.as_str().into()));
        let gone = ready.address_groups.iter().filter(|id| !known.address_groups.contains_key(*id));
        self.hollow_address_groups.extend(gone.map(|id| id.as_str().into()));
        empty_groups(&mut edit, &mut self.hollow_groups, known);
        empty_address_groups(&mut edit, &mut self.hollow_address_groups, known);
        let delta = edit.delta();
        let hosts = self.take_hosts(&ready.ports, known);
        Step { delta, hosts, wanted }
    }

    /// Something came that a refused object may have named.
    fn try_refused_again(&self, known: &mut Known) {
        for (kind, id) in self.refused.keys() {
            match kind {
                Kind::Port => _ = known.dirty.ports.insert(id.clone()),
                Kind::SecurityGroup => _ = known.dirty.groups.insert(id.clone()),
                Kind::AddressGroup | Kind::SecurityGroupRule => {}
            }
        }
    }

    /// What can be taken over, what has to wait, and for what.
    fn sort(&self, dirty: Dirty, known: &Known, unfound: &BTreeSet<Name>) -> (Dirty, Dirty, BTreeSet<Name>) {
        let mut wanted = BTreeSet::new();
        let mut lacks = |kind: Kind, id: &String, is_known: bool| {
            let name = (kind, id.clone());
            let waits = !is_known && !unfound.contains(&name) && !known.tombstones.is_deleted(kind, id);
            if waits {
                wanted.insert(name);
            }
            waits
        };
        let (waiting_groups, groups): (BTreeSet<_>, BTreeSet<_>) = dirty.groups.into_iter().partition(|id| {
            let rules = known.groups.get(id).into_iter().flat_map(|group| group.body.rules.values());
            let named = rules.filter_map(|rule| rule.body.remote_address_group.as_ref());
            let lacking = named
                .filter(|named| lacks(Kind::AddressGroup, named, known.address_groups.contains_key(*named)));
            lacking.count() > 0
        });
        let (waiting_ports, ports): (BTreeSet<_>, BTreeSet<_>) = dirty.ports.into_iter().partition(|id| {
            let carried = known.ports.get(id).into_iter().flat_map(|port| &port.body.groups);
            let lacking = carried.filter(|group| {
                let comes = waiting_groups.contains(*group)
                    && !self.policy.groups.contains_key(&group.as_str().into());
                comes || lacks(Kind::SecurityGroup, group, known.groups.contains_key(*group))
            });
            lacking.count() > 0
        });
        let ready = Dirty { groups, address_groups: dirty.address_groups, ports };
        let waiting = Dirty { groups: waiting_groups, address_groups: BTreeSet::new(), ports: waiting_ports };
        (ready, waiting, wanted)
    }

    fn take_hosts(&mut self, ports: &BTreeSet<String>, known: &Known) -> Vec<(PortId, Vec<String>)> {
        let mut changed = Vec::new();
        for id in ports {
            let port = PortId::from(id.as_str());
            let Some(held) = known.ports.get(id).filter(|_| self.policy.ports.contains_key(&port)) else {
                self.hosts.remove(&port);
                continue;
            };
            if self.hosts.get(&port).is_none_or(|before| *before != held.body.hosts) {
                self.hosts.insert(port.clone(), held.body.hosts.clone());
                changed.push((port, held.body.hosts.clone()));
            }
        }
        changed
    }
}

/// The objects that are there, in the API's words.
fn document(ready: &Dirty, known: &Known) -> String {
    let group = |id: &String| Some(group_document(&known.groups.get(id)?.body));
    let groups: Vec<String> = ready.groups.iter().filter_map(group).collect();
    let address_group = |id: &String| Some(known.address_groups.get(id)?.body.as_str());
    let address_groups: Vec<&str> = ready.address_groups.iter().filter_map(address_group).collect();
    let port = |id: &String| Some(known.ports.get(id)?.body.document.as_str());
    let ports: Vec<&str> = ready.ports.iter().filter_map(port).collect();
    format!(
        r#"{{"security_groups":[{}],"address_groups":[{}],"ports":[{}]}}"#,
        groups.join(","),
        address_groups.join(","),
        ports.join(",")
    )
}

/// The head with its rules inside; it has an id at least.
fn group_document(group: &HeldGroup) -> String {
    let rules: Vec<&str> = group
        .rules
        .values()
        .map(|held| {
            let rule: &Rule = &held.body;
            rule.document.as_str()
        })
        .collect();
    let head = group.head.strip_suffix('}').unwrap_or(&group.head);
    format!(r#"{head},"security_group_rules":[{}]}}"#, rules.join(","))
}

/// Whose a diagnostic is: a rule is told of with its group.
fn owner(object: &str) -> Name {
    let whole = object.rsplit_once(" of ").map_or(object, |(_, owner)| owner);
    for kind in [Kind::SecurityGroup, Kind::AddressGroup, Kind::Port] {
        if let Some(id) = whole.strip_prefix(kind.words()).and_then(|rest| rest.strip_prefix(' ')) {
            return (kind, id.to_owned());
        }
    }
    (Kind::SecurityGroupRule, object.to_owned())
}

/// Groups that are gone: without rules while a port carries them, else away.
fn empty_groups(edit: &mut Edit<'_>, hollow: &mut BTreeSet<GroupId>, known: &Known) {
    if hollow.is_empty() {
        return;
    }
    hollow.retain(|id| !known.groups.contains_key(id.as_str()));
    let carried: BTreeSet<GroupId> =
        edit.policy().ports.values().flat_map(|port| port.security_groups.iter().cloned()).collect();
    let (stay, go): (BTreeSet<_>, BTreeSet<_>) =
        std::mem::take(hollow).into_iter().partition(|id| carried.contains(id));
    go.iter().for_each(|id| edit.set_group(id, None));
    for id in &stay {
        let (name, stateful, rules) = (String::new(), true, Vec::new());
        edit.set_group(id, Some(SecurityGroup { id: id.clone(), name, stateful, rules }));
    }
    *hollow = stay;
}

/// The same of address groups.
fn empty_address_groups(edit: &mut Edit<'_>, hollow: &mut BTreeSet<AddressGroupId>, known: &Known) {
    if hollow.is_empty() {
        return;
    }
    hollow.retain(|id| !known.address_groups.contains_key(id.as_str()));
    let rules = edit.policy().groups.values().flat_map(|group| &group.rules);
    let of_rule = |remote: &Remote| match remote {
        Remote::AddressGroup(id) => Some(id.clone()),
        _ => None,
    };
    let named: BTreeSet<AddressGroupId> = rules.filter_map(|rule| of_rule(&rule.remote)).collect();
    let (stay, go): (BTreeSet<_>, BTreeSet<_>) =
        std::mem::take(hollow).into_iter().partition(|id| named.contains(id));
    go.iter().for_each(|id| edit.set_address_group(id, None));
    for id in &stay {
        let (name, addresses) = (String::new(), BTreeSet::new());
        edit.set_address_group(id, Some(AddressGroup { id: id.clone(), name, addresses }));
    }
    *hollow = stay;
}
