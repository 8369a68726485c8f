//! `semaphorectl run`, the real binary, against a service that each test scripts.

use std::{
    io::{BufReader, Read},
    net::TcpListener,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::Signal;

use crate::{
    client::{
        READY_THEN_WAIT, await_line, await_ready, check, closed_port, finish, semaphorectl, send,
        start, text,
    },
    fake_service::{FakeService, Reply},
};

/// `semaphorectl run` with these options, to this service.
fn run(service: &FakeService, options: &[&str], child: &[&str]) -> Command {
    let mut command = semaphorectl(&["run"]);
    command.env("SEMAPHORE_URL", service.url()).args(options).arg("--").args(child);
    command
}

/// A service that grants at once.
fn granting() -> FakeService {
    FakeService::start(|call| match call.method.as_str() {
        "PUT" => Reply::held(201, 300.0, 100.0),
        "POST" => Reply::held(200, 300.0, 100.0),
        _ => Reply::no_content(),
    })
}

#[test]
fn the_child_gets_its_claim_and_its_exit_code_is_returned() {
    let service = granting();
    let script = "echo $SEMAPHORE_CLAIM_ID $SEMAPHORE_FENCES; echo \"$@\" >&2; exit 5";
    let mut command = run(&service, &["lic"], &["sh", "-c", script, "sh", "a  b", "--wait"]);
    let output = finish(start(command.env("SEMAPHORE_TOKEN", "t0ken")));
    let calls = service.calls();
    let claim = calls[0].claim();
    assert_eq!(text(&output.stdout), format!("{claim} {{\"lic\":7}}\n"));
    assert!(text(&output.stderr).ends_with("a  b --wait\n"));
    assert_eq!(output.status.code(), Some(5));
    let methods: Vec<_> = calls.iter().map(|call| call.method.as_str()).collect();
    assert_eq!(methods, ["PUT", "DELETE"]);
    assert_eq!(calls[0].target, format!("/api/v1/claims/{claim}?wait=2s"));
    assert!(calls.iter().all(|call| call.authorization.as_deref() == Some("Bearer t0ken")));
    assert_eq!(calls[1].claim(), claim);
}

#[test]
fn the_request_says_what_was_asked_for_and_nothing_else() {
    let service = granting();
    check(&mut run(&service, &["lic", "--holder", "me"], &["true"]), 0);
    assert_eq!(service.calls()[0].body, r#"{"permits":{"lic":1},"holder":"me"}"#);
    let options = "-p b=2 -p a --holder=me --ttl 90 --wait-timeout 2h --priority=-3 \
                   --label k=v --no-queue --quiet";
    let options: Vec<_> = options.split_whitespace().collect();
    let stderr = check(&mut run(&service, &options, &["true"]), 0);
    assert_eq!(stderr, "");
    assert_eq!(
        service.calls()[2].body,
        r#"{"permits":{"a":1,"b":2},"holder":"me","ttl":"90s","wait_timeout":"2h","priority":-3,"labels":{"k":"v"},"queue":false}"#
    );
}

#[test]
fn a_wait_repeats_one_claim_until_it_is_held() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("PUT", 0) => Reply::waiting(2, "Retry-After: 0\r\n"),
        ("PUT", 1) => Reply::HangUp,
        ("PUT", 2) => Reply::problem(503, "storage-low", "no new claims"),
        ("PUT", 3) => Reply::waiting(1, "Retry-After: 0\r\n"),
        ("PUT", _) => Reply::held(201, 300.0, 100.0),
        _ => Reply::no_content(),
    });
    let stderr = check(&mut run(&service, &["lic"], &["true"]), 0);
    let puts = service.calls_of("PUT");
    assert_eq!(puts.len(), 5);
    assert!(puts.iter().all(|put| put.claim() == puts[0].claim() && put.body == puts[0].body));
    let waits: Vec<_> = puts.iter().map(|put| put.target.rsplit('=').next().unwrap()).collect();
    assert_eq!(waits, ["2s", "50s", "2s", "2s", "50s"]);
    assert!(stderr.contains("semaphorectl: waiting for 1 permit of lic, position 2"), "{stderr}");
    assert!(stderr.contains("no new claims (storage-low, HTTP 503); trying again"), "{stderr}");
}

