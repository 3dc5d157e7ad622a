//! Remotes: the security groups and address groups that rules name, the addresses they hold, and who names them.

use std::collections::{BTreeMap, BTreeSet};

use policy::{AddressGroupId, Direction, Ethertype, GroupId};

use crate::address::Member;
use crate::cells::{Cells, conjunction_flows};
use crate::flow::Journal;
use crate::ids::Ids;
use crate::names::Name;
use crate::numbers::{RemoteId, SetId};

/// A group as the other end of a rule.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RemoteKey {
    /// A security group: its members.
    Group(GroupId),
    /// An address group: its addresses.
    AddressGroup(AddressGroupId),
}

/// What a remote comes to on this bridge.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RemoteUse {
    /// Its conjunction id; none if no rule of a local port names it.
    pub id: Option<RemoteId>,
    /// The sets whose rules name it.
    pub sets: BTreeSet<SetId>,
    /// Its distinct members, of IPv4 and of IPv6.
    pub members: [usize; 2],
}

/// The members of a remote, and how many ports (or entries of an address group) bring each.
#[derive(Default, Debug)]
struct Members {
    counts: BTreeMap<Member, u32>,
    /// How many there are of IPv4 and of IPv6.
    of_family: [usize; 2],
}

/// Where its members are counted.
fn family(member: &Member) -> usize {
    usize::from(member.ethertype() == Ethertype::Ipv6)
}

impl RemoteKey {
    fn name(&self, id: RemoteId) -> Name {
        match self {
            RemoteKey::Group(group) => Name::Group(id, group.clone()),
            RemoteKey::AddressGroup(group) => Name::AddressGroup(id, group.clone()),
        }
    }
}

/// Which rules of a set name a remote: the way, the family, and whether what they admit is tracked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Reference {
    pub(crate) direction: Direction,
    pub(crate) ethertype: Ethertype,
    pub(crate) set: SetId,
    pub(crate) stateful: bool,
}

/// A remote that some rule names.
#[derive(Debug)]
struct Remote {
    id: RemoteId,
    references: BTreeMap<Reference, u32>,
}

impl Remote {
    fn is_named(&self, direction: Direction, ethertype: Ethertype) -> bool {
        let first = Reference { direction, ethertype, set: SetId(0), stateful: false };
        let found = self.references.range(first..).next();
        found.is_some_and(|(r, _)| r.direction == direction && r.ethertype == ethertype)
    }

    fn is_named_in(&self, direction: Direction) -> bool {
        [Ethertype::Ipv4, Ethertype::Ipv6].into_iter().any(|ethertype| self.is_named(direction, ethertype))
    }
}

/// All remotes and all memberships.
#[derive(Debug)]
pub(crate) struct Remotes {
    /// How many ports (or entries of an address group) bring each address; kept also while no rule names the group.
    members: BTreeMap<RemoteKey, Members>,
    named: BTreeMap<RemoteKey, Remote>,
    keys: BTreeMap<RemoteId, RemoteKey>,
    ids: Ids<RemoteKey>,
}

impl Remotes {
    pub(crate) fn new(known: BTreeMap<RemoteKey, RemoteId>) -> Self {
        let known = known.into_iter().map(|(key, id)| (key, id.0)).collect();
        Remotes {
            members: BTreeMap::new(),
            named: BTreeMap::new(),
            keys: BTreeMap::new(),
            ids: Ids::new(known),
        }
    }

    pub(crate) fn forget_known(&mut self) {
        self.ids.forget_known();
    }

    /// A rule of a set names the remote.
    pub(crate) fn refer(
        &mut self,
        key: &RemoteKey,
        reference: Reference,
        cells: &mut Cells,
        journal: &mut Journal,
    ) -> RemoteId {
        let Reference { direction, ethertype, .. } = reference;
        if !self.named.contains_key(key) {
            let id = RemoteId(self.ids.take(key));
            journal.set(key.name(id).flow());
            self.keys.insert(id, key.clone());
            self.named.insert(key.clone(), Remote { id, references: BTreeMap::new() });
        }
        let remote = self.named.get_mut(key).expect("it was named just now");
        if !remote.is_named_in(direction) {
            for flow in conjunction_flows(remote.id, direction) {
                journal.set(flow);
            }
        }
        if !remote.is_named(direction, ethertype) {
            for member in of_family(self.members.get(key), ethertype) {
                cells.hold(direction, member, remote.id);
            }
        }
        *remote.references.entry(reference).or_default() += 1;
        remote.id
    }

