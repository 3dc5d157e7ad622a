//! Anything may happen at any time, between any two messages: whatever is under way waits in its line until a step lets it come.
//! At every instant frames meet what a policy on the way says. Whatever happened, once the world behaves again the switch is as
//! the policy says, and as if nothing had happened before.
//!
//! `SGFLOW_SIMULATIONS` says how many worlds there shall be, `SGFLOW_SIMULATIONS_FIRST` from which on: a world is told by its
//! number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use pipeline::{FlowKind, Zone, decode_cookie};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use verify::Meaning;

use super::judge::Judge;
use super::world::{Line, Lines, World, interface_id};
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
    /// The switch is restarted with its flows; whether its tracker stays.
    Saved(bool),
    /// They are put back.
    Restored,
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
    /// Or those of the rules.
    NoRules,
    Stolen,
    /// The process ends, at once, and another begins.
    Restart,
    Time,
    /// The next of a line comes, at most so many together.
    Next(Line, usize),
    /// Everything that is under way comes.
    Drain,
    /// Frames go between all ports.
    Traffic,
}

/// What costs neither flows nor connections: nothing may be lost, whatever comes when.
fn gentle_step() -> BoxedStrategy<Step> {
    let port = 1..=PORTS;
    prop_oneof![
        4 => (0u8..16, any::<bool>()).prop_map(|(ports, rule)| Step::Policy(ports, rule)),
        2 => (port.clone(), port.clone()).prop_map(|(interface, id)| Step::Plug(interface, id)),
        2 => port.clone().prop_map(|number| Step::Plug(number, number)),
        2 => port.clone().prop_map(Step::Unplug),
        1 => (port.clone(), port.clone()).prop_map(|(interface, id)| Step::Rename(interface, id)),
        1 => (port, any::<bool>()).prop_map(|(interface, there)| Step::Device(interface, there)),
        1 => Just(Step::Cut),
        1 => any::<bool>().prop_map(Step::LoseAnswer),
        1 => Just(Step::LateBundle),
        1 => Just(Step::DatabaseAway),
        1 => Just(Step::DatabaseBack),
        1 => any::<bool>().prop_map(Step::RefuseWrites),
        1 => Just(Step::Stolen),
        1 => Just(Step::Restart),
        2 => Just(Step::Time),
        24 => (line(), 1usize..4).prop_map(|(line, at_most)| Step::Next(line, at_most)),
        4 => Just(Step::Drain),
        3 => Just(Step::Traffic),
    ]
    .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let port = 1..=PORTS;
    prop_oneof![
        40 => gentle_step(),
        1 => (port.clone(), 4097u16..4102).prop_map(|(interface, zone)| Step::Zone(interface, zone)),
        1 => Just(Step::NoMark),
        1 => any::<bool>().prop_map(Step::SwitchGone),
        1 => any::<bool>().prop_map(Step::Saved),
        1 => Just(Step::Restored),
        2 => prop::option::of(port).prop_map(Step::Refuse),
        1 => any::<bool>().prop_map(Step::FailMode),
        1 => (1usize..5).prop_map(Step::Vandal),
    ]
    .boxed()
}

/// All ports are there and talk to each other.
fn all_there() -> Vec<Step> {
    let plugs = (1..=PORTS).map(|number| Step::Plug(number, number));
    [Step::Policy(15, true)].into_iter().chain(plugs).chain([Step::Drain, Step::Traffic]).collect()
}

