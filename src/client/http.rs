//! The one place that talks HTTP: four calls of the service, each one request, no retry.
//!
//! A call ends in an [`Answer`], whatever its status, or in [`Unreachable`]. Every call is bounded in
//! time and in the size of the answer. Redirects are not followed: a PUT that a proxy turned into a GET
//! would look like success. `HTTP_PROXY` and its kin are honoured as other clients do, except for a
//! service on this machine. May be used from several threads at once; each call that runs has a
//! connection of its own.

use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};

use ureq::{
    Agent, AsSendBody, Body, Timeout,
    http::{HeaderMap, Method, Request, Response},
    tls::{RootCerts, TlsConfig},
};

use super::service::ServiceAddress;
use crate::model::ClaimId;

/// How long a request may block on a waiting claim. The service's own cap is the same, and NGINX gives
/// up after 60 s.
pub(super) const WAIT: Duration = Duration::from_secs(50);
/// How much longer than asked for an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a connection may take to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What the service (or something before it) answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// The HTTP status.
    pub(super) status: u16,
    /// `Retry-After`, where it is a number of seconds.
    pub(super) retry_after: Option<Duration>,
    /// `Location`, for redirects.
    pub(super) location: Option<String>,
    /// The body.
    pub(super) body: Vec<u8>,
    /// How long the answer took.
    pub(super) took: Duration,
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Unreachable {
    /// What went wrong, for people.
    pub(super) reason: String,
    /// Whether the request may have reached the service all the same.
    pub(super) may_have_arrived: bool,
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

    /// `PUT /api/v1/claims/{id}?wait=50s`: acquires, or goes on waiting.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) fn acquire(&self, id: &ClaimId, body: &str) -> Result<Answer, Unreachable> {
        let path = format!("/api/v1/claims/{id}?wait={}s", WAIT.as_secs());
        self.call(&Method::PUT, &path, body, WAIT + ANSWER_TIMEOUT)
    }

    /// `POST /api/v1/claims/{id}/renew`: prolongs the lease.
    ///
    /// # Errors
    /// When there is no answer within `timeout`.
    pub(super) fn renew(&self, id: &ClaimId, timeout: Duration) -> Result<Answer, Unreachable> {
        self.call(&Method::POST, &format!("/api/v1/claims/{id}/renew"), "", timeout)
    }

    /// `DELETE /api/v1/claims/{id}`: gives the permits back, or leaves the queue.
    ///
    /// # Errors
    /// When there is no answer within `timeout`.
    pub(super) fn release(&self, id: &ClaimId, timeout: Duration) -> Result<Answer, Unreachable> {
        self.call(&Method::DELETE, &format!("/api/v1/claims/{id}"), "", timeout)
    }

    fn call(
        &self,
        method: &Method,
        path: &str,
        body: &str,
        timeout: Duration,
    ) -> Result<Answer, Unreachable> {
        let started = Instant::now();
        let mut request =
            Request::builder().method(method).uri(format!("{}{path}", self.address.base()));
        if let Some(token) = self.address.token() {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json");
        }
        // To a DELETE ureq sends no body, not even an empty one.
        let response = if method == Method::DELETE {
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
        let location = text(response.headers(), "location").map(str::to_owned);
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| self.broken(&error))?;
        Ok(Answer { status, retry_after, location, body, took: started.elapsed() })
    }

    fn broken(&self, error: &ureq::Error) -> Unreachable {
        let may_have_arrived = match error {
            ureq::Error::Io(error) => error.kind() != ErrorKind::ConnectionRefused,
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Tls(_) => {
                false
            }
            ureq::Error::Timeout(timeout) => {
                !matches!(timeout, Timeout::Resolve | Timeout::Connect)
            }
            _ => true,
        };
        let reason = match error {
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        Unreachable { reason: format!("{}: {reason}", self.address.base()), may_have_arrived }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
