//! The token that `semaphorectl` uses: where it is read, that it shows nowhere, and what a refusal of it means.

use std::{fs, io::BufReader, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    client::{
        READY_THEN_WAIT, await_line, await_ready, check, finish, outcome, semaphorectl, send,
        start, text,
    },
    fake_service::{FakeService, Reply},
};

/// What stands behind the id of a token, and in no output.
pub(crate) const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyz";
pub(crate) const TOKEN: &str = "sem_ab12_0123456789abcdefghijklmnopqrstuvwxyz";

const SEMAPHORES: &str = r#"{"semaphores":[],"revision":1}"#;

/// A command to this service, with a token.
pub(crate) fn ctl(service: &FakeService, line: &str) -> Command {
    let mut command = semaphorectl(&line.split_whitespace().collect::<Vec<_>>());
    command.env("SEMAPHORE_URL", service.url()).env("SEMAPHORE_TOKEN", TOKEN);
    command
}

/// A file with this in it, for its owner alone or for all.
fn token_file(text: &[u8], mode: u32) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    (directory, path)
}

/// A service that has no semaphores, and grants at once.
fn granting() -> FakeService {
    FakeService::start(|call| match call.method.as_str() {
        "PUT" => Reply::held(201, 300.0, 100.0),
        "GET" => Reply::json(200, SEMAPHORES),
        _ => Reply::no_content(),
    })
}

#[test]
fn the_token_comes_from_the_file_or_the_variable_and_the_file_wins() {
    let service = granting();
    let (_directory, path) = token_file(b" \nsem_file_x\n", 0o600);
    let file = format!("status --token-file {}", path.display());
    let sent = |line: &str| {
        let (_, stderr) = outcome(&mut ctl(&service, line), 0);
        assert!(!stderr.contains("warning"), "{stderr}");
        service.calls().last().unwrap().authorization.clone()
    };
    assert_eq!(sent("status"), Some(format!("Bearer {TOKEN}")));
    assert_eq!(sent(&file).as_deref(), Some("Bearer sem_file_x"));
    outcome(ctl(&service, "status").env("SEMAPHORE_TOKEN", ""), 0);
    assert_eq!(service.calls().last().unwrap().authorization, None);
}

#[test]
fn a_file_that_others_can_read_is_warned_of_once() {
    let service = granting();
    for mode in [0o640, 0o604, 0o644] {
        let (_directory, path) = token_file(TOKEN.as_bytes(), mode);
        let path = path.display();
        for line in ["status", "claims --json", "run lic --quiet"] {
            let rest = if line.starts_with("run") { " -- true" } else { "" };
            let line = format!("{line} --token-file {path}{rest}");
            let command = &mut ctl(&service, &line);
            let stderr = text(&finish(start(command)).stderr);
            let expected = format!("warning: others can read the token in {path}: chmod 600");
            assert_eq!(stderr.matches(&expected).count(), 1, "{line}: {stderr}");
        }
    }
}

#[test]
fn a_token_that_cannot_be_one_is_not_sent() {
    let service = granting();
    let directory = tempfile::tempdir().unwrap();
    for (variable, expected) in [
        (" ", "SEMAPHORE_TOKEN must hold a token: it is empty"),
        ("sem ab12", "without spaces"),
        ("sem_ab12\u{7}", "without spaces"),
    ] {
        let stderr = check(ctl(&service, "status").env("SEMAPHORE_TOKEN", variable), 78);
        assert!(stderr.contains(expected), "{stderr}");
    }
    for text in [&b"\n"[..], b"a b", b"a\nb", b"a\0b", &[b'x'; 5_000], &[0xff; 40]] {
        let (_directory, path) = token_file(text, 0o600);
        let line = format!("status --token-file {}", path.display());
        let stderr = check(&mut ctl(&service, &line), 78);
        assert!(stderr.contains(path.to_str().unwrap()), "{stderr}");
    }
    for path in [directory.path().to_str().unwrap(), "/does/not/exist"] {
        let stderr = check(&mut ctl(&service, &format!("run lic --token-file {path} -- true")), 78);
        let expected = format!("cannot read the token from {path}: ");
        assert!(stderr.contains(&expected) && stderr.contains("--token-file wants"), "{stderr}");
    }
    assert_eq!(service.calls().len(), 0);
}

#[test]
fn there_is_no_option_for_the_token_itself() {
    let service = granting();
    for line in [
        "status --token TOKEN",
        "status --token=TOKEN",
        "status lic -token TOKEN",
        "run --token TOKEN lic -- true",
        "token list --token TOKEN",
        "token --token TOKEN",
        "--token=TOKEN status",
        "status --token",
    ] {
        for token in [TOKEN, "an0ther"] {
            let stderr = check(&mut ctl(&service, &line.replace("TOKEN", token)), 64);
            assert!(stderr.contains("read the command lines of its processes"), "{line}: {stderr}");
            assert!(stderr.contains("SEMAPHORE_TOKEN, or give --token-file FILE"), "{stderr}");
            assert!(!stderr.contains(SECRET) && !stderr.contains("an0ther"), "{line}: {stderr}");
        }
    }
    // Of the command, and none of ours.
    check(&mut ctl(&service, "run lic -- true --token x"), 0);
}

