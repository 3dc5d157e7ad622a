//! Which rules admit a packet that was seen, at a cost that does not grow with the policy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use policy::evaluator::{Evaluator, Frame, Payload, Settings, Tracking};
use policy::{AddressGroup, Direction, GroupId, Policy, PolicyDelta, Port, PortId, Remote, RuleId};

/// The policy, and who has which address.
#[derive(Debug, Default)]
pub(super) struct Judge {
    policy: Policy,
    holders: HashMap<IpNet, BTreeSet<PortId>>,
    /// Of the prefixes in `holders`, how many there are of each length of each family (true: IPv6).
    lengths: BTreeMap<(bool, u8), usize>,
    settings: Settings,
}

impl Judge {
    pub(super) fn new(settings: Settings) -> Self {
        Judge { settings, ..Judge::default() }
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn apply(&mut self, delta: PolicyDelta) {
        for (id, port) in &delta.ports {
            let old = self.policy.ports.get(id).cloned();
            for prefix in old.iter().flat_map(|port| prefixes(port)) {
                self.forget(prefix, id);
            }
            for prefix in port.iter().flat_map(|port| prefixes(port)) {
                self.learn(prefix, id);
            }
        }
        self.policy.apply(delta);
    }

    /// Every rule that admits the first packet of a connection, in the order of groups and ids.
    pub(super) fn admitting(
        &self,
        port: &PortId,
        direction: Direction,
        frame: &Frame,
    ) -> Vec<(GroupId, RuleId)> {
        let Some(own) = self.policy.ports.get(port) else { return Vec::new() };
        let Payload::Ip(packet) = &frame.payload else { return Vec::new() };
        let remote = match direction {
            Direction::Egress => packet.dst,
            Direction::Ingress => packet.src,
        };
        // Who is a member of a group is a matter of those who have the address; nobody else's membership is asked.
        let mut asked = Policy::default();
        let others = self.holders_of(remote).filter_map(|id| Some((id, self.policy.ports.get(id)?)));
        for (id, port) in others.chain([(port, own)]) {
            asked.ports.insert(id.clone(), Arc::clone(port));
        }
        for id in &own.security_groups {
            let Some(group) = self.policy.groups.get(id) else { continue };
            for rule in &group.rules {
                if let Remote::AddressGroup(id) = &rule.remote
                    && let Some(named) = self.policy.address_groups.get(id)
                {
                    let addresses = named.addresses.iter().filter(|prefix| prefix.contains(&remote)).copied();
                    let named = AddressGroup { addresses: addresses.collect(), ..AddressGroup::clone(named) };
                    asked.address_groups.insert(id.clone(), Arc::new(named));
                }
            }
            asked.groups.insert(id.clone(), Arc::clone(group));
        }
        let evaluator = Evaluator::new(&asked, self.settings.clone());
        evaluator.judge(port, direction, frame, &Tracking::first(frame)).rules
    }

    fn holders_of(&self, ip: IpAddr) -> impl Iterator<Item = &PortId> {
        let lengths = self.lengths.range((ip.is_ipv6(), 0)..=(ip.is_ipv6(), u8::MAX));
        let prefixes = lengths.filter_map(move |((_, length), _)| IpNet::new(ip, *length).ok());
        prefixes.filter_map(|prefix| self.holders.get(&prefix.trunc())).flatten()
    }

    fn learn(&mut self, prefix: IpNet, id: &PortId) {
        let holders = self.holders.entry(prefix).or_default();
        if holders.is_empty() {
            *self.lengths.entry(length(&prefix)).or_default() += 1;
        }
        holders.insert(id.clone());
    }

    fn forget(&mut self, prefix: IpNet, id: &PortId) {
        let Some(holders) = self.holders.get_mut(&prefix) else { return };
        if !holders.remove(id) || !holders.is_empty() {
            return;
        }
        self.holders.remove(&prefix);
        if let Some(count) = self.lengths.get_mut(&length(&prefix)) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length(&prefix));
            }
        }
    }
}

fn length(prefix: &IpNet) -> (bool, u8) {
    (prefix.addr().is_ipv6(), prefix.prefix_len())
}

/// The addresses with which a port is a member of its groups.
fn prefixes(port: &Port) -> impl Iterator<Item = IpNet> {
    let fixed = port.fixed_ips.iter().map(|ip| IpNet::from(*ip));
    fixed.chain(port.allowed_address_pairs.iter().map(|pair| pair.ip.trunc()))
}
