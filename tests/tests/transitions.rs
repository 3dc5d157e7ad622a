//! "At no instant, on the way from the old to the new policy, is a frame accepted that both refuse, or refused that both
//! accept" (semantics, "Change"), in small worlds: `tests::small` has them.
//!
//! A frame goes through the switch in several looks, the first one and one after each pass through the tracker. While the
//! caches follow the tables, each look may be by any of the tables that there were: a frame that was on its way stays with
//! what it met first, and what is cached for one look knows nothing of the other. So every mix is tried, for the first frame of
//! a connection and for both directions of one that was there before; and what a mix leaves behind in the tracker
//! must not outlive the change.

mod small_host;

use std::collections::BTreeSet;

use policy::Policy;
use policy::evaluator::Model;
use rust_openflow::Flow;
use small_host::{Switch, by_evaluator, model, packet};
use tests::small::between::{Outputs, Sides, is_between, judged};
use tests::small::{Bound, From, Probe, World, probes};
use verify::{Connections, Tables, run_across};

/// The table in which packets start.
const FIRST_TABLE: u8 = 0;

/// Policies that follow each other before the caches are revalidated.
struct Change {
    policies: Vec<Policy>,
    /// What the switch holds under each of them.
    tables: Vec<Tables>,
    /// And when what only the caches could have asked for is gone.
    swept: Tables,
}

/// Counts of what was looked at.
#[derive(Default, Debug)]
struct Seen {
    changes: usize,
    frames: usize,
    /// Ways of frames that the tables do not agree on.
    mixes: usize,
}

/// A frame's way through the switch.
struct Way {
    /// Which tables each look was by.
    mix: Vec<usize>,
    outputs: Outputs,
    /// Those after it.
    connections: Connections,
}

/// Sends the frame by these tables, look by look, by the first ones where the mix ends.
fn sent(probe: &Probe, tables: &[Tables], mix: &[usize], connections: &mut Connections) -> (Outputs, usize) {
    let mut looks = 0;
    let choose = || {
        looks += 1;
        &tables[mix.get(looks - 1).copied().unwrap_or(0)]
    };
    let outcome = run_across(choose, FIRST_TABLE, packet(probe), connections);
    let outcome = outcome.unwrap_or_else(|error| panic!("{probe:?}, {mix:?}: {error}"));
    (outcome.ports().map(|port| port.0).collect(), looks)
}

/// The flows that the frame finds if all looks are by these tables.
fn found<'t>(probe: &Probe, tables: &'t Tables, connections: &Connections) -> Vec<Option<&'t Flow>> {
    let outcome = run_across(|| tables, FIRST_TABLE, packet(probe), &mut connections.clone());
    let visits = outcome.unwrap_or_else(|error| panic!("{probe:?}: {error}")).visits;
    visits.iter().map(|visit| visit.flow.map(|id| tables.flow(id))).collect()
}

/// Every way of the frame through these tables, each once; one if they all lead it the same way.
fn every_way(probe: &Probe, tables: &[Tables], connections: &Connections) -> Vec<Way> {
    let ways_of_one = tables.iter().map(|tables| found(probe, tables, connections));
    let is_one_way = ways_of_one.clone().all(|way| way == found(probe, &tables[0], connections));
    let mut ways = Vec::new();
    let mut mix = Vec::new();
    loop {
        let mut connections = connections.clone();
        let (outputs, looks) = sent(probe, tables, &mix, &mut connections);
        mix.resize(looks, 0);
        ways.push(Way { mix: mix.clone(), outputs, connections });
        // The next number whose digits are tables, the first look counting most.
        while mix.last().is_some_and(|last| last + 1 == tables.len()) {
            mix.pop();
        }
        match mix.last_mut() {
            Some(last) if !is_one_way => *last += 1,
            _ => return ways,
        }
    }
}

impl Change {
    fn new(worlds: &[World]) -> Self {
        let policies: Vec<Policy> = worlds.iter().map(World::policy).collect();
        let mut switch = Switch::new();
        let mut tables = Vec::new();
        switch.put_in_force(&policies[0]);
        tables.push(switch.tables());
        for policy in &policies[1..] {
            switch.change(policy);
            tables.push(switch.tables());
        }
        switch.sweep();
        Change { policies, tables, swept: switch.tables() }
    }

    /// The evaluator's host when these frames have come under the first policy, and the frame on the way under each of the
    /// policies, at all ports or where it goes to alone, and then the last one has come.
    fn changed_after(&self, opening: &[Probe], on_the_way: &Probe) -> Vec<Model> {
        let mut models = Vec::new();
        let mut model = model(&self.policies[0]);
        for frame in opening {
            by_evaluator(&mut model, frame);
        }
        for (under, policy) in self.policies.iter().enumerate() {
            model.set_policy(policy);
            for from in BTreeSet::from([on_the_way.from, From::Network]) {
                let mut after = model.clone();
                by_evaluator(&mut after, &Probe { from, ..*on_the_way });
                for policy in &self.policies[under + 1..] {
                    after.set_policy(policy);
                }
                models.push(after);
            }
        }
        models
    }

    /// Whether the outputs are between those of the policies. A frame that goes from a stateless rule to a stateful one may
    /// be held up for a moment where a look by older tables follows one by newer ones (docs/reliability.md).
    fn is_right(&self, way: &Way, by_policies: &[Sides]) -> bool {
        let has_stateless = |policy: &Policy| policy.groups.values().any(|group| !group.stateful);
        let may_be_held_up = !way.mix.is_sorted() && self.policies.iter().any(has_stateless);
        is_between(&way.outputs, by_policies, may_be_held_up)
    }