    /// Whether a rule names the remote of this id.
    pub(crate) fn contains(&self, id: RemoteId) -> bool {
        self.keys.contains_key(&id)
    }

    /// How many are named.
    pub(crate) fn in_use(&self) -> usize {
        self.named.len()
    }

    /// What a remote comes to. Costs the sets that name it, not its members.
    pub(crate) fn usage(&self, key: &RemoteKey) -> RemoteUse {
        let named = self.named.get(key);
        RemoteUse {
            id: named.map(|remote| remote.id),
            sets: named.iter().flat_map(|remote| remote.references.keys()).map(|r| r.set).collect(),
            members: self.members.get(key).map_or([0; 2], |members| members.of_family),
        }
    }

    /// The id of a remote that is named.
    pub(crate) fn id(&self, key: &RemoteKey) -> Option<RemoteId> {
        self.named.get(key).map(|remote| remote.id)
    }

    /// A rule of a set names the remote no more. To be called after the rule's cells were taken back.
    pub(crate) fn unrefer(
        &mut self,
        key: &RemoteKey,
        reference: Reference,
        cells: &mut Cells,
        journal: &mut Journal,
    ) {
        let Reference { direction, ethertype, .. } = reference;
        let remote = self.named.get_mut(key).expect("only what was referred to is taken back");
        let count = remote.references.get_mut(&reference).expect("only what was referred to is taken back");
        *count -= 1;
        if *count > 0 {
            return;
        }
        remote.references.remove(&reference);
        if !remote.is_named(direction, ethertype) {
            for member in of_family(self.members.get(key), ethertype) {
                cells.let_go(direction, member, remote.id);
            }
        }
        if !remote.is_named_in(direction) {
            for flow in conjunction_flows(remote.id, direction) {
                journal.remove(flow.key());
            }
        }
        if remote.references.is_empty() {
            journal.remove(key.name(remote.id).flow().key());
            self.ids.release(remote.id.0);
            self.keys.remove(&remote.id);
            self.named.remove(key);
        }
    }

    /// One more port or entry brings the address.
    pub(crate) fn add_member(&mut self, key: &RemoteKey, member: Member, cells: &mut Cells) {
        let members = self.members.entry(key.clone()).or_default();
        let count = members.counts.entry(member).or_default();
        *count += 1;
        if *count > 1 {
            return;
        }
        members.of_family[family(&member)] += 1;
        let Some(remote) = self.named.get(key) else { return };
        for direction in DIRECTIONS {
            if remote.is_named(direction, member.ethertype()) {
                cells.hold(direction, member, remote.id);
            }
        }
    }

    /// One port or entry less brings the address. Returns whose connections are to be judged again.
    pub(crate) fn remove_member(
        &mut self,
        key: &RemoteKey,
        member: Member,
        cells: &mut Cells,
    ) -> BTreeSet<(SetId, Direction)> {
        let members = self.members.get_mut(key).expect("only what was added is removed");
        let count = members.counts.get_mut(&member).expect("only what was added is removed");
        *count -= 1;
        if *count > 0 {
            return BTreeSet::new();
        }
        members.counts.remove(&member);
        members.of_family[family(&member)] -= 1;
        if members.counts.is_empty() {
            self.members.remove(key);
        }
        let Some(remote) = self.named.get(key) else { return BTreeSet::new() };
        for direction in DIRECTIONS {
            cells.let_go(direction, member, remote.id);
        }
        remote.tracked(|reference| reference.ethertype == member.ethertype())
    }

    /// The sets whose tracked connections a remote admits in a direction.
    pub(crate) fn tracked_by(&self, id: RemoteId, direction: Direction) -> BTreeSet<(SetId, Direction)> {
        let remote = self.keys.get(&id).and_then(|key| self.named.get(key));
        remote.map(|remote| remote.tracked(|r| r.direction == direction)).unwrap_or_default()
    }
}

impl Remote {
    fn tracked(&self, concerned: impl Fn(&Reference) -> bool) -> BTreeSet<(SetId, Direction)> {
        let references = self.references.keys().filter(|r| r.stateful && concerned(r));
        references.map(|r| (r.set, r.direction)).collect()
    }
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

fn of_family(members: Option<&Members>, ethertype: Ethertype) -> impl Iterator<Item = Member> + use<'_> {
    members
        .into_iter()
        .flat_map(|members| members.counts.keys())
        .copied()
        .filter(move |member| member.ethertype() == ethertype)
}
