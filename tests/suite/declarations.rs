//! The configuration's semaphores, and who has the last word.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::daemon::{Daemon, Port};

fn capacity(daemon: &Daemon, name: &str) -> Option<u64> {
    let answer = daemon.call("GET", &format!("/api/v1/semaphores/{name}"), "");
    (answer.status == 200).then(|| answer.json()["capacity"].as_u64().unwrap())
}

fn restart_with(daemon: &mut Daemon, config: &str) {
    daemon.stop();
    daemon.configure(config);
    daemon.start_again(Port::New);
}

#[test]
fn what_an_admin_changed_stays_until_the_file_says_something_new() {
    let mut daemon = Daemon::start("[semaphores]\nA = 5");
    assert_eq!(daemon.call("PATCH", "/api/v1/semaphores/A", r#"{"capacity": 7}"#).status, 200);
    restart_with(&mut daemon, "[semaphores]\nA = 5 # the same, with a comment");
    assert_eq!(capacity(&daemon, "A"), Some(7));
    restart_with(&mut daemon, "[semaphores]\nA = 6");
    assert_eq!(capacity(&daemon, "A"), Some(6));
    let described = "[semaphores.A]\ncapacity = 6\ncooldown = \"1s\"";
    restart_with(&mut daemon, described);
    assert_eq!(daemon.look("/api/v1/semaphores/A")["cooldown_seconds"], 1);
}

/// The file has no key for it, so no word of the file is about it.
#[test]
fn a_drained_semaphore_stays_so_whatever_else_its_declaration_says() {
    let mut daemon = Daemon::start("[semaphores]\nA = 1");
    let drained = daemon.call("PATCH", "/api/v1/semaphores/A", r#"{"state": "draining"}"#);
    assert_eq!(drained.status, 200);
    let refused = |daemon: &Daemon| {
        let body = r#"{"permits": {"A": 1}, "queue": false}"#;
        let answer = daemon.call("PUT", "/api/v1/claims/x", body);
        (answer.status, answer.json()["code"].clone())
    };
    daemon.read_again("[semaphores.A]\ncapacity = 1\ndescription = \"a board\"");
    assert_eq!(daemon.look("/api/v1/semaphores/A")["description"], "a board");
    assert_eq!(refused(&daemon), (409, "draining".into()));
    daemon.log().wait_for("changed A as declared: capacity 1; it stays draining");
    restart_with(&mut daemon, "[semaphores]\nA = 2");
    let found = daemon.look("/api/v1/semaphores/A");
    assert_eq!((found["capacity"].as_u64(), found["state"].as_str()), (Some(2), Some("draining")));
    assert_eq!(refused(&daemon), (409, "draining".into()));
    // The declaration was applied: it is not applied again over what an admin says next.
    let opened = daemon.call("PATCH", "/api/v1/semaphores/A", r#"{"state": "open"}"#);
    assert_eq!(opened.status, 200);
    restart_with(&mut daemon, "[semaphores]\nA = 3");
    assert_eq!(daemon.look("/api/v1/semaphores/A")["state"], "open");
    assert!(!daemon.log().text().contains("stays draining"), "{}", daemon.log().text());
}

#[test]
fn what_vanished_from_the_file_goes_unless_claims_use_it() {
    let mut daemon = Daemon::start("[semaphores]\nA = 1\nB = 1");
    assert_eq!(daemon.call("PUT", "/api/v1/semaphores/C", r#"{"capacity": 1}"#).status, 201);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/x", r#"{"permits": {"A": 1}}"#).status, 201);
    restart_with(&mut daemon, "");
    daemon.log().wait_for("A is not declared any more and is kept: 1 live claims name A");
    let left = ["A", "B", "C"].map(|name| capacity(&daemon, name));
    assert_eq!(left, [Some(1), None, Some(1)], "used, unused, and made over the API");
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/x", "").status, 204);
    restart_with(&mut daemon, "");
    assert_eq!(capacity(&daemon, "A"), None);
}

/// Else its permits would be back at once, before the licence server has them.
#[test]
fn what_vanished_from_the_file_stays_while_its_permits_cool() {
    let c = "[semaphores.C]\ncapacity = 1\ncooldown = \"1h\"";
    let mut daemon = Daemon::start(c);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/x", r#"{"permits": {"C": 1}}"#).status, 201);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/x", "").status, 204);
    daemon.read_again("");
    daemon.log().wait_for("C is not declared any more and is kept: 1 permits of C cool until 20");
    restart_with(&mut daemon, c);
    let found = daemon.look("/api/v1/semaphores/C");
    assert_eq!((&found["cooling"], &found["available"]), (&1.into(), &0.into()), "{found}");

    let refused = daemon.call("DELETE", "/api/v1/semaphores/C", "");
    assert_eq!((refused.status, refused.code().as_str()), (409, "semaphore-in-use"));
    let said = refused.json();
    assert_eq!((&said["claims"], &said["cooling"]), (&0.into(), &1.into()), "{said}");
    let until = said["cooling_until"].as_str().unwrap();
    let detail = said["detail"].as_str().unwrap();
    for word in ["`C`", "cool", until, "?force=true"] {
        assert!(detail.contains(word), "{word} is not in: {detail}");
    }
    assert_eq!(daemon.call("DELETE", "/api/v1/semaphores/C?force=true", "").status, 204);
    let again = daemon.call("PUT", "/api/v1/semaphores/C", r#"{"capacity": 1}"#).json();
    assert_eq!(again["available"], 1, "{again}");
}

#[test]
fn a_declaration_that_would_end_claims_is_refused_with_a_reason() {
    let mut daemon = Daemon::start("[semaphores]\nA = 3");
    assert_eq!(daemon.call("PUT", "/api/v1/claims/x", r#"{"permits": {"A": 1}}"#).status, 201);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/y", r#"{"permits": {"A": 3}}"#).status, 202);
    restart_with(&mut daemon, "[semaphores]\nA = 2");
    daemon.log().wait_for("the declaration of A was not applied: 1 waiting claims ask for more");
    assert_eq!(capacity(&daemon, "A"), Some(3));
    assert_eq!(daemon.look("/api/v1/claims/y")["state"], "waiting");
}

#[test]
fn sighup_reads_the_file_again_and_refuses_a_wrong_one_whole() {
    let daemon = Daemon::start("[semaphores]\nA = 1\nB = 1");
    let read_again = |config: &str, log: &str| {
        daemon.configure(config);
        daemon.signal(Signal::HUP);
        daemon.log().wait_for(log);
    };
    read_again("[semaphores]\nA = 2\nC = 3", "the configuration was read again");
    let found = ["A", "B", "C"].map(|name| capacity(&daemon, name));
    assert_eq!(found, [Some(2), None, Some(3)]);
    let refused = "the configuration was not read again, all stays as it is: ";
    read_again("[semaphores]\nA = 5\nC = \"many\"", refused);
    daemon.log().wait_for("a number of permits, or a table");
    assert_eq!(["A", "C"].map(|name| capacity(&daemon, name)), [Some(2), Some(3)]);
    let limits = "[semaphores]\nA = 2\nC = 3\n[limits]\nwait_max = \"5s\"";
    read_again(limits, "`limits` has changed in the configuration and counts from the next start");
}

#[test]
fn sighup_lets_who_waits_in_when_the_capacity_rises() {
    let daemon = Daemon::start("[semaphores]\nA = 1");
    let body = r#"{"permits": {"A": 1}}"#;
    assert_eq!(daemon.call("PUT", "/api/v1/claims/x", body).status, 201);
    let waiting = daemon.call_later("PUT", "/api/v1/claims/y?wait=50", body);
    daemon.wait_for_blocked(1);
    daemon.configure("[semaphores]\nA = 2");
    daemon.signal(Signal::HUP);
    assert_eq!(waiting.join().unwrap().status, 201);
}

/// Runs a daemon that does not come up; returns exit code and standard error.
fn start_in_vain(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_semaphored"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_second_daemon_on_the_same_data_is_kept_out() {
    let daemon = Daemon::start("[semaphores]\nA = 1");
    let data_dir = daemon.data_dir();
    let config = daemon.config_file();
    let arguments = [
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data_dir.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
    ];
    let (code, error) = start_in_vain(&arguments);
    assert_eq!(code, Some(75), "{error}");
    assert!(error.contains("is in use by another semaphored (process "), "{error}");
    assert_eq!(daemon.call("GET", "/readyz", "").status, 200);
}

#[test]
fn a_wrong_start_says_what_is_wrong_and_with_which_code() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    std::fs::write(&file, "listen = \"127.0.0.1:0\"\nlimit = 5\n").unwrap();
    let file = file.to_str().unwrap();
    for (arguments, code, text) in [
        (vec!["--config", file], 78, "unknown field `limit`"),
        (vec!["--config", file, "--check-config"], 78, "line 2"),
        (vec!["--config", "/nowhere/x.toml"], 78, "cannot read the configuration /nowhere/x.toml"),
        (vec!["--data-dri", "/tmp"], 64, "Did you mean --data-dir?"),
        (vec!["--listen", "0.0.0.0:0"], 78, "expose = true"),
    ] {
        let (found, error) = start_in_vain(&arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {error}");
        assert!(error.contains(text), "{arguments:?}: {error}");
    }
}
