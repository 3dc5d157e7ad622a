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
        let groups = changes(&self.groups, &now.groups);
        let mut seen: Vec<Seen> =
            groups.map(|(id, head, members)| Seen::Group { id: id.clone(), head, members }).collect();
        let address_groups = changes(&self.address_groups, &now.address_groups);
        seen.extend(address_groups.map(|(id, name, addresses)| {
            let id = id.clone();
            Seen::AddressGroup { id, name, addresses }
        }));
        let ids: BTreeSet<&PortId> = self.ports.keys().chain(now.ports.keys()).collect();
        let changed = ids.into_iter().filter(|id| self.ports.get(*id) != now.ports.get(*id));
        seen.extend(changed.map(|id| Seen::Port(id.clone(), now.ports.get(id).cloned())));
        seen
    }
}

/// Objects with a set each.
type WithSets<I, T> = BTreeMap<I, (T, BTreeSet<String>)>;

/// What is another in the two.
fn changes<'m, I: Ord, T: Clone + PartialEq>(
    before: &'m WithSets<I, T>,
    now: &'m WithSets<I, T>,
) -> impl Iterator<Item = (&'m I, Option<Now<T>>, SetChange)> {
    let nothing = BTreeSet::new();
    let ids: BTreeSet<&I> = before.keys().chain(now.keys()).collect();
    ids.into_iter().filter_map(move |id| {
        let (old, new) = (before.get(id), now.get(id));
        let set = |of: Option<&'m (T, BTreeSet<String>)>| of.map_or(nothing.clone(), |(_, set)| set.clone());
        let change = SetChange::between(&set(old), &set(new));
        let (old, new) = (old.map(|(head, _)| head), new.map(|(head, _)| head));
        let head = (old != new).then(|| new.map_or(Now::Gone, |new| Now::Is(new.clone())));
        (head.is_some() || !change.is_empty()).then_some((id, head, change))
    })
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
