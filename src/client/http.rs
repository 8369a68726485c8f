//! The one place that talks HTTP: the calls of the service, each one request, no retry.
//!
//! A call ends in an [`Answer`], whatever its status, or in [`Unreachable`]. Every call is bounded in
//! time and in the size of the answer. Redirects are not followed: a PUT that a proxy turned into a GET
//! would look like success, and the token would go to another host. `HTTP_PROXY` and its kin are honoured as other clients do, except for a
//! service on this machine. May be used from several threads at once; each call that runs has a
//! connection of its own.

use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read},
    time::{Duration, Instant},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use ureq::{
    Agent, AsSendBody, Body, Timeout,
    http::{HeaderMap, Method, Request, Response, request::Builder},
    tls::{RootCerts, TlsConfig},
};

use super::service::ServiceAddress;
use crate::model::{ClaimId, SemaphoreName, TargetName, Vars, format_duration};

/// How long a request may block on a waiting claim. The service's own cap is the same, and NGINX gives
/// up after 60 s.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(50);
/// How much longer than asked for an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the answer may take that waits for a target's, which the service does for up to 60 s.
const TEST_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a backup may take, from first to last byte. The service gives up sooner.
const BACKUP_TIMEOUT: Duration = Duration::from_secs(3_600);
/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read: that of a page of claims with all the labels they may have is far below.
const ANSWER_BYTES_MAX: u64 = 32 << 20;

/// How the standard library says that a host's name has no address; there is no kind of error for it.
const NAME_UNKNOWN: &str = "failed to lookup address information";

/// What the service (or something before it) answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// `Retry-After`, where it is a number of seconds.
    pub(super) retry_after: Option<Duration>,
    /// `Location`, for redirects.
    pub(super) location: Option<String>,
    /// `Date`, the service's clock.
    pub(super) date: Option<String>,
    /// The body.
    pub(super) body: Vec<u8>,
    /// How long the answer took.
    pub(super) took: Duration,
}

/// An answer whose body is read by and by.
pub(super) struct Download {
    /// `Semaphore-Revision`.
    pub(super) revision: Option<u64>,
    /// `Content-Length`.
    pub(super) bytes: Option<u64>,
    /// The body.
    pub(super) body: Box<dyn Read>,
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Unreachable {
    /// What went wrong, for people.
    pub(super) reason: String,
    /// How far it got.
    pub(super) stage: Stage,
    /// Whether the request may have reached the service all the same.
    pub(super) may_have_arrived: bool,
}

/// How far a request got that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The host's name has no address.
    Name,
    /// Nobody took the connection.
    Connect,
    /// There is a connection, and no trust.
    Tls,
    /// It was sent, at least in part.
    Answer,
}

/// A way to the service.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    agent: Agent,
    address: ServiceAddress,
}

impl Connection {
    /// Prepares calls to `address`; connects when the first is made.
    pub(super) fn new(address: &ServiceAddress) -> Connection {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("semaphorectl/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls);
        if address.is_loopback() {
            config = config.proxy(None);
        }
        Connection { agent: config.build().new_agent(), address: address.clone() }
    }

    /// `PUT /api/v1/claims/{id}?wait=50s`: acquires, or goes on waiting for `wait`, in whole seconds up to
    /// [`WAIT_MAX`]; with zero it does not block.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn acquire(
        &self,
        id: &ClaimId,
        body: &str,
        wait: Duration,
    ) -> Result<Answer, Unreachable> {
        let wait = wait.min(WAIT_MAX);
        let path = format!("/api/v1/claims/{id}{}", wait_query(wait));
        self.call(&Method::PUT, &path, body, wait + ANSWER_TIMEOUT)
    }