#[test]
fn refusals_have_their_exit_codes() {
    let cases = [
        (404, "unknown-semaphore", 65),
        (422, "never-satisfiable", 65),
        (401, "no-token", 77),
        (409, "no-permit", 75),
    ];
    for (status, code, exit) in cases {
        let service =
            FakeService::start(move |_| Reply::problem(status, code, "do something else"));
        let stderr = check(&mut run(&service, &["lic"], &["true"]), exit);
        let expected = format!("do something else ({code}, HTTP {status})");
        assert!(stderr.contains(&expected), "{stderr}");
        assert_eq!(service.calls().len(), 1);
    }
}

#[test]
fn a_wait_that_the_service_ends_has_its_exit_code() {
    for (reason, exit) in [("wait_timeout", 75), ("revoked", 79), ("unsatisfiable", 65)] {
        let service = FakeService::start(move |call| match call.nth {
            0 => Reply::waiting(1, "Retry-After: 0\r\n"),
            _ => Reply::ended(reason),
        });
        check(&mut run(&service, &["lic"], &["true"]), exit);
        assert_eq!(service.calls_of("DELETE").len(), 0, "{reason}");
    }
}

#[test]
fn an_unreachable_service_is_given_up() {
    let (_port, url) = closed_port();
    let arguments =
        ["run", "lic", "--url", url.as_str(), "--unreachable-timeout", "1s", "--", "true"];
    let stderr = check(&mut semaphorectl(&arguments), 69);
    assert!(stderr.contains("out of reach for 1s"), "{stderr}");
}

#[test]
fn a_service_that_comes_up_late_is_found() {
    let (port, url) = closed_port();
    let arguments = ["run", "lic", "--url", url.as_str(), "--", "true"];
    let mut child = start(&mut semaphorectl(&arguments));
    // The first failure is told, so the service starts after it.
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    await_line(&mut stderr, "trying again");
    port.listen(16).unwrap();
    let service = FakeService::listen(TcpListener::from(port), |call| {
        if call.is("PUT") { Reply::held(201, 300.0, 100.0) } else { Reply::no_content() }
    });
    let output = finish(child);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(service.calls_of("DELETE").len(), 1);
}

#[test]
fn a_signal_ends_the_wait_and_leaves_the_queue() {
    let service = FakeService::start(|call| match call.method.as_str() {
        "PUT" => Reply::AfterDelete(Box::new(Reply::ended("cancelled"))),
        _ => Reply::no_content(),
    });
    let child = start(&mut run(&service, &["lic"], &["true"]));
    service.wait_for("PUT", 1);
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(143));
    assert_eq!(service.calls_of("DELETE").len(), 1);
    assert_eq!(service.calls_of("PUT").len(), 1);
}

#[test]
fn a_put_that_arrives_after_the_delete_is_released_too() {
    // The PUT is under way when the DELETE comes first, and then makes the claim anew.
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("PUT", _) => Reply::AfterDelete(Box::new(Reply::held(201, 300.0, 100.0))),
        ("DELETE", 0) => Reply::problem(404, "unknown-claim", "no such claim"),
        _ => Reply::no_content(),
    });
    let child = start(&mut run(&service, &["lic"], &["true"]));
    service.wait_for("PUT", 1);
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(143));
    assert_eq!(service.calls_of("DELETE").len(), 2);
    assert_eq!(service.calls_of("PUT").len(), 1);
}

