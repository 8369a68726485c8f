//! No secret shows anywhere but in the one answer that hands it out: not in the log, the database, another answer, or the
//! process list.

use std::fs;

use super::{Guarded, with_token, wrong};
use crate::{
    daemon::{Port, poll},
    http::{Request, exchange},
};

const A: &str = r#"{"permits": {"A": 1}}"#;

/// The part of a token that is secret.
fn secret(token: &str) -> &str {
    token.rsplit_once('_').unwrap().1
}

#[test]
fn a_full_run_leaves_no_secret_behind() {
    let mut guarded = Guarded::start("[semaphores]\nA = 1");
    let farm = guarded.token("claim", "");
    let wall = guarded.token("read", r#", "expires_in": 1"#);
    let rotated =
        guarded.admin(200, "POST", &format!("/api/v1/tokens/{}/rotate", farm.id), "").json();
    let rotated = rotated["token"].as_str().unwrap().to_owned();
    let bad = wrong(&rotated).replace("aaaa", "bbbb");
    let tokens = [&guarded.admin, &farm.token, &wall.token, &rotated, &bad];
    let mut answers = String::new();
    let mut call = |token: &str, method: &str, target: &str, body: &str| {
        let answer = guarded.call(token, method, target, body);
        answers.push_str(&format!(
            "{:?}\n{}\n",
            answer.headers,
            String::from_utf8_lossy(&answer.body)
        ));
        answer.status
    };
    poll("a token to expire", || {
        (call(&wall.token, "GET", "/api/v1/semaphores", "") == 401).then_some(())
    });
    for token in [&guarded.admin, &rotated, &farm.token, &bad] {
        for (method, target, body) in [
            ("PUT", "/api/v1/claims/a", A),
            ("PUT", "/api/v1/claims/b", A),
            ("POST", "/api/v1/claims/a/renew", ""),
            ("GET", "/api/v1/claims/a", ""),
            ("GET", "/api/v1/claims", ""),
            ("GET", "/api/v1/semaphores", ""),
            ("GET", "/api/v1/token", ""),
            ("GET", "/api/v1/tokens", ""),
            ("GET", "/api/v1/audit", ""),
            ("PUT", "/api/v1/claims/b", "{"),
            ("PUT", "/api/v1/claims/..", A),
            ("GET", "/nothing", ""),
            // Pasted where it does not belong.
            ("GET", &format!("/api/v1/claims/{token}"), ""),
            ("PUT", &format!("/api/v1/semaphores/{token}"), r#"{"capacity": 1, "x": 1}"#),
            ("DELETE", &format!("/api/v1/tokens/{token}"), ""),
            ("GET", &format!("/api/v1/audit?token={token}&{token}=1"), ""),
            ("GET", &format!("/api/v1/{token}"), ""),
            ("DELETE", "/api/v1/claims/a", ""),
        ] {
            call(token, method, target, body);
        }
    }
    call(&guarded.admin, "DELETE", &format!("/api/v1/tokens/{}", farm.id), "");
    let arguments = fs::read(format!("/proc/{}/cmdline", guarded.daemon.pid())).unwrap();
    let mut log = guarded.daemon.log().text();
    guarded.daemon.kill();
    let mut stored = Vec::new();
    let mut read_all = |guarded: &Guarded| {
        for entry in fs::read_dir(guarded.daemon.data_dir()).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap() != "admin-token" {
                stored.push(fs::read(&path).unwrap());
            }
        }
    };
    read_all(&guarded);
    guarded.daemon.start_again(Port::Same);
    log.push_str(&guarded.daemon.log().text());
    guarded.daemon.stop();
    read_all(&guarded);
    assert!(answers.contains("token-expired") && stored.len() >= 3, "the scan sees what it scans");
    for token in tokens {
        let secret = secret(token);
        assert!(!answers.contains(secret), "an answer shows {token}");
        assert!(!log.contains(secret), "the log shows {token}");
        let has =
            |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|part| part == secret.as_bytes());
        assert!(!stored.iter().any(has) && !has(&arguments), "a file shows {token}");
    }
}

#[test]
fn headers_that_are_odd_get_nobody_in() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let admin = &guarded.admin;
    let status = |headers: &[(&str, &str)]| {
        let request = Request::new("GET", "/api/v1/tokens");
        let request =
            headers.iter().fold(request, |request, (name, value)| request.with(name, value));
        guarded.daemon.send(&request).status
    };
    let bearer = format!("Bearer {admin}");
    assert_eq!(status(&[("authorization", &bearer)]), 200);
    for value in [
        admin.to_owned(),
        format!("Basic {admin}"),
        format!("Bearer {admin} {admin}"),
        format!("Bearer {admin},Bearer {admin}"),
        format!("Bearer\u{b}{admin}"),
        format!("Bearer  {admin}x"),
        format!("Bearer {}", admin.to_uppercase()),
        format!("Bearer {}", &admin[..admin.len() - 1]),
    ] {
        assert_eq!(status(&[("Authorization", &value)]), 401, "{value:?}");
    }
    assert_eq!(status(&[("Authorization", &bearer), ("Authorization", &bearer)]), 401, "twice");
    assert_eq!(status(&[("Proxy-Authorization", &bearer)]), 401);
    assert_eq!(status(&[("X-Authorization", &bearer)]), 401);
    assert_eq!(status(&[("Authorization", &format!("Bearer {}", "a".repeat(20_000)))]), 431);
    // In the query or as a cookie it is none.
    let in_query = Request::new("GET", &format!("/api/v1/tokens?access_token={admin}"));
    assert_eq!(guarded.daemon.send(&in_query).status, 401);
    assert_eq!(status(&[("Cookie", &format!("token={admin}"))]), 401);
    // Bytes that no header may have are no request at all (RFC 9110, section 5.5).
    for byte in ["\0", "\r", "\x01", "\x7f"] {
        let request = format!(
            "GET /api/v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer{byte} {admin}\r\n\r\n"
        );
        let answer = exchange(guarded.daemon.address(), request.as_bytes(), false);
        assert!(matches!(answer.status, 400 | 401), "{byte:?}: {answer:?}");
    }
    let good = with_token(Request::new("GET", "/api/v1/tokens"), admin);
    assert_eq!(guarded.daemon.send(&good).status, 200);
}
