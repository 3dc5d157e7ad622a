//! The law on a real Open vSwitch: random frames, judged by random policies that change on the way, go in at ports of the
//! switch, and come out where the evaluator says and nowhere else, byte for byte. Needs root.
//!
//! Worlds and steps are those of `crates/verify/tests/world`; every verdict is that of one frame. Many worlds are played
//! side by side, each on a bridge of its own. `SGFLOW_VERDICTS` says how many verdicts there shall be at least,
//! `SGFLOW_VERDICTS_SEED` of which worlds, `SGFLOW_VERDICTS_FIRST_WORLD` from which on: a world is told by the seed and its
//! number.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

mod script;
mod switch;
#[path = "../../../crates/verify/tests/world/mod.rs"]
mod world;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use pipeline::layout::{classify, deliver, egress_base, egress_source, network};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rust_openflow::{Action, FlowMod};

use script::{Script, Trial};
use switch::{Sightings, Switch};
use world::host::Fate;
use world::play::{self, Step, play};
use world::policies::World;

/// Worlds that are played at once: the more there are, the fewer times is waited for the switch; but a bridge takes a
/// while to make.
const FEWEST_BRIDGES: usize = 12;
const MOST_BRIDGES: usize = 32;
const VERDICTS_A_BRIDGE: u64 = 200;

/// The tracker forgets a connection of which it has seen one packet after 30 seconds (`lib/conntrack-tp.c`, 3.1). Verdicts
/// that took a starved machine nearly so long count for nothing.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(25);

/// Disagreements that are reduced and told before the search ends.
const TOLD: usize = 5;

/// A world, and what happens in it.
type Scenario = (World, Vec<Step>);

#[test]
fn a_real_switch_does_what_the_evaluator_says() {
    let seed = of_environment("SGFLOW_VERDICTS_SEED", 1);
    let wanted = of_environment("SGFLOW_VERDICTS", 3000);
    let first = of_environment("SGFLOW_VERDICTS_FIRST_WORLD", 0);
    let mut number = first;
    let bridges = usize::try_from(wanted / VERDICTS_A_BRIDGE).unwrap().clamp(FEWEST_BRIDGES, MOST_BRIDGES);
    let mut switch = Switch::start(bridges);
    let (mut verdicts, mut admitted, mut told) = (0, 0, Vec::new());
    while verdicts < wanted && told.len() < TOLD {
        let scenarios: Vec<Scenario> =
            (number..).take(bridges).map(|number| scenario(seed, number)).collect();
        let begun = Instant::now();
        let judged = judged(&mut switch, &scenarios);
        let is_too_slow = begun.elapsed() > FORGOTTEN_AFTER;
        for ((scenario, number), judged) in
            scenarios.iter().zip(number..).zip(judged).filter(|_| !is_too_slow)
        {
            verdicts += judged.verdicts;
            admitted += judged.admitted;
            if let Some(difference) = judged.differences.first() {
                told.push(format!(
                    "seed {seed}, world {number}: {difference}\n{}",
                    reduced(&mut switch, scenario)
                ));
                eprintln!("{}", told.last().unwrap());
            }
        }
        number += bridges as u64;
        let sum =
            format!("{verdicts} verdicts in {} worlds, {admitted} frames reached somebody", number - first);
        println!("seed {seed}: {sum}, {} disagreements", told.len());
    }
    assert!(admitted > verdicts / 10, "hardly a frame reached anybody");
    assert!(told.is_empty(), "{}", told.join("\n\n"));
}

/// What is compared is worth something only if one wrong flow among hundreds is seen.
#[test]
fn one_wrong_flow_is_found() {
    let mut switch = Switch::start(FEWEST_BRIDGES);
    let scenarios: Vec<Scenario> = (0..).take(FEWEST_BRIDGES).map(|number| scenario(1, number)).collect();
    let mut found = |fault: fn(&mut Vec<FlowMod>)| {
        switch.clear();
        let mut scripts = scripts(&mut switch, &scenarios);
        for script in &mut scripts {
            let (changes, _) = &mut script.phases[0];
            fault(changes);
        }
        let sightings = switch.play(&scripts);
        scripts.iter().zip(&sightings).filter(|(script, seen)| !differences(script, seen).is_empty()).count()
    };
    assert_eq!(found(|_| {}), 0, "worlds that differ without a fault");
    for (name, fault) in FAULTS {
        assert_ne!(found(fault), 0, "worlds that differ: {name}");
    }
}

