//! The composite action of GitHub: its steps are run as a runner does, against the real daemon.

use std::process::Command;

use rustix::process::Signal;

use super::{Farm, Gate, lines, members, recipe, yaml};
use crate::client::{READY_THEN_WAIT, await_ready, finish, outcome, send, start};

/// An input of the action: what is given, or else the default in the job that `JOB` is.
fn input(name: &str, inputs: &[(&str, &str)]) -> String {
    if let Some((_, value)) = inputs.iter().find(|(given, _)| *given == name) {
        return (*value).to_owned();
    }
    let action = yaml(&recipe("github/action.yml"));
    assert!(!action["inputs"][name].is_badvalue(), "no input {name}");
    let default = lines(&action["inputs"][name]["default"]);
    JOB.iter()
        .fold(default, |text, (name, value)| text.replace(&format!("${{{{ {name} }}}}"), value))
}

/// What GitHub tells a job of itself.
const JOB: [(&str, &str); 5] = [
    ("github.run_id", "1658"),
    ("github.run_attempt", "1"),
    ("github.job", "simulate"),
    ("strategy.job-index", "3"),
    ("job.check_run_id", "51725241954"),
];

/// The step of the action with these inputs. The file lives as long as what runs it.
fn step(farm: &Farm, inputs: &[(&str, &str)]) -> (Command, tempfile::NamedTempFile) {
    let action = yaml(&recipe("github/action.yml"));
    let steps = action["runs"]["steps"].as_vec().unwrap();
    assert!(steps.len() == 1 && steps[0]["if"].is_badvalue(), "a step could be passed over");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines(&steps[0]["run"])).unwrap();
    let mut command = farm.job("bash");
    command.args(["--noprofile", "--norc", "-e", "-o", "pipefail"]).arg(file.path());
    for (name, value) in members(&steps[0]["env"]) {
        let value = lines(&value);
        let name_of = value.strip_prefix("${{ inputs.").and_then(|rest| rest.strip_suffix(" }}"));
        command.env(name.as_str().unwrap(), input(name_of.unwrap(), inputs));
    }
    (command, file)
}

/// What the action refuses, it refuses with an annotation, and before it makes a claim.
#[test]
fn what_makes_no_sense_is_refused() {
    let farm = Farm::start();
    let cases: [(&[(&str, &str)], &str); 13] = [
        (&[("do", "acquire"), ("semaphore", "A")], "needs the input 'ttl', for nothing renews"),
        (&[("do", "acquire"), ("ttl", "2h")], "no semaphore is named"),
        (
            &[("do", "acquire"), ("semaphore", "A"), ("ttl", "2h"), ("run", "x")],
            "no commands: leave",
        ),
        (&[("do", "acquire"), ("claim", "c1"), ("ttl", "2h")], "makes a claim of its own"),
        (&[("semaphore", "A")], "there are no commands"),
        (&[("semaphore", "A"), ("run", " \n")], "there are no commands"),
        (&[("claim", "c1")], "there are no commands"),
        (&[("run", "echo ran")], "no semaphore is named"),
        (&[("run", "echo ran"), ("claim", "")], "no semaphore is named"),
        (&[("do", "release"), ("run", "echo ran")], "runs no commands"),
        (&[("do", "aquire"), ("semaphore", "A"), ("ttl", "2h")], "it is aquire"),
        (&[("do", "Run"), ("semaphore", "A"), ("run", "echo ran")], "it is Run"),
        (&[("do", ""), ("semaphore", "A"), ("run", "echo ran")], "it is ''"),
    ];
    for (inputs, expected) in cases {
        let (mut refused, _file) = step(&farm, inputs);
        let (stdout, _) = outcome(&mut refused, 64);
        let annotation = stdout.strip_prefix("::error title=with-permit::").unwrap();
        assert!(annotation.contains(expected), "{inputs:?}: {annotation}");
        assert_eq!(stdout.lines().count(), 1, "{stdout}");
    }
    // What stands in an input is no command for the runner.
    let (mut refused, _file) = step(&farm, &[("do", "x\n::add-mask::y")]);
    assert_eq!(outcome(&mut refused, 64).0.lines().count(), 1);
    let (mut release, _file) = step(&farm, &[("do", "release"), ("id", "")]);
    outcome(&mut release, 64);
    assert!(farm.claims().is_empty());
}

#[test]
fn the_lease_is_the_semaphores_unless_it_is_said() {
    let farm = Farm::with("[semaphores]\nA = { capacity = 1, default_ttl = \"7m\" }");
    for (ttl, seconds) in [("", 420), ("90s", 90)] {
        let commands = "echo \"$SEMAPHORE_CLAIM_ID\"";
        let (mut run, _file) = step(&farm, &[("semaphore", "A"), ("run", commands), ("ttl", ttl)]);
        let (id, _) = outcome(&mut run, 0);
        let claim = farm.guarded.look(&format!("/api/v1/claims/{}", id.trim()));
        assert_eq!(claim["ttl_seconds"], seconds);
    }
    assert_eq!(input("ttl", &[]), "", "a default would be short for one and long for another");
}

/// The default id is one of the job: jobs of a matrix, and those of a workflow that is called twice, share all else. With the
/// same id they would share a permit.
#[test]
fn the_id_is_of_one_job() {
    let default = lines(&yaml(&recipe("github/action.yml"))["inputs"]["id"]["default"]);
    for (name, _) in JOB {
        assert!(default.contains(&format!("${{{{ {name} }}}}")), "{name}");
    }
    assert_eq!(input("id", &[]), "1658-1-simulate-3-51725241954");
}

/// The commands have the variables of the job, and of the action's own none that a job may have.
#[test]
fn variables_of_the_job_stay() {
    let farm = Farm::start();
    for name in ["SEMAPHORE", "TTL", "ID", "DO", "COMMANDS", "CLAIM"] {
        let commands = format!("echo \"${{{name}}}\"");
        let (mut run, _file) = step(&farm, &[("semaphore", "A"), ("run", &commands)]);
        assert_eq!(outcome(run.env(name, "the job's"), 0).0, "the job's\n");
    }
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
    for inputs in [
        &[("semaphore", "A"), ("run", "true")][..],
        &[("do", "acquire"), ("semaphore", "A"), ("ttl", "2h")],
    ] {
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
    assert_eq!(stdout, "1658-1-simulate-3-51725241954\n");
    assert_eq!(
        farm.guarded.look("/api/v1/claims/1658-1-simulate-3-51725241954")["ttl_seconds"],
        7200
    );
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
