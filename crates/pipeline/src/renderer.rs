//! The renderer: changes in, flows out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use policy::{
    AddressGroup, AddressGroupId, Direction, GroupId, MacAddr, PolicyDelta, Port, PortId, RuleId,
    SecurityGroup,
};
use rust_openflow::{Action, Flow, FlowKey};

use crate::address::{Member, members};
use crate::cells::{Cells, clause_remotes, connection_direction};
use crate::cookie::decode;
use crate::flow::{FlowBody, FlowOp, Journal};
use crate::hook::Hook;
use crate::known::{Known, generation};
use crate::layout::{FlowKind, register};
use crate::network::{NetworkPort, Networks, network_port_flows};
use crate::numbers::{GenerationPool, GenerationsExhausted, OfPort, RemoteId, SetId};
use crate::placement::{Binding, Placement, Role};
use crate::port_flows::{closed_port_flows, port_flows};
use crate::remote::{RemoteKey, RemoteUse, Remotes};
use crate::service::unsupported;
use crate::sets::{Sets, Target};
use crate::static_flows::static_flows;
use crate::takeover::takeover_flows;

/// What an operator may choose about the pipeline.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Config {
    /// Ethertypes besides ARP, RARP, IPv4 and IPv6 that every filtered port may send and receive.
    pub permitted_ethertypes: BTreeSet<u16>,
    /// Where frames enter.
    pub hook: Hook,
}

/// A rule that this driver cannot enforce; the rest of its group is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RefusedRule {
    /// The group it stands in.
    pub group: GroupId,
    /// The rule.
    pub rule: RuleId,
    /// Why.
    pub reason: &'static str,
}

/// What a local port is to the firewall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Judged by the rules of this set.
    Filtered(SetId),
    /// Sends and receives everything.
    Trusted,
    /// No policy knows it: it neither sends nor receives.
    Closed,
}

/// Everything that changed between two commits.
#[derive(Clone, Default, Debug)]
pub struct Batch {
    /// The flows, to be applied in one atomic bundle, in the order of their keys.
    pub ops: Vec<FlowOp>,
    /// Something is admitted no more: not applied before the caches of the datapath were revalidated.
    pub shrinks: bool,
    /// Sets went out of use: after revalidation [`Renderer::sweep`] has flows to remove.
    pub retires: bool,
    /// Rules of newly given groups that this driver cannot enforce.
    pub refused: Vec<RefusedRule>,
}

/// See the crate's documentation.
#[derive(Debug)]
pub struct Renderer {
    groups: BTreeMap<GroupId, Arc<SecurityGroup>>,
    address_groups: BTreeMap<AddressGroupId, Arc<AddressGroup>>,
    ports: BTreeMap<PortId, Arc<Port>>,
    bindings: BTreeMap<PortId, Binding>,
    stations: BTreeMap<PortId, MacAddr>,
    network_ports: BTreeMap<OfPort, NetworkPort>,

    rendered_ports: BTreeMap<PortId, Rendered>,
    rendered_network_ports: BTreeMap<OfPort, NetworkPort>,
    dirty_ports: BTreeSet<PortId>,
    dirty_network_ports: BTreeSet<OfPort>,
    dirty_groups: BTreeSet<GroupId>,

    sets: Sets,
    remotes: Remotes,
    cells: Cells,
    networks: Networks,
    journal: Journal,
    refused: Vec<RefusedRule>,
    shrinks: bool,
    is_taking_over: bool,
}

/// What a local port was last rendered as.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Rendered {
    Placed(Placement),
    Closed(PortId, OfPort),
}

