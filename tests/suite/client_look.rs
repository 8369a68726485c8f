//! The commands of `semaphorectl` that look: tables letter by letter, JSON as the service gives it, and
//! `--watch`, in a pipe and on a terminal.

use std::io::{BufRead, BufReader};

use regex_lite::Regex;
use rustix::process::Signal;
use serde_json::Value;

use crate::{
    client::{ctl, finish, on_terminal, outcome, plain, send, start, told},
    daemon::Daemon,
};

/// Two semaphores, two holders and two that wait.
fn farm() -> Daemon {
    let config = "[semaphores]\nlic = 2\n[semaphores.board]\ncapacity = 3\ndefault_ttl = \"1h\"\n\
                  cooldown = \"60s\"\ndescription = \"FPGA boards in rack 7\"";
    let daemon = Daemon::start(config);
    for (id, body) in [
        ("a", r#"{"permits": {"lic": 1}, "holder": "https://gitlab/jobs/1", "ttl": "2h"}"#),
        ("b", r#"{"permits": {"lic": 1, "board": 2}, "ttl": "2h"}"#),
        ("c", r#"{"permits": {"lic": 1}, "holder": "job 3"}"#),
        ("d", r#"{"permits": {"lic": 2, "board": 1}, "priority": -5}"#),
    ] {
        let response = daemon.call("PUT", &format!("/api/v1/claims/{id}"), body);
        assert!(response.status < 300, "{response:?}");
    }
    daemon
}

/// The text with the digits of times as `N`.
fn masked(text: &str) -> String {
    // A lease of two hours shows as 1h 59m, or in its first moment as 2h 00m.
    let leases = Regex::new(r"\b(1h 59m|2h 00m)").unwrap().replace_all(text, "Nh NNm");
    let leases = Regex::new(r"\b(1m 5\ds|2m 00s)").unwrap().replace_all(&leases, "Nm NNs");
    Regex::new(r"\b\d+s\b").unwrap().replace_all(&leases, "Ns").into_owned()
}

fn check(daemon: &Daemon, arguments: &[&str], expected: &str) {
    let (stdout, stderr) = outcome(&mut ctl(daemon, arguments), 0);
    assert_eq!(masked(&stdout), expected, "{arguments:?}\n{stdout}");
    assert_eq!(stderr, "");
}

#[test]
fn tables_are_as_they_are() {
    let daemon = farm();
    check(
        &daemon,
        &["status"],
        "\
SEMAPHORE  STATE  CAPACITY  IN USE  OFFERED  COOLING  SET ASIDE  AVAILABLE  WAITING  LONGEST WAIT
board      open          3       2        0        0          1          0        1            Ns
lic        open          2       2        0        0          0          0        2            Ns
",
    );
    check(
        &daemon,
        &["queue", "lic"],
        "\
POSITION  ID  WAITED  PERMITS    PRIORITY  PRESENCE  HOLDER
       1  c       Ns  1                 0  present   job 3
       2  d       Ns  2,board=1        -5  present   -
",
    );
    check(
        &daemon,
        &["claims"],
        "\
ID  STATE    FOR  EXPIRES IN  PERMITS        PRIORITY  HOLDER
a   held      Ns      Nh NNm  lic=1                 0  https://gitlab/jobs/1
b   held      Ns      Nh NNm  board=2,lic=1         0  -
c   waiting   Ns      Nm NNs  lic=1                 0  job 3
d   waiting   Ns      Nm NNs  board=1,lic=2        -5  -
",
    );
    let held = ["claims", "--state=held", "--holder", "https://gitlab/jobs/1", "--no-header"];
    check(&daemon, &held, "a  held  Ns  Nh NNm  lic=1  0  https://gitlab/jobs/1\n");
    check(&daemon, &["queue", "board", "--no-header"], "1  d  Ns  1,lic=2  -5  present  -\n");
}

#[test]
fn one_semaphore_is_shown_with_holders_and_queue() {
    let daemon = farm();
    check(
        &daemon,
        &["status", "board"],
        "\
board
  state          open
  capacity       3
  in use         2
  offered        0
  cooling        0
  set aside      1
  available      0
  waiting        1
  lease          1h
  longest lease  24h
  longest hold   no limit
  wait timeout   no limit
  cooldown       1m
  declared by    file
  description    FPGA boards in rack 7

Holders
ID  STATE  FOR  EXPIRES IN  PERMITS        PRIORITY  HOLDER
b   held    Ns      Nh NNm  board=2,lic=1         0  -

Queue
POSITION  ID  WAITED  PERMITS  PRIORITY  PRESENCE  HOLDER
       1  d       Ns  1,lic=2        -5  present   -
",
    );
}

#[test]
fn json_is_the_services() {
    let daemon = farm();
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&told(&daemon, &[arguments, &["--json"]].concat(), 0)).unwrap()
    };
    // What passes by itself is left out.
    let without_times = |mut value: Value| {
        for claim in value["claims"].as_array_mut().unwrap() {
            for member in ["waited_seconds", "expires_in_seconds", "expires_at"] {
                claim.as_object_mut().unwrap().remove(member);
            }
        }
        value
    };
    let claims = without_times(json(&["claims"]));
    assert_eq!(claims, without_times(daemon.look("/api/v1/claims")));
    let queue = without_times(json(&["queue", "lic"]));
    let waiting = "/api/v1/claims?semaphore=lic&state=waiting";
    assert_eq!(queue, without_times(daemon.look(waiting)));
    assert_eq!(json(&["status", "lic"])["capacity"], 2);
    assert_eq!(json(&["status"])["semaphores"].as_array().unwrap().len(), 2);
}

#[test]
fn claims_of_all_pages_are_shown() {
    let daemon = Daemon::start("[semaphores]\nlic = 1000");
    for n in 0..501 {
        daemon.call("PUT", &format!("/api/v1/claims/c{n}"), r#"{"permits": {"lic": 1}}"#);
    }
    assert_eq!(told(&daemon, &["claims", "--no-header"], 0).lines().count(), 501);
    let json: Value = serde_json::from_str(&told(&daemon, &["claims", "--json"], 0)).unwrap();
    assert_eq!((json["claims"].as_array().unwrap().len(), &json["next"]), (501, &Value::Null));
}

#[test]
fn nothing_to_see_is_said() {
    let empty = Daemon::start("");
    let (stdout, stderr) = outcome(&mut ctl(&empty, &["status", "--no-header"]), 0);
    assert_eq!(stdout, "");
    assert!(stderr.contains("there are no semaphores yet; an admin declares them"), "{stderr}");
    let daemon = Daemon::start("[semaphores]\nlic = 2");
    let (stdout, stderr) = outcome(&mut ctl(&daemon, &["queue", "lic"]), 0);
    assert_eq!(stdout, "POSITION  ID  WAITED  PERMITS  PRIORITY  PRESENCE  HOLDER\n");
    assert!(stderr.contains("nobody waits for lic; 0 of 2 permits are in use"), "{stderr}");
    let (_, stderr) = outcome(&mut ctl(&daemon, &["claims"]), 0);
    assert!(stderr.contains("there are no live claims"), "{stderr}");
    let (_, stderr) = outcome(&mut ctl(&daemon, &["claims", "--state", "held"]), 0);
    assert!(stderr.contains("no live claim fits"), "{stderr}");
}

#[test]
fn wrong_names_and_states_are_told() {
    let daemon = Daemon::start("[semaphores]\nlic = 2");
    for arguments in [&["status", "lci"][..], &["queue", "lci"], &["claims", "--semaphore=lci"]] {
        let (_, stderr) = outcome(&mut ctl(&daemon, arguments), 65);
        assert!(stderr.contains("did you mean `lic`?"), "{stderr}");
    }
    let (_, stderr) = outcome(&mut ctl(&daemon, &["claims", "--state", "hled"]), 64);
    assert!(stderr.contains("Did you mean held?"), "{stderr}");
    let (_, stderr) = outcome(&mut ctl(&daemon, &["queue"]), 64);
    assert!(stderr.contains("NAME is missing: semaphorectl queue"), "{stderr}");
}

#[test]
fn a_service_that_is_out_of_reach_is_told_at_once() {
    let mut daemon = Daemon::start("[semaphores]\nlic = 2");
    daemon.kill();
    let (stdout, stderr) = outcome(&mut ctl(&daemon, &["status"]), 69);
    assert_eq!(stdout, "");
    assert!(stderr.contains("out of reach"), "{stderr}");
    assert!(stderr.contains("`semaphorectl doctor` looks at what is wrong"), "{stderr}");
}

#[test]
fn a_watch_shows_each_change() {
    let daemon = farm();
    let mut watch = start(&mut ctl(&daemon, &["status", "--watch", "--json"]));
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut in_use = || {
        let json: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        json["semaphores"][1]["in_use"].as_u64().unwrap()
    };
    assert_eq!(in_use(), 2);
    told(&daemon, &["drain", "lic"], 0);
    assert_eq!(in_use(), 2);
    told(&daemon, &["release", "a"], 0);
    assert_eq!(in_use(), 1);
    send(&watch, Signal::INT);
    assert_eq!(finish(watch).status.code(), Some(130));
}

#[test]
fn a_watch_in_a_pipe_writes_blocks() {
    let daemon = farm();
    let mut watch = start(&mut ctl(&daemon, &["queue", "lic", "--watch", "--no-header"]));
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut block = |rows: usize| -> Vec<String> { lines.by_ref().take(rows).collect() };
    let first = block(3);
    assert!(first[0].ends_with(" UTC"), "{first:?}");
    assert!(first[1].starts_with("1  c"), "{first:?}");
    told(&daemon, &["release", "c"], 0);
    let second = block(3);
    assert_eq!(second[0], "");
    assert!(second[2].starts_with("1  d"), "{second:?}");
    send(&watch, Signal::TERM);
    assert_eq!(finish(watch).status.code(), Some(143));
}

#[test]
fn a_watch_outlives_the_daemon() {
    let mut daemon = farm();
    let mut watch = start(&mut ctl(&daemon, &["claims", "--watch", "--json"]));
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    daemon.kill();
    daemon.start_again(crate::daemon::Port::Same);
    told(&daemon, &["release", "c"], 0);
    while lines.next().unwrap().unwrap().contains("job 3") {}
    send(&watch, Signal::INT);
    assert_eq!(finish(watch).status.code(), Some(130));
}

#[test]
fn a_watch_on_a_terminal_is_drawn_in_place() {
    let daemon = farm();
    let command = ctl(&daemon, &["status", "--watch"]);
    // The movement up comes with the second picture.
    let (shown, stderr) = outcome(&mut on_terminal(&command, 80, "\x1b[4A", "\x03"), 130);
    assert_eq!(stderr, "");
    assert!(shown.contains("(Ctrl-C ends)\n"), "{shown}");
    assert!(shown.contains("\x1b[1mSEMAPHORE"), "titles stand out: {shown:?}");
    assert!(shown.ends_with('\n'), "the prompt gets a line of its own: {shown:?}");
}

#[test]
fn a_terminal_gets_lines_that_fit_and_colours_unless_unwanted() {
    let daemon = farm();
    let holder = format!("https://gitlab.example/{}/-/jobs/4711", "group/".repeat(30));
    let body = format!(r#"{{"permits": {{"lic": 1}}, "holder": "{holder}"}}"#);
    daemon.call("PUT", "/api/v1/claims/01a20bfe-0f86-700c-b266-2a03adc670dd", &body);
    for arguments in [&["status"][..], &["queue", "lic"], &["claims"], &["status", "lic"]] {
        let command = ctl(&daemon, arguments);
        let (shown, _) = outcome(&mut on_terminal(&command, 80, "", ""), 0);
        assert!(shown.contains("\x1b[1m"), "{shown:?}");
        let longest = plain(&shown).lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(80), "{shown}");
        let mut command = on_terminal(&command, 80, "", "");
        let (shown, _) = outcome(command.env("NO_COLOR", "1"), 0);
        assert!(!shown.contains('\x1b'), "{shown:?}");
        let (shown, _) = outcome(command.env_remove("NO_COLOR").env("TERM", "dumb"), 0);
        assert!(!shown.contains('\x1b'), "{shown:?}");
    }
    let command = ctl(&daemon, &["queue", "lic"]);
    let (shown, _) = outcome(&mut on_terminal(&command, 80, "", ""), 0);
    assert!(shown.contains("…") && shown.contains("/4711"), "{shown}");
    assert!(told(&daemon, &["queue", "lic"], 0).contains(&holder), "a pipe gets all of it");
}
