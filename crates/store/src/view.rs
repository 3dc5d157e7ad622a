//! What a host makes of the rows that it sees.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use policy::document::{Diagnostic, parse_changes, write_rule};
use policy::rule_text::{self, NamedRemote};
use policy::{
    AddressGroup, AddressGroupId, GroupId, Member, Policy, PolicyDelta, Port, PortId, Remote, RuleId,
    SecurityGroup,
};
use serde_json::{Value, json};

use crate::content::PortRow;
use crate::member_text::{read_member, read_net};
use crate::sight::{GroupHead, Now, Seen, SetChange};
use crate::wants::{Uses, Wants};

/// An object of the store that is refused: it stays as it was, or closed if it is new (semantics, "Change").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fault {
    /// As `port p-1`, `rule r1 of security group sg-1`, `member 10.0.0.1/8 of security group sg-1`.
    pub object: String,
    /// The field, and what is wrong with it.
    pub reason: String,
}

/// What a fault is about: it is gone when that is told of again and is as it should be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum About {
    Group(GroupId),
    Member(GroupId, String),
    Address(AddressGroupId, String),
    Port(PortId),
}

/// The rows in sight, and the policy that they come to.
///
/// What comes is taken in by [`View::see`], and comes into force by [`View::commit`], which is to be called when everything that
/// [`View::wants`] names has come: a port that has got a group more is as it was until the group is here, and so is everything else that
/// was written with it. Work is that of the change: a member that came costs a member.
#[derive(Clone, Debug)]
pub struct View {
    host: String,
    asked: BTreeSet<PortId>,
    groups: BTreeMap<GroupId, GroupHead>,
    address_groups: BTreeMap<AddressGroupId, (String, BTreeSet<IpNet>)>,
    ports: BTreeMap<PortId, PortRow>,
    /// By the ports in sight, and by those in force: one that is refused is as it was, and so is what it carries.
    carried: Uses<GroupId>,
    /// By the rules of groups that are carried.
    named: Uses<GroupId>,
    named_addresses: Uses<AddressGroupId>,
    wants_changed: bool,
    sequence: i64,
    /// As of the last commit; the members of groups are not in it, for they are told of and forgotten.
    policy: Policy,
    committed: i64,
    changed_groups: BTreeSet<GroupId>,
    changed_addresses: BTreeSet<AddressGroupId>,
    changed_ports: BTreeSet<PortId>,
    changed_members: BTreeMap<(GroupId, Member), bool>,
    faults: BTreeMap<About, Vec<Fault>>,
}

impl View {
    /// Of this host, by its name in the policy. Nothing is in sight.
    pub fn new(host: &str) -> Self {
        View {
            host: host.to_owned(),
            asked: BTreeSet::new(),
            groups: BTreeMap::new(),
            address_groups: BTreeMap::new(),
            ports: BTreeMap::new(),
            carried: Uses::new(),
            named: Uses::new(),
            named_addresses: Uses::new(),
            wants_changed: true,
            sequence: 0,
            policy: Policy::default(),
            committed: 0,
            changed_groups: BTreeSet::new(),
            changed_addresses: BTreeSet::new(),
            changed_ports: BTreeSet::new(),
            changed_members: BTreeMap::new(),
            faults: BTreeMap::new(),
        }
    }

    /// Ports that are plugged in here, whatever the store says of where they are: during a live migration, or where nobody tells.
    pub fn ask_for(&mut self, ports: BTreeSet<PortId>) {
        self.wants_changed |= self.asked != ports;
        self.asked = ports;
    }

    /// What is to be seen of the store, if that is something else than when this was asked last.
    pub fn new_wants(&mut self) -> Option<Wants> {
        std::mem::take(&mut self.wants_changed).then(|| self.wants())
    }

    /// What is to be seen of the store: with less than this, nothing can be committed.
    pub fn wants(&self) -> Wants {
        Wants {
            host: self.host.clone(),
            ports: self.asked.clone(),
            groups: self.carried.ids().chain(self.named.ids()).cloned().collect(),
            address_groups: self.named_addresses.ids().cloned().collect(),
        }
    }

    /// Takes in what was seen.
    pub fn see(&mut self, seen: Seen) {
        match seen {
            Seen::Group { id, head, members } => {
                self.see_members(&id, members);
                if let Some(head) = head {
                    self.see_group(id, head);
                }
            }
            Seen::AddressGroup { id, name, addresses } => self.see_address_group(id, name, addresses),
            Seen::Port(id, row) => self.see_port(id, row),
            Seen::Sequence(sequence) => self.sequence = sequence,
        }
    }

