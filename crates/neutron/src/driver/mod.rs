//! What neutron-openvswitch-agent tells its firewall driver (`neutron.agent.firewall.FirewallDriver`, Neutron 22 to 29), as changes of the
//! policy.
//!
//! The agent tells of this host's ports, of the rules of their groups, and of the members of the groups that these rules name: not of ports
//! elsewhere. A member is taken in as a port elsewhere that carries the group and has that one address, since that is all that a port elsewhere
//! is to this host.

mod call;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::document::parse_changes;
use policy::{
    AddressGroup, AddressGroupId, GroupId, MacAddr, Member, NetworkId, Policy, PolicyDelta, Port, PortId,
    Remote, SecurityGroup,
};
use serde_json::{Value, json};
use thiserror::Error;

pub use crate::Refused;
pub use call::{Change, MemberChange, PortDict, RuleDict};

use crate::edit::Edit;

/// A change that does not follow on what was taken: everything is to be told again, as change 1 of a new session.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("change {sequence} of session {session} does not follow on {}", .held.as_ref().map_or_else(|| "nothing".to_owned(), |(session, sequence)| format!("change {sequence} of session {session}")))]
pub struct OutOfStep {
    session: String,
    sequence: u64,
    held: Option<(String, u64)>,
}

/// What a change comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Taken {
    /// How the policy changes.
    pub delta: PolicyDelta,
    /// What was refused; it stays as it was, or closed if it is new.
    pub refused: Vec<Refused>,
}

/// The policy as the agent has told it.
#[derive(Clone, Debug, Default)]
pub struct DriverPolicy {
    policy: Policy,
    held: Option<(String, u64)>,
    /// Of security groups with the MAC of whoever has the address, and of address groups without, each with the ways in which it was told: one address can be written in several.
    members: BTreeMap<String, BTreeMap<Member, BTreeSet<Text>>>,
    /// Ports that were told of, as opposed to those that stand for members.
    own: BTreeSet<PortId>,
    /// Those of them that an earlier session told of, and this one has not yet.
    kept: BTreeSet<PortId>,
}

/// Address and MAC as they are written.
type Text = (String, Option<String>);

impl DriverPolicy {
    /// The session whose changes were taken last, and the number of the last one.
    pub fn held(&self) -> Option<(&str, u64)> {
        self.held.as_ref().map(|(session, sequence)| (session.as_str(), *sequence))
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many ports were told of, and how many members.
    pub fn counts(&self) -> (usize, usize) {
        (self.own.len(), self.members.values().map(BTreeMap::len).sum())
    }

    /// Takes a change. The first of a session is all that the agent knows by then, which has just begun to tell: ports that `is_plugged`
    /// says are there and that it does not name stay as they were, with their groups and what those name.
    ///
    /// Costs as much as the change is large, but for the first of a session.
    ///
    /// # Errors
    /// The change does not follow on the one before; nothing was taken.
    pub fn take(
        &mut self,
        change: &Change,
        is_plugged: impl Fn(&PortId) -> bool,
    ) -> Result<Taken, OutOfStep> {
        let follows = |(session, sequence): &(String, u64)| {
            *session == change.session && sequence.checked_add(1) == Some(change.sequence)
        };
        if change.sequence != 1 && !self.held.as_ref().is_some_and(follows) {
            let (session, sequence) = (change.session.clone(), change.sequence);
            return Err(OutOfStep { session, sequence, held: self.held.clone() });
        }
        self.held = Some((change.session.clone(), change.sequence));
        let DriverPolicy { policy, members, own, kept, .. } = self;
        let mut taking = Taking { edit: Edit::new(policy), members, own, kept, refused: Vec::new() };
        if change.sequence == 1 {
            taking.forget_all_but_plugged(change, is_plugged);
        }
        taking.take(change);
        let Taking { edit, refused, .. } = taking;
        Ok(Taken { delta: edit.delta(), refused })
    }

    /// Ports that this session has not told of, and that are pulled out by now: when they come back they are new.
    pub fn forget_pulled_out(&mut self, is_plugged: impl Fn(&PortId) -> bool) -> PolicyDelta {
        let mut edit = Edit::new(&mut self.policy);
        let gone: Vec<PortId> = self.kept.iter().filter(|port| !is_plugged(port)).cloned().collect();
        for port in gone {
            edit.set_port(&port, None);
            self.kept.remove(&port);
            self.own.remove(&port);
        }
        edit.delta()
    }
}

/// A change while it is taken.
struct Taking<'p> {
    edit: Edit<'p>,
    members: &'p mut BTreeMap<String, BTreeMap<Member, BTreeSet<Text>>>,
    own: &'p mut BTreeSet<PortId>,
    kept: &'p mut BTreeSet<PortId>,
    refused: Vec<Refused>,
}

