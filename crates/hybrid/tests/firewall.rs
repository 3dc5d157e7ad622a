//! Whatever happens to policy and ports, chains and elements are those of a cold start, and fit together; and what is said of connections is
//! what the law says of their first packet.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hybrid::bridge::Element;
use hybrid::iptables::{Chain, ChainKey, HOOKS, PREFIX};
use hybrid::{Detail, Devices, Firewall, FirstPacket, Plug, SetOp};
use policy::evaluator::{
    self, Connection, Datapath, Evaluator, Frame, IpPacket, Payload, Settings, Tracking, Transport, Tuple,
};
use policy::{Direction, MacAddr, Policy, PortId};
use proptest::prelude::*;
use support::policy;

/// The kernel, as far as the changes tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Kernel {
    chains: BTreeMap<ChainKey, Chain>,
    elements: BTreeSet<Element>,
    sets: BTreeSet<String>,
}

impl Kernel {
    fn apply(&mut self, changes: hybrid::Changes) {
        for (key, chain) in changes.chains {
            match chain {
                Some(chain) => _ = self.chains.insert(key, chain),
                None => assert!(self.chains.remove(&key).is_some(), "{key:?}"),
            }
        }
        for (element, is_wanted) in &changes.elements {
            assert!(*is_wanted || self.elements.remove(element), "{element}");
        }
        for (element, _) in changes.elements.into_iter().filter(|(_, is_wanted)| *is_wanted) {
            assert!(self.elements.insert(element.clone()), "{element}");
        }
        for op in changes.sets {
            match op {
                SetOp::Create { set, .. } => assert!(self.sets.insert(set)),
                SetOp::Destroy { set } => assert!(self.sets.remove(&set)),
                SetOp::Add { .. } | SetOp::Remove { .. } => {}
            }
        }
    }

    /// Every jump leads to a chain, every chain of ours is led to, and every set that is asked is there.
    fn fits_together(&self) {
        let mut led_to: BTreeSet<ChainKey> = BTreeSet::new();
        for (key, rule) in
            self.chains.iter().flat_map(|(key, chain)| chain.iter().map(move |rule| (key, rule)))
        {
            let words: Vec<&str> = rule.split(' ').collect();
            let behind = |word: &str| words.iter().position(|other| *other == word).map(|at| words[at + 1]);
            if let Some(target) = behind("-j").filter(|target| target.starts_with(PREFIX)) {
                let target = ChainKey { name: target.to_owned(), ..key.clone() };
                assert!(self.chains.contains_key(&target), "{rule}");
                led_to.insert(target);
            }
            if let Some(set) = behind("--match-set") {
                assert!(self.sets.contains(set), "{rule}");
            }
        }
        for key in self.chains.keys().filter(|key| !led_to.contains(*key)) {
            let hook = HOOKS.iter().find(|hook| hook.table == key.table).expect("every table has one");
            let is_hooked = key.name.strip_prefix(PREFIX) == Some(hook.to);
            assert!(
                is_hooked || ["sg-untrack", "sg-bound"].iter().any(|name| key.name.ends_with(name)),
                "nothing leads to {key:?}"
            );
        }
        assert!(self.chains.keys().all(|key| key.name.len() <= 28));
    }
}

fn plug(port: u8) -> Plug {
    let devices = Devices::of_interface(&format!("qvop{port}")).expect("such a device can be");
    Plug { devices, zone: 4097 + u16::from(port) * 64 }
}

fn port_id(port: u8) -> PortId {
    format!("p{port}").as_str().into()
}

fn cold(policy: &Policy, local: &BTreeSet<u8>) -> (Firewall, Kernel) {
    let mut firewall = Firewall::new(false);
    firewall.apply_policy(&Policy::diff(&Policy::default(), policy));
    for port in local {
        firewall.plug(&port_id(*port), Some(plug(*port)));
    }
    let mut kernel = Kernel::default();
    kernel.apply(firewall.take());
    (firewall, kernel)
}

#[derive(Clone, Debug)]
enum Step {
    Policy(Policy),
    Plug(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        policy().prop_map(Step::Policy),
        (0u8..4, any::<bool>()).prop_map(|(port, is)| Step::Plug(port, is))
    ]
}

/// Addresses that are members', and one that is nobody's.
const OTHERS: [&str; 5] = ["10.0.0.0", "10.0.0.3", "10.0.0.9", "8000::1", "9.9.9.9"];

fn first_packet(direction: Direction, remote: &str, protocol: u8, port: u16) -> FirstPacket {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let remote = address(remote);
    let own = address(if remote.is_ipv4() { "10.0.0.1" } else { "fd00::1" });
    let (source, destination) = match direction {
        Direction::Ingress => (remote, own),
        Direction::Egress => (own, remote),
    };
    let detail = match protocol {
        1 | 58 => Detail::Icmp(8, 0),
        6 | 17 => Detail::Port(port),
        _ => Detail::None,
    };
    FirstPacket { direction, source, destination, protocol, detail }
}

