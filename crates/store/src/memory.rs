//! What was seen, remembered over the end of a session: for hosts that keep it on disk.

use std::collections::{BTreeMap, BTreeSet};

use policy::{AddressGroupId, GroupId, PortId};

use crate::content::PortRow;
use crate::sight::{GroupHead, Now, Seen, SetChange};

/// The rows in sight.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    groups: BTreeMap<GroupId, (GroupHead, BTreeSet<String>)>,
    address_groups: BTreeMap<AddressGroupId, (String, BTreeSet<String>)>,
    ports: BTreeMap<PortId, PortRow>,
}

impl Memory {
    /// Remembers. Of numbers nothing is remembered: they say nothing of the policy.
    pub fn see(&mut self, seen: &Seen) {
        match seen {
            Seen::Group { id, head: Some(Now::Gone), .. } => _ = self.groups.remove(id),
            Seen::Group { id, head, members } => {
                let (held, texts) = self.groups.entry(id.clone()).or_default();
                if let Some(Now::Is(head)) = head {
                    held.clone_from(head);
                }
                members.apply(texts);
            }
            Seen::AddressGroup { id, name: Some(Now::Gone), .. } => _ = self.address_groups.remove(id),
            Seen::AddressGroup { id, name, addresses } => {
                let (held, texts) = self.address_groups.entry(id.clone()).or_default();
                if let Some(Now::Is(name)) = name {
                    held.clone_from(name);
                }
                addresses.apply(texts);
            }
            Seen::Port(id, Some(row)) => _ = self.ports.insert(id.clone(), row.clone()),
            Seen::Port(id, None) => _ = self.ports.remove(id),
            Seen::Sequence(_) => {}
        }
    }

    /// What one sees who has this in sight, and then has `now`.
    pub fn until(&self, now: &Memory) -> Vec<Seen> {
        let mut seen = Vec::new();
        let nothing = BTreeSet::new();
        for id in self.groups.keys().chain(now.groups.keys().filter(|id| !self.groups.contains_key(*id))) {
            let (before, after) = (self.groups.get(id), now.groups.get(id));
            let texts = |of: Option<&(GroupHead, BTreeSet<String>)>| {
                of.map_or(nothing.clone(), |(_, texts)| texts.clone())
            };
            let members = SetChange::between(&texts(before), &texts(after));
            let head = differs(before.map(|(head, _)| head), after.map(|(head, _)| head));
            if head.is_some() || !members.is_empty() {
                seen.push(Seen::Group { id: id.clone(), head, members });
            }
        }
        let added = now.address_groups.keys().filter(|id| !self.address_groups.contains_key(*id));
        for id in self.address_groups.keys().chain(added) {
            let (before, after) = (self.address_groups.get(id), now.address_groups.get(id));
            let texts = |of: Option<&(String, BTreeSet<String>)>| {
                of.map_or(nothing.clone(), |(_, texts)| texts.clone())
            };
            let addresses = SetChange::between(&texts(before), &texts(after));
            let name = differs(before.map(|(name, _)| name), after.map(|(name, _)| name));
            if name.is_some() || !addresses.is_empty() {
                seen.push(Seen::AddressGroup { id: id.clone(), name, addresses });
            }
        }
        for id in self.ports.keys().chain(now.ports.keys().filter(|id| !self.ports.contains_key(*id))) {
            let after = now.ports.get(id);
            if self.ports.get(id) != after {
                seen.push(Seen::Port(id.clone(), after.cloned()));
            }
        }
        seen
    }
}

fn differs<T: Clone + PartialEq>(before: Option<&T>, after: Option<&T>) -> Option<Now<T>> {
    (before != after).then(|| after.map_or(Now::Gone, |after| Now::Is(after.clone())))
}

impl SetChange {
    pub(crate) fn between(old: &BTreeSet<String>, new: &BTreeSet<String>) -> Self {
        SetChange {
            added: new.difference(old).cloned().collect(),
            removed: old.difference(new).cloned().collect(),
        }
    }

    fn apply(&self, texts: &mut BTreeSet<String>) {
        self.removed.iter().for_each(|text| _ = texts.remove(text));
        texts.extend(self.added.iter().cloned());
    }
}
