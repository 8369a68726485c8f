//! The commands of `semaphorectl` that change something, against the real daemon.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    client::{ctl, finish, outcome, semaphorectl, send, start, told},
    daemon::{Daemon, poll},
    fake_service::{FakeService, Reply},
};

fn daemon() -> Daemon {
    Daemon::start("[semaphores]\nlic = 2\nboard = 1")
}

/// Acquires for a long time and returns the claim's id.
fn acquire(daemon: &Daemon, arguments: &[&str]) -> String {
    let stdout = told(daemon, &[&["acquire", "--ttl", "2h", "--quiet"], arguments].concat(), 0);
    let id = stdout.strip_suffix('\n').expect("one line");
    assert!(!id.contains(char::is_whitespace), "{stdout:?}");
    id.to_owned()
}

fn in_use(daemon: &Daemon, semaphore: &str) -> u64 {
    daemon.look(&format!("/api/v1/semaphores/{semaphore}"))["in_use"].as_u64().unwrap()
}

fn wait_until_in_use(daemon: &Daemon, semaphore: &str, permits: u64) {
    let what = format!("{permits} permits of {semaphore} in use");
    poll(&what, || (in_use(daemon, semaphore) == permits).then_some(()));
}

fn claims(daemon: &Daemon) -> usize {
    daemon.look("/api/v1/claims")["claims"].as_array().unwrap().len()
}

/// A process that lives until its standard input is closed.
fn other_process() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

/// `acquire --while-pid`, when it holds its permit; and the claim's id.
fn hold_while(daemon: &Daemon, other: &Child, arguments: &[&str]) -> (Child, String) {
    let pid = other.id().to_string();
    let arguments = [&["acquire", "lic", "--while-pid", &pid], arguments].concat();
    let mut holder = start(&mut ctl(daemon, &arguments));
    let mut id = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut id).unwrap();
    assert_eq!(in_use(daemon, "lic"), 1);
    (holder, id.trim_end().to_owned())
}

#[test]
fn permits_for_a_script() {
    let daemon = daemon();
    let id = acquire(&daemon, &["-p", "lic=2", "--holder", "me", "--label", "branch=main"]);
    let claim = daemon.look(&format!("/api/v1/claims/{id}"));
    assert_eq!(claim["state"], "held");
    assert_eq!((&claim["holder"], &claim["labels"]["branch"]), (&"me".into(), &"main".into()));
    assert_eq!(claim["ttl_seconds"], 7_200);
    let renewed = told(&daemon, &["renew", &id, "--ttl", "4h"], 0);
    assert_eq!(renewed, format!("{id} is held; its lease lasts 4h from now\n"));
    let renewed: Value =
        serde_json::from_str(&told(&daemon, &["renew", &id, "--json"], 0)).unwrap();
    assert_eq!((&renewed["id"], &renewed["ttl_seconds"]), (&id.as_str().into(), &14_400.into()));
    assert_eq!(told(&daemon, &["release", &id], 0), format!("{id} is released\n"));
    assert_eq!(in_use(&daemon, "lic"), 0);
    told(&daemon, &["release", &id], 0);
    let (_, stderr) = outcome(&mut ctl(&daemon, &["renew", &id]), 65);
    assert!(stderr.contains("has ended (released)"), "{stderr}");
}

#[test]
fn only_the_service_can_say_that_a_claim_is_released() {
    for (status, exit) in [(200, 70), (404, 65), (410, 65)] {
        let service = FakeService::start(move |_| Reply::json(status, "<html>moved</html>"));
        let mut command = semaphorectl(&["release", "c1"]);
        let (stdout, _) = outcome(command.env("SEMAPHORE_URL", service.url()), exit);
        assert_eq!(stdout, "", "{status}");
    }
}