impl Renderer {
    /// A bridge with no ports; `known` is what the switch already holds, [`Known::default`] for an empty one.
    pub fn new(config: &Config, known: Known) -> Self {
        let mut journal = Journal::default();
        for flow in static_flows(config) {
            journal.set(flow);
        }
        Renderer {
            groups: BTreeMap::new(),
            address_groups: BTreeMap::new(),
            ports: BTreeMap::new(),
            bindings: BTreeMap::new(),
            stations: BTreeMap::new(),
            network_ports: BTreeMap::new(),
            rendered_ports: BTreeMap::new(),
            rendered_network_ports: BTreeMap::new(),
            dirty_ports: BTreeSet::new(),
            dirty_network_ports: BTreeSet::new(),
            dirty_groups: BTreeSet::new(),
            sets: Sets::new(known.sets, known.generations),
            remotes: Remotes::new(known.remotes),
            cells: Cells::default(),
            networks: Networks::default(),
            journal,
            refused: Vec::new(),
            shrinks: false,
            is_taking_over: false,
        }
    }

    /// How many distinct sets of groups local ports carry, as of the last commit.
    pub fn set_count(&self) -> usize {
        self.sets.in_use()
    }

    /// How many remotes rules of local ports name.
    pub fn remote_count(&self) -> usize {
        self.remotes.in_use()
    }

    /// What a remote comes to on this bridge.
    pub fn remote(&self, key: &RemoteKey) -> RemoteUse {
        self.remotes.usage(key)
    }

    /// What a local port is, as of the last commit; none if it is not bound.
    pub fn standing(&self, port: &PortId) -> Option<Standing> {
        self.rendered_ports.get(port).map(|rendered| match rendered {
            Rendered::Placed(Placement { role: Role::Filtered(set), .. }) => Standing::Filtered(*set),
            Rendered::Placed(Placement { role: Role::Trusted, .. }) => Standing::Trusted,
            Rendered::Closed(..) => Standing::Closed,
        })
    }

    /// Whether [`Renderer::take_over`] has begun it.
    pub fn is_taking_over(&self) -> bool {
        self.is_taking_over
    }

    /// Begins, or ends, to let pass what Neutron's own driver has admitted before, as far as the policy admits it too.
    pub fn take_over(&mut self, is_on: bool) {
        self.is_taking_over = is_on;
        for flow in takeover_flows() {
            match is_on {
                true => self.journal.set(flow),
                false => self.journal.remove(flow.key()),
            }
        }
    }

    /// The policy changed.
    pub fn apply_policy(&mut self, delta: &PolicyDelta) {
        for (id, group) in &delta.groups {
            self.set_group(id, group.clone());
        }
        for (id, group) in &delta.address_groups {
            self.set_address_group(id, group.clone());
        }
        for (id, port) in &delta.ports {
            self.set_port(id, port.clone());
        }
    }

    /// A local port appeared, moved (another ofport, VLAN or zone), or went (`None`).
    pub fn bind(&mut self, port: &PortId, binding: Option<Binding>) {
        match binding {
            Some(binding) => self.bindings.insert(port.clone(), binding),
            None => self.bindings.remove(port),
        };
        self.dirty_ports.insert(port.clone());
    }

    /// Which MAC a local port's plug says that it has. It counts for a trusted port whose MAC the policy does not know: what is to others is
    /// kept from it.
    pub fn station(&mut self, port: &PortId, mac: Option<MacAddr>) {
        let before = match mac {
            Some(mac) => self.stations.insert(port.clone(), mac),
            None => self.stations.remove(port),
        };
        if before != mac {
            self.dirty_ports.insert(port.clone());
        }
    }

    /// A port to the network appeared, changed, or went (`None`).
    pub fn network_port(&mut self, ofport: OfPort, attachment: Option<NetworkPort>) {
        match attachment {
            Some(attachment) => self.network_ports.insert(ofport, attachment),
            None => self.network_ports.remove(&ofport),
        };
        self.dirty_network_ports.insert(ofport);
    }

