//! What the API says of callbacks, and what it refuses.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    SECRET, claim, claim_of, claim_to, daemon, deliveries, target, wait_for_deliveries,
    wait_for_end,
};
use crate::{
    daemon::{Daemon, Port, poll},
    fake_service::{FakeService, Reply},
};

fn taking() -> FakeService {
    FakeService::start(|_| Reply::no_content())
}

#[test]
fn an_offer_is_called_confirmed_by_renew_alone_and_recorded() {
    let receiver = taking();
    let mut daemon = daemon(1, &receiver);
    let made = claim(&daemon, "a", "60s");
    assert_eq!((made.status, &made.json()["state"]), (202, &"offered".into()));
    assert_eq!(made.json()["callback"], json!({ "target": "ci" }));
    let tried = wait_for_deliveries(&daemon, "a", 1);
    let again = claim(&daemon, "a", "60s");
    assert_eq!(
        (again.status, &again.json()["state"]),
        (202, &"offered".into()),
        "a PUT confirms nothing"
    );
    let renewed = daemon.call("POST", "/api/v1/claims/a/renew", "");
    assert_eq!((renewed.status, &renewed.json()["state"]), (200, &"held".into()));

    let call = &receiver.calls()[0];
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/hook"));
    assert_eq!(call.header("content-type"), Some("application/json"));
    assert_eq!(call.header("webhook-id"), tried["webhook_id"].as_str());
    assert!(call.header("webhook-signature").unwrap().starts_with("v1,"));
    let event: Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!(event["data"]["fences"], renewed.json()["fences"]);
    assert_eq!(event["timestamp"], event["data"]["offered_at"]);
    let delivery = &tried["deliveries"][0];
    assert_eq!(
        (&delivery["number"], &delivery["status"], &delivery["error"], &delivery["result"]),
        (&json!(1), &json!(204), &Value::Null, &json!("delivered"))
    );
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/a", "").status, 204);
    // Also when it is history, over a restart.
    daemon.stop();
    daemon.start_again(Port::Same);
    let kept = deliveries(&daemon, "a");
    assert_eq!(
        (&kept["deliveries"], &kept["claim_state"]),
        (&tried["deliveries"], &"ended".into())
    );
    assert_eq!(receiver.calls().len(), 1);
}