#[test]
fn several_are_released_and_unknown_ones_told() {
    let daemon = daemon();
    let ids = [acquire(&daemon, &["lic"]), acquire(&daemon, &["board"])];
    let (stdout, stderr) =
        outcome(&mut ctl(&daemon, &["release", &ids[0], "nonsense", &ids[1]]), 65);
    assert_eq!(stdout, format!("{} is released\n{} is released\n", ids[0], ids[1]));
    assert!(stderr.contains("there is no claim `nonsense`"), "{stderr}");
    assert_eq!(claims(&daemon), 0);
    let json = told(&daemon, &["release", &ids[0], "nonsense", "--json"], 65);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["released"][0], ids[0].as_str());
    assert!(json["failed"]["nonsense"].is_string());
}

#[test]
fn an_id_of_ones_own_is_one_claim() {
    let daemon = daemon();
    let build = ["lic", "--id", "build-7", "--holder", "me"];
    assert_eq!(acquire(&daemon, &build), "build-7");
    assert_eq!(acquire(&daemon, &build), "build-7");
    assert_eq!(in_use(&daemon, "lic"), 1);
    let other = ["acquire", "board", "--id", "build-7", "--ttl", "2h"];
    let (_, stderr) = outcome(&mut ctl(&daemon, &other), 65);
    assert!(stderr.contains("made with another request"), "{stderr}");
    assert_eq!(in_use(&daemon, "lic"), 1, "the first claim is not touched");
    told(&daemon, &["release", "build-7"], 0);
    let again = [&["acquire", "--ttl", "2h"], &build[..]].concat();
    let (_, stderr) = outcome(&mut ctl(&daemon, &again), 65);
    assert!(stderr.contains("make the claim again under a new --id"), "{stderr}");
}

#[test]
fn the_claim_is_written_as_the_service_has_it() {
    let daemon = daemon();
    let json = told(&daemon, &["acquire", "lic", "--ttl", "2h", "--json"], 0);
    let claim: Value = serde_json::from_str(&json).unwrap();
    let known = daemon.look(&format!("/api/v1/claims/{}", claim["id"].as_str().unwrap()));
    for member in ["id", "state", "permits", "fences", "granted_at", "holder"] {
        assert_eq!(claim[member], known[member]);
    }
}

#[test]
fn no_permit_in_time_has_its_exit_code() {
    let daemon = daemon();
    acquire(&daemon, &["board"]);
    let chosen = &["--wait-timeout", "1s", "--id", "mine"][..];
    for options in [&["--no-queue"][..], &["--wait-timeout", "1s"], chosen] {
        let arguments = [&["acquire", "board", "--ttl", "1m"], options].concat();
        let (stdout, stderr) = outcome(&mut ctl(&daemon, &arguments), 75);
        assert_eq!(stdout, "");
        assert!(stderr.contains("no permit"), "{stderr}");
    }
    // Now it is the id of another run of the job.
    let again = [&["acquire", "board", "--ttl", "1m"], chosen].concat();
    let (_, stderr) = outcome(&mut ctl(&daemon, &again), 65);
    assert!(stderr.contains("its id is used up"), "{stderr}");
    assert_eq!(claims(&daemon), 1);
}

