//! Sets of security groups: rules are rendered once a set, however many ports carry it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::{Direction, GroupId, Remote, Rule, SecurityGroup};

use crate::address::with_net;
use crate::cells::{Cells, RuleCell};
use crate::flow::Journal;
use crate::layout::register;
use crate::numbers::{Generation, SetId};
use crate::remote::{Reference, RemoteKey, Remotes};
use crate::service::{Plane, family, remote_fields, service_matches, unsupported};
use crate::set_flows::{SetView, set_flows};
use crate::static_flows::MODE_EVERY_RULE;

/// The groups of a port, as the policy defines them.
pub(crate) type Definitions = BTreeMap<GroupId, Arc<SecurityGroup>>;

/// What makes a set that set: its groups, and which of them are stateless. Where a group turns, its ports go to another
/// set, since a first stage that is cached sends their packets where the rules are no more.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SetKey {
    pub(crate) groups: BTreeSet<GroupId>,
    pub(crate) stateless: BTreeSet<GroupId>,
}

impl SetKey {
    fn new(groups: &BTreeSet<GroupId>, definitions: &Definitions) -> Self {
        let is_stateless = |id: &&GroupId| definitions.get(*id).is_some_and(|group| !group.stateful);
        SetKey { groups: groups.clone(), stateless: groups.iter().filter(is_stateless).cloned().collect() }
    }
}

/// One set that ports carry, or carried until the caches of the datapath are known to have forgotten it.
#[derive(Debug)]
struct Set {
    key: SetKey,
    /// The groups as its flows have them: as they were, where it is out of use.
    rendered_groups: Definitions,
    ports: u32,
    /// Rules of stateless groups, (egress, ingress).
    stateless: (u32, u32),
    generations: Option<(Generation, Generation)>,
    rendered: Option<SetView>,
}

impl Set {
    fn stateless_mut(&mut self, direction: Direction) -> &mut u32 {
        match direction {
            Direction::Egress => &mut self.stateless.0,
            Direction::Ingress => &mut self.stateless.1,
        }
    }
}

/// What rules are written into.
pub(crate) struct Target<'a> {
    pub(crate) cells: &'a mut Cells,
    pub(crate) remotes: &'a mut Remotes,
    pub(crate) journal: &'a mut Journal,
}

/// All sets.
#[derive(Debug)]
pub(crate) struct Sets {
    sets: BTreeMap<SetId, Set>,
    by_key: BTreeMap<SetKey, SetId>,
    by_group: BTreeMap<GroupId, BTreeSet<SetId>>,
    /// What the switch already calls them.
    known_ids: BTreeMap<SetKey, SetId>,
    known: BTreeMap<(SetId, Direction), Generation>,
    dirty: BTreeSet<SetId>,
    /// Sets and directions of which less is admitted than before: their connections are judged again.
    bumps: BTreeSet<(SetId, Direction)>,
    retired: BTreeSet<SetId>,
}

impl Sets {
    pub(crate) fn new(
        known_ids: BTreeMap<SetKey, SetId>,
        generations: BTreeMap<(SetId, Direction), Generation>,
    ) -> Self {
        // Two sets of one number, or number 0, are not of our making: the second gets another one.
        let mut kept = BTreeSet::from([SetId(0)]);
        let known_ids = known_ids.into_iter().filter(|(_, id)| kept.insert(*id)).collect();
        Sets {
            sets: BTreeMap::new(),
            by_key: BTreeMap::new(),
            by_group: BTreeMap::new(),
            known_ids,
            known: generations,
            dirty: BTreeSet::new(),
            bumps: BTreeSet::new(),
            retired: BTreeSet::new(),
        }
    }

    /// How many of them ports carry.
    pub(crate) fn in_use(&self) -> usize {
        self.sets.len() - self.retired.len()
    }

    /// A port carries these groups. A set seen for the first time is filled with the rules of its groups, and takes a
    /// number of `generation` that no set ever had: caches of the datapath still know what became of packets of an
    /// earlier set, whatever the tables say now (docs/decisions/0006).
    pub(crate) fn acquire<E>(
        &mut self,
        groups: &BTreeSet<GroupId>,
        definitions: &Definitions,
        target: &mut Target<'_>,
        generation: impl FnOnce() -> Result<Generation, E>,
    ) -> Result<SetId, E> {
        let key = SetKey::new(groups, definitions);
        let id = match self.by_key.get(&key) {
            Some(id) => *id,
            None => {
                let id = match self.known_ids.remove(&key) {
                    Some(id) => id,
                    None => SetId(generation()?.0),
                };
                self.create(id, key);
                self.refresh(id, definitions, target);
                id
            }
        };
        if self.retired.remove(&id) {
            self.refresh(id, definitions, target);
        }
        let set = self.sets.get_mut(&id).expect("by_key names sets that exist");
        set.ports += 1;
        Ok(id)
    }

