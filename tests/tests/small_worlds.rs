//! Every policy within a bound, each a change of the one before: rendered, followed by the interpreter against the
//! evaluator, proved for all packets, and the same as if it had been there from the beginning. `tests::small` says which
//! worlds there are. For more of them: `SGFLOW_SMALL_WORLDS`, `alike` or `all`, and `SGFLOW_SMALL_WORLDS_PART`, `1/8` the first
//! of eight parts.

mod small_host;

use std::collections::BTreeSet;

use policy::Policy;
use policy::evaluator::Model;
use small_host::{Switch, by_evaluator, model, packet};
use tests::small::between::{Outputs, ofport};
use tests::small::{Bound, LOCAL, Probe, VLAN, World, port_id, probes};
use verify::symbolic::{Joints, LocalPort, Prover};
use verify::{Connections, Meaning, Tables, run};

/// More flows than a small world has.
const FLOWS: usize = 4096;
/// So many proofs remember one another.
const PROOFS: usize = 200;
const JOINTS: Joints = Joints { hook: 0, deliver: 110, ingress: 120, output: 127 };

/// The host twice, with its connections: by the evaluator, and by the flows.
struct Twice {
    model: Model,
    tables: Tables,
    connections: Connections,
}

impl Twice {
    fn new(policy: &Policy, tables: Tables) -> Self {
        Twice { model: model(policy), tables, connections: Connections::default() }
    }

    fn by_flows(&mut self, probe: &Probe) -> Outputs {
        let outcome = run(&self.tables, packet(probe), &mut self.connections);
        let outcome = outcome.unwrap_or_else(|error| panic!("{probe:?}: {error}"));
        outcome.ports().map(|port| port.0).collect()
    }

    /// Where the frame comes out; both must say the same.
    fn send(&mut self, probe: &Probe) -> Result<Outputs, String> {
        let (wanted, seen) = (by_evaluator(&mut self.model, probe), self.by_flows(probe));
        if wanted == seen {
            Ok(wanted)
        } else {
            Err(format!("{probe:?}: evaluator {wanted:?}, flows {seen:?}"))
        }
    }

    /// The frame, and what comes back if it arrives or `is_open` says so. Whether it arrived.
    fn converse(&mut self, probe: &Probe, is_open: bool) -> Result<bool, String> {
        let arrived = !self.send(probe)?.is_empty();
        if let Some(reply) = probe.reply().filter(|_| arrived || is_open) {
            self.send(&reply)?;
        }
        Ok(arrived)
    }
}

/// What was there before: the host, and its conversations, each with whether it came about.
struct Before {
    twice: Twice,
    conversations: Vec<(Probe, bool)>,
}

/// Counts of what was looked at.
#[derive(Default, Debug, PartialEq, Eq)]
struct Seen {
    worlds: usize,
    frames: usize,
    /// Frames that began something, or passed at once.
    arrived: usize,
}

fn prove(prover: &Prover, tables: &Tables, policy: &Policy) -> Result<(), String> {
    let port = |port| LocalPort { id: port_id(port), ofport: ofport(port), vlan: VLAN };
    let ports: Vec<LocalPort> = (0..LOCAL).map(port).collect();
    let found = prover.differences(tables, JOINTS, policy, &BTreeSet::new(), &ports);
    let found = found.map_err(|error| error.to_string())?;
    let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
    if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
}

/// Puts the world in force after the one before, and looks at it from every side.
fn look_at(
    world: &World,
    switch: &mut Switch,
    prover: &Prover,
    before: &mut Option<Before>,
    seen: &mut Seen,
) -> Result<(), String> {
    let policy = world.policy();
    switch.put_in_force(&policy);
    let mut cold = Switch::new();
    cold.put_in_force(&policy);
    let meaning =
        |switch: &Switch| Meaning::of(switch.flows.values()).unwrap_or_else(|error| panic!("{error}"));
    let lines = meaning(switch).differences(&meaning(&cold));
    if !lines.is_empty() {
        return Err(format!("not as from the beginning:\n{}", lines.join("\n")));
    }
    let tables = switch.tables();
    prove(prover, &tables, &policy)?;
    if let Some(Before { mut twice, conversations }) = before.take() {
        twice.model.set_policy(&policy);
        twice.tables = tables.clone();
        for (probe, arrived) in conversations {
            twice.converse(&probe.again(), arrived).map_err(|error| format!("after the change: {error}"))?;
        }
    }
    let mut twice = Twice::new(&policy, tables);
    let mut conversations = Vec::new();
    for probe in probes(world) {
        let arrived = twice.converse(&probe, false)?;
        seen.arrived += usize::from(arrived);
        conversations.push((probe, arrived));
    }
    seen.worlds += 1;
    seen.frames += conversations.len();
    *before = Some(Before { twice, conversations });
    Ok(())
}

/// Goes through all worlds of a bound, which are so many, or a part of them that is told from outside.
fn look_at_all(bound: &Bound, count: usize) {
    assert_eq!(bound.worlds().count(), count);
    let part = std::env::var("SGFLOW_SMALL_WORLDS_PART").unwrap_or_else(|_| "1/1".to_owned());
    let numbers: Vec<usize> = part.split('/').map(|number| number.parse().expect("PART/PARTS")).collect();
    let [part, parts] = numbers[..] else { panic!("SGFLOW_SMALL_WORLDS_PART is PART/PARTS") };
    let (first, end) = (count * (part - 1) / parts, count * part / parts);
    let (mut switch, mut before, mut seen) = (Switch::new(), None, Seen::default());
    let mut prover = Prover::new(FLOWS);
    for (n, world) in bound.worlds().take(end).skip(first).enumerate() {
        if n % PROOFS == 0 {
            prover = Prover::new(FLOWS);
        }
        if let Err(difference) = look_at(&world, &mut switch, &prover, &mut before, &mut seen) {
            panic!("{world:?}\n{:#?}\n{difference}", world.policy());
        }
    }
    assert_eq!(seen.worlds, end - first);
    // A walk in which nothing ever arrives would look at nothing.
    assert!(seen.arrived > seen.worlds, "{seen:?}");
    println!("{seen:?}");
}

/// The world without rules, and 192 places for one, in a group that is stateful or not; 16 ways in which two ports carry
/// groups. A and B can be exchanged without a difference where there is no rule and each port carries none or both.
#[test]
fn every_world_of_one_rule_is_its_policy() {
    look_at_all(&Bound::one_rule(), ((1 + 192 * 2) * 16 + 4) / 2);
}

/// Of n rules n(n+1)/2 pairs are in A, as many in B, and n² in one each, for 2 directions and 2 ethertypes; 2 ways to be
/// stateful or 4; one way to carry them, since the other one is its exchange.
#[test]
fn every_world_of_two_rules_is_its_policy() {
    let pairs = |n: usize| n * (n + 1) * 2 + n * n * 4;
    match std::env::var("SGFLOW_SMALL_WORLDS").as_deref() {
        Err(_) => look_at_all(&Bound::two_ranges(), pairs(12) * 4),
        Ok("alike") => look_at_all(&Bound::two_rules_alike(), pairs(24) * 4),
        // 16 ways to carry; the same where both hold one and the same rule and each port carries none or both.
        Ok("all") => look_at_all(&Bound::two_rules(), (pairs(96) * 16 + 96 * 2 * 4) / 2),
        Ok(other) => panic!("SGFLOW_SMALL_WORLDS={other}: neither alike nor all"),
    }
}
