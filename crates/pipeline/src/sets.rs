//! Sets of security groups: rules are rendered once a set, however many ports carry it.

use std::collections::{BTreeMap, BTreeSet};

use policy::{Direction, GroupId, Remote, Rule, SecurityGroup};

use crate::address::with_net;
use crate::cells::{Cells, RuleCell};
use crate::flow::Journal;
use crate::ids::Ids;
use crate::layout::register;
use crate::numbers::{Generation, SetId};
use crate::remote::{Reference, RemoteKey, Remotes};
use crate::service::{Plane, remote_fields, service_matches, unsupported};
use crate::set_flows::{SetView, set_flows};
use crate::static_flows::MODE_EVERY_RULE;

/// One set that ports carry, or carried until the caches of the datapath are known to have forgotten it.
#[derive(Debug)]
struct Set {
    groups: BTreeSet<GroupId>,
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
    by_groups: BTreeMap<BTreeSet<GroupId>, SetId>,
    by_group: BTreeMap<GroupId, BTreeSet<SetId>>,
    ids: Ids<BTreeSet<GroupId>>,
    known: BTreeMap<(SetId, Direction), Generation>,
    dirty: BTreeSet<SetId>,
    /// Sets and directions of which less is admitted than before: their connections are judged again.
    bumps: BTreeSet<(SetId, Direction)>,
    retired: BTreeSet<SetId>,
}

impl Sets {
    pub(crate) fn new(
        known: BTreeMap<BTreeSet<GroupId>, SetId>,
        generations: BTreeMap<(SetId, Direction), Generation>,
    ) -> Self {
        let ids = Ids::new(known.into_iter().map(|(groups, id)| (groups, id.0)).collect());
        Sets {
            sets: BTreeMap::new(),
            by_groups: BTreeMap::new(),
            by_group: BTreeMap::new(),
            ids,
            known: generations,
            dirty: BTreeSet::new(),
            bumps: BTreeSet::new(),
            retired: BTreeSet::new(),
        }
    }

    /// A port carries these groups. A set seen for the first time is filled with the rules of its groups.
    pub(crate) fn acquire<'a>(
        &mut self,
        groups: &BTreeSet<GroupId>,
        defined: impl Fn(&GroupId) -> Option<&'a SecurityGroup>,
        target: &mut Target<'_>,
    ) -> SetId {
        let id = match self.by_groups.get(groups) {
            Some(id) => *id,
            None => self.create(groups, defined, target),
        };
        let set = self.sets.get_mut(&id).expect("by_groups names sets that exist");
        set.ports += 1;
        self.retired.remove(&id);
        id
    }

    fn create<'a>(
        &mut self,
        groups: &BTreeSet<GroupId>,
        defined: impl Fn(&GroupId) -> Option<&'a SecurityGroup>,
        target: &mut Target<'_>,
    ) -> SetId {
        let known = self.ids.knows(groups);
        let id = SetId(self.ids.take(groups));
        if !known {
            // The number was another set's: what that one admitted is nothing to this one.
            self.known.retain(|(set, _), _| *set != id);
        }
        let set =
            Set { groups: groups.clone(), ports: 0, stateless: (0, 0), generations: None, rendered: None };
        self.sets.insert(id, set);
        self.by_groups.insert(groups.clone(), id);
        self.dirty.insert(id);
        for group in groups {
            self.by_group.entry(group.clone()).or_default().insert(id);
            if let Some(group) = defined(group) {
                for rule in &group.rules {
                    self.add_rule(id, rule, group.stateful, target);
                }
            }
        }
        id
    }

    /// A port carries the set no more.
    pub(crate) fn release(&mut self, id: SetId) {
        let set = self.sets.get_mut(&id).expect("a port carries a set that exists");
        set.ports -= 1;
        if set.ports == 0 {
            self.retired.insert(id);
        }
    }

    /// The definition of a group changed: the sets that contain it gain and lose rules.
    pub(crate) fn group_changed(
        &mut self,
        group: &GroupId,
        old: Option<&SecurityGroup>,
        new: Option<&SecurityGroup>,
        target: &mut Target<'_>,
    ) {
        let ids: Vec<SetId> = self.by_group.get(group).into_iter().flatten().copied().collect();
        if ids.is_empty() {
            return;
        }
        let rules = |group: Option<&SecurityGroup>| -> BTreeMap<(policy::RuleId, bool), Rule> {
            let rules = group
                .into_iter()
                .flat_map(|g| g.rules.iter().map(|r| ((r.id.clone(), g.stateful), r.clone())));
            rules.collect()
        };
        let (old, new) = (rules(old), rules(new));
        for id in ids {
            // Added first, so that what an old and a new rule both ask for never counts as a loss.
            for ((_, stateful), rule) in new.iter().filter(|(key, rule)| old.get(*key) != Some(*rule)) {
                self.add_rule(id, rule, *stateful, target);
            }
            for ((_, stateful), rule) in old.iter().filter(|(key, rule)| new.get(*key) != Some(*rule)) {
                self.remove_rule(id, rule, *stateful, target);
            }
        }
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

    pub(crate) fn has_bumps(&self) -> bool {
        !self.bumps.is_empty()
    }

    /// How many generations [`Sets::flush`] takes at most, apart from those of sets yet to be created.
    pub(crate) fn generations_needed(&self) -> usize {
        // A set is dirty from its creation until it gets its first generations.
        let unnumbered = self.dirty.iter().filter(|id| self.sets[id].generations.is_none()).count();
        self.bumps.len() + 2 * unnumbered
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
                groups: set.groups.iter().cloned().collect(),
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

    /// What the switch knew and nobody claimed is free from now on.
    pub(crate) fn forget_known(&mut self) {
        self.ids.forget_known();
        self.known.clear();
    }

    /// Takes away the sets that no port carries any more.
    pub(crate) fn sweep<'a>(
        &mut self,
        defined: impl Fn(&GroupId) -> Option<&'a SecurityGroup>,
        target: &mut Target<'_>,
    ) {
        for id in std::mem::take(&mut self.retired) {
            let groups = self.sets[&id].groups.clone();
            for group in groups.iter().filter_map(&defined) {
                for rule in &group.rules {
                    self.remove_rule(id, rule, group.stateful, target);
                }
            }
            for group in &groups {
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
            self.by_groups.remove(&groups);
            let rendered = self.sets.remove(&id).and_then(|set| set.rendered);
            target.journal.replace(rendered.as_ref().map(set_flows).unwrap_or_default(), Vec::new());
            self.ids.release(id.0);
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
    let planes: &[Plane] = if stateful { &[Plane::Connection, Plane::Packet] } else { &[Plane::Packet] };
    let mut cells = Vec::new();
    for plane in planes {
        let (v4, v6) = remote_fields(*plane, rule.direction);
        for mut matches in service_matches(*plane, rule.ethertype, rule.service) {
            matches = matches.with(register::SET, set);
            if stateful && *plane == Plane::Packet {
                matches = matches.with(register::MODE, MODE_EVERY_RULE);
            }
            if let Remote::Prefix(net) = &rule.remote {
                matches = with_net(matches, net, v4, v6);
            }
            cells.push(RuleCell { plane: *plane, direction: rule.direction, set, matches, remote });
        }
    }
    cells
}