#[test]
fn an_acquire_that_would_never_end_is_refused() {
    let daemon = daemon();
    for (arguments, expected) in [
        (&["lic"][..], "say how long: --ttl 2h"),
        (&["lic", "--while-pid", "x"], "must be the id of a process"),
        (&["lic", "--while-pid", "2147483647"], "there is no process 2147483647"),
        (&["lic", "--while-pid", "0"], "there is no process 0"),
        (&["--ttl", "2h"], "name a semaphore"),
        (&["lic", "--ttl", "2h", "--id", "a/b"], "the id of a claim must be"),
    ] {
        let arguments = [&["acquire"], arguments].concat();
        let (_, stderr) = outcome(&mut ctl(&daemon, &arguments), 64);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    assert_eq!(claims(&daemon), 0);
}

#[test]
fn permits_come_back_when_the_process_has_ended() {
    let daemon = daemon();
    let mut other = other_process();
    // A short lease, which would be over before long if it were not renewed.
    let (holder, id) = hold_while(&daemon, &other, &["--ttl", "1s"]);
    let expires = || daemon.look(&format!("/api/v1/claims/{id}"))["expires_at"].to_string();
    let first = expires();
    poll("a renewal", || (expires() != first).then_some(()));
    other.stdin.take();
    assert_eq!(finish(holder).status.code(), Some(0));
    assert_eq!(in_use(&daemon, "lic"), 0);
    other.wait().unwrap();
}

#[test]
fn who_holds_for_a_process_gives_back_at_a_signal() {
    let daemon = daemon();
    let mut other = other_process();
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let (holder, _) = hold_while(&daemon, &other, &[]);
        send(&holder, signal);
        assert_eq!(finish(holder).status.code(), Some(code));
        assert_eq!(claims(&daemon), 0);
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn who_holds_for_a_process_sees_the_end_of_the_claim() {
    let daemon = daemon();
    let mut other = other_process();
    let (holder, id) = hold_while(&daemon, &other, &["--ttl", "1s"]);
    told(&daemon, &["release", &id], 0);
    assert_eq!(finish(holder).status.code(), Some(0));
    let (holder, id) = hold_while(&daemon, &other, &["--ttl", "1s"]);
    let revoked = told(&daemon, &["revoke", &id, "--reason", "for the demo"], 0);
    assert_eq!(revoked, format!("{id} is revoked\n"));
    let output = finish(holder);
    assert_eq!(output.status.code(), Some(79));
    assert!(String::from_utf8_lossy(&output.stderr).contains("an admin revoked it: for the demo"));
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_process_that_ends_first_needs_no_permit() {
    let daemon = daemon();
    let id = acquire(&daemon, &["board"]);
    let mut other = other_process();
    let pid = other.id().to_string();
    let waiting = start(&mut ctl(&daemon, &["acquire", "board", "--while-pid", &pid]));
    daemon.wait_for_blocked(1);
    other.stdin.take();
    assert_eq!(finish(waiting).status.code(), Some(75));
    assert_eq!(claims(&daemon), 1, "only {id} is left");
    other.wait().unwrap();
}

#[test]
fn a_signal_while_it_waits_leaves_the_queue() {
    let daemon = daemon();
    acquire(&daemon, &["board"]);
    let waiting = start(&mut ctl(&daemon, &["acquire", "board", "--ttl", "2h"]));
    daemon.wait_for_blocked(1);
    send(&waiting, Signal::INT);
    let output = finish(waiting);
    assert_eq!((output.status.code(), output.stdout), (Some(130), Vec::new()));
    assert_eq!(claims(&daemon), 1);
}

#[test]
fn an_id_that_nobody_can_read_is_given_back() {
    let daemon = daemon();
    let mut command = ctl(&daemon, &["acquire", "lic", "--ttl", "2h"]);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let output = finish(start(command.stdout(full)));
    assert_eq!(output.status.code(), Some(74));
    assert_eq!(claims(&daemon), 0);
}

#[test]
fn revoke_wants_a_reason_and_a_claim() {
    let daemon = daemon();
    let id = acquire(&daemon, &["lic"]);
    let (_, stderr) = outcome(&mut ctl(&daemon, &["revoke", &id]), 64);
    assert!(stderr.contains("--reason TEXT is missing"), "{stderr}");
    let json = told(&daemon, &["revoke", &id, "--reason", "fire", "--json"], 0);
    let claim: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&claim["reason"], &claim["note"]), (&"revoked".into(), &"fire".into()));
    wait_until_in_use(&daemon, "lic", 0);
    let (_, stderr) = outcome(&mut ctl(&daemon, &["renew", &id]), 79);
    assert!(stderr.contains("has ended (revoked)"), "{stderr}");
    outcome(&mut ctl(&daemon, &["revoke", "nonsense", "--reason", "x"]), 65);
}

#[test]
fn a_waiting_claim_is_renewed_and_holds_nothing() {
    let daemon = daemon();
    acquire(&daemon, &["board"]);
    daemon.call("PUT", "/api/v1/claims/w", r#"{"permits": {"board": 1}}"#);
    let (_, stderr) = outcome(&mut ctl(&daemon, &["renew", "w"]), 75);
    assert!(stderr.contains("w is waiting, position 1: it holds no permit yet"), "{stderr}");
}

#[test]
fn the_scripts_of_the_document_do_what_it_says() {
    let document = include_str!("../../docs/client.md");
    let daemon = Daemon::start("[semaphores]\nFlexLM-Riviera = 1");
    let directory = tempfile::tempdir().unwrap();
    let seen = directory.path().join("seen");
    // The licensed tool writes down how many permits are in use.
    let tool = format!("#!/bin/sh\nsemaphorectl claims --no-header >>'{}'\n", seen.display());
    let path = directory.path().join("vsim");
    std::fs::write(&path, tool).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_semaphorectl")).parent().unwrap();
    let search = format!(
        "{}:{}:{}",
        directory.path().display(),
        binaries.display(),
        std::env::var("PATH").unwrap()
    );
    for (shell, fence, runs) in [("sh", "```sh\n", 2), ("bash", "```bash\n", 1)] {
        let (_, rest) = document.split_once(fence).unwrap();
        let (script, _) = rest.split_once("```").unwrap();
        std::fs::write(&seen, "").unwrap();
        let mut command = Command::new(shell);
        command.args(["-c", script]).env("PATH", &search).env("SEMAPHORE_URL", daemon.url());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        outcome(&mut command, 0);
        let seen = std::fs::read_to_string(&seen).unwrap();
        assert_eq!(seen.lines().filter(|line| line.contains(" held ")).count(), runs, "{seen}");
        wait_until_in_use(&daemon, "FlexLM-Riviera", 0);
    }
}

#[test]
fn drain_and_open_say_what_changed() {
    let daemon = daemon();
    acquire(&daemon, &["lic"]);
    let told = |arguments: &[&str]| told(&daemon, arguments, 0);
    assert_eq!(
        told(&["drain", "lic"]),
        "lic was open and is draining now: it grants nothing more; 1 permit in use, 0 claims waiting\n"
    );
    assert_eq!(told(&["drain", "lic"]), "lic was draining already; 1 permit in use\n");
    let opened: Value = serde_json::from_str(&told(&["open", "lic", "--json"])).unwrap();
    assert_eq!(opened["state"], "open");
    assert_eq!(opened, daemon.look("/api/v1/semaphores/lic"));
    assert_eq!(told(&["open", "lic"]), "lic was open already\n");
}

#[test]
fn resize_says_from_what_to_what() {
    let daemon = daemon();
    acquire(&daemon, &["-p", "lic=2"]);
    assert_eq!(told(&daemon, &["resize", "lic", "3"], 0), "lic had 2 permits and has 3 now\n");
    assert_eq!(told(&daemon, &["resize", "lic", "3"], 0), "lic has 3 permits as before\n");
    daemon.call("PUT", "/api/v1/claims/w", r#"{"permits": {"lic": 3}}"#);
    let (_, stderr) = outcome(&mut ctl(&daemon, &["resize", "lic", "1"]), 65);
    assert!(stderr.contains("would end waiting claims"), "{stderr}");
    assert!(stderr.contains("add --force to end them"), "{stderr}");
    assert_eq!(
        told(&daemon, &["resize", "lic", "1", "--force"], 0),
        "lic had 3 permits and has 1 now; 1 more is out until its holder ends\n"
    );
    for capacity in ["0", "-1", "many", "1000001"] {
        let (_, stderr) = outcome(&mut ctl(&daemon, &["resize", "lic", "--", capacity]), 64);
        assert!(stderr.contains("CAPACITY must be a whole number from 1"), "{stderr}");
    }
    let (_, stderr) = outcome(&mut ctl(&daemon, &["resize", "lic"]), 64);
    assert!(stderr.contains("CAPACITY is missing: semaphorectl resize"), "{stderr}");
}

#[test]
fn a_wrong_name_is_told_with_the_right_one() {
    let daemon = daemon();
    let (_, stderr) = outcome(&mut ctl(&daemon, &["drain", "borad"]), 65);
    assert!(stderr.contains("did you mean `board`?"), "{stderr}");
    let (_, stderr) = outcome(&mut ctl(&daemon, &["resize", "questasim", "3"]), 65);
    assert!(stderr.contains("`semaphorectl status` lists them"), "{stderr}");
}