    /// On start, of each flow that the switch holds otherwise than wanted: `old` is what it holds. Whatever it
    /// admitted that is admitted no more takes a new generation at the next commit. So does what another gave a generation
    /// later than ours: less was admitted then, and what was revoked carries the earlier one.
    pub fn shrunk_by(&mut self, key: &FlowKey, old: &FlowBody, new: Option<&FlowBody>) {
        let stamped = |body: &FlowBody| generation(key.table, &key.matches, &body.actions);
        if let (Some((half, held)), Some((_, wanted))) = (stamped(old), new.and_then(stamped)) {
            if held > wanted {
                self.sets.bump([half]);
            }
            return;
        }
        let Some(direction) = connection_direction(key.table) else { return };
        let kept = new.map(clause_remotes).unwrap_or_default();
        let lost = clause_remotes(old).into_iter().filter(|remote| !kept.contains(remote));
        match decode(old.cookie) {
            Some((FlowKind::Rule, set)) => {
                let hard = new.is_none() && clause_remotes(old).is_empty();
                if (hard || lost.count() > 0)
                    && let Ok(set) = u32::try_from(set)
                {
                    self.sets.bump([(SetId(set), direction)]);
                }
            }
            Some((FlowKind::Member, _)) => {
                for remote in lost {
                    self.sets.bump(self.remotes.tracked_by(remote, direction));
                }
            }
            _ => {}
        }
    }

    /// On start, of each flow that the switch holds otherwise than wanted: what of it a cached first stage may still
    /// reach, by the number of a set that no port carries any more. It has to stay until the sweep.
    pub fn left_over(&self, key: &FlowKey, old: &FlowBody, new: Option<&FlowBody>) -> Option<FlowBody> {
        let is_out_of_use = |set: u64| {
            let is_asked = key.matches.get(register::SET).is_some_and(|(value, _)| value == u128::from(set));
            is_asked && u32::try_from(set).is_ok_and(|set| !self.sets.contains(SetId(set)))
        };
        match decode(old.cookie)? {
            (FlowKind::Rule | FlowKind::Set, set) => {
                (new.is_none() && is_out_of_use(set)).then(|| old.clone())
            }
            (FlowKind::Remote, remote) => {
                let remote = RemoteId(u32::try_from(remote).ok()?);
                (new.is_none() && !self.remotes.contains(remote)).then(|| old.clone())
            }
            (FlowKind::Member, _) => {
                let is_left = |action: &&Action| match action {
                    Action::Conjunction { id, .. } => !self.remotes.contains(RemoteId(*id)),
                    _ => false,
                };
                let left: Vec<Action> = old.actions.iter().filter(is_left).cloned().collect();
                let wanted = new.map_or(&[][..], |body| &body.actions);
                let actions = wanted.iter().cloned().chain(left.iter().cloned()).collect();
                (!left.is_empty()).then_some(FlowBody { cookie: old.cookie, actions })
            }
            _ => None,
        }
    }

    /// How many generations [`Renderer::commit`] takes at most.
    pub fn generations_needed(&self) -> u32 {
        // Each port that changed may carry a set that nobody carried before: its number, and one for each direction.
        let of_groups: usize = self.dirty_groups.iter().map(|group| 2 * self.sets.count_of(group)).sum();
        let needed = self.sets.generations_needed() + 3 * self.dirty_ports.len() + of_groups;
        u32::try_from(needed).unwrap_or(u32::MAX)
    }

    /// Everything that changed since the last commit. Without enough generations in the pool nothing happens.
    pub fn commit(&mut self, pool: &mut GenerationPool) -> Result<Batch, GenerationsExhausted> {
        if pool.remaining() < self.generations_needed() {
            return Err(GenerationsExhausted { limit: pool.limit() });
        }
        self.place_ports(pool)?;
        self.redefine_groups();
        self.sets.flush(&mut self.journal, || pool.take())?;
        self.cells.flush(&mut self.journal);
        self.networks.flush(&mut self.journal);
        let ops = self.journal.take();
        let removes = ops.iter().any(|op| matches!(op, FlowOp::Remove(_)));
        let shrinks = std::mem::take(&mut self.shrinks) | self.cells.take_shrinks() | removes;
        Ok(Batch {
            ops,
            shrinks,
            retires: self.sets.has_retired(),
            refused: std::mem::take(&mut self.refused),
        })
    }