#[test]
fn a_signal_is_passed_on_and_the_permits_come_back() {
    let service = granting();
    let mut child = start(&mut run(&service, &["lic"], READY_THEN_WAIT));
    await_ready(&mut child);
    send(&child, Signal::TERM);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    assert_eq!(service.calls_of("DELETE").len(), 1);
}

#[test]
fn a_child_that_a_signal_ended_shows() {
    let service = granting();
    check(&mut run(&service, &["lic"], &["sh", "-c", "kill -USR1 $$"]), 128 + 10);
    assert_eq!(service.calls_of("DELETE").len(), 1);
}

#[test]
fn a_command_that_cannot_be_started_gives_the_permits_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("not-executable");
    std::fs::write(&path, "x").unwrap();
    for (command, code) in [("does-not-exist-anywhere", 127), (path.to_str().unwrap(), 126)] {
        let service = granting();
        let stderr = check(&mut run(&service, &["lic"], &[command]), code);
        assert!(stderr.contains(command), "{stderr}");
        assert_eq!(service.calls_of("DELETE").len(), 1);
    }
}

#[test]
fn the_lease_is_renewed_while_the_child_runs() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("PUT", _) => Reply::held(201, 300.0, 0.2),
        ("POST", 1) => Reply::HangUp,
        ("POST", _) => Reply::held(200, 300.0, 0.2),
        _ => Reply::no_content(),
    });
    let mut child = start(&mut run(&service, &["lic"], READY_THEN_WAIT));
    await_ready(&mut child);
    service.wait_for("POST", 4);
    send(&child, Signal::TERM);
    let output = finish(child);
    assert_eq!(output.status.code(), Some(7));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("the lease could not be renewed"), "{stderr}");
    assert!(stderr.contains("the lease is renewed again"), "{stderr}");
    let renew = &service.calls_of("POST")[0];
    assert_eq!(renew.target, format!("/api/v1/claims/{}/renew", renew.claim()));
    assert_eq!(renew.body, "");
}

/// A service that grants a lease of a second and answers each renewal with this.
fn losing(renewal: impl Fn() -> Reply + Send + Sync + 'static) -> FakeService {
    FakeService::start(move |call| match call.method.as_str() {
        "PUT" => Reply::held(201, 1.0, 0.2),
        "POST" => renewal(),
        _ => Reply::no_content(),
    })
}

#[test]
fn a_lost_lease_stops_the_command_where_that_is_wanted() {
    for (reason, code, words) in
        [("expired", 80, "its lease expired"), ("revoked", 79, "an admin revoked it")]
    {
        let service = losing(move || Reply::ended(reason));
        let options = ["lic", "--on-lost", "terminate"];
        let stderr = check(&mut run(&service, &options, READY_THEN_WAIT), code);
        assert!(stderr.contains(words), "{stderr}");
        assert_eq!(service.calls_of("DELETE").len(), 0, "the service said that it is over");
    }
}

#[test]
fn a_lease_that_cannot_be_renewed_is_lost_by_the_clock() {
    let service = losing(|| Reply::HangUp);
    let options = ["lic", "--on-lost=terminate"];
    let stderr = check(&mut run(&service, &options, READY_THEN_WAIT), 80);
    assert!(stderr.contains("could not be renewed within its 1s"), "{stderr}");
    assert_eq!(service.calls_of("DELETE").len(), 1);
}

#[test]
fn a_lost_lease_is_only_told_where_nothing_is_said_and_may_come_back() {
    let back = Arc::new(AtomicBool::new(false));
    let is_back = Arc::clone(&back);
    let service = losing(move || match is_back.load(Ordering::Relaxed) {
        true => Reply::held(200, 60.0, 20.0),
        false => Reply::problem(503, "stopping", "the service stops"),
    });
    let mut child = start(&mut run(&service, &["lic"], READY_THEN_WAIT));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    await_ready(&mut child);
    await_line(&mut stderr, "the command runs on");
    back.store(true, Ordering::Relaxed);
    await_line(&mut stderr, "the lease is alive after all");
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(7));
    assert_eq!(service.calls_of("DELETE").len(), 1);
}

