//! The audit log: acts of admins with what they changed, refused tries by the minute, over restarts.

use serde_json::{Value, json};

use super::{Guarded, with_token, wrong};
use crate::{
    daemon::{Port, poll},
    http::Request,
};

#[test]
fn each_act_is_a_row_with_what_it_changed() {
    let mut guarded = Guarded::start("[semaphores]\nA = 2");
    let farm = guarded.token("claim", "");
    guarded.admin(200, "PATCH", "/api/v1/semaphores/A?reason=two+more+seats", r#"{"capacity": 4}"#);
    // Nothing becomes another: that is no act.
    guarded.admin(200, "PATCH", "/api/v1/semaphores/A", r#"{"capacity": 4}"#);
    for id in ["a", "b"] {
        let path = format!("/api/v1/claims/{id}");
        assert_eq!(guarded.call(&farm.token, "PUT", &path, r#"{"permits": {"A": 1}}"#).status, 201);
    }
    guarded.admin(200, "POST", "/api/v1/claims/a/revoke", r#"{"reason": "stuck since noon"}"#);
    let own = r#"{"permits": {"B": 1}}"#;
    guarded.admin(201, "PUT", "/api/v1/semaphores/B", r#"{"capacity": 1}"#);
    guarded.admin(201, "PUT", "/api/v1/claims/own", own);
    guarded.admin(204, "DELETE", "/api/v1/claims/own", "");
    guarded.admin(201, "PUT", "/api/v1/claims/live", own);
    guarded.admin(409, "DELETE", "/api/v1/semaphores/B", "");
    guarded.admin(204, "DELETE", "/api/v1/semaphores/B?force=true&reason=gone", "");
    guarded.admin(204, "DELETE", "/api/v1/claims/b", "");
    guarded.admin(200, "GET", "/api/v1/backup", "");
    let summary = |rows: &[Value]| -> Vec<(String, String, String)> {
        let text = |row: &Value, member: &str| row[member].as_str().unwrap().to_owned();
        rows.iter()
            .map(|row| (text(row, "action"), text(row, "object"), text(row, "result")))
            .collect()
    };
    let rows = guarded.audit("actor=token");
    let expected = [
        ("backup", "all", "done"),
        ("claim.release", "claim b", "done"),
        ("semaphore.remove", "semaphore B", "done"),
        ("semaphore.remove", "semaphore B", "semaphore-in-use"),
        ("semaphore.set", "semaphore B", "done"),
        ("claim.revoke", "claim a", "done"),
        ("semaphore.set", "semaphore A", "done"),
        ("token.create", &format!("token {}", farm.id), "done"),
    ];
    let mut found = summary(&rows);
    // The refused one is written when it is asked for, so it is the newest.
    found.sort();
    let mut expected: Vec<_> =
        expected.map(|(a, o, r)| (a.to_owned(), o.to_owned(), r.to_owned())).into();
    expected.sort();
    assert_eq!(found, expected);
    // The oldest of an action.
    let row = |action: &str| {
        let mut oldest_first = rows.iter().rev();
        oldest_first.find(|row| row["action"] == action && row["result"] == "done").unwrap()
    };
    let resized = row("semaphore.set");
    assert_eq!(
        (&resized["old"], &resized["new"]),
        (&json!({"capacity": 2}), &json!({"capacity": 4}))
    );
    assert_eq!(resized["reason"], "two more seats");
    assert_eq!(
        (&resized["token_name"], &resized["address"]),
        (&json!("admin-token"), &json!("127.0.0.1"))
    );
    assert!(resized["revision"].as_u64() > Some(0));
    assert_eq!(row("claim.revoke")["reason"], "stuck since noon");
    assert_eq!(row("semaphore.remove")["reason"], "gone");
    assert_eq!(row("token.create")["new"]["scopes"], json!(["claim"]));

    // What the daemon and its configuration did is there too.
    assert_eq!(summary(&guarded.audit("actor=configuration"))[0].1, "semaphore A");
    assert_eq!(guarded.audit("actor=daemon")[0]["action"], "token.create");

    // Page by page it is the same, and after a kill.
    let all = guarded.audit("limit=1000");
    guarded.daemon.kill();
    guarded.daemon.start_again(Port::Same);
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let page = guarded.look(&format!("/api/v1/audit?limit=2{after}"));
        paged.extend(page["entries"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
}

#[test]
fn refused_tries_are_one_row_for_each_address_code_and_minute() {
    let guarded = Guarded::start("[semaphores]\nA = 2");
    let reader = guarded.token("read", "");
    let from = |address: &str, token: &str, target: &str| {
        let request = Request::new("GET", target).with("X-Forwarded-For", address);
        guarded.daemon.send(&with_token(request, token)).status
    };
    for _ in 0..5 {
        assert_eq!(from("192.0.2.1", &wrong(&reader.token), "/api/v1/semaphores"), 401);
    }
    assert_eq!(from("192.0.2.1", "", "/api/v1/semaphores"), 401);
    assert_eq!(from("192.0.2.2", &reader.token, "/api/v1/tokens"), 403);
    let rows = guarded.audit("result=token-invalid");
    let tries: u64 = rows.iter().map(|row| row["tries"].as_u64().unwrap()).sum();
    // Two rows when a minute ended just then.
    assert!(tries == 5 && rows.len() <= 2, "{rows:?}");
    assert!(rows.iter().all(|row| row["address"] == "192.0.2.1" && row["actor"] == "anonymous"));
    assert_eq!(guarded.audit("result=token-missing")[0]["object"], "/api/v1/semaphores");
    let forbidden = &guarded.audit("result=scope-missing")[0];
    assert_eq!(
        (&forbidden["token_id"], &forbidden["object"]),
        (&json!(reader.id), &json!("/api/v1/tokens"))
    );
    // Asked again, and tried again: still the same row.
    assert_eq!(from("192.0.2.2", &reader.token, "/api/v1/tokens"), 403);
    let again = guarded.audit("result=scope-missing");
    let tries: u64 = again.iter().map(|row| row["tries"].as_u64().unwrap()).sum();
    assert!(tries == 2 && again.len() <= 2, "{again:?}");
}

#[test]
fn filters_find_what_they_say() {
    let guarded = Guarded::start("[semaphores]\nA = 2\nB = 3");
    let farm = guarded.token("admin", "");
    assert_eq!(
        guarded.call(&farm.token, "PATCH", "/api/v1/semaphores/B", r#"{"capacity": 5}"#).status,
        200
    );
    guarded.admin(200, "PATCH", "/api/v1/semaphores/A", r#"{"capacity": 5}"#);
    let count = |query: &str| guarded.audit(query).len();
    assert_eq!(count(&format!("token={}", farm.id)), 1);
    assert_eq!(count("object=semaphore+A&actor=token"), 1);
    assert_eq!(count("action=semaphore.*&actor=token"), 2);
    assert_eq!(count("since=2099-01-01T00:00:00Z"), 0);
    assert_eq!(count("until=2001-01-01T00:00:00Z"), 0);
    assert!(count("since=2001-01-01T00:00:00Z&until=2099-01-01T00:00:00Z") >= 4);
    for wrong in
        ["since=yesterday", "limit=0", "after=x", "token=A", "what=x", "actor=root", "object="]
    {
        guarded.admin(400, "GET", &format!("/api/v1/audit?{wrong}"), "");
    }
}

/// While the service is busy nothing is folded, so all of this is in memory: the same rows, each once, page by page.
#[test]
fn a_busy_service_loses_no_row_and_shows_none_twice() {
    let guarded = Guarded::start("[semaphores]\nA = 2");
    let bad = wrong(&guarded.admin);
    let tries = |from: u8, to: u8| {
        for n in from..to {
            let request = Request::new("GET", "/api/v1/semaphores")
                .with("X-Forwarded-For", &format!("192.0.2.{n}"));
            assert_eq!(guarded.daemon.send(&with_token(request, &bad)).status, 401);
        }
    };
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                guarded.admin(201, "POST", "/api/v1/semaphores/A/claims", "");
                guarded.admin(204, "DELETE", "/api/v1/semaphores/A?force=true", "");
                guarded.admin(201, "PUT", "/api/v1/semaphores/A", r#"{"capacity": 2}"#);
            }
        });
        for round in 0..4 {
            tries(1, 12);
            // Each look writes the rows of tries anew.
            guarded.audit("limit=1");
            if round == 1 {
                guarded.admin(
                    201,
                    "PUT",
                    "/api/v1/semaphores/N?reason=needle",
                    r#"{"capacity": 1}"#,
                );
            }
        }
        let (mut rows, mut after) = (Vec::new(), String::new());
        loop {
            let page = guarded.look(&format!("/api/v1/audit?limit=3{after}"));
            rows.extend(page["entries"].as_array().unwrap().iter().cloned());
            let is_found = rows.iter().any(|row| row["reason"] == "needle");
            match page["next"].as_str() {
                Some(next) if !is_found => after = format!("&after={next}"),
                Some(_) => break,
                None => panic!("the act is on no page"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let mut keys: Vec<_> = rows
            .iter()
            .filter(|row| row["tries"].is_u64())
            .map(|row| format!("{} {} {}", row["minute"], row["address"], row["result"]))
            .collect();
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "a row of tries is there twice: {rows:?}");
    });
}

#[test]
fn an_admin_who_takes_over_the_claim_of_another_leaves_a_row() {
    let guarded = Guarded::start("[semaphores]\nA = 2");
    let farm = guarded.token("claim", "");
    let body = r#"{"permits": {"A": 1}, "holder": "job 412"}"#;
    assert_eq!(guarded.call(&farm.token, "PUT", "/api/v1/claims/a", body).status, 201);
    guarded.admin(200, "POST", "/api/v1/claims/a/renew", r#"{"ttl": "1h"}"#);
    let row = &guarded.audit("action=claim.renew")[0];
    assert_eq!((&row["object"], &row["old"]["holder"]), (&json!("claim a"), &json!("job 412")));
    assert_eq!(row["old"]["token_id"], json!(farm.id));
    guarded.admin(204, "DELETE", "/api/v1/claims/a", "");
    assert_eq!(guarded.audit("action=claim.release")[0]["old"]["state"], "held");
    guarded.admin(204, "DELETE", "/api/v1/semaphores/A", "");
    assert_eq!(guarded.audit("action=semaphore.remove")[0]["old"]["capacity"], 2);
}

const LONGER: &str = r#"{"ttl": "1h"}"#;

/// An admin who waits on the claim of another prolongs its lease when the wait is over: that is when it is done.
#[test]
fn an_act_that_waits_has_its_row_when_it_is_done() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let farm = guarded.token("claim", "");
    for (id, status) in [("held", 201), ("next", 202)] {
        let path = format!("/api/v1/claims/{id}");
        let body = r#"{"permits": {"A": 1}, "queue_ttl": "10m"}"#;
        assert_eq!(guarded.call(&farm.token, "PUT", &path, body).status, status);
    }
    let renew =
        guarded.call_later(&guarded.admin, "POST", "/api/v1/claims/next/renew?wait=50", LONGER);
    guarded.wait_for_blocked(1);
    assert!(guarded.audit("action=claim.renew").is_empty());
    assert_eq!(guarded.call(&farm.token, "DELETE", "/api/v1/claims/held", "").status, 204);
    assert_eq!(renew.join().unwrap().status, 200);
    let rows = guarded.audit("action=claim.renew");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (rows[0]["object"].as_str(), rows[0]["token_name"].as_str()),
        (Some("claim next"), Some("admin-token"))
    );
}

#[test]
fn refused_tries_are_counted_on_after_a_restart() {
    let mut guarded = Guarded::start("[semaphores]\nA = 2");
    let refuse = |guarded: &Guarded| {
        let request = Request::new("GET", "/api/v1/semaphores");
        let request = with_token(request, &wrong(&guarded.admin));
        assert_eq!(guarded.daemon.send(&request).status, 401);
    };
    let tries = |guarded: &Guarded| -> u64 {
        let rows = guarded.audit("result=token-invalid");
        rows.iter().map(|row| row["tries"].as_u64().unwrap()).sum()
    };
    for tried in 1..=4 {
        refuse(&guarded);
        assert_eq!(tries(&guarded), tried);
        // With the rows in the journal, and folded into the table.
        match tried {
            2 => guarded.daemon.kill(),
            _ => guarded.daemon.stop(),
        }
        guarded.daemon.start_again(Port::Same);
    }
}

#[test]
fn a_backup_that_was_not_made_is_not_said_to_be() {
    let guarded = Guarded::start("[limits]\nfree_bytes_min = 9_000_000_000_000_000");
    let refused = guarded.admin(503, "GET", "/api/v1/backup", "");
    assert_eq!(refused.code(), "backup-no-space");
    assert!(guarded.audit("action=backup&result=done").is_empty());
}

#[test]
fn a_token_that_makes_room_leaves_a_row() {
    let guarded = Guarded::start("[limits]\ntokens_max = 2");
    let old = guarded.token("claim", r#", "expires_in": "1s""#);
    let full = r#"{"name": "next", "scopes": ["claim"]}"#;
    poll("room for another", || {
        let answer = guarded.call(&guarded.admin, "POST", "/api/v1/tokens", full);
        assert!(answer.status == 201 || answer.code() == "service-full", "{answer:?}");
        (answer.status == 201).then_some(())
    });
    let row = &guarded.audit(&format!("action=token.revoke&object=token+{}", old.id))[0];
    assert_eq!((&row["actor"], &row["result"]), (&json!("daemon"), &json!("done")));
}
