//! The whole policy, and the difference of two.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{AddressGroup, AddressGroupId, GroupId, Port, PortId, SecurityGroup};

/// A validated policy. Cloning shares the objects.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// Security groups by id.
    pub groups: BTreeMap<GroupId, Arc<SecurityGroup>>,
    /// Address groups by id.
    pub address_groups: BTreeMap<AddressGroupId, Arc<AddressGroup>>,
    /// Ports by id, on whatever host.
    pub ports: BTreeMap<PortId, Arc<Port>>,
}

impl Policy {
    /// What turns `old` into `new`: [`Policy::apply`] of the result to `old` gives `new`.
    pub fn diff(old: &Self, new: &Self) -> PolicyDelta {
        PolicyDelta {
            groups: changed(&old.groups, &new.groups),
            address_groups: changed(&old.address_groups, &new.address_groups),
            ports: changed(&old.ports, &new.ports),
        }
    }

    /// Puts the delta's objects in the place of ours.
    pub fn apply(&mut self, delta: PolicyDelta) {
        replace(&mut self.groups, delta.groups);
        replace(&mut self.address_groups, delta.address_groups);
        replace(&mut self.ports, delta.ports);
    }
}

/// Objects that changed, in order of id; `None` is an object that is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyDelta {
    /// Security groups, whole.
    pub groups: Vec<(GroupId, Option<Arc<SecurityGroup>>)>,
    /// Address groups, whole.
    pub address_groups: Vec<(AddressGroupId, Option<Arc<AddressGroup>>)>,
    /// Ports, whole.
    pub ports: Vec<(PortId, Option<Arc<Port>>)>,
}

impl PolicyDelta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty() && self.address_groups.is_empty() && self.ports.is_empty()
    }
}

/// A changed object: its new version, or none.
type Change<K, V> = (K, Option<Arc<V>>);

/// Walks both maps once, side by side.
fn changed<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, Arc<V>>,
    new: &BTreeMap<K, Arc<V>>,
) -> Vec<Change<K, V>> {
    let mut changes = Vec::new();
    let mut left = old.iter().peekable();
    for (id, object) in new {
        while let Some((gone, _)) = left.next_if(|(other, _)| *other < id) {
            changes.push((gone.clone(), None));
        }
        let same = left
            .next_if(|(other, _)| *other == id)
            .is_some_and(|(_, before)| Arc::ptr_eq(before, object) || before == object);
        if !same {
            changes.push((id.clone(), Some(Arc::clone(object))));
        }
    }
    changes.extend(left.map(|(gone, _)| (gone.clone(), None)));
    changes
}

fn replace<K: Ord, V>(objects: &mut BTreeMap<K, Arc<V>>, changes: Vec<Change<K, V>>) {
    for (id, object) in changes {
        match object {
            Some(object) => objects.insert(id, object),
            None => objects.remove(&id),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn address_group(id: &str, addresses: &[&str]) -> Arc<AddressGroup> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<_>>();
        Arc::new(AddressGroup { id: id.into(), name: String::new(), addresses })
    }

    fn policy(groups: &[(&str, &[&str])]) -> Policy {
        let address_groups = groups.iter().map(|(id, of)| ((*id).into(), address_group(id, of))).collect();
        Policy { address_groups, ..Policy::default() }
    }

    #[test]
    fn only_changed_objects_are_told_and_in_order() {
        let old = policy(&[("a", &[]), ("b", &["10.0.0.0/8"]), ("d", &[])]);
        let new = policy(&[("b", &["10.0.0.0/8"]), ("c", &[]), ("d", &["10.0.0.0/8"]), ("e", &[])]);
        let delta = Policy::diff(&old, &new);
        let told: Vec<_> = delta.address_groups.iter().map(|(id, of)| (id.as_str(), of.is_some())).collect();
        assert_eq!(told, [("a", false), ("c", true), ("d", true), ("e", true)]);
        assert!(delta.groups.is_empty() && delta.ports.is_empty());
        let mut policy = old.clone();
        policy.apply(delta);
        assert_eq!(policy, new);
        assert!(Policy::diff(&new, &new.clone()).is_empty());
    }

    #[test]
    fn a_change_of_one_kind_is_a_change() {
        let changed = [
            PolicyDelta { groups: vec![("g".into(), None)], ..PolicyDelta::default() },
            PolicyDelta { address_groups: vec![("a".into(), None)], ..PolicyDelta::default() },
            PolicyDelta { ports: vec![("p".into(), None)], ..PolicyDelta::default() },
        ];
        assert!(changed.iter().all(|delta| !delta.is_empty()));
        assert!(PolicyDelta::default().is_empty());
    }

    #[test]
    fn what_is_left_over_is_gone() {
        let delta = Policy::diff(&policy(&[("a", &[]), ("b", &[])]), &Policy::default());
        assert_eq!(delta.address_groups, [("a".into(), None), ("b".into(), None)]);
    }
}