/// What a renewal of a claim is answered that `max_hold` ends before its ttl is over.
fn held_until(expires_in: f64, renew_after: f64) -> Reply {
    let body = format!(
        r#"{{"state":"held","fences":{{"lic":7}},"ttl_seconds":60,"expires_in_seconds":{expires_in},
        "renew_after_seconds":{renew_after}}}"#
    );
    Reply::json(200, body)
}

#[test]
fn a_lease_that_nothing_prolongs_is_lost_on_time_and_renewed_no_more() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("PUT", _) => held_until(2.0, 2.0),
        ("POST", 0) => held_until(0.4, 1.0),
        // The service has not seen yet that it is over.
        ("POST", 1) => held_until(0.0, 1.0),
        ("POST", _) => Reply::ended("expired"),
        _ => Reply::no_content(),
    });
    let mut child = start(&mut run(&service, &["lic"], READY_THEN_WAIT));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    await_ready(&mut child);
    await_line(&mut stderr, "max_hold");
    assert_eq!(service.calls_of("POST").len(), 1, "one look before the end, and none at it");
    service.wait_for("POST", 3);
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(7));
    assert_eq!(service.calls_of("POST").len(), 3);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("the lease"), "told once: {rest}");
}

/// What something before the service answers.
fn page(status: u16) -> Reply {
    Reply::json(status, "<html>moved</html>")
}

#[test]
fn a_claim_of_a_put_that_was_not_answered_is_given_back_after_a_refusal() {
    type Answer = fn() -> Reply;
    let no_answer: Answer = || Reply::HangUp;
    let cases: [(Answer, Answer, i32, usize); 9] = [
        (no_answer, || page(404), 65, 1),
        (no_answer, || Reply::problem(429, "queue-full", "full"), 75, 1),
        (no_answer, || Reply::problem(401, "token-invalid", "no"), 77, 1),
        (|| page(504), || page(404), 65, 1),
        // What says that the claim is over says that nothing is left.
        (no_answer, || Reply::ended("wait_timeout"), 75, 0),
        (no_answer, || page(410), 65, 1),
        // There is one, and it is another's; and none that could be ours.
        (no_answer, || Reply::problem(409, "claim-differs", "it is another"), 70, 0),
        (|| page(502), || Reply::problem(422, "never-satisfiable", "too many"), 65, 0),
        // It was answered, and with no claim.
        (|| page(404), || page(404), 65, 0),
    ];
    for (at, (first, second, exit, deletes)) in cases.into_iter().enumerate() {
        let service = FakeService::start(move |call| match (call.method.as_str(), call.nth) {
            ("PUT", 0) => first(),
            ("PUT", _) => second(),
            _ => Reply::no_content(),
        });
        check(&mut run(&service, &["lic", "--no-queue"], &["true"]), exit);
        let given_back = service.calls_of("DELETE");
        assert_eq!(given_back.len(), deletes, "case {at}");
        assert!(given_back.iter().all(|call| call.claim() == service.calls()[0].claim()));
    }
}

/// Another job may hold a claim under the same id.
#[test]
fn nobody_gives_back_what_is_under_an_id_that_was_chosen_and_never_was_his() {
    let answers: [(fn() -> Reply, i32); 3] = [
        (|| Reply::problem(409, "claim-differs", "it is another"), 65),
        (|| page(404), 65),
        (|| Reply::problem(429, "too-many-requests", "slower"), 75),
    ];
    for (second, exit) in answers {
        let service = FakeService::start(move |call| match (call.method.as_str(), call.nth) {
            ("PUT", 0) => Reply::problem(503, "stopping", "in a moment"),
            ("PUT", _) => second(),
            _ => Reply::no_content(),
        });
        let mut command =
            semaphorectl(&["acquire", "lic", "--no-queue", "--ttl", "2h", "--id", "pipe-7"]);
        let stderr = check(command.env("SEMAPHORE_URL", service.url()), exit);
        assert_eq!(service.calls_of("DELETE").len(), 0, "{stderr}");
    }
}

