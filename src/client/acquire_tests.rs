//! Tests of what the answers to an acquire mean.

use super::*;

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.into(), ..Answer::default() }
}

fn make(queue: bool) -> Demand {
    Demand::Make { body: String::new(), queue }
}

fn read(answer: &Answer, demand: &Demand) -> Verdict {
    read_answer(answer, &ClaimId::new("c1").unwrap(), demand)
}

/// What an answer means: an exit code, or a word.
fn check(status: u16, body: &str, queue: bool, expected: &str) {
    let verdict = match read(&answer(status, body), &make(queue)) {
        Verdict::Held(_) => "held".to_owned(),
        Verdict::Waiting { .. } => "waiting".to_owned(),
        Verdict::Busy { .. } => "busy".to_owned(),
        Verdict::Unreachable { .. } => "unreachable".to_owned(),
        Verdict::Failed { failure, .. } => failure.exit.to_string(),
    };
    assert_eq!(verdict, expected, "{status} {body}");
}

#[test]
fn answers_mean_what_the_design_says() {
    check(201, r#"{"state":"held"}"#, true, "held");
    check(200, r#"{"state":"held"}"#, true, "held");
    check(202, r#"{"state":"waiting","position":3}"#, true, "waiting");
    check(202, r#"{"state":"offered"}"#, true, "waiting");
    check(200, "<html>It works!</html>", true, "unreachable");
    check(400, r#"{"code":"bad-request"}"#, true, "65");
    check(404, r#"{"code":"unknown-semaphore"}"#, true, "65");
    check(422, r#"{"code":"never-satisfiable"}"#, true, "65");
    check(302, "", true, "65");
    check(401, "", true, "77");
    check(403, "", true, "77");
    check(409, r#"{"code":"no-permit"}"#, false, "75");
    check(409, r#"{"code":"draining"}"#, false, "75");
    check(409, r#"{"code":"claim-differs"}"#, true, "70");
    check(410, r#"{"code":"claim-ended","reason":"wait_timeout"}"#, true, "75");
    check(410, r#"{"code":"claim-ended","reason":"revoked"}"#, true, "79");
    check(410, "<html>", true, "65");
    check(429, r#"{"code":"queue-full"}"#, true, "busy");
    check(429, r#"{"code":"queue-full"}"#, false, "75");
    check(503, r#"{"code":"storage-low"}"#, true, "unreachable");
    check(502, "<html>", true, "unreachable");
    check(501, "<html>", true, "65");
}

/// The pause after a 202 that took `took_ms`, with this `Retry-After`.
fn pause(state: &str, took_ms: u64, retry_after: Option<u64>, queue_ttl: u64) -> Duration {
    let body = format!(r#"{{"state":"{state}","queue_ttl_seconds":{queue_ttl}}}"#);
    let answer = Answer {
        took: Duration::from_millis(took_ms),
        retry_after: retry_after.map(Duration::from_secs),
        ..answer(202, &body)
    };
    match read(&answer, &make(true)) {
        Verdict::Waiting { pause, .. } => pause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wait_that_blocked_is_repeated_at_once() {
    assert_eq!(pause("waiting", 50_000, Some(5), 120), Duration::ZERO);
    assert_eq!(pause("waiting", 10, Some(5), 120), Duration::from_secs(5));
    assert_eq!(pause("waiting", 10, None, 120), RETRY_AFTER_DEFAULT);
    assert_eq!(pause("waiting", 10, Some(100_000), 120), Duration::from_secs(60));
    assert_eq!(pause("waiting", 10, Some(50), 10), Duration::from_secs(5));
    assert_eq!(pause("offered", 10, Some(50), 10), OFFER_PAUSE);
}

#[test]
fn a_claim_with_a_callback_is_done_when_it_is_taken_in() {
    let register = Demand::Register { body: String::new(), callee: "ci".to_owned() };
    for (status, state) in [(202, "waiting"), (202, "offered"), (200, "held")] {
        let answer = answer(status, &format!(r#"{{"state":"{state}"}}"#));
        assert!(matches!(read(&answer, &register), Verdict::Held(_)), "{state}");
    }
    let full = answer(429, r#"{"code":"queue-full"}"#);
    assert!(matches!(read(&full, &register), Verdict::Busy { .. }));
}