    /// Ids read back from the switch and claimed by nobody are free from now on: to be called once, when all that
    /// is there at the start has been told and committed.
    pub fn forget_known(&mut self) {
        self.sets.forget_known();
        self.remotes.forget_known();
    }

    /// The flows of sets that no port carries any more. Only when the datapath has been revalidated since the
    /// commit that retired them: a packet frozen at `ct()`, or a cached first stage, still goes by the old set.
    pub fn sweep(&mut self) -> Vec<FlowOp> {
        // What was told and not committed yet, as for want of generations, has to be revalidated all the same.
        self.shrinks |= self.cells.take_shrinks();
        let mut target =
            Target { cells: &mut self.cells, remotes: &mut self.remotes, journal: &mut self.journal };
        self.sets.sweep(&mut target);
        self.cells.flush(&mut self.journal);
        // By what is swept nobody goes any more.
        self.cells.take_shrinks();
        self.journal.take()
    }

    fn set_group(&mut self, id: &GroupId, new: Option<Arc<SecurityGroup>>) {
        let old = self.groups.get(id).cloned();
        if old == new {
            return;
        }
        for rule in new.iter().flat_map(|group| &group.rules) {
            if let Some(reason) = unsupported(rule) {
                self.refused.push(RefusedRule { group: id.clone(), rule: rule.id.clone(), reason });
            }
        }
        let is_stateless =
            |group: &Option<Arc<SecurityGroup>>| group.as_ref().is_some_and(|group| !group.stateful);
        if is_stateless(&old) != is_stateless(&new) {
            // Its ports go to other sets.
            let of_group =
                |port: &&PortId| self.ports.get(*port).is_some_and(|port| port.security_groups.contains(id));
            self.dirty_ports.extend(self.bindings.keys().filter(of_group).cloned());
        }
        match new {
            Some(group) => self.groups.insert(id.clone(), group),
            None => self.groups.remove(id),
        };
        self.dirty_groups.insert(id.clone());
    }

    /// Sets that are still in use take over what their groups are now.
    fn redefine_groups(&mut self) {
        let mut target =
            Target { cells: &mut self.cells, remotes: &mut self.remotes, journal: &mut self.journal };
        for id in std::mem::take(&mut self.dirty_groups) {
            self.sets.group_changed(&id, self.groups.get(&id), &mut target);
        }
    }

    fn set_address_group(&mut self, id: &AddressGroupId, new: Option<Arc<AddressGroup>>) {
        let old = match &new {
            Some(group) => self.address_groups.insert(id.clone(), group.clone()),
            None => self.address_groups.remove(id),
        };
        let held = |group: Option<Arc<AddressGroup>>| -> BTreeSet<Member> {
            group.iter().flat_map(|g| &g.addresses).map(|net| Member { net: *net, mac: None }).collect()
        };
        self.change_members(&RemoteKey::AddressGroup(id.clone()), &held(old), &held(new));
    }

    fn set_port(&mut self, id: &PortId, new: Option<Arc<Port>>) {
        let old = match &new {
            Some(port) => self.ports.insert(id.clone(), port.clone()),
            None => self.ports.remove(id),
        };
        // A port of another host has no flows of its own.
        if self.bindings.contains_key(id) {
            self.dirty_ports.insert(id.clone());
        }
        let held = |port: &Option<Arc<Port>>| port.as_deref().map(members).unwrap_or_default();
        let groups =
            |port: &Option<Arc<Port>>| port.as_deref().map(|p| p.security_groups.clone()).unwrap_or_default();
        let (old_members, new_members) = (held(&old), held(&new));
        let (old_groups, new_groups) = (groups(&old), groups(&new));
        let nobody = BTreeSet::new();
        for group in old_groups.union(&new_groups) {
            let before = if old_groups.contains(group) { &old_members } else { &nobody };
            let after = if new_groups.contains(group) { &new_members } else { &nobody };
            self.change_members(&RemoteKey::Group(group.clone()), before, after);
        }
    }

