//! `semaphorectl audit`, against a service that each test scripts.

use serde_json::{Value, json};

use crate::{
    client::{check, outcome},
    client_tokens::ctl,
    fake_service::{Call, FakeService, Reply},
};

fn entry(number: u64) -> Value {
    json!({
        "revision": number, "at": "2026-11-24T03:50:53.250Z", "actor": "token", "token_id": "ab12", "token_name": "ops",
        "address": "10.0.0.7", "action": "semaphore.set", "object": format!("semaphore lic{number}"),
        "old": {"capacity": 5, "cooldown_seconds": 0}, "new": {"capacity": 7, "cooldown_seconds": 0},
        "reason": "two more", "result": "done",
    })
}

fn parameter<'a>(call: &'a Call, name: &str) -> Option<&'a str> {
    let (_, query) = call.target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// A service with so many entries, of which a page has 500 at most.
fn with_entries(count: usize) -> FakeService {
    FakeService::start(move |call| {
        let number = |name| parameter(call, name).map(|text| text.parse::<usize>().unwrap());
        let begin = number("after").unwrap_or(0);
        let end = (begin + number("limit").unwrap().min(500)).min(count);
        let entries: Vec<_> = (begin..end).map(|at| entry((count - at) as u64)).collect();
        let next = (end < count).then(|| end.to_string());
        Reply::json(200, json!({ "entries": entries, "next": next, "revision": 9 }).to_string())
    })
}

#[test]
fn what_was_done_is_a_table_with_the_newest_last() {
    let refused = json!({
        "revision": 1, "at": "2026-11-24T03:50:00Z", "actor": "anonymous", "address": "10.0.0.9", "action": "GET",
        "object": "/api/v1/claims\u{1b}[2J", "result": "token-invalid", "tries": 12, "minute": "2026-11-24T03:50:00Z",
    });
    let body = json!({ "entries": [entry(2), refused], "next": null, "revision": 9 }).to_string();
    let answer = body.clone();
    let service = FakeService::start(move |_| Reply::json(200, answer.clone()));
    let (stdout, stderr) = outcome(&mut ctl(&service, "audit"), 0);
    assert_eq!(stderr, "");
    let lines: Vec<Vec<&str>> = stdout
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        lines,
        [
            vec!["TIME", "WHO", "FROM", "ACTION", "OBJECT", "CHANGE", "RESULT", "REASON"],
            vec![
                "2026-11-24 03:50:00 UTC",
                "anonymous",
                "10.0.0.9",
                "GET",
                "/api/v1/claims\u{fffd}[2J",
                "-",
                "token-invalid ×12",
                "-",
            ],
            vec![
                "2026-11-24 03:50:53 UTC",
                "ops (ab12)",
                "10.0.0.7",
                "semaphore.set",
                "semaphore lic2",
                "capacity 5 → 7",
                "done",
                "two more",
            ],
        ]
    );
    let (json, _) = outcome(&mut ctl(&service, "audit --json"), 0);
    assert_eq!(
        serde_json::from_str::<Value>(&json).unwrap(),
        serde_json::from_str::<Value>(&body).unwrap()
    );
    let (without, _) = outcome(&mut ctl(&service, "audit --no-header"), 0);
    assert_eq!(without.lines().count(), 2);
}

#[test]
fn filters_go_to_the_service() {
    let service = with_entries(0);
    let line = "audit --token ab12 --action token.* --result scope-missing --since 2026-11-24T03:00:00+01:00 --until \
                1h --object";
    let (stdout, stderr) = outcome(ctl(&service, line).arg("semaphore lic"), 0);
    assert_eq!(stdout, "");
    assert!(stderr.contains("nothing of that is in the audit log"), "{stderr}");
    let calls = service.calls();
    let call = &calls[0];
    assert!(call.target.starts_with("/api/v1/audit?"), "{}", call.target);
    for (name, expected) in [
        ("token", Some("ab12")),
        ("action", Some("token%2E%2A")),
        ("object", Some("semaphore%20lic")),
        ("result", Some("scope%2Dmissing")),
        ("since", Some("2026%2D11%2D24T02%3A00%3A00Z")),
        ("limit", Some("50")),
        ("after", None),
    ] {
        assert_eq!(parameter(call, name), expected, "{name}");
    }
    let until = parameter(call, "until").unwrap();
    assert!(until.starts_with("20") && until.ends_with("Z"), "{until}");
}

#[test]
fn pages_are_read_as_far_as_is_wanted() {
    let numbers = |stdout: &str| -> Vec<u64> {
        let object = |line: &str| line.split("semaphore lic").nth(1).unwrap().to_owned();
        let number = |line: &str| object(line).split_whitespace().next().unwrap().parse().unwrap();
        stdout.lines().map(number).collect()
    };
    for (options, expected, limits) in [
        ("", 1_151..=1_200, &["50"][..]),
        ("--limit 3", 1_198..=1_200, &["3"]),
        ("--limit 700", 501..=1_200, &["500", "200"]),
        ("--all", 1..=1_200, &["500", "500", "500"]),
    ] {
        let service = with_entries(1_200);
        let line = format!("audit --no-header {options}");
        let (stdout, stderr) = outcome(&mut ctl(&service, &line), 0);
        assert_eq!(numbers(&stdout), expected.clone().collect::<Vec<_>>(), "{options}");
        let has_more = *expected.start() > 1;
        assert_eq!(stderr.contains("there are older entries"), has_more, "{options}: {stderr}");
        let calls = service.calls();
        let asked: Vec<_> = calls.iter().map(|call| parameter(call, "limit").unwrap()).collect();
        assert_eq!(asked, limits, "{options}");
        let (json, stderr) = outcome(&mut ctl(&service, &format!("{line} --json")), 0);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["entries"].as_array().unwrap().len(), expected.count(), "{options}");
        assert_eq!(json["entries"][0]["revision"], 1_200, "the newest first");
        assert_eq!((json["next"].is_string(), stderr.as_str()), (has_more, ""));
    }
}

#[test]
fn wrong_command_lines_are_explained() {
    let service = with_entries(0);
    for (line, expected) in [
        ("audit --all --limit 5", "--all has no --limit"),
        ("audit --limit 0", "--limit must be a whole number from 1"),
        ("audit --since yesterday", "--since must be how long ago, such as 90m or 24h"),
        ("audit --token AB", "the id of a token must be"),
        ("audit --token ab12 --sinse 1h", "Did you mean --since?"),
    ] {
        let stderr = check(&mut ctl(&service, line), 64);
        assert!(stderr.contains(expected), "{line}: {stderr}");
    }
    assert_eq!(service.calls().len(), 0);
    let page = FakeService::start(|_| Reply::json(200, "<html>"));
    check(&mut ctl(&page, "audit"), 70);
}
