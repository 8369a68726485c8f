//! Who may do what: tokens, scopes, bounds and the audit log, with real daemons.

mod audit;
mod bounds;
mod client;
mod config;
mod expiry;
mod hidden;
mod life;
mod matrix;
mod restored;
mod secrets;

use std::{fs, thread};

use serde_json::Value;

use super::{
    daemon::{Daemon, poll},
    http::{self, Request, Response},
};

/// A daemon that wants tokens.
pub(crate) struct Guarded {
    pub(crate) daemon: Daemon,
    /// The admin token that it made.
    pub(crate) admin: String,
}

/// A token and its id.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) token: String,
}

impl Guarded {
    /// Starts one; the configuration's last section may be `[auth]`.
    pub(crate) fn start(config: &str) -> Guarded {
        let config = if config.contains("[auth]") {
            config.to_owned()
        } else {
            format!("{config}\n[auth]\n")
        };
        let daemon = Daemon::start(&config);
        let admin = fs::read_to_string(daemon.data_dir().join("admin-token")).unwrap();
        Guarded { daemon, admin: admin.trim_end().to_owned() }
    }

    pub(crate) fn call(&self, token: &str, method: &str, target: &str, body: &str) -> Response {
        self.daemon.send(&with_token(Request::json(method, target, body), token))
    }

    /// The same by the admin, who has to be answered with this status.
    pub(crate) fn admin(&self, status: u16, method: &str, target: &str, body: &str) -> Response {
        let answer = self.call(&self.admin, method, target, body);
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        answer
    }

    /// The same from a thread of its own, for those that block.
    fn call_later(
        &self,
        token: &str,
        method: &str,
        target: &str,
        body: &str,
    ) -> thread::JoinHandle<Response> {
        let address = self.daemon.address();
        let request = with_token(Request::json(method, target, body), token);
        thread::spawn(move || http::send(address, &request))
    }

    /// Makes a token; `more` are further members.
    pub(crate) fn token(&self, scopes: &str, more: &str) -> Made {
        let body = format!(
            r#"{{"name": "{scopes} token", "scopes": ["{}"]{more}}}"#,
            scopes.replace('+', "\", \"")
        );
        let made = self.admin(201, "POST", "/api/v1/tokens", &body).json();
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        Made { id: text("id"), token: text("token") }
    }

    pub(crate) fn look(&self, target: &str) -> Value {
        self.admin(200, "GET", target, "").json()
    }

    /// Waits until so many requests block.
    fn wait_for_blocked(&self, requests: u64) {
        poll(&format!("{requests} blocked requests"), || {
            let service = self.look("/api/v1/service");
            (service["waiting_requests"].as_u64() == Some(requests)).then_some(())
        });
    }

    /// The rows of the audit log that a query finds, newest first.
    pub(crate) fn audit(&self, query: &str) -> Vec<Value> {
        let page = self.look(&format!("/api/v1/audit?{query}"));
        page["entries"].as_array().unwrap().clone()
    }
}

pub(crate) fn with_token(request: Request, token: &str) -> Request {
    if token.is_empty() {
        request
    } else {
        request.with("Authorization", &format!("Bearer {token}"))
    }
}

/// Another secret of the same length.
pub(crate) fn wrong(token: &str) -> String {
    let (head, secret) = token.rsplit_once('_').unwrap();
    format!("{head}_{}", "a".repeat(secret.len()))
}
