//! `semaphorectl token` and `--reason`, against a service that each test scripts.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
};

use serde_json::{Value, json};

use crate::{
    client::{check, finish, outcome, start, text},
    client_tokens::{SECRET, ctl},
    fake_service::{FakeService, Reply},
};

/// The token that is made, which is not the one that is used.
const MADE: &str = "sem_cd34_zyxwvutsrqponmlkjihgfedcba9876543210";

fn token() -> Value {
    json!({
        "id": "cd34", "name": "ci-fpga", "scopes": ["claim", "read"], "semaphores": ["questa*", "vcs"],
        "origin": "api", "created_at": "2026-11-24T03:00:00Z", "expires_at": "2027-11-24T03:50:53Z",
        "last_used_at": null, "claims_max": 10, "waiting_requests_max": null, "priority_max": 5,
        "claims": 2, "revision": 7,
    })
}

/// The answer that has the secret.
fn made() -> String {
    let mut made = token();
    made["token"] = MADE.into();
    made.to_string()
}

fn making() -> FakeService {
    FakeService::start(|_| Reply::json(201, made()))
}

#[test]
fn a_new_token_is_all_that_standard_output_has() {
    let service = making();
    let (stdout, stderr) = outcome(&mut ctl(&service, "token create ci-fpga --scope claim"), 0);
    assert_eq!(stdout, format!("{MADE}\n"));
    let told = "semaphorectl: made ci-fpga (id cd34), scopes claim and read, semaphores questa*,vcs, expires at \
                2027-11-24 03:50:53 UTC\nsemaphorectl: it is not shown again: ";
    assert!(stderr.starts_with(told) && !stderr.contains(MADE), "{stderr}");
    let call = &service.calls()[0];
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", "/api/v1/tokens"));
    assert_eq!(call.body, r#"{"name":"ci-fpga","scopes":["claim"]}"#);
    let line = "token create ci-fpga --scope claim --scope read --semaphore questa* --semaphore vcs --expires-in 720h \
                --claims-max 10 --waiting-requests-max 20 --priority-max=-5 --json";
    let (stdout, stderr) = outcome(&mut ctl(&service, line), 0);
    assert_eq!((stdout, stderr), (made() + "\n", String::new()));
    let sent: Value = serde_json::from_str(&service.calls()[1].body).unwrap();
    assert_eq!(
        sent,
        json!({
            "name": "ci-fpga", "scopes": ["claim", "read"], "semaphores": ["questa*", "vcs"], "expires_in": "720h",
            "claims_max": 10, "waiting_requests_max": 20, "priority_max": -5,
        })
    );
}

#[test]
fn a_new_token_goes_into_a_new_file_for_its_owner_alone() {
    let service = making();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    let line = format!("token create ci --scope claim --output {}", path.display());
    let (stdout, stderr) = outcome(&mut ctl(&service, &line), 0);
    assert_eq!(stdout, format!("{}\n", path.display()));
    assert!(!stderr.contains(MADE), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{MADE}\n"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // It is as --token-file wants it.
    outcome(&mut ctl(&service, &format!("token show --token-file {}", path.display())), 0);
    assert_eq!(
        service.calls()[1].authorization.as_deref(),
        Some(format!("Bearer {MADE}").as_str())
    );
    let stderr = check(&mut ctl(&service, &line), 74);
    assert!(stderr.contains("is there already, and a token replaces no file"), "{stderr}");
    assert_eq!(service.calls().len(), 2, "no token is made that could not be kept");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{MADE}\n"));
    let other = directory.path().join("u");
    let line = format!("token rotate cd34 --json --output {}", other.display());
    let (stdout, _) = outcome(&mut ctl(&service, &line), 0);
    assert_eq!(serde_json::from_str::<Value>(&stdout).unwrap(), token());
    assert_eq!(fs::read_to_string(&other).unwrap(), format!("{MADE}\n"));
    let line = "token create ci --scope claim --output /does/not/exist";
    assert!(check(&mut ctl(&service, line), 74).contains("cannot write /does/not/exist"));
}

#[test]
fn no_file_is_left_where_no_token_was_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("t");
    for (answer, code) in [("refuse", 77), ("hang up", 69), ("nonsense", 70)] {
        let service = FakeService::start(move |_| match answer {
            "refuse" => Reply::problem(403, "scope-missing", "no"),
            "hang up" => Reply::HangUp,
            _ => Reply::json(200, "{}"),
        });
        let line = format!("token create ci --scope claim --output {}", path.display());
        check(&mut ctl(&service, &line), code);
        assert!(!path.exists(), "{answer}");
    }
}

#[test]
fn a_token_that_may_be_there_is_told() {
    for (line, told) in [
        (
            "token create ci --scope claim",
            "The token may be there all the same: `semaphorectl token",
        ),
        ("token rotate cd34", "The old secret may be refused already: rotate once more"),
    ] {
        for answer in ["hang up", "proxy"] {
            let service = FakeService::start(move |_| match answer {
                "hang up" => Reply::HangUp,
                _ => Reply::json(504, "<html>"),
            });
            let line = format!("{line} --unreachable-timeout 1m");
            let stderr = check(&mut ctl(&service, &line), 69);
            assert!(stderr.contains(told), "{stderr}");
            assert_eq!(service.calls().len(), 1, "each call makes another one");
        }
        let service = FakeService::start(|_| Reply::problem(503, "stopping", "it stops"));
        let stderr = check(&mut ctl(&service, line), 69);
        assert!(!stderr.contains(told), "{stderr}");
    }
}

#[test]
fn a_token_that_nobody_got_is_told() {
    let service = making();
    for (line, told) in [
        ("token create ci --scope claim", "end it with `semaphorectl token revoke cd34`"),
        ("token rotate cd34", "make another one with `semaphorectl token rotate cd34`"),
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let output = finish(start(ctl(&service, line).stdout(full)));
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "{stderr}");
        assert!(stderr.contains("Nobody has the token now: ") && stderr.contains(told), "{stderr}");
        assert!(!stderr.contains(MADE), "{stderr}");
    }
}

