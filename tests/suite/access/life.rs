//! A token's life: made, used, rotated, expired, revoked, over restarts and while requests wait.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use super::{Guarded, wrong};
use crate::{
    client::{finish, start, text},
    daemon::{Port, poll},
};

const A: &str = r#"{"permits": {"A": 1}}"#;
const LONG: &str = r#"{"permits": {"A": 1}, "ttl": "1h"}"#;

#[test]
fn the_first_start_makes_an_admin_token_for_its_owner_alone() {
    let mut guarded = Guarded::start("");
    let file = guarded.daemon.data_dir().join("admin-token");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let log = guarded.daemon.log().text();
    assert!(log.contains(file.to_str().unwrap()), "{log}");
    assert!(!log.contains(&guarded.admin[4..]), "where, not what: {log}");
    let own = guarded.look("/api/v1/token");
    assert_eq!(
        (own["scopes"].to_string().as_str(), own["origin"].as_str()),
        ("[\"admin\"]", Some("api"))
    );
    // A second start makes no other, also when the file is gone.
    fs::remove_file(&file).unwrap();
    guarded.daemon.stop();
    guarded.daemon.start_again(Port::Same);
    assert!(!file.exists());
    assert_eq!(guarded.look("/api/v1/tokens")["tokens"].as_array().unwrap().len(), 1);
}

#[test]
fn a_lost_admin_token_is_made_anew_while_no_daemon_runs() {
    // As many tokens as there may be: whoever has lost the admin's can make no room.
    let mut guarded = Guarded::start("[limits]\ntokens_max = 1");
    let new_token = |guarded: &Guarded| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_semaphored"));
        command.arg("--new-admin-token").arg("--data-dir").arg(guarded.daemon.data_dir());
        command.arg("--config").arg(guarded.daemon.config_file());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        finish(start(&mut command))
    };
    let running = new_token(&guarded);
    assert_eq!(running.status.code(), Some(75), "{}", text(&running.stderr));
    assert!(text(&running.stderr).contains("must not run"), "{}", text(&running.stderr));
    guarded.daemon.stop();
    let file = guarded.daemon.data_dir().join("admin-token");
    let output = new_token(&guarded);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(file.to_str().unwrap()));
    let new = fs::read_to_string(&file).unwrap().trim_end().to_owned();
    assert_ne!(new, guarded.admin);
    assert!(!text(&output.stdout).contains(&new[8..]));
    guarded.daemon.start_again(Port::Same);
    for token in [&new, &guarded.admin] {
        assert_eq!(guarded.call(token, "GET", "/api/v1/tokens", "").status, 200);
    }
}

#[test]
fn a_token_survives_a_kill_and_tells_when_it_was_used() {
    let mut guarded = Guarded::start("[semaphores]\nA = 2");
    let farm = guarded.token("claim", r#", "semaphores": ["A*"], "claims_max": 5"#);
    let shown = guarded.look(&format!("/api/v1/tokens/{}", farm.id));
    assert_eq!(shown["last_used_at"], serde_json::Value::Null);
    assert_eq!(shown["semaphores"][0], "A*");
    assert_eq!(guarded.call(&farm.token, "PUT", "/api/v1/claims/a", LONG).status, 201);
    guarded.daemon.kill();
    guarded.daemon.start_again(Port::Same);
    assert_eq!(guarded.call(&farm.token, "POST", "/api/v1/claims/a/renew", "").status, 200);
    // Still its own, and counted.
    let own = guarded.call(&farm.token, "GET", "/api/v1/token", "").json();
    assert_eq!((own["claims"].as_u64(), own["claims_max"].as_u64()), (Some(1), Some(5)));
    let used = |guarded: &Guarded| {
        let tokens = guarded.look("/api/v1/tokens")["tokens"].as_array().unwrap().clone();
        let token = tokens.iter().find(|token| token["id"] == farm.id.as_str()).unwrap().clone();
        token["last_used_at"].as_str().map(str::to_owned)
    };
    let before = used(&guarded).unwrap();
    guarded.daemon.stop();
    guarded.daemon.start_again(Port::Same);
    assert_eq!(used(&guarded).unwrap(), before, "it is on disk");
}

#[test]
fn a_revoked_token_is_refused_at_once_on_a_blocked_wait_too() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let holder = guarded.token("claim", "");
    let revoked = guarded.token("claim+read", "");
    assert_eq!(guarded.call(&holder.token, "PUT", "/api/v1/claims/a", LONG).status, 201);
    assert_eq!(
        guarded
            .call(
                &revoked.token,
                "PUT",
                "/api/v1/claims/held",
                r#"{"permits": {"A": 1}, "queue": false}"#
            )
            .status,
        409
    );
    let waits = [
        ("PUT", "/api/v1/claims/b?wait=50", A),
        ("GET", "/api/v1/claims/b?wait=50", ""),
        ("GET", "/api/v1/semaphores?since=1000000&wait=50", ""),
    ];
    let mut blocked = Vec::new();
    for (at, (method, target, body)) in (1..).zip(waits) {
        blocked.push(guarded.call_later(&revoked.token, method, target, body));
        guarded.wait_for_blocked(at);
    }
    let later = guarded.call_later(&holder.token, "PUT", "/api/v1/claims/c?wait=50", A);
    guarded.wait_for_blocked(4);
    guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}?reason=left", revoked.id), "");
    for blocked in blocked {
        let answer = blocked.join().unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (401, "token-invalid"));
    }
    // Nobody is there for what it waited for: the next in the queue is granted.
    assert_eq!(guarded.call(&holder.token, "DELETE", "/api/v1/claims/a", "").status, 204);
    let granted = later.join().unwrap();
    assert_eq!(granted.status, 201, "{granted:?}");
    assert_eq!(guarded.audit("action=token.revoke")[0]["reason"], "left");
}

