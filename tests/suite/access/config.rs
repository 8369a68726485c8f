//! `[auth]` in the configuration: tokens of configuration management, the page on a wall, tokens switched off.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
};

use sha2::{Digest, Sha256};

use super::{Guarded, with_token};
use crate::{
    client::{finish, start, text},
    daemon::{Daemon, Port, poll},
    http::Request,
};

const SECRET: &str = "0123456789abcdefghijklmnopqrstuv";
const OTHER: &str = "vutsrqponmlkjihgfedcba9876543210";

fn hex(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn by_hash(id: &str, secret: &str, more: &str) -> String {
    format!(
        "[[auth.tokens]]\nname = \"{id} of the file\"\nid = \"{id}\"\nsha256 = \"{}\"\n{more}\n",
        hex(secret)
    )
}

/// What a daemon says that does not start.
fn refused(listen: &str, config: &str, prepare: impl FnOnce(&std::path::Path)) -> Output {
    let directory = tempfile::tempdir().unwrap();
    prepare(directory.path());
    let file = directory.path().join("semaphored.toml");
    fs::write(&file, config.replace("DIR", directory.path().to_str().unwrap())).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_semaphored"));
    command.arg("--config").arg(&file).arg("--data-dir").arg(directory.path().join("data"));
    command.args(["--listen", listen]).stdout(Stdio::piped()).stderr(Stdio::piped());
    finish(start(&mut command))
}

#[test]
fn tokens_of_the_file_come_change_and_go_with_it() {
    let first = format!(
        "[semaphores]\nA = 2\n[auth]\n{}{}",
        by_hash("farm1", SECRET, "scopes = [\"claim\", \"read\"]\nsemaphores = [\"A\"]"),
        by_hash("wall", OTHER, "scopes = [\"read\"]"),
    );
    let guarded = {
        let daemon = Daemon::start(&first);
        // There are tokens, so none was made.
        assert!(!daemon.data_dir().join("admin-token").exists());
        Guarded { daemon, admin: String::new() }
    };
    let farm = format!("sem_farm1_{SECRET}");
    let call =
        |token: &str, method: &str, target: &str| guarded.call(token, method, target, "").status;
    assert_eq!(call(&farm, "POST", "/api/v1/semaphores/A/claims"), 201);
    assert_eq!(call(&format!("sem_wall_{OTHER}"), "GET", "/api/v1/semaphores"), 200);
    let own = guarded.call(&farm, "GET", "/api/v1/token", "").json();
    assert_eq!(
        (own["origin"].as_str(), own["name"].as_str()),
        (Some("file"), Some("farm1 of the file"))
    );

    // Another secret and fewer scopes for the one, and the other goes; on SIGHUP.
    let second =
        format!("[semaphores]\nA = 2\n[auth]\n{}", by_hash("farm1", OTHER, "scopes = [\"claim\"]"));
    let blocked = guarded.call_later(&farm, "GET", "/api/v1/semaphores?since=1000000&wait=50", "");
    let reader = format!("sem_wall_{OTHER}");
    poll("a blocked request", || {
        let service = guarded.call(&reader, "GET", "/api/v1/service", "").json();
        (service["waiting_requests"] == 1).then_some(())
    });
    guarded.daemon.read_again(&second);
    assert_eq!(blocked.join().unwrap().status, 401);
    assert_eq!(call(&farm, "GET", "/api/v1/token"), 401);
    assert_eq!(call(&reader, "GET", "/api/v1/semaphores"), 401);
    let new = format!("sem_farm1_{OTHER}");
    assert_eq!(call(&new, "GET", "/api/v1/semaphores"), 403);
    let own = guarded.call(&new, "GET", "/api/v1/token", "").json();
    assert_eq!(own["claims"], 1, "its claim stays its own");
}

#[test]
fn a_token_of_the_file_is_changed_there_alone() {
    let guarded = {
        let admin = by_hash("boss", SECRET, "scopes = [\"admin\"]");
        let daemon = Daemon::start(&format!("[auth]\n{admin}"));
        Guarded { daemon, admin: format!("sem_boss_{SECRET}") }
    };
    for (method, target) in
        [("DELETE", "/api/v1/tokens/boss"), ("POST", "/api/v1/tokens/boss/rotate")]
    {
        assert_eq!(guarded.admin(409, method, target, "").code(), "token-declared");
    }
    let rows = guarded.audit("action=token.create");
    assert_eq!(
        (rows[0]["actor"].as_str(), rows[0]["object"].as_str()),
        (Some("configuration"), Some("token boss"))
    );
}

#[test]
fn a_secret_is_in_a_file_or_a_credential_that_others_cannot_read() {
    let config = "[auth]\n[[auth.tokens]]\nname = \"farm\"\nsecret_file = \"DIR/token\"\nscopes = [\"claim\"]\n";
    let token = format!("sem_farm1_{SECRET}\n");
    let loose = refused("127.0.0.1:0", config, |directory| {
        fs::write(directory.join("token"), &token).unwrap();
        fs::set_permissions(directory.join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert_eq!(loose.status.code(), Some(78), "{}", text(&loose.stderr));
    assert!(text(&loose.stderr).contains("chmod"), "{}", text(&loose.stderr));
    assert!(!text(&loose.stderr).contains(SECRET));
    let missing = refused("127.0.0.1:0", config, |_| {});
    assert!(
        text(&missing.stderr).contains("cannot read the secret in"),
        "{}",
        text(&missing.stderr)
    );
    let wrong = refused("127.0.0.1:0", config, |directory| {
        fs::write(directory.join("token"), "sem_farm1_short").unwrap();
        fs::set_permissions(directory.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
    });
    assert!(
        text(&wrong.stderr).contains("the token must be sem_<id>_<secret>"),
        "{}",
        text(&wrong.stderr)
    );
    assert!(!text(&wrong.stderr).contains("short"), "{}", text(&wrong.stderr));
}

#[test]
fn an_admin_token_that_others_can_read_is_refused() {
    let mut guarded = Guarded::start("");
    let file = guarded.daemon.data_dir().join("admin-token");
    guarded.daemon.stop();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_semaphored"));
    command.arg("--data-dir").arg(guarded.daemon.data_dir()).args(["--listen", "127.0.0.1:0"]);
    command.arg("--config").arg(guarded.daemon.config_file());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(start(&mut command));
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("chmod 0600"), "{}", text(&output.stderr));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    guarded.daemon.start_again(Port::New);
}

#[test]
fn tokens_are_switched_off_on_a_loopback_address_alone_and_with_a_warning() {
    let daemon = Daemon::start("[semaphores]\nA = 1\n[auth]\nmode = \"off\"");
    daemon.log().wait_for("tokens are switched off");
    assert_eq!(daemon.call("POST", "/api/v1/semaphores/A/claims", "").status, 201);
    assert_eq!(daemon.call("GET", "/api/v1/token", "").code(), "no-token");
    assert!(!daemon.data_dir().join("admin-token").exists());
    // A token that somebody has all the same does no harm.
    let request = with_token(Request::new("GET", "/api/v1/semaphores"), "sem_x_y");
    assert_eq!(daemon.send(&request).status, 200);
    let output = refused("0.0.0.0:0", "expose = true\n[auth]\nmode = \"off\"", |_| {});
    assert_eq!(output.status.code(), Some(78));
    assert!(
        text(&output.stderr).contains("for a loopback address alone"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_page_on_a_wall_reads_without_a_token() {
    let guarded = Guarded::start("[semaphores]\nA = 1\n[auth]\nanonymous = \"read\"");
    let anonymous = |method: &str, target: &str| guarded.call("", method, target, "");
    for target in
        ["/api/v1/semaphores", "/api/v1/semaphores/A", "/api/v1/claims", "/api/v1/service"]
    {
        assert_eq!(anonymous("GET", target).status, 200, "{target}");
    }
    for (method, target) in [
        ("POST", "/api/v1/semaphores/A/claims"),
        ("GET", "/api/v1/claims/x"),
        ("GET", "/api/v1/tokens"),
        ("GET", "/api/v1/token"),
        ("DELETE", "/api/v1/semaphores/A"),
    ] {
        assert_eq!(anonymous(method, target).code(), "token-missing", "{target}");
    }
    // Who shows a token is held to it.
    let claimer = guarded.token("claim", "");
    assert_eq!(guarded.call(&claimer.token, "GET", "/api/v1/semaphores", "").status, 403);
    assert_eq!(guarded.call("sem_none_0", "GET", "/api/v1/semaphores", "").status, 401);
}

/// The semaphores A and B, an admin, and a farm with these rights.
fn farm_and_boss_config(capacity_of_b: u32, farm: &str) -> String {
    let boss = by_hash("boss", OTHER, "scopes = [\"admin\"]");
    let farm = by_hash("farm1", SECRET, farm);
    format!("[semaphores]\nA = 1\nB = {capacity_of_b}\n[auth]\n{boss}{farm}")
}

/// A daemon with one permit of each, and the token of its farm, which may claim and read everything.
fn farm_and_boss() -> (Guarded, String) {
    let daemon = Daemon::start(&farm_and_boss_config(1, "scopes = [\"claim\", \"read\"]"));
    let guarded = Guarded { daemon, admin: format!("sem_boss_{OTHER}") };
    (guarded, format!("sem_farm1_{SECRET}"))
}

#[test]
fn what_a_reload_takes_from_a_token_it_takes_from_its_waits_too() {
    let (guarded, farm) = farm_and_boss();
    guarded.admin(201, "PUT", "/api/v1/claims/held", r#"{"permits": {"B": 1}}"#);
    let claim =
        guarded.call_later(&farm, "PUT", "/api/v1/claims/c?wait=50", r#"{"permits": {"B": 1}}"#);
    guarded.wait_for_blocked(1);
    let watch = guarded.call_later(&farm, "GET", "/api/v1/semaphores?since=1000000&wait=4", "");
    guarded.wait_for_blocked(2);
    // The same reload has a permit for it.
    let narrow = "scopes = [\"read\"]\nsemaphores = [\"A\"]";
    guarded.daemon.read_again(&farm_and_boss_config(2, narrow));
    let refused = claim.join().unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "scope-missing"));
    assert_eq!(guarded.look("/api/v1/semaphores/B")["capacity"], 2);
    assert_eq!(guarded.look("/api/v1/claims/c")["reason"], "revoked");
    let seen = watch.join().unwrap();
    assert_eq!(seen.status, 200, "{seen:?}");
    assert!(!seen.text().contains("\"B\""), "{}", seen.text());
}

/// A wait for permits needs no more than `claim`: while the token has that, nobody may overtake it.
#[test]
fn a_token_that_keeps_claim_keeps_its_places_and_loses_what_it_looked_at() {
    let boss = by_hash("boss", OTHER, "scopes = [\"admin\"]");
    let config = |scopes: &str| {
        let farm = by_hash("farm1", SECRET, &format!("scopes = [{scopes}]"));
        format!("[semaphores]\nA = 2\n[auth]\n{boss}{farm}")
    };
    let daemon = Daemon::start(&config("\"claim\", \"read\""));
    let guarded = Guarded { daemon, admin: format!("sem_boss_{OTHER}") };
    let farm = format!("sem_farm1_{SECRET}");
    let one = r#"{"permits": {"A": 1}}"#;
    guarded.admin(201, "PUT", "/api/v1/claims/held", one);
    let two = r#"{"permits": {"A": 2}, "ttl": "1h"}"#;
    let first = guarded.call_later(&farm, "PUT", "/api/v1/claims/w1?wait=50", two);
    guarded.wait_for_blocked(1);
    let second = guarded.call_later(&guarded.admin, "PUT", "/api/v1/claims/w2?wait=50", one);
    guarded.wait_for_blocked(2);
    let look = guarded.call_later(&farm, "GET", "/api/v1/claims/w1?wait=50", "");
    guarded.wait_for_blocked(3);
    guarded.daemon.read_again(&config("\"claim\""));
    let looked = look.join().unwrap();
    assert_eq!((looked.status, &looked.json()["state"]), (200, &"waiting".into()));
    let behind = guarded.look("/api/v1/claims/w2");
    assert_eq!((&behind["state"], &behind["position"]), (&"waiting".into(), &2.into()));
    guarded.admin(204, "DELETE", "/api/v1/claims/held", "");
    assert_eq!(first.join().unwrap().status, 201);
    assert_eq!(guarded.call(&farm, "DELETE", "/api/v1/claims/w1", "").status, 204);
    assert_eq!(second.join().unwrap().status, 201);
}

/// What an admin's renewal keeps for another goes with the scope: it could not be told of the grant.
#[test]
fn without_admin_a_token_keeps_no_claim_of_another() {
    let config = |scopes: &str| {
        let boss = by_hash("boss", OTHER, "scopes = [\"admin\", \"claim\"]");
        let helper = by_hash("helper", SECRET, &format!("scopes = [{scopes}]"));
        format!("[semaphores]\nA = 1\n[auth]\n{boss}{helper}")
    };
    let daemon = Daemon::start(&config("\"admin\", \"claim\""));
    let guarded = Guarded { daemon, admin: format!("sem_boss_{OTHER}") };
    let one = r#"{"permits": {"A": 1}}"#;
    guarded.admin(201, "PUT", "/api/v1/claims/held", one);
    guarded.admin(202, "PUT", "/api/v1/claims/w", one);
    let helper = format!("sem_helper_{SECRET}");
    let renewal = guarded.call_later(&helper, "POST", "/api/v1/claims/w/renew?wait=50", "");
    guarded.wait_for_blocked(1);
    guarded.daemon.read_again(&config("\"claim\""));
    assert_eq!(renewal.join().unwrap().json()["state"], "waiting");
    guarded.admin(204, "DELETE", "/api/v1/claims/held", "");
    assert_ne!(guarded.look("/api/v1/claims/w")["state"], "held");
}

/// What is its own stays its own, waiting or held: else a changed pattern would end jobs that run.
#[test]
fn narrowed_patterns_leave_a_token_its_own_claims_and_hide_the_rest() {
    let (guarded, farm) = farm_and_boss();
    let body = r#"{"permits": {"B": 1}, "ttl": "1h"}"#;
    let call = |method: &str, target: &str| guarded.call(&farm, method, target, body).status;
    assert_eq!(call("PUT", "/api/v1/claims/held"), 201);
    let wait = guarded.call_later(&farm, "PUT", "/api/v1/claims/next?wait=50", body);
    guarded.wait_for_blocked(1);
    let narrow = "scopes = [\"claim\", \"read\"]\nsemaphores = [\"A\"]";
    guarded.daemon.read_again(&farm_and_boss_config(1, narrow));
    assert_eq!(call("PUT", "/api/v1/claims/new"), 404, "no new claim");
    let renew = guarded.call(&farm, "POST", "/api/v1/claims/held/renew", "");
    assert_eq!(renew.status, 200, "{renew:?}");
    assert_eq!(guarded.call(&farm, "DELETE", "/api/v1/claims/held", "").status, 204);
    assert_eq!(wait.join().unwrap().status, 201, "its place in the queue was its own too");
    guarded.admin(204, "DELETE", "/api/v1/claims/next", "");
    guarded.admin(201, "PUT", "/api/v1/claims/boss", body);
    let listed = guarded.call(&farm, "GET", "/api/v1/claims", "");
    assert!(!listed.text().contains("boss"), "{}", listed.text());
}
