//! The step for Jenkins: it is run by the Groovy that Jenkins has (2.4), with steps of the test's own, against the real daemon.

use std::{fs, process::Command};

use super::{Farm, blocks, recipe, root};
use crate::client::{outcome, text};

/// Steps as Jenkins has them, and what is done with the pipeline.
const STEPS: &str = include_str!("jenkins.groovy");

/// Groovy with this script.
fn groovy(
    mut command: Command,
    script: &str,
    arguments: &[&str],
) -> (Command, tempfile::NamedTempFile) {
    let file = tempfile::Builder::new().suffix(".groovy").tempfile().unwrap();
    fs::write(file.path(), script).unwrap();
    command.arg(file.path()).args(arguments);
    (command, file)
}

/// Runs a block with the step; the exit code is 3 if the pipeline fails, and what it says is returned.
fn pipeline(farm: &Farm, block: &str, code: i32) -> String {
    let step = root().join("jenkins/withPermit.groovy");
    let arguments = ["run", step.to_str().unwrap(), block];
    let (mut job, _file) = groovy(farm.job("groovy"), STEPS, &arguments);
    // It comes from the credential alone.
    job.env_remove("SEMAPHORE_TOKEN").env("FARM_TOKEN", &farm.token.token);
    outcome(&mut job, code).0
}

#[test]
fn the_block_runs_with_the_permit() {
    let farm = Farm::start();
    let block =
        "withPermit('A', minutes: 90) { sh 'echo \"in $SEMAPHORE_CLAIM_ID${SEMAPHORE_TOKEN:-}\"' }";
    let told = pipeline(&farm, block, 0);
    let lines: Vec<_> = told.lines().collect();
    let [acquired, inside, given_back] = lines[..] else { panic!("{told}") };
    assert_eq!(given_back, format!("{acquired} is released"));
    assert_eq!(inside, format!("in {acquired}"), "the block has the claim's id and not the token");
    let claim = farm.guarded.look(&format!("/api/v1/claims/{acquired}"));
    assert_eq!(claim["ttl_seconds"], 91 * 60, "a minute more than the block may take");
    assert_eq!(farm.end_of(acquired), "released");
    farm.assert_free();
}

#[test]
fn the_permit_comes_back_when_the_block_throws() {
    let farm = Farm::start();
    for block in [
        "withPermit('A') { throw new IllegalStateException('aborted') }",
        "withPermit('A') { sh 'exit 5' }",
        "withPermit('A', minutes: 1) { timedOut() }",
    ] {
        let told = pipeline(&farm, block, 3);
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(told.contains("failed: "), "{told}");
        assert_eq!(farm.end_of(told.lines().next().unwrap()), "released");
        farm.assert_free();
    }
}

#[test]
fn a_refusal_fails_the_build_before_the_block() {
    let farm = Farm::start();
    let told = pipeline(&farm, "withPermit('B') { sh 'echo ran' }", 3);
    assert!(
        told.contains("failed: script returned exit code 65") && !told.contains("ran"),
        "{told}"
    );
    farm.hold();
    let told = pipeline(&farm, "withPermit('A', waitTimeout: '3s') { sh 'echo ran' }", 3);
    assert!(
        told.contains("failed: script returned exit code 75") && !told.contains("ran"),
        "{told}"
    );
    farm.wait_for(0, 1);
    let told = pipeline(&farm, "withPermit('A', credentials: 'other') { sh 'echo ran' }", 3);
    assert!(told.contains("failed: no credential other"), "{told}");
}

#[test]
fn what_stands_in_a_name_is_no_code() {
    let farm = Farm::start();
    let told = pipeline(&farm, "withPermit('\"; echo ran; \"') { sh 'echo ran' }", 3);
    assert!(told.contains("exit code 64") && !told.contains("ran"), "{told}");
}

/// What a parser has against these files.
fn parse(files: &[&str]) -> (bool, String) {
    let arguments = [&["parse"], files].concat();
    let (mut command, _file) = groovy(Command::new("groovy"), STEPS, &arguments);
    let output = command.output().unwrap();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn every_pipeline_is_groovy_and_a_broken_one_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut texts = blocks("jenkins.md", "groovy");
    assert_eq!(texts.len(), 5, "the page has another number of pipelines");
    texts.push(recipe("jenkins/withPermit.groovy"));
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good: Vec<_> =
        texts.iter().enumerate().map(|(n, text)| write(&format!("good{n}.groovy"), text)).collect();
    let good: Vec<_> = good.iter().map(String::as_str).collect();
    let (parsed, told) = parse(&good);
    assert!(parsed, "{told}");
    // Without its last brace, and without a quote.
    for (n, text) in texts.iter().enumerate() {
        let (without, _) = text.trim_end().rsplit_once('}').unwrap();
        let broken = write(&format!("broken{n}.groovy"), without);
        let unquoted = write(
            &format!("unquoted{n}.groovy"),
            &text.rsplit_once('\'').map(|(a, b)| a.to_owned() + b).unwrap(),
        );
        let (parsed, told) = parse(&[&broken, &unquoted]);
        assert!(!parsed && told.contains(&format!("broken{n}.groovy")), "{told}");
        assert!(told.contains(&format!("unquoted{n}.groovy")), "{told}");
    }
}
