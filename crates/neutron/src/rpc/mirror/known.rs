//! What the server has told, object by object, each in its newest revision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::tombstones::{Gone, Tombstones};
use crate::rpc::object::{Body, Group, Kind, Object, Port, Rule};

/// A server may answer from a database that is behind the one that a push came from (a Galera cluster): what was pushed so shortly before an answer was asked
/// for is not gone because the answer lacks it.
pub(super) const LAG: Duration = Duration::from_secs(30);

/// Rules that may wait for their groups.
const ORPHANS: usize = 10_000;

/// How an object was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    /// It changed.
    Pushed(Duration),
    /// It was asked for at that time.
    Pulled { sent: Duration },
}

/// An object in its newest revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Held<T> {
    revision: u64,
    pushed_at: Option<Duration>,
    pub(super) body: T,
}

/// A group with its rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct HeldGroup {
    pub(super) head: String,
    pub(super) rules: BTreeMap<String, Held<Rule>>,
}

/// Objects that are not in the policy as they are known.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    pub(super) groups: BTreeSet<String>,
    pub(super) address_groups: BTreeSet<String>,
    pub(super) ports: BTreeSet<String>,
}

/// See the module's documentation.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) groups: BTreeMap<String, Held<HeldGroup>>,
    pub(super) address_groups: BTreeMap<String, Held<String>>,
    pub(super) ports: BTreeMap<String, Held<Port>>,
    pub(super) dirty: Dirty,
    /// Something came that others may have waited for.
    pub(super) has_new_referents: bool,
    pub(super) tombstones: Tombstones,
    group_of_rule: BTreeMap<String, String>,
    /// Rules whose groups are not known, by group.
    orphans: BTreeMap<String, BTreeMap<String, Held<Rule>>>,
    /// Rules that could not wait were forgotten: all is to be pulled again.
    pub(super) forgot_orphans: bool,
}

/// What is asked of the times of pushes when an answer lacks an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lacking {
    /// When the answer was asked for.
    pub(super) sent: Duration,
    /// Since when no push was missed.
    pub(super) since: Duration,
    pub(super) now: Duration,
}

impl Lacking {
    fn spares(self, pushed_at: Option<Duration>) -> bool {
        pushed_at.is_some_and(|at| at >= self.since && at + LAG >= self.sent)
    }
}

impl<T: PartialEq> Held<T> {
    /// Takes a newer version; whether that is another.
    fn renew(&mut self, revision: u64, told: Told, body: T) -> bool {
        self.revision = revision;
        if let Told::Pushed(at) = told {
            self.pushed_at = Some(at);
        }
        let is_other = self.body != body;
        self.body = body;
        is_other
    }

    fn new(revision: u64, told: Told, body: T) -> Self {
        let pushed_at = if let Told::Pushed(at) = told { Some(at) } else { None };
        Held { revision, pushed_at, body }
    }
}

/// Takes an object over, unless it is older than what is held; whether something is other than before.
fn take<T: PartialEq>(
    all: &mut BTreeMap<String, Held<T>>,
    id: &str,
    revision: u64,
    told: Told,
    body: T,
) -> bool {
    match all.get_mut(id) {
        Some(held) if held.revision > revision => false,
        Some(held) => held.renew(revision, told, body),
        None => {
            all.insert(id.to_owned(), Held::new(revision, told, body));
            true
        }
    }
}