    fn create(&mut self, id: SetId, key: SetKey) {
        for group in &key.groups {
            self.by_group.entry(group.clone()).or_default().insert(id);
        }
        self.by_key.insert(key.clone(), id);
        let set = Set {
            key,
            rendered_groups: Definitions::new(),
            ports: 0,
            stateless: (0, 0),
            generations: None,
            rendered: None,
        };
        self.sets.insert(id, set);
        self.dirty.insert(id);
    }

    /// Takes over how the policy defines the groups of a set now.
    fn refresh(&mut self, id: SetId, definitions: &Definitions, target: &mut Target<'_>) {
        for group in self.sets[&id].key.groups.clone() {
            self.redefine(id, &group, definitions.get(&group), target);
        }
    }

    /// A port carries the set no more.
    pub(crate) fn release(&mut self, id: SetId) {
        let set = self.sets.get_mut(&id).expect("a port carries a set that exists");
        set.ports -= 1;
        if set.ports == 0 {
            self.retired.insert(id);
        }
    }

    /// The definition of a group changed: the sets that contain it gain and lose rules. A set that is out of use stays
    /// as it is: packets still go by it that its policy and the new one let pass.
    pub(crate) fn group_changed(
        &mut self,
        group: &GroupId,
        new: Option<&Arc<SecurityGroup>>,
        target: &mut Target<'_>,
    ) {
        let ids = self.by_group.get(group).into_iter().flatten();
        let in_use: Vec<SetId> = ids.filter(|id| !self.retired.contains(id)).copied().collect();
        for id in in_use {
            self.redefine(id, group, new, target);
        }
    }

    fn redefine(
        &mut self,
        id: SetId,
        group: &GroupId,
        new: Option<&Arc<SecurityGroup>>,
        target: &mut Target<'_>,
    ) {
        let set = self.sets.get_mut(&id).expect("sets that exist are redefined");
        let old = match new {
            Some(new) => set.rendered_groups.insert(group.clone(), Arc::clone(new)),
            None => set.rendered_groups.remove(group),
        };
        let rules = |group: Option<&Arc<SecurityGroup>>| -> BTreeMap<(policy::RuleId, bool), Rule> {
            let rules = group
                .into_iter()
                .flat_map(|g| g.rules.iter().map(|r| ((r.id.clone(), g.stateful), r.clone())));
            rules.collect()
        };
        let (old, new) = (rules(old.as_ref()), rules(new));
        // Added first, so that what an old and a new rule both ask for never counts as a loss.
        for ((_, stateful), rule) in new.iter().filter(|(key, rule)| old.get(*key) != Some(*rule)) {
            self.add_rule(id, rule, *stateful, target);
        }
        for ((_, stateful), rule) in old.iter().filter(|(key, rule)| new.get(*key) != Some(*rule)) {
            self.remove_rule(id, rule, *stateful, target);
        }
    }

    /// Whether a port carries the set, or the caches may know it yet.
    pub(crate) fn contains(&self, id: SetId) -> bool {
        self.sets.contains_key(&id)
    }

    /// In how many sets a group is.
    pub(crate) fn count_of(&self, group: &GroupId) -> usize {
        self.by_group.get(group).map_or(0, BTreeSet::len)
    }

    fn add_rule(&mut self, id: SetId, rule: &Rule, stateful: bool, target: &mut Target<'_>) {
        if unsupported(rule).is_some() {
            return;
        }
        let key = remote_key(rule);
        let reference = reference(id, rule, stateful);
        let remote = key.map(|key| target.remotes.refer(&key, reference, target.cells, target.journal));
        for cell in rule_cells(id, rule, stateful, remote) {
            target.cells.ask(cell);
        }
        if !stateful {
            let set = self.sets.get_mut(&id).expect("rules are added to sets that exist");
            *set.stateless_mut(rule.direction) += 1;
            self.dirty.insert(id);
        }
    }

    fn remove_rule(&mut self, id: SetId, rule: &Rule, stateful: bool, target: &mut Target<'_>) {
        if unsupported(rule).is_some() {
            return;
        }
        let key = remote_key(rule);
        let remote = key.as_ref().map(|key| target.remotes.id(key).expect("a rule's remote is named"));
        for cell in rule_cells(id, rule, stateful, remote) {
            if target.cells.take_back(&cell) && cell.plane == Plane::Connection {
                self.bumps.insert((id, rule.direction));
            }
        }
        if let Some(key) = key {
            target.remotes.unrefer(&key, reference(id, rule, stateful), target.cells, target.journal);
        }
        if !stateful {
            let set = self.sets.get_mut(&id).expect("rules are removed from sets that exist");
            *set.stateless_mut(rule.direction) -= 1;
            self.dirty.insert(id);
        }
    }

