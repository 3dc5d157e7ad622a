//! Anything may happen at any time. Whatever did, once the world behaves again the switch is as the policy says, and as if
//! nothing had happened before.

use std::collections::{BTreeMap, BTreeSet};

use pipeline::Zone;
use proptest::prelude::*;
use rust_openflow::{Flow, FlowKey};
use verify::Meaning;

use super::world::{World, interface_id};
use crate::engine::{DatabaseEvent, Event};

/// Ports and interfaces are numbered alike, and few, so that steps meet.
const PORTS: u16 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// The policy has these ports (a bit each), with one rule more or less.
    Policy(u8, bool),
    /// An interface for a port; its own or another's.
    Plug(u16, u16),
    Unplug(u16),
    /// Another port at the same interface.
    Rename(u16, u16),
    /// The switch opens or loses the device.
    Device(u16, bool),
    /// Somebody else writes a zone.
    Zone(u16, u16),
    /// Somebody else forgets the mark.
    NoMark,
    Cut,
    /// The switch ends and comes back, empty.
    SwitchGone(bool),
    LoseAnswer(bool),
    LateBundle,
    /// The switch refuses what is about this port's MAC, or nothing any more.
    Refuse(Option<u16>),
    DatabaseAway,
    DatabaseBack,
    RefuseWrites(bool),
    /// Somebody else makes the bridge secure, or not.
    FailMode(bool),
    /// Somebody else deletes one flow in so many.
    Vandal(usize),
    Stolen,
    Restart,
    Time,
}

fn step() -> impl Strategy<Value = Step> {
    let port = 1..=PORTS;
    prop_oneof![
        4 => (0u8..16, any::<bool>()).prop_map(|(ports, rule)| Step::Policy(ports, rule)),
        4 => (port.clone(), port.clone()).prop_map(|(interface, id)| Step::Plug(interface, id)),
        2 => port.clone().prop_map(Step::Unplug),
        2 => (port.clone(), port.clone()).prop_map(|(interface, id)| Step::Rename(interface, id)),
        1 => (port.clone(), any::<bool>()).prop_map(|(interface, there)| Step::Device(interface, there)),
        1 => (port.clone(), 4097u16..4102).prop_map(|(interface, zone)| Step::Zone(interface, zone)),
        1 => Just(Step::NoMark),
        1 => Just(Step::Cut),
        1 => any::<bool>().prop_map(Step::SwitchGone),
        1 => any::<bool>().prop_map(Step::LoseAnswer),
        1 => Just(Step::LateBundle),
        2 => prop::option::of(port).prop_map(Step::Refuse),
        1 => Just(Step::DatabaseAway),
        1 => Just(Step::DatabaseBack),
        1 => any::<bool>().prop_map(Step::RefuseWrites),
        1 => any::<bool>().prop_map(Step::FailMode),
        1 => (1usize..5).prop_map(Step::Vandal),
        1 => Just(Step::Stolen),
        1 => Just(Step::Restart),
        2 => Just(Step::Time),
    ]
}

fn document(ports: u8, rule: bool) -> String {
    let mut text = String::from(
        "security_groups:\n- {id: g, security_group_rules: [\n    {id: e, direction: egress, ethertype: IPv4}",
    );
    if rule {
        text += ",\n    {id: i, direction: ingress, ethertype: IPv4, remote_group_id: g}";
    }
    text += "]}\n- {id: h, security_group_rules: [{id: j, direction: egress, ethertype: IPv6, remote_group_id: h}]}\nports:\n";
    // Where the rule is, half of the ports are in another set.
    for port in (1..=PORTS).filter(|port| ports & (1 << (port - 1)) != 0) {
        let groups = if rule && port % 2 == 0 { "g, h" } else { "g" };
        text += &format!(
            "- {{id: p-{port}, network_id: n, mac_address: \"fa:16:3e:00:00:0{port}\", \
             fixed_ips: [{{ip_address: 10.0.0.{port}}}], security_groups: [{groups}]}}\n"
        );
    }
    if ports == 0 { text.replace("ports:\n", "ports: []\n") } else { text }
}

/// The world, and what of it the steps need to know.
struct Simulation {
    world: World,
    away: bool,
    plugged: BTreeMap<u16, (u16, bool)>,
    policy_ports: u8,
}

impl Simulation {
    fn new() -> Self {
        let mut world = World::new(World::options());
        world.connect_database();
        Simulation { world, away: false, plugged: BTreeMap::new(), policy_ports: 0 }
    }