    fn change_members(&mut self, key: &RemoteKey, before: &BTreeSet<Member>, after: &BTreeSet<Member>) {
        for member in after.difference(before) {
            self.remotes.add_member(key, *member, &mut self.cells);
        }
        for member in before.difference(after) {
            let concerned: BTreeSet<(SetId, Direction)> =
                self.remotes.remove_member(key, *member, &mut self.cells);
            self.sets.bump(concerned);
        }
    }

    /// Renders the ports that changed. All that goes is taken away before anything new is set: one port may take
    /// over the ofport that another one had.
    fn place_ports(&mut self, pool: &mut GenerationPool) -> Result<(), GenerationsExhausted> {
        let (mut old_flows, mut new_flows) = (Vec::new(), Vec::new());
        let mut placed = Vec::new();
        for id in std::mem::take(&mut self.dirty_ports) {
            let new = self.placement(&id, pool)?;
            let old = match &new {
                Some(rendered) => self.rendered_ports.insert(id, rendered.clone()),
                None => self.rendered_ports.remove(&id),
            };
            if old == new {
                self.release(old.as_ref());
                continue;
            }
            old_flows.extend(old.iter().flat_map(Rendered::flows));
            new_flows.extend(new.iter().flat_map(Rendered::flows));
            self.release(old.as_ref());
            if let Some(Rendered::Placed(old)) = old {
                self.shrinks = true;
                self.networks.displace(&old);
            }
            if let Some(Rendered::Placed(new)) = new {
                placed.push(new);
            }
        }
        for ofport in std::mem::take(&mut self.dirty_network_ports) {
            let new = self.network_ports.get(&ofport).copied();
            let old = match new {
                Some(attachment) => self.rendered_network_ports.insert(ofport, attachment),
                None => self.rendered_network_ports.remove(&ofport),
            };
            if let Some(old) = old {
                self.shrinks |= Some(old) != new;
                old_flows.extend(network_port_flows(ofport, old));
                self.networks.detach(ofport, old);
            }
            if let Some(new) = new {
                new_flows.extend(network_port_flows(ofport, new));
                self.networks.attach(ofport, new);
            }
        }
        for placement in &placed {
            self.networks.place(placement);
        }
        self.journal.replace(old_flows, new_flows);
        Ok(())
    }

    /// The port carries its set no more, or was counted twice.
    fn release(&mut self, rendered: Option<&Rendered>) {
        if let Some(Rendered::Placed(Placement { role: Role::Filtered(set), .. })) = rendered {
            self.sets.release(*set);
        }
    }

    /// What the port is now; the set of a filtered port is counted once more.
    fn placement(
        &mut self,
        id: &PortId,
        pool: &mut GenerationPool,
    ) -> Result<Option<Rendered>, GenerationsExhausted> {
        let Some(binding) = self.bindings.get(id).copied() else { return Ok(None) };
        let Some(port) = self.ports.get(id).cloned() else {
            return Ok(Some(Rendered::Closed(id.clone(), binding.ofport)));
        };
        let role = if port.is_trusted() {
            Role::Trusted
        } else {
            let mut target =
                Target { cells: &mut self.cells, remotes: &mut self.remotes, journal: &mut self.journal };
            let number = || pool.take();
            Role::Filtered(self.sets.acquire(&port.security_groups, &self.groups, &mut target, number)?)
        };
        let station = self.stations.get(id).copied().filter(|_| port.mac == MacAddr::UNKNOWN);
        Ok(Some(Rendered::Placed(Placement { id: id.clone(), port, binding, station, role })))
    }
}

impl Rendered {
    fn flows(&self) -> Vec<Flow> {
        match self {
            Rendered::Placed(placement) => port_flows(placement),
            Rendered::Closed(id, ofport) => closed_port_flows(id, *ofport),
        }
    }
}
