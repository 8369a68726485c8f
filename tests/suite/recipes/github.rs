//! The composite action of GitHub: its steps are run as a runner does, against the real daemon.

use std::process::Command;

use rustix::process::Signal;
use yaml_rust2::Yaml;

use super::{Farm, Gate, lines, members, recipe, yaml};
use crate::client::{READY_THEN_WAIT, await_ready, finish, outcome, send, start};

/// The steps whose condition holds, with these inputs.
fn steps(inputs: &[(&str, &str)]) -> Vec<Yaml> {
    let action = yaml(&recipe("github/action.yml"));
    let steps = action["runs"]["steps"].as_vec().unwrap().clone();
    steps.into_iter().filter(|step| holds(&lines(&step["if"]), inputs)).collect()
}

fn input(name: &str, inputs: &[(&str, &str)]) -> String {
    if let Some((_, value)) = inputs.iter().find(|(given, _)| *given == name) {
        return (*value).to_owned();
    }
    let default = lines(&yaml(&recipe("github/action.yml"))["inputs"][name]["default"]);
    let default =
        default.replace("${{ github.run_id }}", "1658").replace("${{ github.run_attempt }}", "1");
    default.replace("${{ github.job }}", "simulate")
}

/// A condition of comparisons with texts, all of which have to hold.
fn holds(condition: &str, inputs: &[(&str, &str)]) -> bool {
    condition.split(" && ").all(|part| {
        let equal = part.contains(" == ");
        let (left, right) = part.split_once(if equal { " == " } else { " != " }).unwrap();
        let value = input(left.strip_prefix("inputs.").unwrap(), inputs);
        (value == right.trim_matches('\'')) == equal
    })
}

/// The one step that runs with these inputs. The file lives as long as what runs it.
fn step(farm: &Farm, inputs: &[(&str, &str)]) -> (Command, tempfile::NamedTempFile) {
    let found = steps(inputs);
    assert_eq!(found.len(), 1, "{inputs:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines(&found[0]["run"])).unwrap();
    let mut command = farm.job("bash");
    command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(file.path());
    for (name, value) in members(&found[0]["env"]) {
        let value = lines(&value);
        let name_of = value.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}"));
        command.env(name.as_str().unwrap(), input(name_of.unwrap(), inputs));
    }
    (command, file)
}

#[test]
fn commands_run_with_the_permit() {
    let farm = Farm::start();
    let commands = "echo \"$SEMAPHORE_CLAIM_ID\"\nfalse | true\necho no";
    let (mut run, _file) = step(&farm, &[("semaphore", "A"), ("run", commands)]);
    let (stdout, stderr) = outcome(&mut run, 1);
    assert_eq!(stdout.lines().count(), 1, "{stdout}{stderr}");
    assert_eq!(farm.end_of(stdout.trim()), "released");
    let (mut unknown, _file) = step(&farm, &[("semaphore", "B"), ("run", "echo no")]);
    assert_eq!(outcome(&mut unknown, 65).0, "");
}

/// What GitHub does first at a cancel: SIGINT to the first process of the step, and to no other.
#[test]
fn a_cancel_ends_the_commands_and_releases() {
    let farm = Farm::start();
    // A command that ends at SIGINT.
    let commands = READY_THEN_WAIT[2].replace("TERM", "INT");
    let (mut run, _file) = step(&farm, &[("semaphore", "A"), ("run", &commands)]);
    let mut run = start(&mut run);
    await_ready(&mut run);
    send(&run, Signal::INT);
    assert_eq!(finish(run).status.code(), Some(7));
    farm.assert_free();
}

