//! The driver `nftables` and the kernel's tables. Needs root.

mod bed;
mod macs;
mod parts;
mod snapshot;
#[path = "../../../crates/hybrid/tests/support/mod.rs"]
mod support;

use std::net::Ipv4Addr;
use std::sync::Arc;

use agent::engine::Sent;
use hybrid::{Devices, Plug};
use lab::NetNs;
use policy::{Policy, Port};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use bed::Bed;
use snapshot::{Snapshot, generation, nft};

const PORTS: [&str; 3] = ["p0", "p1", "p2"];
/// Something of somebody else's.
const OTHERS: &str =
    "table inet others { set s { type ipv4_addr; elements = { 10.0.0.1 }; }; chain c { counter drop; }; }
table bridge others { chain c { meta mark 1 accept; }; }";

/// As nft(8) lists the tables of others.
fn others(netns: &NetNs) -> [String; 2] {
    ["list table inet others", "list table bridge others"].map(|list| nft(netns, list))
}

/// Random policies, the same each time.
fn policies(count: usize) -> Vec<Policy> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    (0..count).map(|_| support::policy().new_tree(&mut runner).expect("a policy").current()).collect()
}

/// What the kernel would hold if nft(8) made it of what is rendered.
fn rendered(policy: &Policy, found: &Snapshot) -> Snapshot {
    let zones = found.zones();
    let plugs = PORTS.map(|port| {
        let devices = Devices::of_interface(&format!("qvo{port}")).expect("devices");
        // A trusted port has no zone, and needs none.
        let zone = zones.get(&devices.tap()).copied().unwrap_or_default();
        (port.into(), Plug { devices, zone })
    });
    let netns = NetNs::new().expect("a namespace");
    nft(&netns, &hybrid::nft::script(policy, plugs, &[0x88cc].into()).0);
    Snapshot::of(&netns)
}

#[track_caller]
fn assert_same(found: &Snapshot, wanted: &Snapshot) {
    for (chain, rules) in &wanted.chains {
        assert_eq!(found.chains.get(chain), Some(rules), "{chain:?}");
    }
    for (set, elements) in &wanted.sets {
        assert_eq!(found.sets.get(set), Some(elements), "{set:?}");
    }
    assert_eq!(found, wanted);
}

#[test]
fn after_any_edits_the_kernel_holds_what_nft_makes_of_what_is_rendered() {
    let mut bed = Bed::start(&PORTS);
    nft(bed.host().netns(), OTHERS);
    let of_others = others(bed.host().netns());
    // The text, once.
    bed.put_in_force(&Policy::default());
    for policy in policies(40) {
        let before = generation(bed.host().netns());
        let sent = bed.put_in_force(&policy);
        assert!(sent.bundles <= 1, "{sent:?}");
        assert_eq!(before + u32::try_from(sent.bundles).expect("small"), generation(bed.host().netns()));
        let found = Snapshot::of(bed.host().netns());
        assert_same(&found, &rendered(&policy, &found));
    }
    assert_eq!(others(bed.host().netns()), of_others);
}

#[test]
fn a_restart_without_a_change_sends_nothing() {
    let mut bed = Bed::start(&PORTS);
    for policy in policies(6) {
        bed.put_in_force(&policy);
        let (before, held) = (generation(bed.host().netns()), Snapshot::of(bed.host().netns()));
        bed.restart();
        assert_eq!(bed.put_in_force(&policy), Sent::default());
        assert_eq!(generation(bed.host().netns()), before);
        assert_eq!(Snapshot::of(bed.host().netns()), held);
    }
}

#[test]
fn what_changed_while_nobody_was_there_is_made_up_for_in_one_transaction() {
    let mut bed = Bed::start(&PORTS);
    for pair in policies(12).chunks(2) {
        bed.put_in_force(&pair[0]);
        bed.restart();
        let before = generation(bed.host().netns());
        let sent = bed.put_in_force(&pair[1]);
        let changes = usize::from(sent != Sent::default());
        assert_eq!(sent.bundles, changes);
        assert_eq!(generation(bed.host().netns()), before + u32::from(changes == 1));
        let found = Snapshot::of(bed.host().netns());
        assert_same(&found, &rendered(&pair[1], &found));
    }
}