impl Known {
    pub(super) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::SecurityGroup => self.groups.len(),
            Kind::SecurityGroupRule => self.group_of_rule.len(),
            Kind::AddressGroup => self.address_groups.len(),
            Kind::Port => self.ports.len(),
        }
    }

    /// Takes over what is told of an object. Gives a group that is to be asked for, since a rule of it came.
    pub(super) fn take(&mut self, object: Object, told: Told, lacking: Lacking) -> Option<String> {
        if self.tombstones.refuses(&object, told) {
            return None;
        }
        let Object { id, revision, body } = object;
        match body {
            Body::Group(group) => self.take_group(&id, revision, group, told, lacking),
            Body::Rule(rule) => return self.take_rule(&id, revision, rule, told),
            Body::AddressGroup(document) => {
                self.has_new_referents |= !self.address_groups.contains_key(&id);
                if take(&mut self.address_groups, &id, revision, told, document) {
                    self.dirty.address_groups.insert(id);
                }
            }
            Body::Port(port) => {
                if take(&mut self.ports, &id, revision, told, port) {
                    self.dirty.ports.insert(id);
                }
            }
        }
        None
    }

    /// A pushed group may be older than a rule of it that came before, so it takes no rule away: each rule that goes is told of by itself.
    fn take_group(&mut self, id: &str, revision: u64, group: Group, told: Told, lacking: Lacking) {
        match self.groups.get_mut(id) {
            Some(held) if held.revision > revision => return,
            Some(held) => {
                let rules = std::mem::take(&mut held.body.rules);
                let is_other = held.body.head != group.head;
                _ = held.renew(revision, told, HeldGroup { head: group.head, rules });
                if is_other {
                    self.dirty.groups.insert(id.to_owned());
                }
            }
            None => {
                let mut rules = self.orphans.remove(id).unwrap_or_default();
                let is_gone = |remote: &String| self.tombstones.is_deleted(Kind::SecurityGroup, remote);
                rules.retain(|_, rule| !rule.body.remote_group.as_ref().is_some_and(is_gone));
                self.group_of_rule.extend(rules.keys().map(|rule| (rule.clone(), id.to_owned())));
                let body = HeldGroup { head: group.head, rules };
                self.groups.insert(id.to_owned(), Held::new(revision, told, body));
                self.has_new_referents = true;
                self.dirty.groups.insert(id.to_owned());
            }
        }
        let Some(rules) = group.rules else { return };
        if matches!(told, Told::Pulled { .. }) {
            let told_of: BTreeSet<&String> = rules.iter().map(|rule| &rule.id).collect();
            let held = self.groups.get(id).map(|held| &held.body.rules);
            let is_gone = |(rule, held): &(&String, &Held<Rule>)| {
                !told_of.contains(rule) && !lacking.spares(held.pushed_at)
            };
            let gone: Vec<String> =
                held.into_iter().flatten().filter(is_gone).map(|(rule, _)| rule.clone()).collect();
            gone.iter().for_each(|rule| self.lose(Kind::SecurityGroupRule, rule, lacking.now));
        }
        for rule in rules {
            if !self.tombstones.refuses(&rule, told)
                && let Object { id, revision, body: Body::Rule(rule) } = rule
            {
                // Inside its group it says nothing of its own time.
                let told = Told::Pulled { sent: lacking.sent };
                _ = self.take_rule(&id, revision, rule, told);
            }
        }
    }

    fn take_rule(&mut self, id: &str, revision: u64, rule: Rule, told: Told) -> Option<String> {
        let group = rule.group.clone();
        // It went with the group that it names, which was told of before the rule was.
        if rule
            .remote_group
            .as_ref()
            .is_some_and(|remote| self.tombstones.is_deleted(Kind::SecurityGroup, remote))
        {
            return None;
        }
        if let Some(held) = self.groups.get_mut(&group) {
            self.group_of_rule.insert(id.to_owned(), group.clone());
            if take(&mut held.body.rules, id, revision, told, rule) {
                self.dirty.groups.insert(group);
            }
            return None;
        }
        if self.tombstones.is_deleted(Kind::SecurityGroup, &group) {
            return None;
        }
        if self.orphans.values().map(BTreeMap::len).sum::<usize>() >= ORPHANS {
            self.orphans.clear();
            self.forgot_orphans = true;
        }
        take(self.orphans.entry(group.clone()).or_default(), id, revision, told, rule);
        Some(group)
    }

    /// The server said that it is deleted.
    pub(super) fn delete(&mut self, kind: Kind, id: &str, now: Duration) {
        self.remove(kind, id);
        self.tombstones.set(kind, id, Gone::Deleted, now);
        if kind == Kind::SecurityGroup {
            self.drop_rules_that_name(id, now);
        }
    }

    /// The server did not name it among all that it has.
    fn lose(&mut self, kind: Kind, id: &str, now: Duration) {
        if let Some(revision) = self.remove(kind, id) {
            self.tombstones.set(kind, id, Gone::Missing(revision), now);
        }
    }

    /// Takes it away; its revision, if it was there.
    fn remove(&mut self, kind: Kind, id: &str) -> Option<u64> {
        match kind {
            Kind::SecurityGroup => {
                self.orphans.remove(id);
                let held = self.groups.remove(id)?;
                held.body.rules.keys().for_each(|rule| _ = self.group_of_rule.remove(rule));
                self.dirty.groups.insert(id.to_owned());
                Some(held.revision)
            }
            Kind::SecurityGroupRule => {
                self.orphans.values_mut().for_each(|rules| _ = rules.remove(id));
                let group = self.group_of_rule.remove(id)?;
                let held = self.groups.get_mut(&group)?.body.rules.remove(id)?;
                self.dirty.groups.insert(group);
                Some(held.revision)
            }
            Kind::AddressGroup => {
                let held = self.address_groups.remove(id)?;
                self.dirty.address_groups.insert(id.to_owned());
                Some(held.revision)
            }
            Kind::Port => {
                let held = self.ports.remove(id)?;
                self.dirty.ports.insert(id.to_owned());
                Some(held.revision)
            }
        }
    }

    /// The database deletes rules with the group that they name (`ondelete="CASCADE"`, `neutron/db/models/securitygroup.py`), and nobody tells of it.
    fn drop_rules_that_name(&mut self, remote: &str, now: Duration) {
        let of_group = |held: &Held<HeldGroup>| {
            let names =
                |(_, rule): &(&String, &Held<Rule>)| rule.body.remote_group.as_deref() == Some(remote);
            held.body.rules.iter().filter(names).map(|(id, _)| id.clone()).collect::<Vec<_>>()
        };
        let gone: Vec<String> = self.groups.values().flat_map(of_group).collect();
        gone.iter().for_each(|rule| self.delete(Kind::SecurityGroupRule, rule, now));
    }

    /// Of the `asked` (none: of all), those that are not `present` are gone, unless they were pushed shortly before; whether there was one of these.
    pub(super) fn keep_only(
        &mut self,
        kind: Kind,
        asked: Option<&[String]>,
        present: &BTreeSet<String>,
        lacking: Lacking,
    ) -> bool {
        let pushed_at: Vec<(String, Option<Duration>)> = match kind {
            Kind::SecurityGroup => missing(&self.groups, asked, present),
            Kind::AddressGroup => missing(&self.address_groups, asked, present),
            Kind::Port => missing(&self.ports, asked, present),
            // They are told inside their groups.
            Kind::SecurityGroupRule => Vec::new(),
        };
        let mut is_spared = false;
        for (id, pushed_at) in pushed_at {
            match lacking.spares(pushed_at) {
                true => is_spared = true,
                false => self.lose(kind, &id, lacking.now),
            }
        }
        is_spared
    }
}

fn missing<T>(
    all: &BTreeMap<String, Held<T>>,
    asked: Option<&[String]>,
    present: &BTreeSet<String>,
) -> Vec<(String, Option<Duration>)> {
    let absent = |id: &String| !present.contains(id);
    match asked {
        Some(asked) => {
            let held = asked.iter().filter(|id| absent(id)).filter_map(|id| all.get_key_value(id));
            held.map(|(id, held)| (id.clone(), held.pushed_at)).collect()
        }
        None => {
            all.iter().filter(|(id, _)| absent(id)).map(|(id, held)| (id.clone(), held.pushed_at)).collect()
        }
    }
}