/// The bash of several commands hears SIGINT, and ends when the command has ended that runs; SIGTERM ends it before.
#[test]
fn a_command_that_goes_on_is_left_after_the_second_signal() {
    let farm = Farm::start();
    let gate = Gate::new();
    let commands =
        format!("echo ready\ncat '{}' >/dev/null 2>&1\necho more", gate.path().display());
    let (mut run, _file) = step(&farm, &[("semaphore", "A"), ("run", &commands)]);
    let run = start(&mut run);
    // `cat` ends when this is closed, at the end. GitHub would kill it.
    let _reader = gate.reader();
    send(&run, Signal::INT);
    send(&run, Signal::TERM);
    let output = finish(run);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(143), &b"ready\n"[..]));
    farm.assert_free();
}

#[test]
fn a_cancel_while_it_waits_leaves_the_queue() {
    let farm = Farm::start();
    farm.hold();
    for inputs in
        [&[("semaphore", "A"), ("run", "true")][..], &[("do", "acquire"), ("semaphore", "A")]]
    {
        let (mut waiting, _file) = step(&farm, inputs);
        let waiting = start(&mut waiting);
        farm.wait_for(1, 1);
        send(&waiting, Signal::INT);
        assert_eq!(finish(waiting).status.code(), Some(130));
        farm.wait_for(0, 1);
    }
}

#[test]
fn a_permit_is_acquired_and_released_around_other_steps() {
    let farm = Farm::start();
    let (mut acquire, _file) = step(&farm, &[("do", "acquire"), ("semaphore", "A"), ("ttl", "2h")]);
    let (stdout, _) = outcome(&mut acquire, 0);
    assert_eq!(stdout, "1658-1-simulate\n");
    farm.wait_for(0, 1);
    let (mut release, _file) = step(&farm, &[("do", "release")]);
    outcome(&mut release, 0);
    farm.assert_free();
}

#[test]
fn the_claim_of_a_callback_is_taken_over() {
    let config = "[semaphores]\nA = 1\n[callbacks.targets.hook]\npreset = \"generic\"\n\
        url = \"http://127.0.0.1:9/hook\"\nallow_cidrs = [\"127.0.0.0/8\"]\n\
        secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    let farm = Farm::with(config);
    let body = r#"{"permits": {"A": 1}, "callback": {"target": "hook"}}"#;
    farm.guarded.admin(202, "PUT", "/api/v1/claims/c1", body);
    let (mut run, _file) = step(&farm, &[("claim", "c1"), ("run", "echo \"$SEMAPHORE_CLAIM_ID\"")]);
    assert_eq!(outcome(&mut run, 0).0, "c1\n");
    assert_eq!(farm.end_of("c1"), "released");
}

/// Why the action has `exec`: bash waits for its command, and tells it nothing.
#[test]
fn without_exec_the_client_hears_nothing() {
    let farm = Farm::start();
    let (run, file) = step(&farm, &[("semaphore", "A"), ("run", READY_THEN_WAIT[2])]);
    let script = std::fs::read_to_string(file.path()).unwrap();
    assert!(script.contains("exec "));
    std::fs::write(file.path(), script.replace("exec ", "") + "\n:").unwrap();
    let mut run = run;
    let mut run = start(&mut run);
    await_ready(&mut run);
    let claims = farm.claims();
    send(&run, Signal::TERM);
    run.wait().unwrap();
    assert_eq!(farm.claims(), claims, "the client runs on");
    // Its child is the test's to end: a revoked claim ends it no sooner than its next renewal.
    let client = client_of(&farm);
    rustix::process::kill_process(client, Signal::TERM).unwrap();
    assert_eq!(farm.end_of(&claims[0]), "released");
}

/// The client that talks to this farm's daemon.
fn client_of(farm: &Farm) -> rustix::process::Pid {
    let url = format!("SEMAPHORE_URL={}", farm.guarded.daemon.url());
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let mut found = processes.filter(|path| {
        let read = |file| std::fs::read(path.join(file)).unwrap_or_default();
        let name = read("comm") == b"semaphorectl\n";
        name && read("environ").split(|byte| *byte == 0).any(|variable| variable == url.as_bytes())
    });
    let path = found.next().unwrap();
    let id = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
    rustix::process::Pid::from_raw(id).unwrap()
}
