//! Objects held against each other: duplicates, references, and what takes the place of a refused object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;

use crate::{
    AddressGroup, AddressGroupId, GroupId, Policy, PolicyDelta, Remote, Rule, RuleId, SecurityGroup,
};

use super::diagnostic::{Diagnostic, ObjectId};
use super::fields::Place;
use super::objects::{Draft, Drafts, PortDraft, RuleDraft};
use super::{Parsed, ParsedChanges};

/// Makes a policy of the drafts. If the document is not `sound`, references are not followed (what they lead to may
/// stand where nothing could be read), and nothing changes.
pub(super) fn assemble(drafts: Drafts, previous: &Policy, sound: bool) -> Parsed {
    let mut assembly = Assembly::of(drafts, previous, Scope::Whole, sound);
    if !sound {
        let Assembly { diagnostics, .. } = assembly;
        return Parsed {
            policy: previous.clone(),
            diagnostics,
            refused: BTreeSet::new(),
            document_refused: true,
        };
    }
    assembly.keep_references();
    let Assembly { policy, diagnostics, refused, .. } = assembly;
    Parsed { policy, diagnostics, refused, document_refused: false }
}

/// Makes a change of the drafts; see [`assemble`].
pub(super) fn assemble_changes(drafts: Drafts, previous: &Policy, sound: bool) -> ParsedChanges {
    let Assembly { policy, mut diagnostics, refused, .. } =
        Assembly::of(drafts, previous, Scope::Change, sound);
    diagnostics.sort_by_key(|diagnostic| diagnostic.line);
    let delta = PolicyDelta {
        groups: changed(policy.groups, &previous.groups),
        address_groups: changed(policy.address_groups, &previous.address_groups),
        ports: changed(policy.ports, &previous.ports),
    };
    ParsedChanges { delta, diagnostics, refused, document_refused: !sound }
}

/// Those that are not as they were.
fn changed<I: Ord, T: PartialEq>(
    now: BTreeMap<I, Arc<T>>,
    before: &BTreeMap<I, Arc<T>>,
) -> Vec<(I, Option<Arc<T>>)> {
    let is_new = |(id, object): &(I, Arc<T>)| before.get(id) != Some(object);
    now.into_iter().filter(is_new).map(|(id, object)| (id, Some(object))).collect()
}

/// How much of the policy a document has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Whole,
    /// The rest stays as it was.
    Change,
}

impl<'p> Assembly<'p> {
    fn of(mut drafts: Drafts, previous: &'p Policy, scope: Scope, sound: bool) -> Self {
        let mut diagnostics = std::mem::take(&mut drafts.diagnostics);
        diagnostics.extend(refuse_duplicates(&mut drafts));
        let mut assembly =
            Assembly { previous, scope, policy: Policy::default(), diagnostics, refused: BTreeSet::new() };
        if sound {
            assembly.add(drafts);
        }
        assembly
    }

    fn add(&mut self, drafts: Drafts) {
        // Each kind refers to kinds before it only (a rule's remote group need not be defined).
        let Drafts { groups, rules, address_groups, ports, .. } = drafts;
        for draft in address_groups {
            self.add_address_group(draft.id, draft.object);
        }
        let defined: BTreeSet<GroupId> = groups.iter().filter_map(|draft| draft.id.clone()).collect();
        let mut rules_of = self.sort_rules(rules, &defined);
        for draft in groups {
            let Some(id) = draft.id else { continue };
            let rules = rules_of.remove(&id).unwrap_or_default();
            match draft.object {
                Some(head) => {
                    let group =
                        SecurityGroup { id: id.clone(), name: head.name, stateful: head.stateful, rules };
                    self.policy.groups.insert(id, Arc::new(group));
                }
                None => self.keep_group(id),
            }
        }
        for draft in ports {
            self.add_port(draft, &defined);
        }
    }
}

/// Takes the object from every draft whose id another draft of the kind has too, and names both places.
fn refuse_duplicates(drafts: &mut Drafts) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    found.extend(duplicates(drafts.groups.iter_mut(), |id| ObjectId::SecurityGroup(id.clone())));
    found.extend(duplicates(drafts.address_groups.iter_mut(), |id| ObjectId::AddressGroup(id.clone())));
    found.extend(duplicates(drafts.ports.iter_mut().map(|port| &mut port.draft), |id| {
        ObjectId::Port(id.clone())
    }));
    let rules = drafts.rules.iter_mut().map(|rule| &mut rule.draft);
    found.extend(duplicates(rules, |id| ObjectId::Rule(None, id.clone())));
    found
}

fn duplicates<'d, I: Ord + Clone + 'd, T: 'd>(
    drafts: impl Iterator<Item = &'d mut Draft<I, T>>,
    name: impl Fn(&I) -> ObjectId,
) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let mut seen: BTreeMap<I, &'d mut Draft<I, T>> = BTreeMap::new();
    for draft in drafts {
        let Some(id) = draft.id.clone() else { continue };
        let Some(first) = seen.get_mut(&id) else {
            seen.insert(id, draft);
            continue;
        };
        first.object = None;
        draft.object = None;
        let reason =
            format!("is given twice, first at {}:{}; both are refused", first.place.file, first.place.line);
        found.push(diagnostic(&draft.place, draft.place.line, &name(&id), "id", reason));
    }
    found
}