/// In most worlds all ports are there when something begins to happen.
fn steps() -> BoxedStrategy<Vec<Step>> {
    let begun = prop_oneof![1 => Just(Vec::new()), 3 => Just(all_there())];
    let then = prop_oneof![vec(gentle_step(), 1..100), vec(step(), 1..100)];
    (begun, then).prop_map(|(begun, then)| [begun, then].concat()).boxed()
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        Just(Line::Policy),
        Just(Line::FromDatabase),
        Just(Line::FromSwitch),
        Just(Line::ToDatabase),
        Just(Line::ToSwitch),
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
        world.lines = Some(Lines::default());
        world.judge = Some(Judge::new(PORTS));
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
                world.torn();
                world.set_interface(interface, |row| row.zone = Some(Zone(zone)));
            }
            Step::NoMark if !self.away => {
                let mut bridge = world.bridge.clone().expect("a bridge");
                bridge.generation = None;
                world.torn();
                world.set_bridge(Some(bridge));
            }
            Step::Cut => world.cut(),
            Step::SwitchGone(gone) => {
                if gone && !world.faults.switch_gone {
                    world.switch_ends();
                }
                world.faults.switch_gone = gone;
            }
            // Who restarts a switch does so with the database there.
            Step::Saved(tracker_stays) if !self.away => world.switch_is_saved(tracker_stays),
            Step::Restored if !self.away => world.switch_is_restored(),
            Step::LoseAnswer(applied) => world.faults.lose_bundle_answer = Some(applied),
            Step::LateBundle => world.faults.late_bundle = true,
            Step::Refuse(port) => {
                let refuse = |port| (format!("fa:16:3e:00:00:0{port}"), "OFPFMFC_TABLE_FULL");
                world.torn();
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
                world.others_delete(|_| {
                    number += 1;
                    number % nth == 0
                });
            }
            Step::NoRules => world.others_delete(|flow| {
                decode_cookie(flow.cookie).is_some_and(|(kind, _)| kind == FlowKind::Rule)
            }),
            Step::Stolen if !self.away => {
                world.give(vec![Event::Database(DatabaseEvent::Stolen)]);
                world.give(vec![Event::Database(DatabaseEvent::Locked)]);
            }
            Step::Restart if !self.away => world.restart(),
            Step::Time => world.pass_time(2),
            Step::Next(line, at_most) => _ = world.next_of(line, at_most),
            Step::Drain => world.drain(),
            Step::Traffic => world.traffic(),
            _ => {}
        }
    }

    /// Nothing fails any more.
    fn calm(&mut self) {
        self.take(Step::DatabaseBack);
        self.take(Step::Restored);
        self.take(Step::FailMode(true));
        self.world.faults = super::world::Faults::default();
        self.wait();
        // What was refused is tried again with a new connection.
        self.world.cut();
        self.wait();
        self.world.traffic();
    }

    fn wait(&mut self) {
        for _ in 0..20 {
            self.world.drain();
            self.world.pass_time(1);
        }
        self.world.drain();
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

impl Simulation {
    /// What every run has to come to; gives the number of tables that were looked at.
    fn run(steps: Vec<Step>) -> Result<usize, TestCaseError> {
        let mut simulation = Simulation::new();
        simulation.take(Step::Policy(3, true));
        for (number, step) in steps.into_iter().enumerate() {
            simulation.take(step.clone());
            if let Some(broken) = &simulation.world.broken {
                return Err(TestCaseError::fail(format!("step {number}, {step:?}: {broken}")));
            }
        }
        simulation.calm();
        prop_assert_eq!(&simulation.world.broken, &None, "when all is well again");
        simulation.check()?;
        // A host where none of it happened is no other, whatever its numbers.
        let meaning =
            |world: &World| Meaning::of(world.flows.values()).expect("numbers that stand for something");
        let lines = meaning(&simulation.world).differences(&meaning(&simulation.cold()));
        prop_assert!(lines.is_empty(), "{}", lines.join("\n"));
        // And a restart finds it so.
        let before = simulation.world.flows.clone();
        simulation.world.restart();
        simulation.wait();
        prop_assert_eq!(simulation.world.engine.status().sent.flow_mods(), 0);
        prop_assert!(simulation.world.flows == before);
        Ok(simulation.world.judge.map_or(0, |judge| judge.looked_at))
    }
}

#[test]
fn at_every_instant_frames_meet_a_policy_on_the_way() {
    let of_environment = |name, otherwise| {
        std::env::var(name).map_or(otherwise, |value: String| value.parse::<u64>().expect("a number"))
    };
    let first = of_environment("SGFLOW_SIMULATIONS_FIRST", 0);
    let count = of_environment("SGFLOW_SIMULATIONS", 200);
    let begun = Instant::now();
    let looked_at = std::cell::Cell::new(0);
    let strategy = steps();
    for number in first..first + count {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        let config = Config { failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, chance);
        let tree = strategy.new_tree(&mut runner).expect("steps");
        let done = runner.run_one(tree, |steps| {
            looked_at.set(looked_at.get() + Simulation::run(steps)?);
            Ok(())
        });
        if let Err(error) = done {
            panic!("world {number}: {error}");
        }
    }
    let (looked_at, time) = (looked_at.get(), begun.elapsed().as_secs_f32());
    println!("{count} worlds from {first} on, {looked_at} tables looked at, {time:.1} s");
}

/// Ports that talk to each other, and what is done to them.
fn all_is_well_after(steps: impl IntoIterator<Item = Step>) {
    if let Err(error) = Simulation::run(all_there().into_iter().chain(steps).collect()) {
        panic!("{error}");
    }
}

/// World 1147. The bundle took a rule away, with a generation that its connections do not have; who had read back before goes on
/// with the generation that was in force then, and does not see the rule go.
#[test]
fn a_bundle_that_comes_after_the_read_back_brings_no_connections_back() {
    all_is_well_after([
        Step::DatabaseAway,
        Step::LateBundle,
        Step::LoseAnswer(false),
        Step::Policy(5, false),
        Step::Drain,
    ]);
}

/// World 6533. What is read back first is not compared for want of a generation, and gone when it is read again; the rule that
/// it had goes meanwhile. Its connections carry a generation that is known from the first reading.
#[test]
fn flows_that_go_before_they_were_compared_bring_no_connections_back() {
    all_is_well_after([
        Step::RefuseWrites(true),
        Step::Stolen,
        Step::Drain,
        Step::Policy(5, false),
        Step::FailMode(false),
    ]);
}

/// The same, where not all of them go.
#[test]
fn a_rule_that_goes_before_it_was_compared_brings_no_connections_back() {
    all_is_well_after([
        Step::RefuseWrites(true),
        Step::Stolen,
        Step::Drain,
        Step::Policy(5, false),
        Step::NoRules,
        Step::Drain,
    ]);
}
