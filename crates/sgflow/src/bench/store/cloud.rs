//! The cloud that is measured: how many hosts, ports and groups, and who is in which.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Result, ensure};
use policy::{
    Direction, Ethertype, GroupId, MacAddr, PolicyDelta, Port, PortId, PortProtocol, PortRange, Remote, Rule,
    SecurityGroup, Service,
};

/// On so many hosts are the members of a group of no special size.
const USUAL_HOSTS: usize = 10;
/// Members of the groups that few hosts are interested in.
const FEW: usize = 100;
/// A host that no agent is of: who joins from there concerns the group alone.
const ELSEWHERE: &str = "elsewhere";

/// How large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Size {
    pub(crate) agents: usize,
    pub(crate) ports: usize,
    pub(crate) groups: usize,
    /// Of the largest group, which has ports on all hosts.
    pub(crate) members: usize,
}

/// Where the members of a group are: in turn on so many hosts, from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) members: usize,
    pub(crate) hosts: usize,
    first: usize,
}

/// Groups with their members; a port is in one group.
#[derive(Debug)]
pub(crate) struct Cloud {
    pub(crate) size: Size,
    spreads: Vec<Spread>,
}

impl Cloud {
    /// Groups on all hosts, of `members`, a quarter of that and one a host; groups of a hundred on 1, 10 and 100 hosts; the other ports in the other groups,
    /// each on ten hosts.
    pub(crate) fn new(size: Size) -> Result<Self> {
        let Size { agents, ports, groups, members } = size;
        ensure!(agents > 0 && members >= agents, "--members: at least one on each of the {agents} hosts");
        let everywhere: BTreeSet<usize> = [members, (members / 4).max(agents), agents].into();
        let mut spreads: Vec<Spread> =
            everywhere.iter().rev().map(|&members| Spread { members, hosts: agents, first: 0 }).collect();
        let few = [100, 10, 1].into_iter().filter(|hosts| *hosts < agents);
        spreads.extend(few.map(|hosts| Spread { members: FEW, hosts, first: 0 }));
        let special: usize = spreads.iter().map(|spread| spread.members).sum();
        ensure!(
            groups > spreads.len() && ports >= special + groups - spreads.len(),
            "--ports, --groups: {special} ports are in {} groups; there must be others",
            spreads.len()
        );
        let (others, left) = (groups - spreads.len(), ports - special);
        spreads.extend((0..others).map(|number| {
            let members = left / others + usize::from(number < left % others);
            Spread { members, hosts: USUAL_HOSTS.min(agents), first: number * USUAL_HOSTS % agents }
        }));
        Ok(Cloud { size, spreads })
    }

    /// So many ports in groups of a hundred, all on one host.
    pub(crate) fn of_hundreds(ports: usize) -> Self {
        let groups = ports.div_ceil(FEW);
        let members = |number: usize| FEW.min(ports - number * FEW);
        let spreads = (0..groups).map(|number| Spread { members: members(number), hosts: 1, first: 0 });
        Cloud { size: Size { agents: 1, ports, groups, members: FEW }, spreads: spreads.collect() }
    }

    /// The names of all hosts.
    pub(crate) fn hosts(&self) -> Vec<String> {
        (0..self.size.agents).map(host).collect()
    }

    /// All of it.
    pub(crate) fn policy(&self) -> PolicyDelta {
        let groups = (0..self.spreads.len()).map(|number| {
            let group = group(number, false);
            (group.id.clone(), Some(Arc::new(group)))
        });
        let mut ports = Vec::with_capacity(self.size.ports);
        for (group, spread) in self.spreads.iter().enumerate() {
            for member in 0..spread.members {
                let port = port(ports.len(), group, host(self.host_of(spread, member)));
                ports.push((port.id.clone(), Some(Arc::new(port))));
            }
        }
        PolicyDelta { groups: groups.collect(), address_groups: Vec::new(), ports }
    }

    /// The groups in which changes are measured: those on all hosts, the largest first, then those on fewer.
    pub(crate) fn special(&self) -> impl Iterator<Item = (usize, Spread)> {
        let is_special = |spread: &Spread| spread.hosts == self.size.agents || spread.members == FEW;
        self.spreads.iter().copied().take(6).filter(is_special).enumerate()
    }

    /// Whether a host has ports of a group.
    pub(crate) fn is_interested(&self, group: usize, host: usize) -> bool {
        let spread = &self.spreads[group];
        let place = (host + self.size.agents - spread.first) % self.size.agents;
        place < spread.hosts.min(spread.members)
    }

