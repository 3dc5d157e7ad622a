//! Random policies rendered, random frames between changes: the flows do what the evaluator says.
#![allow(clippy::unwrap_used, reason = "helpers of a test that cannot go on")]

#[path = "../../crates/verify/tests/world/mod.rs"]
mod world;

use bolero::check;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use world::play::{play, scenario};

/// Cases in an ordinary run; one plays up to 32 steps.
const CASES: usize = 200;

#[test]
fn pipeline() {
    // The strategies take their chance from a seed, so that no engine can learn from coverage here; what fails is told in full.
    check!(name = "pipeline").with_iterations(CASES).with_type::<[u8; 32]>().for_each(|seed| {
        let scenario = scenario(1..32);
        let chance = TestRng::from_seed(RngAlgorithm::ChaCha, seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), chance);
        let (world, steps) = scenario.new_tree(&mut runner).unwrap().current();
        if let Err(difference) = play(&world, &steps) {
            panic!("{difference}\n{world:#?}\n{steps:#?}");
        }
    });
}