    /// `POST /api/v1/claims/{id}/renew?wait=50s`: confirms an offer, or goes on waiting for `wait`, as
    /// [`acquire`](Connection::acquire) does, for a claim that is there. `job` names this process: no other one may
    /// take the claim over after it.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn confirm(
        &self,
        id: &ClaimId,
        job: &str,
        wait: Duration,
    ) -> Result<Answer, Unreachable> {
        let wait = wait.min(WAIT_MAX);
        let path = format!("/api/v1/claims/{id}/renew{}", wait_query(wait));
        let body = json!({ "job": job }).to_string();
        self.call(&Method::POST, &path, &body, wait + ANSWER_TIMEOUT)
    }

    /// `POST /api/v1/claims/{id}/renew`: prolongs the lease, or replaces its length by `ttl`.
    ///
    /// # Errors
    /// When there is no answer within `timeout`.
    pub(super) fn renew(
        &self,
        id: &ClaimId,
        ttl: Option<Duration>,
        timeout: Duration,
    ) -> Result<Answer, Unreachable> {
        let body = ttl.map(|ttl| json!({ "ttl": format_duration(ttl) }).to_string());
        let body = body.unwrap_or_default();
        self.call(&Method::POST, &format!("/api/v1/claims/{id}/renew"), &body, timeout)
    }

    /// `DELETE /api/v1/claims/{id}`: gives the permits back, or leaves the queue; with `job` unless
    /// another job has the claim.
    ///
    /// # Errors
    /// When there is no answer within `timeout`.
    pub(super) fn release(
        &self,
        id: &ClaimId,
        job: Option<&str>,
        timeout: Duration,
    ) -> Result<Answer, Unreachable> {
        let query = job.map(|job| format!("?job={job}")).unwrap_or_default();
        self.call(&Method::DELETE, &format!("/api/v1/claims/{id}{query}"), "", timeout)
    }

    /// `POST /api/v1/claims/{id}/revoke`: an admin ends the claim.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn revoke(&self, id: &ClaimId, reason: &str) -> Result<Answer, Unreachable> {
        let body = json!({ "reason": reason }).to_string();
        self.call(&Method::POST, &format!("/api/v1/claims/{id}/revoke"), &body, ANSWER_TIMEOUT)
    }

    /// `POST /api/v1/claims/{id}/deliveries/{number}/retry`: the service calls once more, at once.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn retry_delivery(&self, id: &ClaimId, number: u64) -> Result<Answer, Unreachable> {
        let path = format!("/api/v1/claims/{id}/deliveries/{number}/retry");
        self.call(&Method::POST, &path, "", ANSWER_TIMEOUT)
    }

    /// `POST /api/v1/callbacks/{target}/test`: the service calls a target, and answers when that is over.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn test_callback(
        &self,
        target: &TargetName,
        vars: &Vars,
    ) -> Result<Answer, Unreachable> {
        let vars: BTreeMap<_, _> = vars.iter().collect();
        let body =
            if vars.is_empty() { String::new() } else { json!({ "vars": vars }).to_string() };
        self.call(&Method::POST, &format!("/api/v1/callbacks/{target}/test"), &body, TEST_TIMEOUT)
    }

    /// `PATCH /api/v1/semaphores/{name}`: changes settings, by a JSON object of them. `force` ends claims
    /// that stand in the way; `reason` is for the audit log.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn change(
        &self,
        name: &SemaphoreName,
        settings: &str,
        force: bool,
        reason: Option<&str>,
    ) -> Result<Answer, Unreachable> {
        let query = query(&[("force", force.then_some("true")), ("reason", reason)]);
        let path = format!("/api/v1/semaphores/{name}{query}");
        self.call(&Method::PATCH, &path, settings, ANSWER_TIMEOUT)
    }

    /// `POST /api/v1/tokens`: makes a token, by a JSON object; its secret is in the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn create_token(&self, body: &str) -> Result<Answer, Unreachable> {
        self.call(&Method::POST, "/api/v1/tokens", body, ANSWER_TIMEOUT)
    }

    /// `POST /api/v1/tokens/{id}/rotate`: gives a token another secret, which is in the answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn rotate_token(&self, id: &str) -> Result<Answer, Unreachable> {
        self.call(&Method::POST, &format!("/api/v1/tokens/{id}/rotate"), "", ANSWER_TIMEOUT)
    }

    /// `DELETE /api/v1/tokens/{id}`: ends a token; `reason` is for the audit log.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn revoke_token(
        &self,
        id: &str,
        reason: Option<&str>,
    ) -> Result<Answer, Unreachable> {
        let path = format!("/api/v1/tokens/{id}{}", query(&[("reason", reason)]));
        self.call(&Method::DELETE, &path, "", ANSWER_TIMEOUT)
    }

    /// `GET` of a path below the service's URL, which blocks for at most `wait`.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn look(&self, path: &str, wait: Duration) -> Result<Answer, Unreachable> {
        self.call(&Method::GET, path, "", wait + ANSWER_TIMEOUT)
    }

    /// `GET /api/v1/claims/{id}`.
    ///
    /// # Errors
    /// When there is no answer within `timeout`.
    pub(super) fn claim(&self, id: &ClaimId, timeout: Duration) -> Result<Answer, Unreachable> {
        self.call(&Method::GET, &format!("/api/v1/claims/{id}"), "", timeout)
    }

    /// `GET /api/v1/backup`: the body is there to be read, or the refusal.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn backup(&self) -> Result<Result<Download, Answer>, Unreachable> {
        let started = Instant::now();
        // Where the answer breaks off, the service closes this connection.
        let request = self.request(&Method::GET, "/api/v1/backup").header("Connection", "close");
        let response = self.send(request.body(()), BACKUP_TIMEOUT);
        let response = response.map_err(|error| self.broken(&error))?;
        if response.status() != 200 {
            return self.read(response, started).map(Err);
        }
        let number =
            |name| text(response.headers(), name).and_then(|text| text.trim().parse().ok());
        let (revision, bytes) = (number("semaphore-revision"), number("content-length"));
        let body = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Ok(Download { revision, bytes, body: Box::new(body) }))
    }

    fn request(&self, method: &Method, path: &str) -> Builder {
        let url = format!("{}{path}", self.address.base());
        let request = Request::builder().method(method).uri(url);
        match self.address.token() {
            Some(token) => request.header("Authorization", format!("Bearer {}", token.reveal())),
            None => request,
        }
    }

    fn call(
        &self,
        method: &Method,
        path: &str,
        body: &str,
        timeout: Duration,
    ) -> Result<Answer, Unreachable> {
        let started = Instant::now();
        let mut request = self.request(method, path);
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json");
        }
        // With these ureq sends no body, not even an empty one.
        let response = if method == Method::DELETE || method == Method::GET {
            self.send(request.body(()), timeout)
        } else {
            self.send(request.body(body), timeout)
        };
        self.read(response.map_err(|error| self.broken(&error))?, started)
    }

    fn send<S: AsSendBody>(
        &self,
        request: Result<Request<S>, ureq::http::Error>,
        timeout: Duration,
    ) -> Result<Response<Body>, ureq::Error> {
        let request = self.agent.configure_request(request?).timeout_global(Some(timeout));
        self.agent.run(request.timeout_connect(Some(CONNECT_TIMEOUT.min(timeout))).build())
    }

    fn read(&self, mut response: Response<Body>, started: Instant) -> Result<Answer, Unreachable> {
        let status = response.status().as_u16();
        let retry_after = text(response.headers(), "retry-after")
            .and_then(|text| text.trim().parse().ok())
            .map(Duration::from_secs);
        let owned = |name| text(response.headers(), name).map(str::to_owned);
        let (location, date) = (owned("location"), owned("date"));
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.broken(&error))?;
        Ok(Answer { status, retry_after, location, date, body, took: started.elapsed() })
    }

    fn broken(&self, error: &ureq::Error) -> Unreachable {
        let stage = match error {
            // Invalid data is a TLS handshake that failed, as for a certificate that nobody vouches for.
            ureq::Error::Io(error) => match error.kind() {
                ErrorKind::ConnectionRefused => Stage::Connect,
                ErrorKind::InvalidData => Stage::Tls,
                _ if error.to_string().starts_with(NAME_UNKNOWN) => Stage::Name,
                _ => Stage::Answer,
            },
            ureq::Error::HostNotFound | ureq::Error::Timeout(Timeout::Resolve) => Stage::Name,
            ureq::Error::Rustls(_) | ureq::Error::Tls(_) => Stage::Tls,
            ureq::Error::ConnectionFailed
            | ureq::Error::ConnectProxyFailed(_)
            | ureq::Error::Timeout(Timeout::Connect) => Stage::Connect,
            _ => Stage::Answer,
        };
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Unreachable {
            reason: format!("{}: {reason}", self.address.base()),
            stage,
            may_have_arrived: stage == Stage::Answer,
        }
    }
}

/// The query with those of the parameters that have a value.
pub(super) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        if let Some(value) = value {
            let mark = if query.is_empty() { '?' } else { '&' };
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            query.push_str(&format!("{mark}{name}={value}"));
        }
    }
    query
}

/// The query for a call that blocks for `wait`, in whole seconds.
fn wait_query(wait: Duration) -> String {
    match wait.as_secs() {
        0 => String::new(),
        seconds => format!("?wait={seconds}s"),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
