//! What happens around `semaphorectl run`: signals, children that misbehave, a daemon that goes away. On every
//! way out the permits are back.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    client::{
        READY_THEN_WAIT, await_line, await_ready, ctl, finish, on_terminal, outcome, semaphorectl,
        send, start, text,
    },
    daemon::{Daemon, Port},
    fake_service::{FakeService, Reply},
};

fn daemon() -> Daemon {
    Daemon::start("[semaphores]\nlic = 1")
}

/// Takes the only permit.
fn take(daemon: &Daemon) {
    let taken = daemon.call("PUT", "/api/v1/claims/taken", r#"{"permits": {"lic": 1}}"#);
    assert_eq!(taken.status, 201);
}

/// `semaphorectl run lic` with these options and this command.
fn run(daemon: &Daemon, options: &[&str], child: &[&str]) -> std::process::Command {
    ctl(daemon, &[&["run", "lic"], options, &["--"], child].concat())
}

fn check_nothing_is_left(daemon: &Daemon) {
    let claims = daemon.look("/api/v1/claims");
    assert_eq!(claims["claims"].as_array().map(Vec::len), Some(0), "{claims}");
    let semaphore = daemon.look("/api/v1/semaphores/lic");
    assert_eq!((&semaphore["in_use"], &semaphore["waiting"]), (&0.into(), &0.into()));
}

fn start_and_await_ready(daemon: &Daemon, options: &[&str]) -> Child {
    let mut child = start(&mut run(daemon, options, READY_THEN_WAIT));
    await_ready(&mut child);
    child
}

#[test]
fn nothing_is_left_after_a_command_however_it_ends() {
    let daemon = daemon();
    for (child, code) in [
        (&["sh", "-c", "exit 3"][..], 3),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "kill -SEGV $$"], 139),
        (&["does-not-exist-anywhere"], 127),
        (&["/etc/passwd"], 126),
    ] {
        outcome(&mut run(&daemon, &[], child), code);
        check_nothing_is_left(&daemon);
    }
}

#[test]
fn nothing_is_left_after_a_signal() {
    let daemon = daemon();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let child = start_and_await_ready(&daemon, &[]);
        send(&child, signal);
        // Whether the command or the shell's way of dying gives the code is its affair.
        assert_ne!(finish(child).status.code(), Some(0));
        check_nothing_is_left(&daemon);
    }
    take(&daemon);
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let child = start(&mut run(&daemon, &[], &["true"]));
        daemon.wait_for_blocked(1);
        send(&child, signal);
        assert_eq!(finish(child).status.code(), Some(code));
    }
    outcome(&mut run(&daemon, &["--wait-timeout", "1s"], &["true"]), 75);
    outcome(&mut run(&daemon, &["--no-queue"], &["true"]), 75);
    daemon.call("DELETE", "/api/v1/claims/taken", "");
    check_nothing_is_left(&daemon);
}

#[test]
fn a_command_that_ignores_sigterm_is_killed() {
    let daemon = daemon();
    let stubborn = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"];
    let options = ["--ttl", "1s", "--on-lost=terminate", "--kill-after", "1s"];
    let mut child = start(&mut run(&daemon, &options, &stubborn));
    await_ready(&mut child);
    let claims = daemon.look("/api/v1/claims");
    let id = claims["claims"][0]["id"].as_str().unwrap();
    outcome(&mut ctl(&daemon, &["revoke", id, "--reason", "maintenance"]), 0);
    let output = finish(child);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(79), "{stderr}");
    assert!(stderr.contains("the command did not end; killing it"), "{stderr}");
    assert!(stderr.contains("an admin revoked it: maintenance"), "{stderr}");
    check_nothing_is_left(&daemon);
}