    /// The first frame of a connection, on the way; then what follows it, when the change is over.
    fn opens(&self, probe: &Probe, seen: &mut Seen) -> Result<(), String> {
        let by_policies: Vec<Sides> =
            self.policies.iter().map(|policy| judged(&mut model(policy), probe)).collect();
        for way in self.ways(probe, &Connections::default(), seen) {
            if !self.is_right(&way, &by_policies) {
                let Way { mix, outputs, .. } = way;
                return Err(format!(
                    "{probe:?} by {mix:?} came out at {outputs:?}, not as in {by_policies:?}"
                ));
            }
            self.is_over(&[], probe, way, [Some(probe.again()), probe.reply()])?;
        }
        Ok(())
    }

    /// A connection that the first policy admitted, on the way, in both directions; then again when the change is over.
    fn goes_on(&self, probe: &Probe, seen: &mut Seen) -> Result<(), String> {
        let mut connections = Connections::default();
        let first = std::slice::from_ref(&self.tables[0]);
        if sent(probe, first, &[], &mut connections).0.is_empty() {
            return Ok(());
        }
        let opening: Vec<Probe> = [Some(*probe), probe.reply()].into_iter().flatten().collect();
        for reply in &opening[1..] {
            sent(reply, first, &[], &mut connections);
        }
        let both_ways = [Some(probe.again()), probe.reply()];
        for next in both_ways.into_iter().flatten() {
            let mut model = model(&self.policies[0]);
            for frame in &opening {
                by_evaluator(&mut model, frame);
            }
            let mut by_policies = Vec::new();
            for policy in &self.policies {
                model.set_policy(policy);
                by_policies.push(judged(&mut model.clone(), &next));
            }
            for way in self.ways(&next, &connections, seen) {
                if !self.is_right(&way, &by_policies) {
                    let Way { mix, outputs, .. } = way;
                    return Err(format!(
                        "{next:?} of {probe:?} by {mix:?} came out at {outputs:?}, not as in {by_policies:?}"
                    ));
                }
                self.is_over(&opening, &next, way, both_ways)?;
            }
        }
        Ok(())
    }

    /// What follows a frame that was on the way meets the last policy alone, whatever became of that one: any of the
    /// policies may have let it pass, to the tracker too.
    fn is_over(
        &self,
        opening: &[Probe],
        on_the_way: &Probe,
        way: Way,
        following: [Option<Probe>; 2],
    ) -> Result<(), String> {
        let mut models = self.changed_after(opening, on_the_way);
        let Way { mix, mut connections, .. } = way;
        for next in following.into_iter().flatten() {
            let wanted: Vec<Sides> = models.iter_mut().map(|model| judged(model, &next)).collect();
            let (outputs, _) = sent(&next, std::slice::from_ref(&self.swept), &[], &mut connections);
            if !is_between(&outputs, &wanted, false) {
                return Err(format!(
                    "after {opening:?} and {on_the_way:?} by {mix:?}: {next:?} came out at {outputs:?}, not as in {wanted:?}"
                ));
            }
        }
        Ok(())
    }

    fn ways(&self, probe: &Probe, connections: &Connections, seen: &mut Seen) -> Vec<Way> {
        let ways = every_way(probe, &self.tables, connections);
        seen.mixes += ways.len() - 1;
        ways
    }
}

/// Goes through changes, which are so many, with the frames that any of their policies tells apart.
fn look_at_all<'w>(changes: impl Iterator<Item = Vec<&'w World>>) -> Seen {
    let mut seen = Seen::default();
    for worlds in changes {
        let worlds: Vec<World> = worlds.into_iter().cloned().collect();
        let change = Change::new(&worlds);
        let mut frames = Vec::new();
        for probe in worlds.iter().flat_map(probes) {
            if !frames.contains(&probe) {
                frames.push(probe);
            }
        }
        for probe in &frames {
            let looked = change.opens(probe, &mut seen).and_then(|()| change.goes_on(probe, &mut seen));
            if let Err(difference) = looked {
                panic!("{difference}\n{:#?}", change.policies);
            }
        }
        seen.changes += 1;
        seen.frames += frames.len();
    }
    println!("{seen:?}");
    // Frames that no change concerns would show nothing.
    assert!(seen.mixes > seen.changes, "{seen:?}");
    seen
}

/// Each world of at most one rule becomes its neighbour.
#[test]
fn a_change_by_one_thing_stops_and_lets_pass_nothing_that_both_policies_do_not() {
    let worlds: Vec<World> = Bound::one_rule().worlds().collect();
    let seen = look_at_all(worlds.windows(2).map(|pair| pair.iter().collect()));
    assert_eq!(seen.changes, worlds.len() - 1);
}

/// Rules that have nothing in common follow each other, and others at once after them, for the same ports. (Who carries what
/// does not change with them: docs/reliability.md says what a frame may meet then.)
#[test]
fn changes_of_all_rules_that_follow_each_other_stop_and_let_pass_nothing_that_no_policy_does() {
    const STRIDE: usize = 41;
    let is_one_of_these = |world: &World| world.groups.iter().all(|group| !group.stateless);
    let worlds: Vec<World> = Bound::two_rules_alike().worlds().filter(is_one_of_these).collect();
    let (all, mut seen) = (worlds.len(), 0);
    for carried in worlds.iter().map(|world| world.carried).collect::<BTreeSet<_>>() {
        let worlds: Vec<&World> = worlds.iter().filter(|world| world.carried == carried).collect();
        let far = |n: usize| worlds[(n * 7919) % worlds.len()];
        let changes = (1..worlds.len()).step_by(STRIDE).map(|n| vec![far(n), worlds[n - 1], worlds[n]]);
        seen += look_at_all(changes).changes;
    }
    assert!(seen >= all / STRIDE);
}