fn diagnostic(place: &Place, line: u64, object: &ObjectId, field: &str, reason: impl Display) -> Diagnostic {
    Diagnostic {
        file: Arc::clone(&place.file),
        line,
        object: object.to_string(),
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

struct Assembly<'p> {
    previous: &'p Policy,
    scope: Scope,
    policy: Policy,
    diagnostics: Vec<Diagnostic>,
    refused: BTreeSet<ObjectId>,
}

impl Assembly<'_> {
    /// Whether a port may carry it.
    fn has_group(&self, id: &GroupId) -> bool {
        let stays = || self.scope == Scope::Change && self.previous.groups.contains_key(id);
        self.policy.groups.contains_key(id) || stays()
    }

    /// Whether a rule may name it.
    fn has_address_group(&self, id: &AddressGroupId) -> bool {
        let stays = || self.scope == Scope::Change && self.previous.address_groups.contains_key(id);
        self.policy.address_groups.contains_key(id) || stays()
    }

    fn add_address_group(&mut self, id: Option<AddressGroupId>, object: Option<AddressGroup>) {
        let Some(id) = id else { return };
        match object {
            Some(group) => {
                self.policy.address_groups.insert(id, Arc::new(group));
            }
            None => {
                let before = self.previous.address_groups.get(&id);
                self.policy.address_groups.extend(before.map(|group| (id.clone(), Arc::clone(group))));
                self.refused.insert(ObjectId::AddressGroup(id));
            }
        }
    }

    /// The rules by group, sorted by id: those that hold, and in the place of the others their versions of before.
    fn sort_rules(
        &mut self,
        drafts: Vec<RuleDraft>,
        defined: &BTreeSet<GroupId>,
    ) -> BTreeMap<GroupId, Vec<Rule>> {
        let mut rules_of: BTreeMap<GroupId, BTreeMap<RuleId, Rule>> = BTreeMap::new();
        for RuleDraft { group, address_group, draft } in drafts {
            let Some(id) = draft.id else { continue };
            let name = ObjectId::Rule(group.clone(), id.clone());
            let mut rule = draft.object;
            // A group that is refused and new is complained of at the group; its rules go with it.
            if let Some(group) = group.as_ref().filter(|group| !defined.contains(*group)) {
                let reason = format!("security group {group} is not defined");
                self.complain(&draft.place, draft.place.line, &name, "security_group_id", reason);
                rule = None;
            }
            if let Some((line, remote)) = address_group
                && !self.has_address_group(&remote)
            {
                let refused = self.refused.contains(&ObjectId::AddressGroup(remote.clone()));
                let reason = format!("address group {remote} {}", why_absent(refused));
                self.complain(&draft.place, line, &name, "remote_address_group_id", reason);
                rule = None;
            }
            if rule.is_none() {
                self.refused.insert(name);
            }
            let Some(group) = group else { continue };
            let before = || {
                let group = self.previous.groups.get(&group)?;
                group.rules.iter().find(|rule| rule.id == id).cloned()
            };
            if let Some(rule) = rule.or_else(before) {
                rules_of.entry(group).or_default().insert(id, rule);
            }
        }
        rules_of.into_iter().map(|(group, rules)| (group, rules.into_values().collect())).collect()
    }

    fn complain(&mut self, place: &Place, line: u64, object: &ObjectId, field: &str, reason: String) {
        self.diagnostics.push(diagnostic(place, line, object, field, reason));
    }

    fn keep_group(&mut self, id: GroupId) {
        let before = self.previous.groups.get(&id);
        self.policy.groups.extend(before.map(|group| (id.clone(), Arc::clone(group))));
        self.refused.insert(ObjectId::SecurityGroup(id));
    }

    fn add_port(&mut self, PortDraft { groups, draft }: PortDraft, defined: &BTreeSet<GroupId>) {
        let Some(id) = draft.id else { return };
        let name = ObjectId::Port(id.clone());
        let mut port = draft.object;
        for (line, group) in groups {
            if !self.has_group(&group) {
                let reason = format!("security group {group} {}", why_absent(defined.contains(&group)));
                self.complain(&draft.place, line, &name, "security_groups", reason);
                port = None;
            }
        }
        match port {
            Some(port) => {
                self.policy.ports.insert(id, Arc::new(port));
            }
            None => {
                let before = self.previous.ports.get(&id);
                self.policy.ports.extend(before.map(|port| (id, Arc::clone(port))));
                self.refused.insert(name);
            }
        }
    }

    /// Objects that stand as they were need what they referred to, also where the document has dropped it.
    fn keep_references(&mut self) {
        let Policy { groups, address_groups, ports } = &mut self.policy;
        for id in ports.values().flat_map(|port| port.security_groups.iter()) {
            if !groups.contains_key(id) {
                let before = self.previous.groups.get(id);
                groups.extend(before.map(|group| (id.clone(), Arc::clone(group))));
            }
        }
        for rule in groups.values().flat_map(|group| group.rules.iter()) {
            let Remote::AddressGroup(id) = &rule.remote else { continue };
            if !address_groups.contains_key(id) {
                let before = self.previous.address_groups.get(id);
                address_groups.extend(before.map(|group| (id.clone(), Arc::clone(group))));
            }
        }
    }
}

fn why_absent(refused: bool) -> &'static str {
    if refused { "is refused, and there is none from before" } else { "is not defined" }
}