#[test]
fn a_token_gets_another_secret() {
    let service = making();
    let (stdout, stderr) = outcome(&mut ctl(&service, "token rotate cd34"), 0);
    assert_eq!(stdout, format!("{MADE}\n"));
    assert!(stderr.contains("the old one is refused from now on: ci-fpga (id cd34)"), "{stderr}");
    let call = &service.calls()[0];
    assert_eq!((call.method.as_str(), call.body.as_str()), ("POST", ""));
    assert_eq!(call.target, "/api/v1/tokens/cd34/rotate");
}

#[test]
fn tokens_are_listed() {
    let mut other = token();
    for (member, value) in [
        ("id", json!("ab12")),
        ("scopes", json!(["admin"])),
        ("semaphores", json!(["*"])),
        ("expires_at", json!(null)),
        ("last_used_at", json!("2026-11-24T03:50:00Z")),
        ("claims_max", json!(null)),
    ] {
        other[member] = value;
    }
    let body = json!({ "tokens": [token(), other], "revision": 7 }).to_string();
    let answer = body.clone();
    let service = FakeService::start(move |_| Reply::json(200, answer.clone()));
    let (stdout, stderr) = outcome(&mut ctl(&service, "token list"), 0);
    assert_eq!(
        stdout,
        "ID    NAME     SCOPES      SEMAPHORES   EXPIRES                  LAST USED                CLAIMS\n\
         cd34  ci-fpga  claim,read  questa*,vcs  2027-11-24 03:50:53 UTC  never                      2/10\n\
         ab12  ci-fpga  admin       *            never                    2026-11-24 03:50:00 UTC       2\n"
    );
    assert_eq!(stderr, "");
    assert_eq!(service.calls()[0].target, "/api/v1/tokens");
    let (without, _) = outcome(&mut ctl(&service, "token list --no-header"), 0);
    assert!(without.starts_with("cd34"), "{without}");
    assert_eq!(outcome(&mut ctl(&service, "token list --json"), 0).0, body + "\n");
    let none = FakeService::start(|_| Reply::json(200, r#"{"tokens":[],"revision":1}"#));
    let (stdout, stderr) = outcome(&mut ctl(&none, "token list"), 0);
    assert!(stdout.is_empty() && stderr.contains("there are no tokens"), "{stdout}{stderr}");
}

#[test]
fn one_token_is_shown() {
    let service = FakeService::start(|_| Reply::json(200, token().to_string()));
    let (own, _) = outcome(&mut ctl(&service, "token show"), 0);
    let (other, _) = outcome(&mut ctl(&service, "token show cd34"), 0);
    assert_eq!(own, other);
    assert!(own.starts_with("cd34\n"), "{own}");
    for fact in [
        "name              ci-fpga\n",
        "semaphores        questa*,vcs\n",
        "last used         never\n",
        "most claims       10\n",
        "most waiting      no limit\n",
        "highest priority  5\n",
        "declared by       api\n",
    ] {
        assert!(own.contains(fact), "{fact}: {own}");
    }
    let targets: Vec<_> = service.calls().iter().map(|call| call.target.clone()).collect();
    assert_eq!(targets, ["/api/v1/token", "/api/v1/tokens/cd34"]);
    let off = FakeService::start(|_| Reply::problem(404, "no-token", "tokens are switched off"));
    let stderr = check(&mut ctl(&off, "token show"), 65);
    assert!(stderr.contains("tokens are switched off (no-token, HTTP 404)"), "{stderr}");
}

#[test]
fn a_token_is_revoked_with_a_reason() {
    let service = FakeService::start(|_| Reply::no_content());
    let mut command = ctl(&service, "token revoke cd34 --reason");
    assert_eq!(outcome(command.arg("in a log & a mail"), 0).0, "token cd34 is revoked\n");
    let json = outcome(&mut ctl(&service, "token revoke cd34 --json"), 0).0;
    assert_eq!(json, "{\"revoked\":\"cd34\"}\n");
    let calls = service.calls_of("DELETE");
    let targets: Vec<_> = calls.iter().map(|call| call.target.as_str()).collect();
    let reason = "?reason=in%20a%20log%20%26%20a%20mail";
    assert_eq!(targets, [&format!("/api/v1/tokens/cd34{reason}"), "/api/v1/tokens/cd34"]);
    for (status, code) in [(404, "unknown-token"), (409, "token-declared")] {
        let service = FakeService::start(move |_| Reply::problem(status, code, "see there"));
        for line in ["token revoke cd34", "token rotate cd34", "token show cd34"] {
            let stderr = check(&mut ctl(&service, line), 65);
            assert!(stderr.contains(&format!("see there ({code}, HTTP {status})")), "{stderr}");
        }
    }
}

#[test]
fn wrong_command_lines_are_explained() {
    let service = making();
    let whole = format!("token show sem_cd34_{SECRET}");
    for (line, expected) in [
        ("token", "say what to do: create, list, show, rotate, revoke"),
        ("token lsit", "did you mean list?"),
        ("token --json list", "first say what to do"),
        ("token create", "NAME is missing"),
        ("token create ci", "say what it may do: --scope claim"),
        ("token create ci --scope claim --claims-max 0", "--claims-max must be a whole number"),
        ("token create ci --scope claim --priority-max 101", "--priority-max must be"),
        ("token create ci --scope claim --expires-in soon", "--expires-in must be"),
        ("token revoke", "ID is missing"),
        ("token rotate AB", "must be 4 to 32 of a-z 0-9"),
        (&whole, "its id is cd34"),
    ] {
        let (stdout, stderr) = outcome(&mut ctl(&service, line), 64);
        assert_eq!(stdout, "");
        assert!(stderr.contains(expected), "{line}: {stderr}");
        assert!(stderr.contains("Try `semaphorectl token"), "{line}: {stderr}");
    }
    let mut control = ctl(&service, "token revoke cd34 --reason");
    assert!(check(control.arg("a\nb"), 64).contains("--reason must be"));
    assert_eq!(service.calls().len(), 0);
}

#[test]
fn a_change_has_its_reason() {
    let service =
        FakeService::start(|_| Reply::json(200, r#"{"name":"lic","state":"open","capacity":3}"#));
    for (line, target) in [
        ("drain lic --reason x-y", "/api/v1/semaphores/lic?reason=x%2Dy"),
        ("open lic", "/api/v1/semaphores/lic"),
        ("open lic --reason ok", "/api/v1/semaphores/lic?reason=ok"),
        ("resize lic 3 --force", "/api/v1/semaphores/lic?force=true"),
        ("resize lic 3 --force --reason ok", "/api/v1/semaphores/lic?force=true&reason=ok"),
    ] {
        outcome(&mut ctl(&service, line), 0);
        assert_eq!(service.calls_of("PATCH").last().unwrap().target, target, "{line}");
    }
    let calls = service.calls().len();
    let mut control = ctl(&service, "drain lic --reason");
    assert!(check(control.arg("a\x07"), 64).contains("--reason must be"));
    assert_eq!(service.calls().len(), calls);
}