    /// What changes, now that everything is here that [`View::wants`] names.
    pub fn commit(&mut self) -> PolicyDelta {
        let mut delta = Delta::default();
        self.commit_address_groups(&mut delta);
        // What was refused for want of a group may be good now.
        let refused = self.faults.keys().filter_map(|about| match about {
            About::Port(id) => Some(id.clone()),
            _ => None,
        });
        let again: Vec<PortId> = if self.changed_groups.is_empty() { Vec::new() } else { refused.collect() };
        self.changed_ports.extend(again);
        let changed_groups = std::mem::take(&mut self.changed_groups);
        self.commit_groups(&changed_groups, &mut delta);
        self.commit_ports(&mut delta);
        self.remove_groups(changed_groups, &mut delta);
        for ((group, member), is_there) in std::mem::take(&mut self.changed_members) {
            let port = is_there.then(|| Arc::new(member.port(&group)));
            delta.ports.insert(member.port_id(&group), port);
        }
        self.committed = self.sequence;
        delta.into()
    }

    /// The number that is to be answered.
    pub fn sequence(&self) -> i64 {
        self.sequence
    }

    /// The number in force as of the last commit.
    pub fn committed(&self) -> i64 {
        self.committed
    }

    /// What is refused.
    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.faults.values().flatten()
    }

    /// Whether a port is in sight.
    pub fn has_port(&self, id: &PortId) -> bool {
        self.ports.contains_key(id)
    }

    /// How many security groups, address groups and ports are in sight.
    pub fn counts(&self) -> [usize; 3] {
        [self.groups.len(), self.address_groups.len(), self.ports.len()]
    }

    /// The ports of this host as they are in force, and the groups of these and of their rules; without members.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn see_members(&mut self, group: &GroupId, change: SetChange) {
        for (text, is_there) in change.elements() {
            match read_member(&text) {
                Ok(member) => {
                    let key = (group.clone(), member);
                    // There and gone again, or gone and there again, since the last commit: nothing to tell.
                    if self.changed_members.remove(&key).is_none() {
                        self.changed_members.insert(key, is_there);
                    }
                }
                Err(reason) => {
                    let object = format!("member {text} of security group {group}");
                    self.note(About::Member(group.clone(), text), is_there.then_some((object, reason)));
                }
            }
        }
    }

    fn see_group(&mut self, id: GroupId, head: Now<GroupHead>) {
        let head = match head {
            Now::Is(head) => Some(head),
            Now::Gone => None,
        };
        let is_carried = self.carried.contains(&id);
        let old = match &head {
            Some(head) => self.groups.insert(id.clone(), head.clone()),
            None => self.groups.remove(&id),
        };
        if is_carried {
            self.name_remotes(&id, head.as_ref(), true);
            self.name_remotes(&id, old.as_ref(), false);
        }
        self.changed_groups.insert(id);
    }

    fn see_address_group(&mut self, id: AddressGroupId, name: Option<Now<String>>, change: SetChange) {
        if name == Some(Now::Gone) {
            self.address_groups.remove(&id);
            self.faults.retain(|about, _| !matches!(about, About::Address(group, _) if *group == id));
        } else {
            let mut bad = Vec::new();
            let (told, nets) = self.address_groups.entry(id.clone()).or_default();
            if let Some(Now::Is(name)) = name {
                *told = name;
            }
            for (text, is_there) in change.elements() {
                match (read_net(&text), is_there) {
                    (Ok(net), true) => _ = nets.insert(net),
                    (Ok(net), false) => _ = nets.remove(&net),
                    (Err(reason), _) => bad.push((text, reason, is_there)),
                }
            }
            for (text, reason, is_there) in bad {
                let object = format!("address {text} of address group {id}");
                self.note(About::Address(id.clone(), text), is_there.then_some((object, reason)));
            }
        }
        self.changed_addresses.insert(id);
    }

    fn see_port(&mut self, id: PortId, row: Option<PortRow>) {
        let groups = |row: Option<&PortRow>| -> Vec<GroupId> {
            row.iter().flat_map(|row| &row.security_groups).map(|id| id.as_str().into()).collect()
        };
        let now = groups(row.as_ref());
        let old = match row {
            Some(row) => self.ports.insert(id.clone(), row),
            None => self.ports.remove(&id),
        };
        self.carry(groups(old.as_ref()), now);
        self.changed_ports.insert(id);
    }

    /// A port carries other groups now.
    fn carry(&mut self, before: impl IntoIterator<Item = GroupId>, now: impl IntoIterator<Item = GroupId>) {
        for group in now {
            if self.carried.add(&group) {
                self.group_is_carried(group, true);
            }
        }
        for group in before {
            if self.carried.remove(&group) {
                self.group_is_carried(group, false);
            }
        }
    }

    /// Its rules count, or do not any more.
    fn group_is_carried(&mut self, id: GroupId, is_carried: bool) {
        let head = self.groups.get(&id).cloned();
        self.name_remotes(&id, head.as_ref(), is_carried);
        self.wants_changed = true;
        self.changed_groups.insert(id);
    }

    fn name_remotes(&mut self, own: &GroupId, head: Option<&GroupHead>, is_named: bool) {
        for text in head.iter().flat_map(|head| head.rules.values()) {
            match rule_text::remote(text) {
                Some(NamedRemote::Own) => self.name(NamedRemote::Group(own.as_str()), is_named),
                Some(remote) => self.name(remote, is_named),
                None => {}
            }
        }
    }

    /// A rule names it, or does not any more.
    fn name(&mut self, remote: NamedRemote<'_>, is_named: bool) {
        self.wants_changed |= match (remote, is_named) {
            (NamedRemote::Group(id), true) => self.named.add(&id.into()),
            (NamedRemote::Group(id), false) => self.named.remove(&id.into()),
            (NamedRemote::AddressGroup(id), true) => self.named_addresses.add(&id.into()),
            (NamedRemote::AddressGroup(id), false) => {
                let id = AddressGroupId::from(id);
                let is_last = self.named_addresses.remove(&id);
                if is_last {
                    self.changed_addresses.insert(id);
                }
                is_last
            }
            (NamedRemote::Own, _) => false,
        };
    }

    fn note(&mut self, about: About, fault: Option<(String, String)>) {
        match fault {
            Some((object, reason)) => _ = self.faults.insert(about, vec![Fault { object, reason }]),
            None => _ = self.faults.remove(&about),
        }
    }

    fn commit_address_groups(&mut self, delta: &mut Delta) {
        for id in std::mem::take(&mut self.changed_addresses) {
            let group = self.address_groups.get(&id).map(|(name, addresses)| {
                Arc::new(AddressGroup { id: id.clone(), name: name.clone(), addresses: addresses.clone() })
            });
            let is_named = self.named_addresses.contains(&id);
            // A rule that names what is not there is malformed, and stays as it was.
            if group.is_none() && is_named {
                continue;
            }
            if self.policy.address_groups.get(&id) != group.as_ref() {
                set(&mut self.policy.address_groups, &id, group.clone());
                delta.address_groups.insert(id, group);
            }
        }
    }

    fn commit_groups(&mut self, changed: &BTreeSet<GroupId>, delta: &mut Delta) {
        for id in changed {
            let Some(head) = self.groups.get(id) else { continue };
            let (document, faults) = match self.carried.contains(id) {
                true => group_document(id, head, self.policy.groups.get(id).map(AsRef::as_ref)),
                // Only its members count: its rules are other hosts' business.
                false => {
                    (json!({"id": id.as_str(), "name": head.name, "stateful": head.stateful}), Vec::new())
                }
            };
            let document = json!({"security_groups": [document]}).to_string();
            let changes = parse_changes(("store", &document), &self.policy);
            let faults: Vec<Fault> =
                faults.into_iter().chain(changes.diagnostics.into_iter().map(Fault::from)).collect();
            self.faults.remove(&About::Group(id.clone()));
            if !faults.is_empty() {
                self.faults.insert(About::Group(id.clone()), faults);
            }
            for group in changes.delta.groups.iter().filter_map(|(_, group)| group.as_ref()) {
                let before = self.policy.groups.get(id).cloned();
                self.name_told(Some(group), true);
                self.name_told(before.as_ref(), false);
            }
            delta.add(&changes.delta);
            self.policy.apply(changes.delta);
        }
    }

    /// A rule that is refused is as it was, and so is whom it names.
    fn name_told(&mut self, group: Option<&Arc<SecurityGroup>>, is_named: bool) {
        for rule in group.iter().flat_map(|group| &group.rules) {
            match &rule.remote {
                Remote::Group(id) => self.name(NamedRemote::Group(id.as_str()), is_named),
                Remote::AddressGroup(id) => self.name(NamedRemote::AddressGroup(id.as_str()), is_named),
                Remote::Any | Remote::Prefix(_) => {}
            }
        }
    }

    fn commit_ports(&mut self, delta: &mut Delta) {
        for id in std::mem::take(&mut self.changed_ports) {
            self.faults.remove(&About::Port(id.clone()));
            let Some(row) = self.ports.get(&id) else {
                if let Some(port) = self.policy.ports.remove(&id) {
                    self.carry(port.security_groups.iter().cloned(), []);
                    delta.ports.insert(id, None);
                }
                continue;
            };
            let document = json!({"ports": [row.document(&id)]}).to_string();
            let changes = parse_changes(("store", &document), &self.policy);
            let faults: Vec<Fault> = changes.diagnostics.into_iter().map(Fault::from).collect();
            if !faults.is_empty() {
                self.faults.insert(About::Port(id.clone()), faults);
            }
            for port in changes.delta.ports.iter().filter_map(|(_, port)| port.as_ref()) {
                let before = self.policy.ports.get(&id).map(|port| port.security_groups.clone());
                self.carry(before.unwrap_or_default(), port.security_groups.iter().cloned());
            }
            delta.add(&changes.delta);
            self.policy.apply(changes.delta);
        }
    }

    /// Groups that are out of sight go, but for those that a port carries which is as it was because its row is refused.
    fn remove_groups(&mut self, changed: BTreeSet<GroupId>, delta: &mut Delta) {
        for id in changed {
            if self.groups.contains_key(&id) {
                continue;
            }
            self.faults.remove(&About::Group(id.clone()));
            if self.policy.ports.values().any(|port| port.security_groups.contains(&id)) {
                self.changed_groups.insert(id);
            } else if let Some(group) = self.policy.groups.remove(&id) {
                self.name_told(Some(&group), false);
                delta.groups.insert(id, None);
            }
        }
    }
}

