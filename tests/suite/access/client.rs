//! `semaphorectl` with tokens, against a real daemon.

use std::{fs, path::PathBuf, process::Command};

use super::{Guarded, Made};
use crate::client::{check, finish, semaphorectl, start, text};

const A: &str = r#"{"permits": {"A": 1}, "ttl": "1h"}"#;

/// The client with a token in a file of the owner's alone.
fn with_token(guarded: &Guarded, made: &Made, arguments: &[&str]) -> Command {
    let file: PathBuf = guarded.daemon.data_dir().join(format!("{}.token", made.id));
    fs::write(&file, &made.token).unwrap();
    let mut command = semaphorectl(&[]);
    // What stands after `--` is the command's.
    let at = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    command.args(&arguments[..at]).args(["--url", &guarded.daemon.url(), "--token-file"]);
    command.arg(file).args(&arguments[at..]);
    command
}

#[test]
fn a_job_runs_with_a_token_and_not_without() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let farm = guarded.token("claim", r#", "semaphores": ["A"]"#);
    let mut run = with_token(&guarded, &farm, &["run", "A", "--", "sh", "-c", "exit 3"]);
    check(&mut run, 3);
    let mut without = semaphorectl(&["run", "--url", &guarded.daemon.url(), "A", "--", "true"]);
    let stderr = check(&mut without, 77);
    assert!(stderr.contains("SEMAPHORE_TOKEN") && stderr.contains("--token-file"), "{stderr}");
    let stderr = check(&mut with_token(&guarded, &farm, &["resize", "A", "2"]), 77);
    assert!(stderr.contains("admin"), "{stderr}");
}

#[test]
fn a_job_that_waits_ends_when_its_token_is_revoked() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let farm = guarded.token("claim", "");
    guarded.admin(201, "PUT", "/api/v1/claims/held", A);
    let waiting = start(&mut with_token(&guarded, &farm, &["run", "A", "--", "true"]));
    guarded.wait_for_blocked(1);
    guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}", farm.id), "");
    let output = finish(waiting);
    assert_eq!(output.status.code(), Some(77), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains(&farm.token[8..]));
}

#[test]
fn the_job_of_a_callback_brings_its_own_token_and_a_second_one_is_refused() {
    // Nothing listens there: the claim is offered, and the calls fail.
    let config = "[semaphores]\nA = 1\n[callbacks.targets.ci]\npreset = \"generic\"\n\
        url = \"http://127.0.0.1:9/hook\"\nallow_cidrs = [\"127.0.0.0/8\"]\n\
        secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    let guarded = Guarded::start(config);
    let pipeline = guarded.token("claim", "");
    let worker = guarded.token("claim", "");
    let make = ["acquire", "A", "--callback", "ci", "--id", "c1"];
    check(&mut with_token(&guarded, &pipeline, &make), 0);
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("go");
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Runs until somebody writes.
    let script = format!("cat '{}'", fifo.display());
    let job = ["run", "--claim", "c1", "--", "sh", "-c", &script];
    let first = start(&mut with_token(&guarded, &worker, &job));
    crate::daemon::poll("the claim to be held", || {
        (guarded.look("/api/v1/claims/c1")["state"] == "held").then_some(())
    });
    assert_eq!(guarded.look("/api/v1/claims/c1")["token_id"], worker.id.as_str());
    let second = ["run", "--claim", "c1", "--", "false"];
    let stderr = check(&mut with_token(&guarded, &worker, &second), 65);
    assert!(stderr.contains("another job has claim c1"), "{stderr}");
    assert_eq!(guarded.look("/api/v1/claims/c1")["state"], "held", "it was not released");
    fs::write(&fifo, "done\n").unwrap();
    let output = finish(first);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(0), "done\n"));
    assert_eq!(guarded.look("/api/v1/claims/c1")["reason"], "released");
}
