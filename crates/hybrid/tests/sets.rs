//! Whatever happens to policy and ports, the sets are those of a cold start, and each operation fits what is there.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hybrid::{Remote, SetOp, Sets};
use ipnet::IpNet;
use policy::{Ethertype, Policy, PortId};
use proptest::prelude::*;
use support::{parsed, policy};

/// The kernel, as far as the operations tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Kernel(BTreeMap<String, BTreeSet<IpNet>>);

impl Kernel {
    fn apply(&mut self, ops: Vec<SetOp>) {
        for op in ops {
            match op.clone() {
                SetOp::Create { set, .. } => assert!(self.0.insert(set, BTreeSet::new()).is_none(), "{op:?}"),
                SetOp::Destroy { set } => assert!(self.0.remove(&set).is_some(), "{op:?}"),
                SetOp::Add { set, net } => {
                    assert!(self.set(&set).insert(net), "{op:?}");
                }
                SetOp::Remove { set, net } => assert!(self.set(&set).remove(&net), "{op:?}"),
            }
        }
    }

    fn set(&mut self, name: &str) -> &mut BTreeSet<IpNet> {
        self.0.get_mut(name).unwrap_or_else(|| panic!("{name} is not there"))
    }

    /// No set holds everything as one prefix.
    fn has_halves_only(&self) -> bool {
        self.0.values().flatten().all(|net| net.prefix_len() > 0)
    }

    /// No prefix of a set that is longer than an address lies in another.
    fn has_no_overlaps(&self) -> bool {
        let is_wide = |net: &&IpNet| net.prefix_len() < net.max_prefix_len();
        self.0.values().all(|nets| {
            let wide: Vec<&IpNet> = nets.iter().filter(is_wide).collect();
            wide.iter().all(|one| wide.iter().all(|other| one == other || !one.contains(*other)))
        })
    }

    /// Each set with the fewest prefixes that hold the same addresses.
    fn aggregated(&self) -> BTreeMap<String, Vec<IpNet>> {
        let of = |nets: &BTreeSet<IpNet>| IpNet::aggregate(&nets.iter().copied().collect());
        self.0.iter().map(|(set, nets)| (set.clone(), of(nets))).collect()
    }
}

/// How members become elements.
type Style = fn() -> Sets;
const EACH: Style = || Sets::new(false);
const FEWEST: Style = || Sets::new(true);
const APART: Style = Sets::apart;

fn cold(policy: &Policy, local: &BTreeSet<PortId>, style: Style) -> Kernel {
    let mut sets = style();
    for port in local {
        sets.bind(port, true);
    }
    sets.apply_policy(&Policy::diff(&Policy::default(), policy));
    let mut kernel = Kernel::default();
    kernel.apply(sets.take());
    kernel
}

fn sets_of(text: &str, local: &[&str], style: Style) -> BTreeMap<String, Vec<String>> {
    let local = local.iter().map(|port| PortId::from(*port)).collect();
    let kernel = cold(&parsed(text), &local, style);
    let shown = |nets: &BTreeSet<IpNet>| nets.iter().map(ToString::to_string).collect();
    kernel.0.iter().map(|(set, nets)| (set.clone(), shown(nets))).collect()
}

const TWO_PORTS: &str = "
security_groups:
- {id: web, security_group_rules: [{id: r1, direction: ingress, ethertype: IPv4, remote_group_id: db}]}
- {id: db, security_group_rules: [{id: r2, direction: ingress, ethertype: IPv6, remote_address_group_id: all}]}
address_groups:
- {id: all, addresses: [0.0.0.0/0, '::/0']}
ports:
- {id: p-1, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{ip_address: 10.0.0.2}, {ip_address: '2001:db8::2'}],
   security_groups: [web]}
- {id: p-2, network_id: n, mac_address: 'fa:16:3e:00:00:02', fixed_ips: [{ip_address: 10.0.0.3}], security_groups: [db, web],
   allowed_address_pairs: [{ip_address: 0.0.0.0/0}, {ip_address: 10.9.0.0/16}]}
";