#[test]
fn a_token_that_crosses_a_network_is_warned_of_once() {
    let service = granting();
    // This machine, by a name that does not say so.
    let host = format!("0.0.0.0:{}", service.address().port());
    for (line, code) in [("status", 0), ("run lic -- true", 0), ("acquire lic --ttl 5m", 0)] {
        let mut command = ctl(&service, line);
        command.env("SEMAPHORE_URL", format!("http://{host}")).env("NO_PROXY", "0.0.0.0");
        let stderr = check(&mut command, code);
        let expected = format!("warning: the token goes to {host} unencrypted: use https://\n");
        assert_eq!(stderr.matches(&expected).count(), 1, "{stderr}");
        let stderr = check(command.env_remove("SEMAPHORE_TOKEN"), code);
        assert!(!stderr.contains("unencrypted"), "{stderr}");
    }
}

#[test]
fn a_redirect_is_not_followed_with_the_token() {
    let other = granting();
    let location: &'static str = Box::leak(format!("Location: {}/x\r\n", other.url()).into());
    for status in [301, 302, 303, 307, 308] {
        let service = FakeService::start(move |_| Reply::Answer(status, location, String::new()));
        for line in ["status", "run lic -- true", "drain lic", "backup --output -", "token list"] {
            let stderr = check(&mut ctl(&service, line), 65);
            assert!(stderr.contains("it redirects to"), "{stderr}");
            assert_eq!(
                service.calls()[0].authorization.as_deref(),
                Some("Bearer ".to_owned() + TOKEN).as_deref()
            );
        }
    }
    assert_eq!(other.calls().len(), 0);
}

/// Each command that talks to the service, but for `doctor`.
const COMMANDS: [&str; 22] = [
    "status",
    "status lic --watch",
    "queue lic",
    "claims",
    "deliveries c1",
    "run lic -- true",
    "run --claim c1 -- true",
    "acquire lic --ttl 5m",
    "acquire lic --callback ci",
    "renew c1",
    "release c1",
    "drain lic",
    "open lic --reason x",
    "resize lic 3",
    "revoke c1 --reason x",
    "backup --output -",
    "callback-test ci",
    "token create ci --scope claim",
    "token list",
    "token show",
    "token rotate ab12",
    "audit --all",
];

#[test]
fn a_refused_token_is_not_tried_again_and_what_to_do_is_told() {
    for (status, problem, expected) in [
        (
            401,
            r#""code":"token-missing""#,
            "the service wants a token: set SEMAPHORE_TOKEN or give --token-file FILE (an admin makes one with \
             `semaphorectl token create`) (token-missing, HTTP 401)\n",
        ),
        (
            401,
            r#""code":"token-invalid""#,
            "the service does not know this token, which is not whole",
        ),
        (401, r#""code":"token-expired""#, "the time of this token is over: set SEMAPHORE_TOKEN"),
        (
            403,
            r#""code":"scope-missing","scope":"admin","scopes":["claim","read"]"#,
            "this takes a token with the scope admin, and this one has claim and read: set",
        ),
        (403, r#""code":"all-semaphores-needed""#, "this takes a token for all semaphores"),
        (
            403,
            r#""code":"priority-too-high","priority":50,"priority_max":10"#,
            "this token may ask for --priority 10 at most, not for 50",
        ),
        (403, r#""code":"new-one","detail":"not you""#, "not allowed: not you (new-one, HTTP 403)"),
        (403, "", "not allowed: the answer does not say why (HTTP 403)"),
    ] {
        let body = format!("{{{problem}}}");
        let service = FakeService::start(move |_| Reply::json(status, body.clone()));
        for (at, line) in COMMANDS.iter().enumerate() {
            let (stdout, stderr) = outcome(&mut ctl(&service, line), 77);
            assert_eq!(stdout, "", "{line}");
            assert!(stderr.contains(expected), "{line}: {stderr}");
            assert!(!stderr.contains(SECRET) && !stderr.contains("warning"), "{line}: {stderr}");
            assert_eq!(service.calls().len(), at + 1, "{line}: asked once");
        }
    }
}

#[test]
fn a_token_that_is_revoked_while_a_job_waits_ends_the_wait() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("PUT", 0) => Reply::waiting(1, "Retry-After: 0\r\n"),
        _ => Reply::problem(401, "token-invalid", "no such token"),
    });
    let stderr = check(&mut ctl(&service, "run lic -- true"), 77);
    assert_eq!((service.calls_of("PUT").len(), service.calls_of("DELETE").len()), (2, 1));
    assert!(stderr.contains("could not be released and ends by itself"), "{stderr}");
    assert!(stderr.contains("\nsemaphorectl: the service does not know this token"), "{stderr}");
    assert!(!stderr.contains(SECRET), "{stderr}");
}

/// A service that grants a lease of two seconds, and then does not know the token.
fn forgetting() -> FakeService {
    FakeService::start(|call| match call.method.as_str() {
        "PUT" => Reply::held(201, 2.0, 0.2),
        _ => Reply::problem(401, "token-invalid", "no such token"),
    })
}