/// What may be done to the flows of a world before they are sent.
type Fault = fn(&mut Vec<FlowMod>);
const FAULTS: [(&str, Fault); 4] = [
    ("a port is lost", |changes| {
        if let Some(port) = position(changes, classify::TABLE, classify::PORT) {
            changes.remove(port);
        }
    }),
    ("an address of a guest is lost", |changes| {
        if let Some(pair) = position(changes, egress_source::TABLE, egress_source::PAIR) {
            changes.remove(pair);
        }
    }),
    ("who is not the sender passes", |changes| {
        if let Some(drop) = position(changes, egress_base::TABLE, egress_base::SPOOFED_MAC) {
            changes[drop].flow.actions = vec![Action::resubmit(egress_source::TABLE)];
        }
    }),
    ("a guest's frames go to the network", |changes| {
        if let Some(receiver) = position(changes, deliver::TABLE, deliver::MAC) {
            changes[receiver].flow.actions = vec![Action::resubmit(network::TABLE)];
        }
    }),
];

/// The flow of a slot that matches most, the first of several. A world may have none.
fn position(changes: &[FlowMod], table: u8, priority: u16) -> Option<usize> {
    let is_wanted = |change: &FlowMod| (change.flow.table, change.flow.priority) == (table, priority);
    let wanted = (0..changes.len()).filter(|position| is_wanted(&changes[*position]));
    wanted.min_by_key(|position| changes[*position].flow.matches.iter().count())
}

fn scenario(seed: u64, number: u64) -> Scenario {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&number.to_le_bytes());
    let chance = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), chance);
    play::scenario(32..48).new_tree(&mut runner).unwrap().current()
}

/// A scenario on the switch.
struct Judged {
    verdicts: u64,
    /// Frames that somebody got.
    admitted: u64,
    differences: Vec<String>,
}

fn judged(switch: &mut Switch, scenarios: &[Scenario]) -> Vec<Judged> {
    let scripts = scripts(switch, scenarios);
    let sightings = switch.play(&scripts);
    let judged = |(script, sightings): (&Script, &Sightings)| Judged {
        verdicts: sightings.outputs.len() as u64,
        admitted: sightings.outputs.iter().filter(|outputs| !outputs.is_empty()).count() as u64,
        differences: differences(script, sightings),
    };
    scripts.iter().zip(&sightings).map(judged).collect()
}

fn scripts(switch: &mut Switch, scenarios: &[Scenario]) -> Vec<Script> {
    switch.scripts(scenarios, |(world, steps), zone, held| Script::new(world, steps, zone, held))
}

/// What the switch has another opinion of.
fn differences(script: &Script, sightings: &Sightings) -> Vec<String> {
    let mut differences = Vec::new();
    for (trial, seen) in script.trials().zip(&sightings.outputs) {
        let mut seen = seen.clone();
        seen.sort_unstable();
        if !trial.agrees(&seen) {
            let Trial { sent, fate: Fate { outputs, .. }, .. } = trial;
            differences.push(format!("{sent:?}\nevaluator: {outputs:?}\nswitch:    {seen:?}"));
        }
    }
    for (port, bytes) in &sightings.strays {
        differences.push(format!("port {port} got a frame that it should not: {bytes:02x?}"));
    }
    differences
}

/// The scenario without the steps that the difference does not need, in full, and what the interpreter says of it.
fn reduced(switch: &mut Switch, (world, steps): &Scenario) -> String {
    let mut steps = steps.clone();
    let mut differs = |steps: &[Step]| {
        let scenario = (world.clone(), steps.to_vec());
        judged(switch, &[scenario]).remove(0).differences.into_iter().next()
    };
    for position in (0..steps.len()).rev() {
        let mut fewer = steps.clone();
        fewer.remove(position);
        if differs(&fewer).is_some() {
            steps = fewer;
        }
    }
    let mut text = format!("reduced: {}\n", differs(&steps).unwrap_or_else(|| "gone".to_owned()));
    let by_interpreter =
        play(world, &steps).map_or_else(|other| other, |_| "agrees with the evaluator".to_owned());
    write!(text, "interpreter: {by_interpreter}\n{steps:#?}\n{world:#?}").unwrap();
    text
}

fn of_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}
