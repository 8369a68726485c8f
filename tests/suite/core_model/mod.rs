//! The core against a naive model, over random scripts.
//!
//! [`step`] makes the scripts, [`run`] feeds each command to both and keeps what has to hold over time
//! (fences and revisions rise, permits are granted once, a refusal changes nothing, the events alone
//! lead to the same durable state, a copy of the core goes the same way). [`model`] and [`commands`]
//! are the naive model, [`compare`] says all that is seen of the core after each step. [`many`] is about
//! what scripts of a few claims cannot show.
//!
//! `PROPTEST_CASES` sets the number of scripts. A failure prints the shortest script found and the seed
//! that leads to it: `PROPTEST_RNG_SEED=<seed>` runs the same scripts again.
#![allow(clippy::unwrap_used, clippy::panic, reason = "allowed in tests, and all of this is one")]

mod commands;
mod compare;
mod many;
mod model;
mod run;
mod step;

use std::hash::{BuildHasher, RandomState};

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use semaphored::semaphore::core::Limits;

use self::{
    run::Run,
    step::{Step, script, semaphores},
};

/// Runs random scripts under these limits; `cases` of them unless the environment says otherwise.
fn check(limits: Limits, cases: u32, steps_max: usize) {
    let from_environment =
        |variable| std::env::var(variable).ok().and_then(|text: String| text.parse::<u64>().ok());
    let seed = from_environment("PROPTEST_RNG_SEED")
        .unwrap_or_else(|| RandomState::new().hash_one("a new seed for each run"));
    let cases =
        from_environment("PROPTEST_CASES").and_then(|n| u32::try_from(n).ok()).unwrap_or(cases);
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        max_shrink_time: 20_000,
        ..Config::default()
    };
    let scripts = (semaphores(), script(steps_max));
    let checked = TestRunner::new(config)
        .run(&scripts, |(semaphores, steps)| run_script(limits, &semaphores, &steps));
    match checked {
        Ok(()) => {}
        Err(TestError::Fail(why, (semaphores, steps))) => {
            let steps: Vec<String> = steps.iter().map(|step| format!("  {step:?}")).collect();
            let steps = steps.join("\n");
            panic!(
                "{why}\ncapacities and cooldowns {semaphores:?}\n{steps}\n\
                 PROPTEST_RNG_SEED={seed} repeats it"
            );
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}

fn run_script(
    limits: Limits,
    semaphores: &[(u32, u64)],
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let mut run = Run::new(limits, semaphores)?;
    for (number, step) in steps.iter().enumerate() {
        run.step(step).map_err(|failure| match failure {
            TestCaseError::Fail(why) => TestCaseError::fail(format!("step {number}: {why}")),
            rejected @ TestCaseError::Reject(_) => rejected,
        })?;
    }
    Ok(())
}

#[test]
fn core_does_what_the_naive_model_does() {
    check(Limits::default(), 150, 150);
}

/// Small bounds, so that each of them is met.
#[test]
fn core_does_what_the_naive_model_does_at_its_bounds() {
    let limits = Limits {
        semaphores_max: 4,
        claims_max: 9,
        claims_text_bytes_max: 40,
        queue_claims_max: 3,
        waiting_sets_max: 3,
        ended_ids_max: 5,
        tokens_max: 5,
    };
    check(limits, 80, 150);
}