#[test]
fn a_token_that_is_revoked_while_a_job_runs_leaves_the_lease_to_its_end() {
    let service = forgetting();
    let mut command = ctl(&service, "run lic --");
    let mut child = start(command.args(READY_THEN_WAIT));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    await_ready(&mut child);
    await_line(&mut stderr, "the lease cannot be renewed any more, and is lost in ");
    await_line(&mut stderr, "others may get its permits; the command runs on: the service does");
    send(&child, Signal::TERM);
    await_line(&mut stderr, "could not be released and ends by itself");
    assert_eq!(finish(child).status.code(), Some(7), "the command's own");
    assert_eq!((service.calls_of("POST").len(), service.calls_of("DELETE").len()), (1, 1));
}

#[test]
fn a_command_is_stopped_at_the_end_of_its_lease_where_that_is_wanted() {
    let service = forgetting();
    let mut command = ctl(&service, "run lic --on-lost terminate --");
    let stderr = check(command.args(READY_THEN_WAIT), 80);
    assert!(stderr.contains("the command was stopped: the lease is lost: the service"), "{stderr}");
    assert_eq!(service.calls_of("POST").len(), 1);
}

#[test]
fn permits_for_a_process_are_lost_at_the_end_of_their_lease() {
    let service = forgetting();
    // Ends by itself where the test would wait for ever.
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let line = format!("acquire lic --while-pid {}", other.id());
    let mut holder = start(&mut ctl(&service, &line));
    let mut stderr = BufReader::new(holder.stderr.take().unwrap());
    await_line(&mut stderr, "the lease cannot be renewed any more, and is lost in ");
    await_line(
        &mut stderr,
        "the lease is lost, others may get its permits: the service does not know",
    );
    other.kill().and_then(|()| other.wait()).unwrap();
    assert_eq!(finish(holder).status.code(), Some(0));
    assert_eq!((service.calls_of("POST").len(), service.calls_of("DELETE").len()), (1, 1));
}

#[test]
fn a_proxy_that_refuses_for_a_moment_costs_no_lease() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("PUT", _) => Reply::held(201, 300.0, 0.2),
        ("POST", 0) => Reply::json(403, "<html>"),
        ("POST", _) => Reply::held(200, 300.0, 0.2),
        _ => Reply::no_content(),
    });
    let mut command = ctl(&service, "run lic --");
    let mut child = start(command.args(READY_THEN_WAIT));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    await_ready(&mut child);
    await_line(&mut stderr, "the lease is renewed again");
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(7));
}

#[test]
fn a_service_that_is_asked_too_much_is_given_its_time() {
    for code in ["too-many-requests", "too-many-wrong-tokens", "token-claims-full"] {
        let service = FakeService::start(move |_| {
            let body = format!(r#"{{"code":"{code}","detail":"slow down","claims_max":5}}"#);
            Reply::Answer(429, "Retry-After: 50\r\n", body)
        });
        let expected = format!(
            "the service takes no more requests just now; try again in 50s: slow down ({code}, HTTP 429)"
        );
        let stderr = check(&mut ctl(&service, "status"), 69);
        assert!(stderr.contains(&expected), "{stderr}");
        assert_eq!(service.calls().len(), 1);
        // Once more at the end of its time, whatever Retry-After says.
        let stderr = check(&mut ctl(&service, "renew c1 --unreachable-timeout 1s"), 69);
        assert!(stderr.contains(&expected), "{stderr}");
        assert_eq!(service.calls_of("POST").len(), 2);
        let stderr = check(&mut ctl(&service, "acquire lic --ttl 5m --no-queue"), 75);
        assert!(stderr.contains("no permit: slow down"), "{stderr}");
    }
}

#[test]
fn a_token_in_a_wrong_place_is_in_no_output() {
    let service = granting();
    for line in [
        "status TOKEN",
        "queue TOKEN",
        "release TOKEN x/y",
        "drain TOKEN",
        "resize lic TOKEN",
        "run lic vsim --password TOKEN",
        "run TOKEN/x -- true",
        "run lic --on-lost TOKEN -- true",
        "run lic --ttl TOKEN -- true",
        "status --url http://h?TOKEN",
        "status lic TOKEN",
        "TOKEN",
        "status --TOKEN",
        "help TOKEN",
        "token TOKEN",
        "token show TOKEN",
        "token revoke TOKEN",
        "token rotate TOKEN",
        "token create ci --scope claim --claims-max TOKEN",
        "audit --token TOKEN",
        "audit --since TOKEN",
        "claims --state TOKEN",
        "status --token-file TOKEN",
    ] {
        let output = finish(start(&mut ctl(&service, &line.replace("TOKEN", TOKEN))));
        let shown = text(&output.stdout) + &text(&output.stderr);
        assert!(!shown.contains(SECRET), "{line}: {shown}");
        assert!(shown.starts_with("semaphorectl: "), "{line}: {shown}");
        assert!(!output.status.success(), "{line}: {shown}");
    }
}