#[test]
fn only_what_rules_of_local_ports_name_is_there_and_only_in_its_family() {
    assert_eq!(sets_of(TWO_PORTS, &[], EACH), BTreeMap::new());
    let db = ("NIPv4db".to_owned(), vec!["10.0.0.3/32".to_owned(), "10.9.0.0/16".to_owned()]);
    assert_eq!(sets_of(TWO_PORTS, &["p-1"], EACH), [db.clone()].into());
    let both = sets_of(TWO_PORTS, &["p-1", "p-2"], EACH);
    assert_eq!(both["NIPv4db"], db.1, "everything would open it");
    let [(name, halves)] = &both.iter().filter(|(name, _)| *name != "NIPv4db").collect::<Vec<_>>()[..] else {
        panic!("{both:?}")
    };
    assert!(name.starts_with("NIPv6all~"), "{name}");
    assert_eq!(halves, &&["::/1", "8000::/1"].map(str::to_owned).to_vec());
}

#[test]
fn a_trusted_port_is_a_member_and_names_nothing() {
    let text =
        TWO_PORTS.replace("security_groups: [web]}", "security_groups: [web], port_security_enabled: false}");
    assert_eq!(sets_of(&text, &["p-1"], EACH), BTreeMap::new());
}

#[derive(Clone, Debug)]
enum Step {
    /// What the three groups' rules name, what the two address groups hold, which groups and addresses the three ports have.
    Policy(Policy),
    Bind(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        policy().prop_map(Step::Policy),
        (0u8..4, any::<bool>()).prop_map(|(port, is)| Step::Bind(port, is))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn history_does_not_matter(steps in proptest::collection::vec(step(), 1..12), which in 0usize..3) {
        let style = [EACH, FEWEST, APART][which];
        let mut sets = style();
        let mut kernel = Kernel::default();
        let (mut policy, mut local) = (Policy::default(), BTreeSet::new());
        for step in steps {
            match step {
                Step::Policy(next) => {
                    sets.apply_policy(&Policy::diff(&policy, &next));
                    policy = next;
                }
                Step::Bind(port, is_local) => {
                    let port: PortId = format!("p{port}").as_str().into();
                    sets.bind(&port, is_local);
                    if is_local { local.insert(port); } else { local.remove(&port); }
                }
            }
            kernel.apply(sets.take());
            prop_assert_eq!(&kernel, &cold(&policy, &local, style));
            for other in [EACH, FEWEST, APART] {
                prop_assert_eq!(kernel.aggregated(), cold(&policy, &local, other).aggregated());
            }
            prop_assert!(which == 2 || kernel.has_halves_only());
            prop_assert!(which == 0 || kernel.has_no_overlaps());
            for group in policy.groups.keys() {
                let remote = Remote::Group(group.clone());
                let name = sets.set_of(&remote, Ethertype::Ipv4);
                prop_assert!(name.is_none_or(|name| kernel.0.contains_key(name)));
            }
        }
    }
}

#[test]
fn a_member_costs_its_own_operations_whatever_the_size_of_its_set() {
    for size in [10u32, 10_000] {
        let mut policy = parsed(TWO_PORTS);
        let template = Arc::clone(&policy.ports[&"p-2".into()]);
        let member = |number: u32| {
            let mut port = policy::Port::clone(&template);
            port.id = format!("m-{number}").as_str().into();
            port.fixed_ips = [std::net::Ipv4Addr::from_bits(0x0b00_0000 + 2 * number).into()].into();
            port.allowed_address_pairs.clear();
            (port.id.clone(), Arc::new(port))
        };
        policy.ports.extend((0..size).map(member));
        for style in [EACH, FEWEST, APART] {
            let mut sets = style();
            sets.bind(&"p-1".into(), true);
            sets.apply_policy(&Policy::diff(&Policy::default(), &policy));
            sets.take();
            let mut more = policy.clone();
            more.ports.extend([member(size)]);
            sets.apply_policy(&Policy::diff(&policy, &more));
            assert_eq!(sets.take().len(), 1);
            sets.apply_policy(&Policy::diff(&more, &policy));
            assert_eq!(sets.take().len(), 1);
        }
    }
}
