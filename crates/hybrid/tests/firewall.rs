//! Whatever happens to policy and ports, chains and elements are those of a cold start, and fit together; and what is said of connections is
//! what the law says of their first packet.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hybrid::admitted::{Admitted, Chosen};
use hybrid::bridge::{Data, Element, Key};
use hybrid::iptables::{Chain, ChainKey, HOOKS, Iptables, PREFIX};
use hybrid::mark;
use hybrid::nft::{DEPENDS, Match, Nft, NftRule, Then, narrow, ruleset, wide};
use hybrid::{Admission, Detail, Devices, Dialect, Firewall, FirstPacket, Plug, SetOp};
use policy::evaluator::{
    self, Connection, Datapath, Evaluator, Frame, IpPacket, Payload, Settings, Tracking, Transport, Tuple,
};
use policy::{Direction, MacAddr, Policy, PortId};
use proptest::prelude::*;
use support::policy;

/// The kernel, as far as the changes tell.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Kernel<Key: Ord, Rule> {
    chains: BTreeMap<Key, Vec<Rule>>,
    elements: BTreeSet<Element>,
    sets: BTreeSet<String>,
}

type KernelOf<D> = Kernel<<D as Dialect>::Key, <D as Dialect>::Rule>;

/// A kernel to which nobody has told anything.
fn empty<D: Dialect>() -> KernelOf<D> {
    Kernel { chains: BTreeMap::new(), elements: BTreeSet::new(), sets: BTreeSet::new() }
}

fn apply<D: Dialect>(kernel: &mut KernelOf<D>, changes: hybrid::Changes<D>) {
    for (key, chain) in changes.chains {
        match chain {
            Some(chain) => _ = kernel.chains.insert(key, chain),
            None => assert!(kernel.chains.remove(&key).is_some(), "{key:?}"),
        }
    }
    for (element, is_wanted) in &changes.elements {
        assert!(*is_wanted || kernel.elements.remove(element), "{element}");
    }
    for (element, _) in changes.elements.into_iter().filter(|(_, is_wanted)| *is_wanted) {
        assert!(kernel.elements.insert(element.clone()), "{element}");
    }
    for op in changes.sets {
        match op {
            SetOp::Create { set, .. } => assert!(kernel.sets.insert(set)),
            SetOp::Destroy { set } => assert!(kernel.sets.remove(&set)),
            SetOp::Add { .. } | SetOp::Remove { .. } => {}
        }
    }
}

/// Every jump leads to a chain, every chain of ours is led to, and every set that is asked is there.
trait FitsTogether: Dialect + Sized {
    fn fits_together(kernel: &KernelOf<Self>);
}

impl FitsTogether for Iptables {
    fn fits_together(kernel: &Kernel<ChainKey, String>) {
        let mut led_to: BTreeSet<ChainKey> = BTreeSet::new();
        let rules_of = |(key, chain): (&ChainKey, &Chain)| {
            chain.iter().map(|rule| (key.clone(), rule.clone())).collect::<Vec<_>>()
        };
        for (key, rule) in kernel.chains.iter().flat_map(rules_of) {
            let words: Vec<&str> = rule.split(' ').collect();
            let behind = |word: &str| words.iter().position(|other| *other == word).map(|at| words[at + 1]);
            if let Some(target) = behind("-j").filter(|target| target.starts_with(PREFIX)) {
                let target = ChainKey { name: target.to_owned(), ..key };
                assert!(kernel.chains.contains_key(&target), "{rule}");
                led_to.insert(target);
            }
            if let Some(set) = behind("--match-set") {
                assert!(kernel.sets.contains(set), "{rule}");
            }
        }
        for key in kernel.chains.keys().filter(|key| !led_to.contains(*key)) {
            let hook = HOOKS.iter().find(|hook| hook.table == key.table).expect("every table has one");
            let is_hooked = key.name.strip_prefix(PREFIX) == Some(hook.to);
            assert!(
                is_hooked || ["sg-untrack", "sg-bound"].iter().any(|name| key.name.ends_with(name)),
                "nothing leads to {key:?}"
            );
        }
        assert!(kernel.chains.keys().all(|key| key.name.len() <= 28));
    }
}