impl Taking<'_> {
    fn take(&mut self, change: &Change) {
        for (id, members) in &change.members {
            self.take_members(id, members.as_ref());
        }
        self.define_what_is_named(change);
        let document = json!({
            "security_groups": change.rules.iter().filter_map(|(id, rules)| {
                Some(self.group_document(id, rules.as_ref()?))
            }).collect::<Vec<Value>>(),
            "ports": change.ports.iter().filter_map(|(id, port)| Some(port.as_ref()?.document(id)))
                .collect::<Vec<Value>>(),
        });
        let changes = parse_changes(("agent", &document.to_string()), self.edit.policy());
        self.refused.extend(changes.diagnostics.into_iter().map(Refused::from));
        self.edit.apply(changes.delta);
        for id in &change.trusted {
            self.trust(id);
        }
        for (id, port) in &change.ports {
            if port.is_none() {
                self.edit.set_port(&id.as_str().into(), None);
            }
        }
        for id in change.ports.keys().chain(&change.trusted) {
            let id = PortId::from(id.as_str());
            self.kept.remove(&id);
            match self.edit.policy().ports.contains_key(&id) {
                true => self.own.insert(id),
                false => self.own.remove(&id),
            };
        }
        for (id, rules) in &change.rules {
            if rules.is_none() {
                self.forget_group(&id.as_str().into());
            }
        }
        for (id, members) in &change.members {
            if members.is_none() && !change.rules.contains_key(id) {
                self.forget_if_idle(&id.as_str().into());
            }
        }
    }

    /// The document of a group; what cannot even be put into words is refused here, the rest where the document is read.
    fn group_document(&mut self, id: &str, rules: &[RuleDict]) -> Value {
        let mut documents = BTreeMap::new();
        for rule in rules {
            match rule.document(id) {
                // The agent leaves out the ids of rules; two that say the same are one.
                Ok((name, document)) => _ = documents.insert(name, document),
                Err(refused) => self.refused.push(refused),
            }
        }
        let stateful = rules.iter().find_map(RuleDict::stateful).unwrap_or(true);
        let rules: Vec<Value> = documents.into_values().collect();
        json!({"id": id, "stateful": stateful, "security_group_rules": rules})
    }

    /// The agent leaves out groups without rules, and address groups without addresses: they are there, and admit nothing.
    fn define_what_is_named(&mut self, change: &Change) {
        let rules = change.rules.values().flatten().flatten();
        for id in rules.filter_map(RuleDict::remote_address_group) {
            self.define_address_group(id);
        }
        let ports = change.ports.values().flatten();
        for id in ports.flat_map(|port| &port.security_groups) {
            self.define_group(&id.as_str().into());
        }
    }

    fn define_group(&mut self, id: &GroupId) {
        if !self.edit.policy().groups.contains_key(id) {
            self.edit.set_group(id, Some(without_rules(id)));
        }
    }

    fn define_address_group(&mut self, id: &str) {
        let id = AddressGroupId::from(id);
        if !self.edit.policy().address_groups.contains_key(&id) {
            let group = AddressGroup { id: id.clone(), name: String::new(), addresses: BTreeSet::new() };
            self.edit.set_address_group(&id, Some(group));
        }
    }

    fn take_members(&mut self, id: &str, change: Option<&BTreeMap<String, MemberChange>>) {
        let Some(change) = change else {
            for member in self.members.remove(id).unwrap_or_default().into_keys() {
                self.remove_member(id, member);
            }
            return;
        };
        for (ethertype, MemberChange { add, remove }) in change {
            for (address, mac) in remove {
                let Some(member) = self.read_member(id, ethertype, address, mac.as_deref()) else { continue };
                let Some(members) = self.members.get_mut(id) else { continue };
                let Some(texts) = members.get_mut(&member) else { continue };
                if texts.remove(&(address.clone(), mac.clone())) && texts.is_empty() {
                    members.remove(&member);
                    self.remove_member(id, member);
                }
            }
            for (address, mac) in add {
                let Some(member) = self.read_member(id, ethertype, address, mac.as_deref()) else { continue };
                let texts = self.members.entry(id.to_owned()).or_default().entry(member).or_default();
                let is_first = texts.is_empty();
                texts.insert((address.clone(), mac.clone()));
                if is_first {
                    self.add_member(id, member);
                }
            }
        }
    }

    fn read_member(
        &mut self,
        group: &str,
        ethertype: &str,
        address: &str,
        mac: Option<&str>,
    ) -> Option<Member> {
        call::member(ethertype, address, mac)
            .map(|(net, mac)| Member { net, mac })
            .map_err(|(field, reason)| {
                self.refused.push(Refused::new(format!("member {address} of {group}"), field, reason));
            })
            .ok()
    }

    fn add_member(&mut self, id: &str, member: Member) {
        if member.mac.is_none() {
            self.define_address_group(id);
            return self.edit.change_addresses(&id.into(), |addresses| _ = addresses.insert(member.net));
        }
        let group = GroupId::from(id);
        self.define_group(&group);
        let port = member.port(&group);
        self.edit.set_port(&port.id.clone(), Some(port));
    }

    fn remove_member(&mut self, id: &str, member: Member) {
        match member.mac {
            None => self.edit.change_addresses(&id.into(), |addresses| _ = addresses.remove(&member.net)),
            Some(_) => self.edit.set_port(&member.port_id(&id.into()), None),
        }
    }

    /// A port that is told of by its id alone.
    fn trust(&mut self, id: &str) {
        let id = PortId::from(id);
        let port = Port {
            id: id.clone(),
            network_id: NetworkId::from(""),
            mac: MacAddr::UNKNOWN,
            fixed_ips: BTreeSet::new(),
            allowed_address_pairs: BTreeSet::new(),
            security_groups: BTreeSet::new(),
            port_security_enabled: false,
            device_owner: String::new(),
            host: None,
        };
        self.edit.set_port(&id, Some(port));
    }

    /// Whether a port that was told of carries the group, or a member does.
    fn is_carried(&self, id: &GroupId) -> bool {
        let ports = &self.edit.policy().ports;
        let carries = |port: &PortId| ports.get(port).is_some_and(|port| port.security_groups.contains(id));
        self.members.get(id.as_str()).is_some_and(|members| !members.is_empty())
            || self.own.iter().any(carries)
    }

    /// A group that was there for its members alone.
    fn forget_if_idle(&mut self, id: &GroupId) {
        let group = self.edit.policy().groups.get(id);
        if group.is_some_and(|group| group.rules.is_empty()) && !self.is_carried(id) {
            self.edit.set_group(id, None);
        }
    }

    /// The rules of a group are gone; whoever carries it, a member elsewhere for one, still has it.
    fn forget_group(&mut self, id: &GroupId) {
        match self.is_carried(id) {
            true => self.edit.set_group(id, Some(without_rules(id))),
            false => self.edit.set_group(id, None),
        }
    }

    /// What an earlier session told of is gone, but for the ports that are plugged in and not told of yet, their groups, and what those name.
    fn forget_all_but_plugged(&mut self, change: &Change, is_plugged: impl Fn(&PortId) -> bool) {
        let policy = self.edit.policy();
        let trusted: BTreeSet<&str> = change.trusted.iter().map(String::as_str).collect();
        let told = |id: &PortId| change.ports.contains_key(id.as_str()) || trusted.contains(id.as_str());
        let stays = |id: &&PortId| !told(id) && is_plugged(id);
        let kept: Vec<Arc<Port>> =
            self.own.iter().filter(stays).filter_map(|id| policy.ports.get(id).cloned()).collect();
        let mut groups: BTreeSet<GroupId> =
            kept.iter().flat_map(|port| port.security_groups.iter().cloned()).collect();
        let mut named = BTreeSet::new();
        for rule in groups.iter().filter_map(|id| policy.groups.get(id)).flat_map(|group| &group.rules) {
            match &rule.remote {
                Remote::Group(id) => _ = named.insert(id.to_string()),
                Remote::AddressGroup(id) => _ = named.insert(id.to_string()),
                Remote::Any | Remote::Prefix(_) => {}
            }
        }
        groups.extend(named.iter().map(|id| GroupId::from(id.as_str())));
        let kept: BTreeSet<PortId> = kept.iter().map(|port| port.id.clone()).collect();
        let gone_ports: Vec<PortId> = self.own.difference(&kept).cloned().collect();
        let gone_groups: Vec<GroupId> =
            policy.groups.keys().filter(|id| !groups.contains(*id)).cloned().collect();
        let gone_addresses: Vec<AddressGroupId> =
            policy.address_groups.keys().filter(|id| !named.contains(id.as_str())).cloned().collect();
        gone_ports.iter().for_each(|id| self.edit.set_port(id, None));
        (*self.own, *self.kept) = (kept.clone(), kept);
        // Told anew where they are named: also those that stay, if the session tells of them.
        let gone_members: Vec<String> = self
            .members
            .keys()
            .filter(|id| !named.contains(*id) || change.members.contains_key(*id))
            .cloned()
            .collect();
        gone_members.iter().for_each(|id| self.take_members(id, None));
        gone_groups.iter().for_each(|id| self.edit.set_group(id, None));
        gone_addresses.iter().for_each(|id| self.edit.set_address_group(id, None));
    }
}

fn without_rules(id: &GroupId) -> SecurityGroup {
    SecurityGroup { id: id.clone(), name: String::new(), stateful: true, rules: Vec::new() }
}