#[test]
fn a_revoked_tokens_held_claim_runs_to_the_end_of_its_lease() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let token = guarded.token("claim", "");
    let short = r#"{"permits": {"A": 1}, "ttl": "2s"}"#;
    assert_eq!(guarded.call(&token.token, "PUT", "/api/v1/claims/a", short).status, 201);
    guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}", token.id), "");
    assert_eq!(guarded.look("/api/v1/claims/a")["state"], "held");
    assert_eq!(guarded.call(&token.token, "POST", "/api/v1/claims/a/renew", "").status, 401);
    poll("the lease to end", || {
        (guarded.look("/api/v1/claims/a")["reason"] == "expired").then_some(())
    });
}

#[test]
fn rotating_keeps_the_id_and_the_claims() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let token = guarded.token("claim", "");
    assert_eq!(guarded.call(&token.token, "PUT", "/api/v1/claims/a", LONG).status, 201);
    let blocked = guarded.call_later(&token.token, "PUT", "/api/v1/claims/b?wait=50", A);
    guarded.wait_for_blocked(1);
    let rotated = guarded.admin(200, "POST", &format!("/api/v1/tokens/{}/rotate", token.id), "");
    let rotated = rotated.json();
    let new = rotated["token"].as_str().unwrap();
    assert!(new.starts_with(&format!("sem_{}_", token.id)) && new != token.token);
    assert_eq!(blocked.join().unwrap().status, 401, "it waited with the old secret");
    assert_eq!(guarded.call(&token.token, "GET", "/api/v1/claims/a", "").status, 401);
    assert_eq!(guarded.call(new, "POST", "/api/v1/claims/a/renew", "").status, 200);
    assert_eq!(guarded.call(new, "DELETE", "/api/v1/claims/b", "").status, 204);
    assert_eq!(guarded.call(&wrong(new), "GET", "/api/v1/token", "").status, 401);
}

#[test]
fn a_callback_claim_becomes_that_of_the_token_that_confirms_it() {
    // Nothing listens there: the claim is offered, and the calls fail.
    let config = "[semaphores]\nA = 1\n[callbacks.targets.ci]\npreset = \"generic\"\n\
        url = \"http://127.0.0.1:9/hook\"\nallow_cidrs = [\"127.0.0.0/8\"]\n\
        secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    let guarded = Guarded::start(config);
    let pipeline = guarded.token("claim", "");
    let worker = guarded.token("claim", r#", "semaphores": ["A"]"#);
    let elsewhere = guarded.token("claim", r#", "semaphores": ["B"]"#);
    let body = r#"{"permits": {"A": 1}, "callback": {"target": "ci"}}"#;
    assert_eq!(guarded.call(&pipeline.token, "PUT", "/api/v1/claims/a", body).status, 202);
    let renew = |token: &str| guarded.call(token, "POST", "/api/v1/claims/a/renew", "").status;
    assert_eq!(guarded.call(&worker.token, "GET", "/api/v1/claims/a", "").status, 404);
    assert_eq!(renew(&elsewhere.token), 404);
    assert_eq!(renew(&worker.token), 200);
    assert_eq!(renew(&pipeline.token), 404, "it is the worker's now");
    assert_eq!(guarded.call(&worker.token, "DELETE", "/api/v1/claims/a", "").status, 204);
}

#[test]
fn of_several_waits_of_a_revoked_token_none_gets_what_another_leaves() {
    let guarded = Guarded::start("[semaphores]\nA = 2");
    let holder = guarded.token("claim", "");
    let revoked = guarded.token("claim", "");
    assert_eq!(guarded.call(&holder.token, "PUT", "/api/v1/claims/held", LONG).status, 201);
    let two = r#"{"permits": {"A": 2}}"#;
    let first = guarded.call_later(&revoked.token, "PUT", "/api/v1/claims/r1?wait=50", two);
    guarded.wait_for_blocked(1);
    let second = guarded.call_later(&revoked.token, "PUT", "/api/v1/claims/r2?wait=50", A);
    guarded.wait_for_blocked(2);
    let honest = guarded.call_later(&holder.token, "PUT", "/api/v1/claims/h?wait=50", A);
    guarded.wait_for_blocked(3);
    guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}", revoked.id), "");
    assert_eq!(honest.join().unwrap().status, 201);
    for wait in [first, second] {
        assert_eq!(wait.join().unwrap().status, 401);
    }
    for id in ["r1", "r2"] {
        assert_eq!(guarded.look(&format!("/api/v1/claims/{id}"))["reason"], "revoked");
    }
}

/// With rotate they keep their places and get nothing while nobody is there.
#[test]
fn of_several_waits_with_an_old_secret_none_gets_what_another_leaves() {
    let guarded = Guarded::start("[semaphores]\nA = 2");
    let holder = guarded.token("claim", "");
    let rotated = guarded.token("claim", "");
    assert_eq!(guarded.call(&holder.token, "PUT", "/api/v1/claims/held", LONG).status, 201);
    let two = r#"{"permits": {"A": 2}}"#;
    let first = guarded.call_later(&rotated.token, "PUT", "/api/v1/claims/r1?wait=50", two);
    guarded.wait_for_blocked(1);
    let second = guarded.call_later(&rotated.token, "PUT", "/api/v1/claims/r2?wait=50", A);
    guarded.wait_for_blocked(2);
    guarded.admin(200, "POST", &format!("/api/v1/tokens/{}/rotate", rotated.id), "");
    for wait in [first, second] {
        assert_eq!(wait.join().unwrap().status, 401);
    }
    for id in ["r1", "r2"] {
        assert_eq!(guarded.look(&format!("/api/v1/claims/{id}"))["state"], "waiting");
    }
}
