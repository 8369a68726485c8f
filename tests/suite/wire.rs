//! Bodies as they go over the wire: a contract, so written out. Times and revisions are masked; the order
//! of the members is the service's own.

use regex_lite::Regex;

use super::{daemon::Daemon, http::Response};

const CONFIG: &str = "[semaphores]\nA = 1\n[semaphores.B]\ncapacity = 3\ncooldown = \"90s\"\n\
                      max_hold = \"8h\"\ndescription = \"boards\"\n";
const BOTH: &str = r#"{"permits": {"B": 2, "A": 1}, "holder": "job 7", "ttl": "10m", "priority": -3,
    "labels": {"branch": "main", "arch": "arm"}, "wait_timeout": "2h"}"#;

/// The body with every time as `TIME`, and what depends on the pace of the machine as `0`.
fn masked(response: &Response) -> String {
    let mut text = response.text().to_owned();
    for (pattern, mask) in [
        (r#""[0-9]{4}-[0-9-]+T[0-9:.]+Z""#, "TIME"),
        (r#""waited_seconds":[0-9.]+"#, r#""waited_seconds":0"#),
        (r#""longest_wait_seconds":[0-9.]+"#, r#""longest_wait_seconds":0"#),
        (r#""expires_in_seconds":[0-9.]+"#, r#""expires_in_seconds":SOON"#),
        (r#""revision":[0-9]+"#, r#""revision":N"#),
    ] {
        text = Regex::new(pattern).unwrap().replace_all(&text, mask).into_owned();
    }
    text
}

fn is(daemon: &Daemon, call: (&str, &str, &str), expected: &str) {
    let (method, target, body) = call;
    let response = daemon.call(method, target, body);
    // One member a line in the test, one line on the wire.
    let expected: String = expected.lines().map(str::trim).collect();
    assert_eq!(masked(&response), expected, "{method} {target}");
}

#[test]
fn a_claim_in_each_state() {
    let daemon = Daemon::start(CONFIG);
    is(
        &daemon,
        ("PUT", "/api/v1/claims/c", BOTH),
        r#"{"id":"c","state":"held","permits":{"A":1,"B":2},"fences":{"A":1,"B":1},
        "holder":"job 7","labels":{"arch":"arm","branch":"main"},"priority":-3,
        "queued_at":TIME,"granted_at":TIME,"expires_at":TIME,"expires_in_seconds":SOON,
        "renew_after_seconds":200,"waited_seconds":0,"ttl_seconds":600,"queue_ttl_seconds":120,
        "offer_ttl_seconds":60,"revision":N}"#,
    );
    let one = r#"{"permits": {"A": 1}, "wait_timeout": "2h"}"#;
    is(
        &daemon,
        ("PUT", "/api/v1/claims/d", one),
        r#"{"id":"d","state":"waiting","permits":{"A":1},"priority":0,"position":1,
        "positions":{"A":1},"presence":"present","queued_at":TIME,"expires_at":TIME,
        "expires_in_seconds":SOON,"waited_seconds":0,"ttl_seconds":300,"queue_ttl_seconds":120,
        "offer_ttl_seconds":60,"wait_timeout_at":TIME,"revision":N}"#,
    );
    is(
        &daemon,
        ("POST", "/api/v1/claims/c/revoke", r#"{"reason": "for the night"}"#),
        r#"{"id":"c","state":"ended","reason":"revoked","permits":{"A":1,"B":2},
        "fences":{"A":1,"B":1},"holder":"job 7","labels":{"arch":"arm","branch":"main"},
        "priority":-3,"queued_at":TIME,"granted_at":TIME,"ended_at":TIME,"waited_seconds":0,
        "ttl_seconds":600,"queue_ttl_seconds":120,"offer_ttl_seconds":60,"note":"for the night",
        "revision":N}"#,
    );
    is(
        &daemon,
        ("GET", "/api/v1/claims?semaphore=A", ""),
        r#"{"claims":[{"id":"d","state":"offered","permits":{"A":1},"fences":{"A":2},"priority":0,
        "queued_at":TIME,"offered_at":TIME,"expires_at":TIME,"expires_in_seconds":SOON,
        "waited_seconds":0,"ttl_seconds":300,"queue_ttl_seconds":120,"offer_ttl_seconds":60,
        "revision":N}],"next":null,"revision":N}"#,
    );
}