    /// How many objects each host has to be told of: its ports, their groups, and the two addresses of each member.
    pub(crate) fn objects(&self) -> Vec<u64> {
        let mut objects = vec![0; self.size.agents];
        for spread in &self.spreads {
            for member in 0..spread.members {
                objects[self.host_of(spread, member)] += 1;
            }
            for place in 0..spread.hosts.min(spread.members) {
                objects[(spread.first + place) % self.size.agents] += 1 + 2 * spread.members as u64;
            }
        }
        objects
    }

    fn host_of(&self, spread: &Spread, member: usize) -> usize {
        (spread.first + member % spread.hosts) % self.size.agents
    }

    /// A member more of a group, or that one less; of other numbers, other members.
    pub(crate) fn member(&self, group: usize, number: usize, joins: bool) -> PolicyDelta {
        let port = port(self.size.ports + number, group, ELSEWHERE.to_owned());
        let change = (port.id.clone(), joins.then(|| Arc::new(port)));
        PolicyDelta { ports: vec![change], ..PolicyDelta::default() }
    }

    /// A rule more in a group, or as it was.
    pub(crate) fn rule(group_number: usize, is_more: bool) -> PolicyDelta {
        let group = group(group_number, is_more);
        PolicyDelta { groups: vec![(group.id.clone(), Some(Arc::new(group)))], ..PolicyDelta::default() }
    }
}

/// A host by its number.
fn host(number: usize) -> String {
    format!("compute-{number:04}")
}

/// As long as ids of Neutron are.
fn uuid(kind: u32, number: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{number:012x}")
}

fn group_id(number: usize) -> GroupId {
    uuid(1, number).as_str().into()
}

/// As Neutron makes a default group.
fn group(number: usize, one_more: bool) -> SecurityGroup {
    let id = group_id(number);
    let members = || Remote::Group(id.clone());
    let mut rules = vec![
        (Direction::Egress, Ethertype::Ipv4, Service::Any, Remote::Any),
        (Direction::Egress, Ethertype::Ipv6, Service::Any, Remote::Any),
        (Direction::Ingress, Ethertype::Ipv4, Service::Any, members()),
        (Direction::Ingress, Ethertype::Ipv6, Service::Any, members()),
    ];
    if one_more {
        let https = PortRange { min: 443, max: 443 };
        let service = Service::Ports { protocol: PortProtocol::Tcp, range: Some(https) };
        rules.push((Direction::Ingress, Ethertype::Ipv4, service, Remote::Any));
    }
    let rule = |(place, (direction, ethertype, service, remote))| Rule {
        id: uuid(2, number * 8 + place).as_str().into(),
        direction,
        ethertype,
        service,
        remote,
    };
    SecurityGroup {
        name: "default".to_owned(),
        stateful: true,
        rules: rules.into_iter().enumerate().map(rule).collect(),
        id,
    }
}

fn port(number: usize, group: usize, host: String) -> Port {
    let [_, _, _, _, _, b, c, d] = number.to_be_bytes();
    let addresses = [
        IpAddr::V4(Ipv4Addr::new(10, b, c, d)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, b.into(), u16::from_be_bytes([c, d]))),
    ];
    Port {
        id: PortId::from(uuid(3, number).as_str()),
        network_id: uuid(4, 0).as_str().into(),
        mac: MacAddr([0xfa, 0x16, 0x3e, b, c, d]),
        fixed_ips: addresses.into(),
        allowed_address_pairs: BTreeSet::new(),
        security_groups: [group_id(group)].into(),
        port_security_enabled: true,
        device_owner: "compute:nova".to_owned(),
        host: Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_is_counted_and_few_hosts_know_of_a_group() {
        let cloud = Cloud::new(Size { agents: 1000, ports: 100_000, groups: 2000, members: 20_000 }).unwrap();
        let policy = cloud.policy();
        assert_eq!((policy.ports.len(), policy.groups.len()), (100_000, 2000));
        let special: Vec<(usize, usize)> =
            cloud.special().map(|(_, spread)| (spread.members, spread.hosts)).collect();
        assert_eq!(special, [(20_000, 1000), (5000, 1000), (1000, 1000), (100, 100), (100, 10), (100, 1)]);
        for (group, spread) in cloud.special() {
            let interested = (0..1000).filter(|host| cloud.is_interested(group, *host)).count();
            assert_eq!(interested, spread.hosts);
        }
        let objects = cloud.objects();
        assert!(objects.iter().all(|count| (52_000..56_000).contains(count)), "{objects:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(Cloud::new(Size { agents: 10, ports: 20, groups: 20, members: 20 }).is_err());
        assert!(Cloud::new(Size { agents: 10, ports: 1000, groups: 20, members: 5 }).is_err());
    }
}