impl FitsTogether for Nft {
    fn fits_together(kernel: &Kernel<String, NftRule>) {
        let mut led_to: BTreeSet<String> = ["bound.members".to_owned()].into();
        for element in &kernel.elements {
            if let Some(Data::Jump(chain)) = &element.data {
                assert!(kernel.chains.contains_key(chain), "{element}");
                led_to.insert(chain.clone());
            }
        }
        let sets: BTreeSet<String> = kernel.sets.iter().flat_map(|set| [narrow(set), wide(set)]).collect();
        let (mut asked, text) = (BTreeSet::new(), ruleset());
        let is_of_text = |chain: &str| text.contains(&format!("chain {chain} {{"));
        for rule in kernel.chains.values().flatten() {
            match &rule.then {
                Then::Jump(chain) | Then::Goto(chain) if chain.contains(DEPENDS) => {
                    assert!(kernel.chains.contains_key(chain), "{rule}");
                    led_to.insert(chain.clone());
                }
                Then::Jump(chain) | Then::Goto(chain) => assert!(is_of_text(chain), "{rule}"),
                Then::Return => {}
            }
            for part in &rule.matches {
                if let Match::RemoteInSet(_, _, set) = part {
                    assert!(sets.contains(set), "{rule}");
                    asked.insert(set.clone());
                }
            }
        }
        assert_eq!(led_to, kernel.chains.keys().cloned().collect());
        assert_eq!(asked, sets);
        assert!(led_to.iter().all(|chain| chain.contains(DEPENDS)));
    }
}

fn plug(port: u8) -> Plug {
    let devices = Devices::of_interface(&format!("qvop{port}")).expect("such a device can be");
    Plug { devices, zone: 4097 + u16::from(port) * 64 }
}

fn port_id(port: u8) -> PortId {
    format!("p{port}").as_str().into()
}

/// Whose connections are sampled.
fn sampled() -> Admitted {
    let chosen =
        Chosen { ports: ["p0".into()].into(), groups: ["g1".into()].into(), rules: ["r2-1".into()].into() };
    Admitted { rate: 25, chosen: Some(chosen) }
}

/// Whether the connections of a port are to be sampled; a port without a stateful group has none.
fn is_sampled(policy: &Policy, port: &PortId) -> bool {
    let Some(known) = policy.ports.get(port).filter(|known| !known.is_trusted()) else { return false };
    let groups: Vec<_> = known.security_groups.iter().filter_map(|id| policy.groups.get(id)).collect();
    let has_rule = || groups.iter().any(|group| group.rules.iter().any(|rule| rule.id.as_str() == "r2-1"));
    groups.iter().any(|group| group.stateful)
        && (port.as_str() == "p0" || known.security_groups.contains(&"g1".into()) || has_rule())
}