/// What a document says of a group, and the rules of it that are no rules. A rule that is refused is as it was.
pub(crate) fn group_document(
    id: &GroupId,
    head: &GroupHead,
    before: Option<&SecurityGroup>,
) -> (Value, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut rules = Vec::new();
    for (rule, text) in &head.rules {
        match rule_text::document(rule, text, id) {
            Ok(document) => rules.push(document),
            Err(reason) => {
                faults.push(Fault { object: format!("rule {rule} of security group {id}"), reason });
                let rule = RuleId::from(rule.as_str());
                let before = before.and_then(|before| before.rules.iter().find(|other| other.id == rule));
                rules.extend(before.map(write_rule));
            }
        }
    }
    let document = json!({"id": id.as_str(), "name": head.name, "stateful": head.stateful, "security_group_rules": rules});
    (document, faults)
}

impl From<Diagnostic> for Fault {
    fn from(Diagnostic { object, field, reason, .. }: Diagnostic) -> Self {
        Fault { object, reason: format!("{field}: {reason}") }
    }
}

/// Objects by id, the last word of each.
#[derive(Default)]
struct Delta {
    groups: BTreeMap<GroupId, Option<Arc<SecurityGroup>>>,
    address_groups: BTreeMap<AddressGroupId, Option<Arc<AddressGroup>>>,
    ports: BTreeMap<PortId, Option<Arc<Port>>>,
}

impl Delta {
    fn add(&mut self, delta: &PolicyDelta) {
        self.groups.extend(delta.groups.iter().cloned());
        self.address_groups.extend(delta.address_groups.iter().cloned());
        self.ports.extend(delta.ports.iter().cloned());
    }
}

impl From<Delta> for PolicyDelta {
    fn from(Delta { groups, address_groups, ports }: Delta) -> Self {
        PolicyDelta {
            groups: groups.into_iter().collect(),
            address_groups: address_groups.into_iter().collect(),
            ports: ports.into_iter().collect(),
        }
    }
}

fn set<I: Ord + Clone, T>(objects: &mut BTreeMap<I, Arc<T>>, id: &I, object: Option<Arc<T>>) {
    match object {
        Some(object) => objects.insert(id.clone(), object),
        None => objects.remove(id),
    };
}