#[test]
fn a_waiting_claim_is_called_when_its_turn_comes() {
    let receiver = taking();
    let daemon = daemon(1, &receiver);
    let holder = daemon.call("PUT", "/api/v1/claims/h", r#"{"permits": {"lic": 1}}"#);
    assert_eq!(holder.status, 201);
    let waiting = claim(&daemon, "w", "60s").json();
    assert_eq!((&waiting["state"], &waiting["position"]), (&"waiting".into(), &1.into()));
    assert_eq!(waiting.get("queue_ttl_seconds"), None);
    assert_eq!(deliveries(&daemon, "w")["deliveries"], json!([]));
    let to_ci = json!({ "target": "ci", "vars": { "branch": "main" } });
    assert_eq!(claim_to(&daemon, "v", &to_ci, "60s").json()["callback"], to_ci);
    let listed = daemon.look("/api/v1/claims?state=waiting")["claims"][1]["callback"].clone();
    assert_eq!(listed, json!({ "target": "ci" }), "a list leaves the vars out");
    assert_eq!(receiver.calls().len(), 0);
    daemon.call("DELETE", "/api/v1/claims/h", "");
    wait_for_deliveries(&daemon, "w", 1);
    assert_eq!(claim_of(&receiver.calls()[0]), "w");
}

#[test]
fn at_most_four_requests_block_on_it() {
    let receiver = taking();
    let daemon = daemon(1, &receiver);
    daemon.call("PUT", "/api/v1/claims/h", r#"{"permits": {"lic": 1}}"#);
    let body = r#"{"permits": {"lic": 1}, "callback": {"target": "ci"}}"#;
    let block = || daemon.call_later("PUT", "/api/v1/claims/w?wait=20s", body);
    let blocked: Vec<_> = (0..4).map(|_| block()).collect();
    daemon.wait_for_blocked(4);
    assert_eq!(block().join().unwrap().status, 202, "answered at once");
    daemon.wait_for_blocked(4);
    daemon.call("DELETE", "/api/v1/claims/h", "");
    for request in blocked {
        let answer = request.join().unwrap();
        assert_eq!((answer.status, &answer.json()["state"]), (202, &"offered".into()));
    }
}

#[test]
fn an_offer_that_nobody_takes_goes_on_to_the_next_claim() {
    let refusing = FakeService::start(|call| match claim_of(call).as_str() {
        "bad" => Reply::json(404, "who?"),
        _ => Reply::no_content(),
    });
    let daemon = daemon(1, &refusing);
    claim(&daemon, "bad", "1s");
    claim(&daemon, "lost", "1s");
    claim(&daemon, "good", "60s");
    let bad = wait_for_end(&daemon, "bad");
    assert_eq!(bad["reason"], "callback_failed", "{bad}");
    let tried = deliveries(&daemon, "bad");
    assert_eq!(
        (&tried["deliveries"][0]["status"], &tried["next_attempt_at"]),
        (&404.into(), &Value::Null)
    );
    let lost = wait_for_end(&daemon, "lost");
    assert_eq!(lost["reason"], "abandoned", "{lost}");
    wait_for_deliveries(&daemon, "good", 1);
    assert_eq!(daemon.call("POST", "/api/v1/claims/good/renew", "").status, 200);
}

#[test]
fn gone_stops_until_somebody_asks_again() {
    let receiver = FakeService::start(|call| match call.nth {
        0 => Reply::json(410, ""),
        _ => Reply::no_content(),
    });
    let daemon = daemon(1, &receiver);
    claim(&daemon, "a", "10m");
    let tried = wait_for_deliveries(&daemon, "a", 1);
    assert_eq!(
        (&tried["deliveries"][0]["status"], &tried["next_attempt_at"]),
        (&410.into(), &Value::Null)
    );
    let asked = daemon.call("POST", "/api/v1/claims/a/deliveries/1/retry", "");
    assert_eq!(asked.status, 202, "{asked:?}");
    let tried = wait_for_deliveries(&daemon, "a", 2);
    assert_eq!(tried["deliveries"][1]["result"], "delivered");
    let ids: Vec<_> =
        receiver.calls().iter().map(|c| c.header("webhook-id").unwrap().to_owned()).collect();
    assert_eq!(ids[0], ids[1]);

    let check = |target: &str, status: u16, code: &str| {
        let answer = daemon.call("POST", &format!("/api/v1/claims/{target}/retry"), "");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{target}");
    };
    check("a/deliveries/3", 404, "unknown-delivery");
    check("a/deliveries/x", 404, "unknown-delivery");
    check("b/deliveries/1", 404, "unknown-claim");
    daemon.call("POST", "/api/v1/claims/a/renew", "");
    check("a/deliveries/1", 409, "not-offered");
    daemon.call("PUT", "/api/v1/claims/n", r#"{"permits": {"lic": 1}}"#);
    check("n/deliveries/1", 409, "no-callback");
    assert_eq!(daemon.call("GET", "/api/v1/claims/n/deliveries", "").code(), "no-callback");
}

#[test]
fn an_answer_that_comes_after_the_end_of_its_claim_leaves_the_call_in_the_record() {
    let receiver = FakeService::start(|_| Reply::AfterDelete(Box::new(Reply::no_content())));
    let daemon = daemon(1, &receiver);
    claim(&daemon, "a", "1s");
    receiver.wait_for("POST", 1);
    assert_eq!(deliveries(&daemon, "a")["deliveries"][0]["result"], "unfinished");
    assert_eq!(wait_for_end(&daemon, "a")["reason"], "callback_failed");
    assert_eq!(deliveries(&daemon, "a")["deliveries"][0]["result"], "unfinished");
    // A quick job: it has ended before its start is answered.
    claim(&daemon, "b", "10m");
    receiver.wait_for("POST", 2);
    assert_eq!(daemon.call("POST", "/api/v1/claims/b/renew", "").status, 200);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/b", "").status, 204);
    assert_eq!(deliveries(&daemon, "b")["deliveries"].as_array().unwrap().len(), 1);
    crate::http::send(receiver.address(), &crate::http::Request::new("DELETE", "/"));
    daemon.log().wait_for("claim b ended before its callback was answered");
}

#[test]
fn an_id_that_only_the_history_knows_is_checked_like_a_new_one() {
    let receiver = taking();
    let target = target("ci", &receiver.url());
    let daemon =
        Daemon::start(&format!("[limits]\nended_ids_max = 1\n[semaphores]\nlic = 1\n{target}"));
    for id in ["a", "b"] {
        claim(&daemon, id, "10m");
        daemon.call("DELETE", &format!("/api/v1/claims/{id}"), "");
    }
    assert_eq!(daemon.look("/api/v1/claims/a")["state"], "ended");
    let to_nobody = json!({ "target": "nobody" });
    assert_eq!(claim_to(&daemon, "a", &to_nobody, "10m").code(), "callback-refused");
    assert_eq!(claim_to(&daemon, "b", &to_nobody, "10m").code(), "claim-ended");
}

#[test]
fn ended_claims_leave_the_queue_of_their_target_at_once() {
    let receiver =
        FakeService::start(|_| Reply::Answer(503, "Retry-After: 600\r\n", String::new()));
    let daemon = daemon(1, &receiver);
    claim(&daemon, "a", "10m");
    wait_for_deliveries(&daemon, "a", 1);
    for n in 0..50 {
        let id = format!("x{n}");
        claim(&daemon, &id, "10m");
        daemon.call("DELETE", &format!("/api/v1/claims/{id}"), "");
    }
    daemon.call("DELETE", "/api/v1/claims/a", "");
    poll("an empty queue", || {
        let targets = daemon.look("/api/v1/callbacks");
        (targets["targets"][0]["queued"] == 0).then_some(())
    });
}

#[test]
fn tests_of_targets_have_a_bound() {
    let receiver = FakeService::start(|_| Reply::AfterDelete(Box::new(Reply::no_content())));
    let daemon = daemon(1, &receiver);
    let running: Vec<_> =
        (0..4).map(|_| daemon.call_later("POST", "/api/v1/callbacks/ci/test", "")).collect();
    receiver.wait_for("POST", 4);
    let refused = daemon.call("POST", "/api/v1/callbacks/ci/test", "");
    assert_eq!(
        (refused.status, refused.json()["bound"].clone()),
        (503, "callback_tests_max".into())
    );
    crate::http::send(receiver.address(), &crate::http::Request::new("DELETE", "/"));
    for test in running {
        assert_eq!(test.join().unwrap().json()["delivered"], true);
    }
    assert_eq!(daemon.call("POST", "/api/v1/callbacks/ci/test", "").status, 200);
}

#[test]
fn a_slow_receiver_delays_no_other() {
    let slow = FakeService::start(|_| {
        std::thread::sleep(Duration::from_secs(3));
        Reply::no_content()
    });
    let quick = taking();
    let (a, b) = (target("slow", &slow.url()), target("quick", &quick.url()));
    let daemon = Daemon::start(&format!("[semaphores]\nlic = 100\n{a}{b}"));
    for n in 0..20 {
        claim_to(&daemon, &format!("s{n}"), &json!({ "target": "slow" }), "10m");
    }
    slow.wait_for("POST", 4);
    claim_to(&daemon, "q", &json!({ "target": "quick" }), "10m");
    quick.wait_for("POST", 1);
    // The slow one is at its first four still.
    assert_eq!(slow.calls().len(), 4);
    let targets = daemon.look("/api/v1/callbacks");
    assert_eq!(targets["targets"][1]["queued"], 20, "{targets}");
}

#[test]
fn what_is_not_configured_is_refused_with_what_to_do() {
    let receiver = taking();
    let daemon = daemon(1, &receiver);
    let check = |callback: Value, code: &str, says: &str| {
        let answer = claim_to(&daemon, "x", &callback, "60s");
        assert_eq!((answer.status, answer.code().as_str()), (422, code), "{callback}: {answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(says), "{callback}: {detail}");
    };
    check(json!({ "target": "cj" }), "callback-refused", "did you mean ci?");
    check(json!({ "url": "https://hooks.example/" }), "callback-refused", "[[callbacks.allow]]");
    check(json!({ "url": "http://169.254.169.254/" }), "callback-refused", "[[callbacks.allow]]");
    check(json!({}), "invalid-member", "`target`");
    check(json!({ "target": "ci", "url": "https://a.example/" }), "invalid-member", "`target`");
    check(json!({ "target": "c i" }), "invalid-member", "callback.target");
    check(json!({ "target": "ci", "vars": { "a": 1 } }), "invalid-member", "callback.vars");
    check(json!({ "target": "ci", "vars": { "1a": "1" } }), "invalid-member", "callback.vars");
    check(json!({ "targt": "ci" }), "unknown-member", "did you mean `callback.target`?");
    check(json!("ci"), "invalid-member", "`callback` must be");
    let both = r#"{"permits": {"lic": 1}, "callback": {"target": "ci"}, "queue_ttl": 9}"#;
    let answer = daemon.call("PUT", "/api/v1/claims/x", both);
    assert_eq!(answer.code(), "invalid-member");
    assert!(answer.text().contains("left out beside `callback`"), "{answer:?}");
    assert_eq!(daemon.call("GET", "/api/v1/claims/x", "").status, 404);
}

#[test]
fn a_var_that_is_not_allowed_is_refused_with_the_key_to_set() {
    let gitlab = "[callbacks.targets.gitlab]\npreset = \"gitlab-play\"\nurl = \"https://gitlab.example\"\n\
                  secret = \"x\"\nvars = { project = \"a/b\" }\nallow_vars = [\"SIM_*\", \"*\"]\n";
    let daemon = Daemon::start(&format!("[semaphores]\nlic = 1\n{gitlab}"));
    daemon.call("PUT", "/api/v1/claims/h", r#"{"permits": {"lic": 1}}"#);
    let with = |name: &str| {
        let vars = json!({ "job_id": "1", name: "x" });
        claim_to(&daemon, "x", &json!({ "target": "gitlab", "vars": vars }), "60s")
    };
    for name in ["BASH_ENV", "LD_PRELOAD", "CI_DEBUG_TRACE", "GIT_SSH_COMMAND"] {
        let answer = with(name);
        assert_eq!((answer.status, answer.code().as_str()), (422, "callback-refused"), "{name}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(
            detail.contains(&format!("`{name}`")) && detail.contains("`allow_vars`"),
            "{detail}"
        );
    }
    assert_eq!(with("SIM_SEED").status, 202);
}

#[test]
fn a_request_may_be_repeated_when_its_target_is_gone() {
    let receiver = taking();
    let mut daemon = daemon(1, &receiver);
    daemon.call("PUT", "/api/v1/claims/h", r#"{"permits": {"lic": 1}}"#);
    assert_eq!(claim(&daemon, "a", "2s").status, 202);
    daemon.stop();
    daemon.configure("[semaphores]\nlic = 1\n");
    daemon.start_again(Port::Same);
    assert_eq!(claim(&daemon, "a", "2s").status, 202);
    assert_eq!(claim(&daemon, "b", "2s").code(), "callback-refused");
    daemon.call("DELETE", "/api/v1/claims/h", "");
    assert_eq!(wait_for_end(&daemon, "a")["reason"], "callback_failed");
    assert_eq!(deliveries(&daemon, "a")["deliveries"][0]["error"], "configuration");
}

#[test]
fn a_target_that_comes_with_sighup_can_be_tested_and_shows_no_secret() {
    let receiver = taking();
    let daemon = Daemon::start("[semaphores]\nlic = 1\n");
    assert_eq!(daemon.look("/api/v1/callbacks"), json!({ "targets": [] }));
    assert_eq!(daemon.call("POST", "/api/v1/callbacks/ci/test", "").code(), "unknown-target");
    let config = format!("[semaphores]\nlic = 1\n{}", target("ci", &receiver.url()));
    daemon.read_again(&config);
    let targets = daemon.look("/api/v1/callbacks");
    let expected = json!({ "name": "ci", "preset": "generic", "url": receiver.url(), "state": "closed", "paused_until": null, "queued": 0 });
    assert_eq!(targets["targets"], json!([expected]));
    let tested =
        daemon.call("POST", "/api/v1/callbacks/ci/test", r#"{"vars": {"branch": "main"}}"#);
    assert_eq!(
        (tested.status, &tested.json()["delivered"], &tested.json()["status"]),
        (200, &true.into(), &204.into())
    );
    let event: Value = serde_json::from_str(&receiver.calls()[0].body).unwrap();
    assert_eq!(
        (&event["type"], &event["data"]["vars"]["branch"]),
        (&"callback.test".into(), &"main".into())
    );
    let secret = SECRET.strip_prefix("whsec_").unwrap();
    for text in [daemon.log().text(), targets.to_string(), receiver.calls()[0].body.clone()] {
        assert!(!text.contains(secret), "{text}");
    }
}