    /// Less is admitted than before.
    pub(crate) fn bump(&mut self, sets: impl IntoIterator<Item = (SetId, Direction)>) {
        self.bumps.extend(sets);
    }

    /// How many generations [`Sets::flush`] takes at most, apart from those of sets yet to be created.
    pub(crate) fn generations_needed(&self) -> usize {
        self.bumps.len()
    }

    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.is_empty()
    }

    /// Writes what changed since the last time; `generation` gives numbers never used before.
    pub(crate) fn flush<E>(
        &mut self,
        journal: &mut Journal,
        mut generation: impl FnMut() -> Result<Generation, E>,
    ) -> Result<(), E> {
        for (id, direction) in std::mem::take(&mut self.bumps) {
            let Some(set) = self.sets.get_mut(&id) else { continue };
            self.dirty.insert(id);
            // A set that was never rendered has no connections to judge again, unless the switch knows it.
            let Some(generations) = &mut set.generations else {
                self.known.remove(&(id, direction));
                continue;
            };
            match direction {
                Direction::Egress => generations.0 = generation()?,
                Direction::Ingress => generations.1 = generation()?,
            }
        }
        for id in std::mem::take(&mut self.dirty) {
            let Some(set) = self.sets.get_mut(&id) else { continue };
            let generations = match set.generations {
                Some(generations) => generations,
                None => {
                    let mut first = |direction| match self.known.remove(&(id, direction)) {
                        Some(known) => Ok(known),
                        None => generation(),
                    };
                    (first(Direction::Egress)?, first(Direction::Ingress)?)
                }
            };
            set.generations = Some(generations);
            let view = SetView {
                id,
                key: set.key.clone(),
                egress: generations.0,
                ingress: generations.1,
                stateless_egress: set.stateless.0 > 0,
                stateless_ingress: set.stateless.1 > 0,
            };
            let old = set.rendered.as_ref().map(set_flows).unwrap_or_default();
            journal.replace(old, set_flows(&view));
            set.rendered = Some(view);
        }
        Ok(())
    }

    /// What the switch knew and nobody claimed is forgotten.
    pub(crate) fn forget_known(&mut self) {
        self.known_ids.clear();
        self.known.clear();
    }

    /// Takes away the sets that no port carries any more.
    pub(crate) fn sweep(&mut self, target: &mut Target<'_>) {
        for id in std::mem::take(&mut self.retired) {
            self.refresh(id, &Definitions::new(), target);
            let set = self.sets.remove(&id).expect("a set is retired that exists");
            for group in &set.key.groups {
                if let Some(sets) = self.by_group.get_mut(group) {
                    sets.remove(&id);
                    if sets.is_empty() {
                        self.by_group.remove(group);
                    }
                }
            }
            // No port carries it: nobody's connections are to be judged again.
            self.bumps.retain(|(set, _)| *set != id);
            self.dirty.remove(&id);
            self.by_key.remove(&set.key);
            let rendered = set.rendered.as_ref().map(set_flows).unwrap_or_default();
            target.journal.replace(rendered, Vec::new());
        }
    }
}

fn remote_key(rule: &Rule) -> Option<RemoteKey> {
    match &rule.remote {
        Remote::Any | Remote::Prefix(_) => None,
        Remote::Group(group) => Some(RemoteKey::Group(group.clone())),
        Remote::AddressGroup(group) => Some(RemoteKey::AddressGroup(group.clone())),
    }
}

fn reference(set: SetId, rule: &Rule, stateful: bool) -> Reference {
    Reference { direction: rule.direction, ethertype: rule.ethertype, set, stateful }
}

/// The flows that a rule asks for in a set. A stateful rule also judges packet by packet what conntrack cannot
/// (mode 0); a stateless rule judges nothing else.
fn rule_cells(
    set: SetId,
    rule: &Rule,
    stateful: bool,
    remote: Option<crate::numbers::RemoteId>,
) -> Vec<RuleCell> {
    let planes: &[Plane] = match stateful {
        true => &[Plane::Connection, Plane::Packet, Plane::Service],
        false => &[Plane::Packet],
    };
    let mut cells = Vec::new();
    for plane in planes {
        // A range of ports becomes many matches: what they share is said once.
        let mut base = family(*plane, rule.ethertype).with(register::SET, set);
        if stateful && *plane == Plane::Packet {
            base = base.with(register::MODE, MODE_EVERY_RULE);
        }
        if let (Remote::Prefix(net), Plane::Connection | Plane::Packet) = (&rule.remote, plane) {
            let (v4, v6) = remote_fields(*plane, rule.direction);
            base = with_net(base, net, v4, v6);
        }
        let remote = remote.filter(|_| *plane != Plane::Service);
        for matches in service_matches(*plane, base, rule.ethertype, rule.service) {
            cells.push(RuleCell { plane: *plane, direction: rule.direction, set, matches, remote });
        }
    }
    cells
}
