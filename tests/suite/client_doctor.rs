//! `semaphorectl doctor`: what it finds, and with which exit code it ends.

use serde_json::Value;

use crate::{
    client::{closed_port, ctl, outcome, semaphorectl},
    daemon::Daemon,
    fake_service::{FakeService, Reply},
};

const SERVICE: &str = concat!(
    r#"{"name":"semaphored","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","state":"running","storage":"ok"}"#
);

/// Runs it, and returns the results of its checks by name.
fn examine(url: &str, variables: &[(&str, &str)], code: i32) -> Value {
    let mut command = semaphorectl(&["doctor", "--quick", "--json"]);
    command.env("SEMAPHORE_URL", url).envs(variables.iter().copied());
    let (stdout, stderr) = outcome(&mut command, code);
    assert_eq!(stderr, "");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        assert_eq!(check["mend"].is_null(), check["result"] == "ok", "{check}");
    }
    checks.iter().map(|c| (c["check"].as_str().unwrap(), c["result"].clone())).collect()
}

#[test]
fn a_sound_service_is_sound() {
    let daemon = Daemon::start("[limits]\nwait_max = \"1s\"");
    let (stdout, stderr) = outcome(&mut ctl(&daemon, &["doctor", "--quick"]), 0);
    assert_eq!(stderr, "");
    let expected = format!(
        "ok    configuration   {} (from SEMAPHORE_URL), no token\n\
         ok    reach           answered within N ms\n\
         ok    service         semaphored, running\n\
         ok    version         semaphored 0.1.0, semaphorectl 0.1.0\n\
         ok    authentication  none needed\n\
         ok    clock           within 5s of the service's\n\
         ok    long wait       1s survive; that is the service's wait_max\n\
         ok    environment     nothing special\n",
        daemon.url()
    );
    let masked = regex_lite::Regex::new(r"\d+ ms").unwrap().replace(&stdout, "N ms");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(masked, expected.replace("0.1.0", version));
}

#[test]
fn what_is_broken_is_told_with_its_exit_code() {
    let (_port, url) = closed_port();
    let found = examine(&url, &[], 69);
    assert_eq!((&found["reach"], found.get("service")), (&"fail".into(), None));
    let found = examine("nonsense", &[], 78);
    assert_eq!(found["configuration"], "fail");
    let page = FakeService::start(|_| Reply::json(200, "<html>It works!</html>"));
    assert_eq!(examine(&page.url(), &[], 78)["service"], "fail");
    let bad_gateway = FakeService::start(|_| Reply::json(502, "<html>"));
    assert_eq!(examine(&bad_gateway.url(), &[], 69)["reach"], "fail");
    let closed = FakeService::start(|_| Reply::problem(401, "no-token", "a token is needed"));
    assert_eq!(examine(&closed.url(), &[], 77)["authentication"], "fail");
}

#[test]
fn a_proxy_that_cuts_waits_is_told() {
    let service = FakeService::start(|call| match call.target.contains("wait=") {
        true => Reply::json(504, "<html>"),
        false => Reply::json(200, SERVICE),
    });
    assert_eq!(examine(&service.url(), &[], 69)["long wait"], "fail");
}

#[test]
fn what_works_in_spite_of_it_is_a_warning() {
    let service = FakeService::start(|call| match call.target.contains("wait=") {
        true => Reply::json(200, r#"{"semaphores":[],"revision":1}"#),
        false => {
            let body = SERVICE.replace(env!("CARGO_PKG_VERSION"), "99.0.0");
            Reply::Answer(200, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", body)
        }
    });
    let found = examine(&service.url(), &[("SEMAPHORE_CLAIM_ID", "outer")], 0);
    for check in ["version", "clock", "long wait", "environment"] {
        assert_eq!(found[check], "warn", "{check}");
    }
}

#[test]
fn a_hint_says_what_to_mend() {
    let (_port, url) = closed_port();
    let mut command = semaphorectl(&["doctor", "--url", &url]);
    let (stdout, _) = outcome(&mut command, 69);
    assert!(stdout.contains("fail  reach"), "{stdout}");
    assert!(stdout.contains("mend: nobody takes the connection"), "{stdout}");
}