const WEB: &str = "
security_groups:
- {id: web, security_group_rules: [
    {id: r1, direction: ingress, ethertype: IPv4, protocol: tcp, port_range_min: 80, port_range_max: 80, remote_group_id: web},
    {id: r2, direction: egress, ethertype: IPv4}]}
ports:
- {id: p0, network_id: n, mac_address: 'fa:16:3e:00:00:01', fixed_ips: [{ip_address: 9.0.0.2}], security_groups: [web]}
- {id: p1, network_id: n, mac_address: 'fa:16:3e:00:00:02', fixed_ips: [{ip_address: 9.0.0.3}], security_groups: [web],
   allowed_address_pairs: [{ip_address: 9.1.0.0/16}]}
- {id: p2, network_id: n, mac_address: 'fa:16:3e:00:00:03', fixed_ips: [{ip_address: 9.0.0.4}], security_groups: [web]}
";

#[test]
fn one_member_more_is_one_element_also_of_a_hundred_thousand() {
    const MEMBERS: u32 = 100_000;
    let mut policy = support::parsed(WEB);
    let template = Arc::clone(&policy.ports[&"p2".into()]);
    let member = |number: u32| {
        let mut port = Port::clone(&template);
        port.id = format!("m-{number}").as_str().into();
        port.fixed_ips = [Ipv4Addr::from_bits(0x0b00_0000 + number).into()].into();
        (port.id.clone(), Arc::new(port))
    };
    policy.ports.extend((0..MEMBERS).map(member));
    let mut bed = Bed::start(&PORTS);
    let netns = |bed: &Bed| generation(bed.host().netns());
    let held = |bed: &Bed| {
        Snapshot::of(bed.host().netns()).sets[&(nftables::Family::Inet, "NIPv4web".to_owned())].3.len()
    };
    let filled = bed.put_in_force(&policy);
    assert_eq!(filled.bundles, 1, "the text, and all that depends on ports at once");
    assert_eq!(held(&bed), MEMBERS as usize + 3);
    let before = netns(&bed);
    policy.ports.extend([member(MEMBERS)]);
    let one = Sent { added: 1, bundles: 1, ..Sent::default() };
    assert_eq!(bed.put_in_force(&policy), one);
    assert_eq!(netns(&bed), before + 1);
    policy.ports.remove(&member(7).0);
    assert_eq!(bed.put_in_force(&policy), Sent { added: 0, deleted: 1, ..one });
    // A rule more is one more rule, for all ports.
    let group = Arc::make_mut(policy.groups.get_mut(&"web".into()).expect("it is there"));
    group.rules.push(policy::Rule { id: "r3".into(), ..group.rules[0].clone() });
    assert_eq!(bed.put_in_force(&policy), Sent { added: 0, modified: 1, ..one });
    assert_eq!(netns(&bed), before + 3);
    assert_eq!(held(&bed), MEMBERS as usize + 3);
    bed.restart();
    assert_eq!(bed.put_in_force(&policy), Sent::default());
    assert_eq!(netns(&bed), before + 3);
}

#[test]
fn what_somebody_else_changes_is_mended() {
    let policy = support::parsed(WEB);
    let mut bed = Bed::start(&PORTS);
    bed.put_in_force(&policy);
    nft(bed.host().netns(), OTHERS);
    let of_others = others(bed.host().netns());
    let held = Snapshot::of(bed.host().netns());
    let listed = nft(bed.host().netns(), "list chain inet sgflow ingress.web");
    let handle = listed.lines().find_map(|line| line.split_once("r1\" # handle ")).expect("a handle").1;
    let drifts = [
        format!(
            "delete rule inet sgflow ingress.web handle {handle}
             delete element inet sgflow NIPv4web {{ 9.0.0.3 }}
             delete element inet sgflow NIPv4web/wide {{ 9.1.0.0/16 }}
             add element inet sgflow NIPv4web {{ 6.6.6.6 }}
             add rule inet sgflow ingress.web accept
             add chain inet sgflow to.nobody"
        ),
        "flush table inet sgflow".to_owned(),
        "delete table inet sgflow\ndelete table bridge sgflow".to_owned(),
    ];
    for drift in drifts {
        nft(bed.host().netns(), &drift);
        assert_ne!(Snapshot::of(bed.host().netns()), held, "{drift}");
        bed.wait_until(&drift, |host| Snapshot::of(host.netns()) == held);
    }
    assert_eq!(others(bed.host().netns()), of_others);
}