/// What the evaluator says of a later packet of a connection that began so.
fn law_admits(evaluator: &Evaluator, port: &PortId, first: &FirstPacket) -> bool {
    let (detail, transport) = match first.detail {
        Detail::Port(dst) => (
            evaluator::Detail::Ports { src: 1000, dst },
            Transport::Ports { src: 1000, dst, tcp_flags: 0x10 },
        ),
        Detail::Icmp(icmp_type, code) => (
            evaluator::Detail::Icmp { icmp_type, code },
            Transport::Icmp { icmp_type, code, nd_target: None, quoted: None },
        ),
        Detail::None => (evaluator::Detail::None, Transport::None),
    };
    let tuple = Tuple { src: first.source, dst: first.destination, protocol: first.protocol, detail };
    let packet = IpPacket {
        src: first.source,
        dst: first.destination,
        protocol: first.protocol,
        fragment: evaluator::Fragment::No,
        transport,
    };
    let connection = Connection { original: first.direction, tuple, reply: false, related: false };
    let (eth_src, eth_dst) = match first.direction {
        Direction::Ingress => (MacAddr([2, 0, 0, 0, 0, 9]), evaluator.policy().ports[port].mac),
        Direction::Egress => (evaluator.policy().ports[port].mac, MacAddr([2, 0, 0, 0, 0, 9])),
    };
    let frame = Frame { eth_src, eth_dst, vlan: None, payload: Payload::Ip(packet) };
    evaluator.judge(port, first.direction, &frame, &Tracking::Connection(connection)).accepted()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn history_does_not_matter(steps in proptest::collection::vec(step(), 1..12)) {
        let mut firewall = Firewall::new(false);
        let mut kernel = Kernel::default();
        let (mut policy, mut local) = (Policy::default(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Policy(next) => {
                    firewall.apply_policy(&Policy::diff(&policy, &next));
                    policy = next;
                }
                Step::Plug(port, is_local) => {
                    firewall.plug(&port_id(port), is_local.then(|| plug(port)));
                    if is_local { local.insert(port); } else { local.remove(&port); }
                }
            }
            kernel.apply(firewall.take());
            kernel.fits_together();
            prop_assert_eq!(&kernel, &cold(&policy, &local).1);
            prop_assert_eq!(&kernel.chains, firewall.chains());
            let all: BTreeSet<Element> = firewall.elements().cloned().collect();
            prop_assert_eq!(&kernel.elements, &all);
        }
    }

    /// Stateless rules come first in the law, and their packets to no tracker: policies without them.
    #[test]
    fn a_connection_is_admitted_as_its_first_packet_is(policy in policy(), port in 0u16..100) {
        let mut policy = policy;
        for group in policy.groups.values_mut() {
            std::sync::Arc::make_mut(group).stateful = true;
        }
        let (firewall, _) = cold(&policy, &(0..3).collect());
        let datapath = Datapath { tracks_sctp_ports: true };
        let evaluator = Evaluator::new(&policy, Settings { datapath, ..Settings::default() });
        for local in 0..3u8 {
            let id = port_id(local);
            if policy.ports[&id].is_trusted() {
                continue;
            }
            for (remote, protocol) in OTHERS.iter().flat_map(|remote| [6, 17, 1, 58, 47].map(|protocol| (remote, protocol))) {
                for direction in [Direction::Ingress, Direction::Egress] {
                    // A frame that has no right to its source is not asked for rules.
                    let first = first_packet(direction, remote, protocol, port);
                    if direction == Direction::Egress && !owns(&policy, &id, first.source) {
                        continue;
                    }
                    prop_assert_eq!(
                        firewall.admits(plug(local).zone, &first),
                        law_admits(&evaluator, &id, &first),
                        "{} {:?}", id, first
                    );
                }
            }
        }
    }
}

fn owns(policy: &Policy, port: &PortId, source: IpAddr) -> bool {
    policy.ports[port].allowed_address_pairs.iter().any(|pair| pair.ip.contains(&source))
}

const WEB: &str = "
security_groups:
- {id: web, security_group_rules: [
    {id: r1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80, remote_group_id: web},
    {id: r2, direction: egress, ethertype: IPv4}]}
ports:
- {id: p0, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{ip_address: 10.0.0.2}], security_groups: [web]}
- {id: p1, network_id: n, mac_address: 'fa:16:3e:00:00:02', fixed_ips: [{ip_address: 10.0.0.3}], security_groups: [web]}
- {id: p2, network_id: n, mac_address: 'fa:16:3e:00:00:03', fixed_ips: [{ip_address: 10.0.0.4}], security_groups: [web]}
";

#[test]
fn a_member_touches_no_chain_and_a_rule_one_whatever_the_number_of_ports() {
    let all = support::parsed(WEB);
    let mut fewer = all.clone();
    fewer.ports.remove(&port_id(2));
    let (mut firewall, _) = cold(&fewer, &[0, 1].into());
    firewall.apply_policy(&Policy::diff(&fewer, &all));
    let changes = firewall.take();
    assert!(changes.chains.is_empty() && changes.elements.is_empty());
    assert_eq!(changes.sets.len(), 1);
    assert!(changes.shrunk.is_empty());
    assert_eq!(changes.grown, [4097, 4161].into());
    firewall.apply_policy(&Policy::diff(&all, &fewer));
    let changes = firewall.take();
    assert!(changes.chains.is_empty());
    assert_eq!(changes.shrunk, [4097, 4161].into());
    let mut more = fewer.clone();
    let group = std::sync::Arc::make_mut(more.groups.get_mut(&"web".into()).unwrap());
    group.rules.push(policy::Rule {
        id: "r3".into(),
        service: policy::Service::Any,
        ..group.rules[0].clone()
    });
    firewall.apply_policy(&Policy::diff(&fewer, &more));
    let changes = firewall.take();
    let names: Vec<&str> = changes.chains.keys().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["neutron-openvswi-Iweb"]);
    assert!(changes.elements.is_empty() && changes.sets.is_empty());
    assert_eq!((changes.shrunk, changes.grown), ([].into(), [4097, 4161].into()));
    firewall.apply_policy(&Policy::diff(&more, &fewer));
    let changes = firewall.take();
    assert_eq!((changes.shrunk, changes.grown), ([4097, 4161].into(), [].into()));
}