    fn take(&mut self, step: Step) {
        let world = &mut self.world;
        match step {
            Step::Policy(ports, rule) => {
                self.policy_ports = ports;
                world.document(&document(ports, rule));
            }
            Step::Plug(interface, port) if !self.away && !self.plugged.contains_key(&interface) => {
                self.plugged.insert(interface, (port, true));
                world.plug(interface, &format!("p-{port}"));
            }
            Step::Unplug(interface) if !self.away && self.plugged.remove(&interface).is_some() => {
                world.unplug(interface);
            }
            Step::Rename(interface, port) if !self.away => {
                if let Some((id, _)) = self.plugged.get_mut(&interface) {
                    *id = port;
                    world.set_interface(interface, |row| {
                        row.iface_id = Some(format!("p-{port}").as_str().into())
                    });
                }
            }
            Step::Device(interface, there) if !self.away => {
                if let Some((_, is_there)) = self.plugged.get_mut(&interface) {
                    *is_there = there;
                    world.set_interface(interface, |row| {
                        row.ofport = there.then_some(pipeline::OfPort(interface));
                    });
                }
            }
            Step::Zone(interface, zone) if !self.away && self.plugged.contains_key(&interface) => {
                world.set_interface(interface, |row| row.zone = Some(Zone(zone)));
            }
            Step::NoMark if !self.away => {
                let mut bridge = world.bridge.clone().expect("a bridge");
                bridge.generation = None;
                world.set_bridge(Some(bridge));
            }
            Step::Cut => world.cut(),
            Step::SwitchGone(gone) => {
                if gone && !world.faults.switch_gone {
                    world.flows.clear();
                    world.cut();
                }
                world.faults.switch_gone = gone;
            }
            Step::LoseAnswer(applied) => world.faults.lose_bundle_answer = Some(applied),
            Step::LateBundle => world.faults.late_bundle = true,
            Step::Refuse(port) => {
                let refuse = |port| (format!("fa:16:3e:00:00:0{port}"), "OFPFMFC_TABLE_FULL");
                world.faults.refused = port.into_iter().map(refuse).collect();
            }
            Step::DatabaseAway if !self.away => {
                self.away = true;
                world.give(vec![Event::Database(DatabaseEvent::Lost { reason: "away".into() })]);
            }
            Step::DatabaseBack if self.away => {
                self.away = false;
                world.connect_database();
            }
            Step::RefuseWrites(refused) => world.faults.write_refused = refused,
            Step::FailMode(secure) if !self.away => {
                world.set_fail_mode(if secure { "secure" } else { "standalone" });
            }
            Step::Vandal(nth) => {
                let mut number = 0;
                let delete = |_: &FlowKey, _: &mut Flow| {
                    number += 1;
                    number % nth != 0
                };
                let told = world.others_change(|flows| flows.retain(delete));
                world.give(told.into_iter().collect());
            }
            Step::Stolen if !self.away => {
                world.give(vec![Event::Database(DatabaseEvent::Stolen)]);
                world.give(vec![Event::Database(DatabaseEvent::Locked)]);
            }
            Step::Restart if !self.away => world.restart(),
            Step::Time => world.pass_time(2),
            _ => {}
        }
    }

    /// Nothing fails any more.
    fn calm(&mut self) {
        self.take(Step::DatabaseBack);
        self.take(Step::FailMode(true));
        self.world.faults = super::world::Faults::default();
        self.world.pass_time(20);
        // What was refused is tried again with a new connection.
        self.world.cut();
        self.world.pass_time(20);
    }

    /// A host where nothing ever happened: everything that is there now was there when it began.
    fn cold(&self) -> World {
        let mut world = World::new(World::options());
        for (interface, (port, there)) in &self.plugged {
            world.plug(*interface, &format!("p-{port}"));
            world.set_interface(*interface, |row| row.ofport = there.then_some(pipeline::OfPort(*interface)));
        }
        world.connect_database();
        world.set_policy(self.world.policy.clone());
        world.pass_time(20);
        world
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let world = &self.world;
        prop_assert_eq!(world.engine.waiting(), None);
        prop_assert_eq!(world.log.last().map(String::as_str), Some("settled"));
        world.assert_converged();
        let there = || self.plugged.iter().filter(|(_, (_, there))| *there);
        for (interface, (port, _)) in there() {
            let claims = there().filter(|(_, (other, _))| other == port).count();
            let known = self.policy_ports & (1 << (port - 1)) != 0;
            prop_assert_eq!(world.is_open(*interface), known && claims == 1, "interface {}", interface);
        }
        let zones: Vec<Zone> = self.plugged.keys().filter_map(|interface| world.zone(*interface)).collect();
        let open: Vec<u16> =
            (1..=PORTS).filter(|number| world.interfaces.contains_key(&interface_id(*number))).collect();
        prop_assert!(open.iter().all(|number| !world.is_open(*number) || world.zone(*number).is_some()));
        let used: Vec<Zone> = open
            .iter()
            .filter(|number| world.is_open(**number))
            .filter_map(|number| world.zone(*number))
            .collect();
        for number in open.iter().filter(|number| world.is_open(**number)) {
            let row = &world.interfaces[&interface_id(*number)];
            prop_assert_eq!(&row.zone_port, &row.iface_id, "interface {}", number);
        }
        prop_assert_eq!(used.iter().collect::<BTreeSet<_>>().len(), used.len(), "zones {:?}", zones);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_switch_ends_up_as_the_policy_says(steps in proptest::collection::vec(step(), 1..40)) {
        let mut simulation = Simulation::new();
        simulation.take(Step::Policy(3, true));
        for step in steps {
            simulation.take(step);
        }
        simulation.calm();
        simulation.check()?;
        // A host where none of it happened is no other, whatever its numbers.
        let meaning = |world: &World| Meaning::of(world.flows.values()).expect("numbers that stand for something");
        let lines = meaning(&simulation.world).differences(&meaning(&simulation.cold()));
        prop_assert!(lines.is_empty(), "{}", lines.join("\n"));
        // And a restart finds it so.
        let before = simulation.world.flows.clone();
        simulation.world.restart();
        simulation.world.pass_time(5);
        prop_assert_eq!(simulation.world.engine.status().sent.flow_mods(), 0);
        prop_assert!(simulation.world.flows == before);
    }
}
