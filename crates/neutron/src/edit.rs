//! A policy under change, and what the change came to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use policy::{AddressGroup, AddressGroupId, GroupId, Policy, PolicyDelta, Port, PortId, SecurityGroup};

/// Objects as they were when they were first touched.
type Before<I, T> = BTreeMap<I, Option<Arc<T>>>;

/// See the module's documentation.
pub(crate) struct Edit<'p> {
    policy: &'p mut Policy,
    groups: Before<GroupId, SecurityGroup>,
    address_groups: Before<AddressGroupId, AddressGroup>,
    ports: Before<PortId, Port>,
}

impl<'p> Edit<'p> {
    pub(crate) fn new(policy: &'p mut Policy) -> Self {
        Edit { policy, groups: BTreeMap::new(), address_groups: BTreeMap::new(), ports: BTreeMap::new() }
    }

    /// As it is by now.
    pub(crate) fn policy(&self) -> &Policy {
        self.policy
    }

    pub(crate) fn set_group(&mut self, id: &GroupId, group: Option<SecurityGroup>) {
        set(&mut self.policy.groups, &mut self.groups, id, group.map(Arc::new));
    }

    pub(crate) fn set_address_group(&mut self, id: &AddressGroupId, group: Option<AddressGroup>) {
        set(&mut self.policy.address_groups, &mut self.address_groups, id, group.map(Arc::new));
    }

    pub(crate) fn set_port(&mut self, id: &PortId, port: Option<Port>) {
        set(&mut self.policy.ports, &mut self.ports, id, port.map(Arc::new));
    }

    /// Changes the addresses of a group that is there.
    pub(crate) fn change_addresses(
        &mut self,
        id: &AddressGroupId,
        change: impl FnOnce(&mut BTreeSet<IpNet>),
    ) {
        let Some(group) = self.policy.address_groups.get_mut(id) else { return };
        self.address_groups.entry(id.clone()).or_insert_with(|| Some(Arc::clone(group)));
        change(&mut Arc::make_mut(group).addresses);
    }

    pub(crate) fn apply(&mut self, delta: PolicyDelta) {
        for (id, group) in delta.groups {
            set(&mut self.policy.groups, &mut self.groups, &id, group);
        }
        for (id, group) in delta.address_groups {
            set(&mut self.policy.address_groups, &mut self.address_groups, &id, group);
        }
        for (id, port) in delta.ports {
            set(&mut self.policy.ports, &mut self.ports, &id, port);
        }
    }

    /// What is not as it was.
    pub(crate) fn delta(self) -> PolicyDelta {
        PolicyDelta {
            groups: changed(&self.policy.groups, self.groups),
            address_groups: changed(&self.policy.address_groups, self.address_groups),
            ports: changed(&self.policy.ports, self.ports),
        }
    }
}

fn set<I: Ord + Clone, T>(
    objects: &mut BTreeMap<I, Arc<T>>,
    before: &mut Before<I, T>,
    id: &I,
    object: Option<Arc<T>>,
) {
    let was = match object {
        Some(object) => objects.insert(id.clone(), object),
        None => objects.remove(id),
    };
    before.entry(id.clone()).or_insert(was);
}

fn changed<I: Ord + Clone, T: PartialEq>(
    objects: &BTreeMap<I, Arc<T>>,
    before: Before<I, T>,
) -> Vec<(I, Option<Arc<T>>)> {
    let now = |(id, was): (I, Option<Arc<T>>)| {
        let is = objects.get(&id);
        (is != was.as_ref()).then(|| (id, is.cloned()))
    };
    before.into_iter().filter_map(now).collect()
}