/// A third of the lease, but where `max_hold` ends it sooner, then; and never at once, for until the service has ended
/// the claim a renewal is answered and changes nothing.
#[test]
fn who_holds_is_told_to_come_back_at_the_end_of_max_hold() {
    let semaphore = |name, max_hold| format!("[semaphores.{name}]\ncapacity = 1\n{max_hold}\n");
    let config = ["max_hold = \"10s\"", "max_hold = \"1h\"", "max_hold = \"1s\"", ""];
    let config: String =
        ["A", "B", "C", "D"].into_iter().zip(config).map(|(n, h)| semaphore(n, h)).collect();
    let daemon = Daemon::start(&config);
    for (name, ttl, renew_after) in [
        ("A", 60, 10.0),
        ("A", 15, 5.0),
        ("B", 60, 20.0),
        ("C", 60, 1.0),
        ("C", 1, 0.333),
        ("D", 60, 20.0),
    ] {
        let (path, body) = (
            format!("/api/v1/claims/{name}-{ttl}"),
            format!(r#"{{"permits": {{"{name}": 1}}, "ttl": {ttl}}}"#),
        );
        let claim = daemon.call("PUT", &path, &body).json();
        assert_eq!(claim["renew_after_seconds"].as_f64(), Some(renew_after), "{claim}");
        let claim = daemon.call("POST", &format!("{path}/renew"), "").json();
        let (left, after) = (&claim["expires_in_seconds"], &claim["renew_after_seconds"]);
        let (left, after) = (left.as_f64().unwrap(), after.as_f64().unwrap());
        let expected = (f64::from(ttl) / 3.0).min(left.max(1.0));
        assert!((after - expected).abs() < 0.001, "{claim}");
        daemon.call("DELETE", &path, "");
    }
}

#[test]
fn semaphores() {
    let daemon = Daemon::start(CONFIG);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/c", BOTH).status, 201);
    let b = r#"{"name":"B","capacity":3,"state":"open","in_use":2,"offered":0,"cooling":0,
        "set_aside":0,"available":1,"over_committed":0,"waiting":0,"longest_wait_seconds":0,
        "default_ttl_seconds":300,"max_ttl_seconds":86400,"max_hold_seconds":28800,
        "queue_ttl_seconds":120,"offer_ttl_seconds":null,"wait_timeout_seconds":null,
        "cooldown_seconds":90,"description":"boards","origin":"file","revision":N}"#;
    is(&daemon, ("GET", "/api/v1/semaphores/B", ""), b);
    let a = r#"{"name":"A","capacity":1,"state":"draining","in_use":1,"offered":0,"cooling":0,
        "set_aside":0,"available":0,"over_committed":0,"waiting":0,"longest_wait_seconds":0,
        "default_ttl_seconds":60.5,"max_ttl_seconds":86400,"max_hold_seconds":null,
        "queue_ttl_seconds":120,"offer_ttl_seconds":30,"wait_timeout_seconds":7200,
        "cooldown_seconds":0,"description":null,"origin":"file","revision":N}"#;
    let patch =
        r#"{"state": "draining", "default_ttl": 60.5, "offer_ttl": 30, "wait_timeout": "2h"}"#;
    is(&daemon, ("PATCH", "/api/v1/semaphores/A", patch), a);
    let list = format!("{{\"semaphores\":[\n{a},\n{b}\n],\"revision\":N}}");
    is(&daemon, ("GET", "/api/v1/semaphores", ""), &list);
}

#[test]
fn a_low_max_ttl_takes_the_default_along_unless_that_is_given() {
    let daemon = Daemon::start(CONFIG);
    let ttls = |method: &str, body: &str| {
        let response = daemon.call(method, "/api/v1/semaphores/C", body);
        let semaphore = response.json();
        (
            response.status,
            semaphore["default_ttl_seconds"].as_u64(),
            semaphore["max_ttl_seconds"].as_u64(),
        )
    };
    let both = |default_ttl, max_ttl| (Some(default_ttl), Some(max_ttl));
    for (method, body, status, (default_ttl, max_ttl)) in [
        ("PUT", r#"{"capacity": 1, "max_ttl": "1m"}"#, 201, both(60, 60)),
        ("PUT", r#"{"capacity": 1}"#, 200, both(300, 86_400)),
        ("PATCH", r#"{"max_ttl": "2m"}"#, 200, both(120, 120)),
        ("PATCH", r#"{"max_ttl": "10m", "default_ttl": null}"#, 200, both(300, 600)),
        ("PATCH", r#"{"max_ttl": "1m", "default_ttl": "2m"}"#, 422, (None, None)),
        ("GET", "", 200, both(300, 600)),
    ] {
        assert_eq!(ttls(method, body), (status, default_ttl, max_ttl), "{method} {body}");
    }
}

#[test]
fn problems() {
    let daemon = Daemon::start(CONFIG);
    is(
        &daemon,
        ("PUT", "/api/v1/claims/c", r#"{"permits": {"A": 2}}"#),
        r#"{"title":"Unprocessable Content","status":422,"code":"never-satisfiable",
        "detail":"2 permits of `A` can never be had: its capacity is 1; ask for fewer, or have an admin raise it",
        "capacity":1,"requested":2,"semaphore":"A"}"#,
    );
    assert_eq!(daemon.call("PUT", "/api/v1/claims/c", BOTH).status, 201);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/c", "").status, 204);
    is(
        &daemon,
        ("POST", "/api/v1/claims/c/renew", ""),
        r#"{"title":"Gone","status":410,"code":"claim-ended",
        "detail":"claim `c` has ended (released); acquire again under a new id","ended_at":TIME,
        "id":"c","reason":"released"}"#,
    );
}