#[test]
fn only_the_service_can_say_that_a_claim_is_given_back() {
    for status in [404, 410, 200] {
        let service = FakeService::start(move |call| match (call.method.as_str(), call.nth) {
            ("PUT", _) => Reply::held(201, 300.0, 100.0),
            (_, 0) => page(status),
            _ => Reply::no_content(),
        });
        check(&mut run(&service, &["lic"], &["true"]), 0);
        assert_eq!(service.calls_of("DELETE").len(), 2, "{status}");
    }
}

#[test]
fn only_the_service_can_say_that_the_lease_is_lost() {
    let service = losing(|| page(410));
    let options = ["lic", "--on-lost=terminate"];
    let stderr = check(&mut run(&service, &options, READY_THEN_WAIT), 80);
    assert!(stderr.contains("could not be renewed within its 1s"), "{stderr}");
    assert_eq!(service.calls_of("DELETE").len(), 1);
}

#[test]
fn a_release_is_tried_again() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("PUT", _) => Reply::held(201, 300.0, 100.0),
        (_, 0) => Reply::HangUp,
        (_, 1) => Reply::problem(503, "stopping", "the service stops"),
        _ => Reply::no_content(),
    });
    let stderr = check(&mut run(&service, &["lic"], &["sh", "-c", "exit 4"]), 4);
    assert_eq!(service.calls_of("DELETE").len(), 3);
    assert!(!stderr.contains("warning"), "{stderr}");
}

#[test]
fn a_second_signal_gives_the_release_up() {
    let service = FakeService::start(|call| match call.method.as_str() {
        "PUT" => Reply::held(201, 300.0, 100.0),
        _ => Reply::HangUp,
    });
    let mut child = start(&mut run(&service, &["lic"], &["sh", "-c", "exit 4"]));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    service.wait_for("DELETE", 1);
    send(&child, Signal::TERM);
    await_line(&mut stderr, "again to give up");
    send(&child, Signal::TERM);
    await_line(&mut stderr, "may not be released");
    assert_eq!(finish(child).status.code(), Some(4));
}

#[test]
fn a_run_inside_a_run_warns() {
    let service = granting();
    let mut command = run(&service, &["lic"], &["true"]);
    let stderr = check(command.env("SEMAPHORE_CLAIM_ID", "outer"), 0);
    assert!(stderr.contains("warning: a run inside a run: claim outer"), "{stderr}");
}

#[test]
fn wrong_command_lines_are_explained() {
    for (line, expected) in [
        ("", "no command"),
        ("rnu", "Did you mean run?"),
        ("run lic --wait-timout 2h -- true", "Did you mean --wait-timeout?"),
        ("run lic vsim -do x", "semaphorectl run lic -- vsim -do x"),
        ("run -- true", "name a semaphore"),
    ] {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let stderr = check(&mut semaphorectl(&arguments), 64);
        assert!(stderr.contains(expected), "{line}: {stderr}");
        assert!(stderr.contains("--help"), "{line}: {stderr}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (line, expected) in [
        ("--help", "semaphorectl run FlexLM-Riviera -- vsim"),
        ("help run", "--unreachable-timeout <DURATION>"),
        ("run -h", "Exit codes"),
        ("--version", env!("CARGO_PKG_VERSION")),
        ("run --version", env!("CARGO_PKG_VERSION")),
    ] {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let output = finish(start(&mut semaphorectl(&arguments)));
        assert_eq!(output.status.code(), Some(0), "{line}");
        assert!(text(&output.stdout).contains(expected), "{line}: {}", text(&output.stdout));
        assert_eq!(text(&output.stderr), "", "{line}");
    }
}