/// Both ends of the claim at its `max_hold` come within a second or two, and not a third of the lease later.
#[test]
fn max_hold_ends_a_command_on_time() {
    let daemon = Daemon::start("[semaphores.lic]\ncapacity = 1\nmax_hold = \"2s\"");
    let begun = Instant::now();
    // It lives until the service has said, too, that it is over.
    let stubborn = ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"];
    let options = ["--ttl", "60s", "--on-lost=terminate", "--kill-after", "3s"];
    let (_, stderr) = outcome(&mut run(&daemon, &options, &stubborn), 80);
    assert_eq!(stderr.matches("others may get its permits").count(), 1, "{stderr}");
    assert_eq!(
        stderr.matches("max_hold").count(),
        2,
        "it is told when it is lost, and at the end: {stderr}"
    );
    check_nothing_is_left(&daemon);
    let pid = std::process::id().to_string();
    let (_, stderr) =
        outcome(&mut ctl(&daemon, &["acquire", "lic", "--while-pid", &pid, "--ttl", "60s"]), 80);
    assert!(stderr.contains("before the process has ended"), "{stderr}");
    check_nothing_is_left(&daemon);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_daemon_that_is_gone_for_a_while_is_waited_for() {
    let mut daemon = daemon();
    take(&daemon);
    let child = start(&mut run(&daemon, &[], &["sh", "-c", "exit 6"]));
    daemon.wait_for_blocked(1);
    daemon.kill();
    daemon.start_again(Port::Same);
    daemon.wait_for_blocked(1);
    daemon.call("DELETE", "/api/v1/claims/taken", "");
    assert_eq!(finish(child).status.code(), Some(6));
    check_nothing_is_left(&daemon);
}

#[test]
fn a_daemon_that_is_gone_for_a_while_does_not_disturb_who_holds() {
    let mut daemon = daemon();
    let mut child = start_and_await_ready(&daemon, &["--ttl", "3s"]);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    daemon.kill();
    await_line(&mut stderr, "the lease could not be renewed");
    daemon.start_again(Port::Same);
    await_line(&mut stderr, "the lease is");
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(7));
    check_nothing_is_left(&daemon);
}

#[test]
fn a_daemon_that_is_gone_at_the_end_gets_the_release_later() {
    let mut daemon = daemon();
    let mut child = start_and_await_ready(&daemon, &[]);
    daemon.kill();
    send(&child, Signal::TERM);
    daemon.start_again(Port::Same);
    assert_eq!(finish_quietly(&mut child), Some(7));
    check_nothing_is_left(&daemon);
}

fn finish_quietly(child: &mut Child) -> Option<i32> {
    child.wait().unwrap().code()
}

#[test]
fn standard_input_is_the_commands() {
    let daemon = daemon();
    let mut child = start(run(&daemon, &[], &["cat"]).stdin(Stdio::piped()));
    child.stdin.take().unwrap().write_all(b"from outside\n").unwrap();
    let output = finish(child);
    assert_eq!(text(&output.stdout), "from outside\n");
    check_nothing_is_left(&daemon);
}

#[test]
fn the_command_is_no_zombie_while_the_permits_come_back() {
    let service = FakeService::start(|call| match call.method.as_str() {
        "PUT" => Reply::held(201, 300.0, 100.0),
        _ => Reply::HangUp,
    });
    let mut command = semaphorectl(&["run", "lic", "--", "sh", "-c", "echo $$"]);
    let mut child = start(command.env("SEMAPHORE_URL", service.url()));
    let mut pid = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
    service.wait_for("DELETE", 1);
    assert!(!Path::new("/proc").join(pid.trim_end()).exists(), "{pid}");
    for _ in 0..2 {
        send(&child, Signal::TERM);
    }
    finish(child);
}

#[test]
fn an_interrupt_at_the_terminal_reaches_the_command_once() {
    let daemon = daemon();
    // After the first interrupt the command sends a signal that comes back to it through its parent. One
    // that the parent had passed on a second time would be there before it.
    let script = "trap 'n=$((n+1)); [ $n = 1 ] && kill -USR1 $PPID' INT; \
                  trap 'echo interrupts=$n; exit 0' USR1; \
                  echo ready; while :; do sleep 0.05; done";
    let command = run(&daemon, &[], &["sh", "-c", script]);
    let (shown, _) = outcome(&mut on_terminal(&command, 80, "ready", "\x03"), 0);
    assert!(shown.contains("interrupts=1\n"), "{shown}");
    check_nothing_is_left(&daemon);
}

#[test]
fn an_interrupt_at_the_terminal_ends_the_wait() {
    let daemon = daemon();
    take(&daemon);
    let command = run(&daemon, &[], &["true"]);
    let (shown, _) = outcome(&mut on_terminal(&command, 80, "position 1", "\x03"), 130);
    assert!(shown.contains("SIGINT: leaving the queue"), "{shown}");
    daemon.call("DELETE", "/api/v1/claims/taken", "");
    check_nothing_is_left(&daemon);
}