fn cold<D: Dialect>(policy: &Policy, local: &BTreeSet<u8>) -> (Firewall<D>, KernelOf<D>) {
    let mut firewall = Firewall::new(false, Some(&sampled()));
    firewall.apply_policy(&Policy::diff(&Policy::default(), policy));
    for port in local {
        firewall.plug(&port_id(*port), Some(plug(*port)));
    }
    let mut kernel = empty::<D>();
    apply(&mut kernel, firewall.take());
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

fn is_as_of_a_cold_start<D: FitsTogether>(steps: Vec<Step>) {
    let mut firewall = Firewall::<D>::new(false, Some(&sampled()));
    let mut kernel = empty::<D>();
    let (mut policy, mut local) = (Policy::default(), BTreeSet::new());
    for step in steps {
        match step {
            Step::Policy(next) => {
                firewall.apply_policy(&Policy::diff(&policy, &next));
                policy = next;
            }
            Step::Plug(port, is_local) => {
                firewall.plug(&port_id(port), is_local.then(|| plug(port)));
                if is_local {
                    local.insert(port);
                } else {
                    local.remove(&port);
                }
            }
        }
        apply(&mut kernel, firewall.take());
        D::fits_together(&kernel);
        let (_, colds) = cold::<D>(&policy, &local);
        assert_eq!(kernel.chains, colds.chains);
        assert_eq!(kernel.elements, colds.elements);
        assert_eq!(kernel.sets, colds.sets);
        assert_eq!(&kernel.chains, firewall.chains());
        let all: BTreeSet<Element> = firewall.elements().cloned().collect();
        assert_eq!(kernel.elements, all);
        let is_sampled = |port: &&u8| is_sampled(&policy, &port_id(**port));
        let marks: BTreeSet<Vec<Key>> = local
            .iter()
            .filter(is_sampled)
            .map(|port| vec![Key::Mark(mark::SIGNATURE | u32::from(plug(*port).zone))])
            .collect();
        let chosen = all.iter().filter(|element| element.set == "chosen");
        assert_eq!(chosen.map(|element| element.key.clone()).collect::<BTreeSet<_>>(), marks);
    }
}

fn admits_as_the_law<D: Dialect>(policy: &Policy, port: u16) {
    let (firewall, _) = cold::<D>(policy, &(0..3).collect());
    let datapath = Datapath { tracks_sctp_ports: true };
    let evaluator = Evaluator::new(policy, Settings { datapath, ..Settings::default() });
    for local in 0..3u8 {
        let id = port_id(local);
        if policy.ports[&id].is_trusted() {
            continue;
        }
        for (remote, protocol) in
            OTHERS.iter().flat_map(|remote| [6, 17, 1, 58, 47].map(|protocol| (remote, protocol)))
        {
            for direction in [Direction::Ingress, Direction::Egress] {
                // A frame that has no right to its source is not asked for rules.
                let first = first_packet(direction, remote, protocol, port);
                if direction == Direction::Egress && !owns(policy, &id, first.source) {
                    continue;
                }
                let admitted = firewall.admits(plug(local).zone, &first) == Admission::Free;
                assert_eq!(admitted, law_admits(&evaluator, &id, &first), "{id} {first:?}");
            }
        }
    }
}

/// What one had and the other has by now is there.
fn zones_are_exchanged<D: FitsTogether>() {
    let policy = support::parsed(
        "security_groups: [{id: g1, security_group_rules: [{id: r, direction: ingress, ethertype: IPv4}]}]\nports:\n\
         - {id: p1, network_id: n, mac_address: 'fa:16:3e:00:00:01', security_groups: [g1]}\n\
         - {id: p2, network_id: n, mac_address: 'fa:16:3e:00:00:02', security_groups: [g1]}\n",
    );
    let (mut firewall, mut kernel) = cold::<D>(&policy, &[1, 2].into());
    let (first, second) = (plug(1), plug(2));
    let exchanged = [
        (port_id(1), Plug { zone: second.zone, ..first.clone() }),
        (port_id(2), Plug { zone: first.zone, ..second.clone() }),
    ];
    for (port, plug) in exchanged {
        firewall.plug(&port, Some(plug));
    }
    apply(&mut kernel, firewall.take());
    D::fits_together(&kernel);
    assert_eq!(kernel.elements, firewall.elements().cloned().collect());
}

#[test]
fn ports_that_exchange_their_zones_have_what_belongs_to_them() {
    zones_are_exchanged::<Iptables>();
    zones_are_exchanged::<Nft>();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn history_does_not_matter_to_iptables(steps in proptest::collection::vec(step(), 1..12)) {
        is_as_of_a_cold_start::<Iptables>(steps);
    }

    #[test]
    fn history_does_not_matter_to_nftables(steps in proptest::collection::vec(step(), 1..12)) {
        is_as_of_a_cold_start::<Nft>(steps);
    }

    /// Stateless rules come first in the law, and their packets to no tracker: policies without them.
    #[test]
    fn a_connection_is_admitted_as_its_first_packet_is(policy in policy(), port in 0u16..100) {
        let mut policy = policy;
        for group in policy.groups.values_mut() {
            std::sync::Arc::make_mut(group).stateful = true;
        }
        admits_as_the_law::<Iptables>(&policy, port);
        admits_as_the_law::<Nft>(&policy, port);
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
    touches_only::<Iptables>("neutron-openvswi-Iweb", |key| key.name.clone());
    touches_only::<Nft>("ingress.web", String::clone);
}

fn touches_only<D: Dialect>(chain: &str, name: impl Fn(&D::Key) -> String) {
    let all = support::parsed(WEB);
    let mut fewer = all.clone();
    fewer.ports.remove(&port_id(2));
    let (mut firewall, _) = cold::<D>(&fewer, &[0, 1].into());
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
    let group = std::sync::Arc::make_mut(more.groups.get_mut(&"web".into()).expect("it is there"));
    group.rules.push(policy::Rule {
        id: "r3".into(),
        service: policy::Service::Any,
        ..group.rules[0].clone()
    });
    firewall.apply_policy(&Policy::diff(&fewer, &more));
    let changes = firewall.take();
    assert_eq!(changes.chains.keys().map(name).collect::<Vec<_>>(), [chain]);
    assert!(changes.elements.is_empty() && changes.sets.is_empty());
    assert_eq!((changes.shrunk, changes.grown), ([].into(), [4097, 4161].into()));
    firewall.apply_policy(&Policy::diff(&more, &fewer));
    let changes = firewall.take();
    assert_eq!((changes.shrunk, changes.grown), ([4097, 4161].into(), [].into()));
}

#[test]
fn rules_are_said_in_the_words_of_nft() {
    let text = WEB
        .replace(
            "{id: r2, direction: egress, ethertype: IPv4}",
            "{id: r2, direction: egress, ethertype: IPv6, protocol: icmp, port_range_min: 128, port_range_max: 0,
              remote_ip_prefix: 'fd00::/9'}, {id: 'r\"3\\', direction: egress, ethertype: IPv4, protocol: 112}",
        )
        .replace("10.0.0.4}]", "10.0.0.4}], allowed_address_pairs: [{ip_address: 0.0.0.0/1}]");
    let (_, kernel) = cold::<Nft>(&support::parsed(&text), &[0].into());
    let shown = |chain: &str| kernel.chains[chain].iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        shown("ingress.web"),
        [
            "meta nfproto ipv4 ip frag-off & 0x1fff != 0 return",
            "meta nfproto ipv4 meta l4proto 6 th dport 80 ip saddr @NIPv4web goto admit-free comment \"r1\"",
            "meta nfproto ipv4 meta l4proto 6 th dport 80 ip saddr @NIPv4web/wide goto admit-free comment \"r1\"",
            "meta nfproto ipv4 meta l4proto 6 th dport 80 ip saddr 0.0.0.0/1 ether saddr fa:16:3e:00:00:03 \
             jump admit-bound comment \"r1\"",
        ]
    );
    assert_eq!(
        shown("egress.web"),
        [
            "meta nfproto ipv4 meta l4proto 112 goto admit-free comment \"r3\"",
            "meta nfproto ipv6 frag frag-off != 0 return",
            "meta nfproto ipv6 meta l4proto 58 @th,0,16 32768 ip6 daddr fd00::/9 goto admit-free comment \"r2\"",
        ]
    );
    assert_eq!(shown("to.p0"), ["jump ingress.web"]);
    assert_eq!(shown("bound.members").last().map(String::as_str), Some("goto drop-no-rule"));
}
