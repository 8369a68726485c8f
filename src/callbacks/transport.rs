//! Sends one request, once, and says what came of it.
//!
//! What always holds: only addresses that [`super::address`] lets pass are connected to, those that were checked
//! and no others; redirects are not followed, a 3xx is an answer like others; proxies of the environment are not
//! used, for they would resolve the name themselves; no connection is kept for another delivery, which checks anew;
//! all of it ends within the timeout; of the answer's body at most 64 KiB are read, and thrown away.
//!
//! Each delivery has an HTTP agent of its own, for its resolver knows the one target. That costs some
//! milliseconds with https (the system's certificates are read), and deliveries are few.

use std::{
    io::{ErrorKind, Read},
    sync::Arc,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use ureq::{
    Agent, Timeout,
    config::Config,
    http::{HeaderMap, Request},
    tls::{RootCerts, TlsConfig},
    unversioned::transport::DefaultConnector,
};

use super::{
    lookup::{Checked, NoAddress},
    lookups::{Lookup, Lookups, System},
    presets::Outgoing,
    url::Scheme,
};
use crate::model::{DeliveryFailure, DeliveryResult, WallTime};

/// How much of an answer's body is read, so that its sender can end well.
const BODY_BYTES_MAX: usize = 64 * 1_024;
/// Longest time that a receiver can ask us to stay away for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3_600);
const USER_AGENT: &str = concat!("semaphored/", env!("CARGO_PKG_VERSION"));

/// What came of sending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// For the claim's record.
    pub result: DeliveryResult,
    /// How long the receiver asks us to wait, with a 429 or 503; at most 24 h.
    pub retry_after: Option<Duration>,
    /// For the log: what failed, on what, what to do. Without secrets; `None` when there was an answer.
    pub detail: Option<String>,
    /// Whether it was not sent for want of means of this machine, which says nothing of the receiver.
    pub is_ours: bool,
}

/// Asked when it is known where to send, right before it is sent: `false` calls it off. May block; the receiver's
/// time does not run meanwhile.
pub type MayBegin<'a> = &'a dyn Fn() -> bool;

impl Sent {
    /// Nothing could be sent.
    pub(super) fn configuration(detail: String) -> Sent {
        Sent::failed(DeliveryFailure::Configuration, detail)
    }

    fn failed(failure: DeliveryFailure, detail: String) -> Sent {
        let result = DeliveryResult::Failed(failure);
        Sent { result, retry_after: None, detail: Some(detail), is_ours: false }
    }

    /// There was no leave to begin; nothing was sent.
    fn called_off() -> Sent {
        let result = DeliveryResult::Unfinished;
        Sent { result, retry_after: None, detail: None, is_ours: false }
    }

    fn no_address(why: &NoAddress, outgoing: &Outgoing) -> Sent {
        let (failure, detail) = explain_address(why, outgoing);
        let is_ours = matches!(why, NoAddress::NotAsked { .. });
        Sent { is_ours, ..Sent::failed(failure, detail) }
    }
}

/// The way to receivers. Clones share the lookups that are under way, and their bounds.
#[derive(Clone)]
pub struct Transport {
    lookups: Lookups,
}

impl Default for Transport {
    fn default() -> Transport {
        Transport::with_lookup(Arc::new(System))
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport {
    pub(super) fn with_lookup(lookup: Arc<dyn Lookup>) -> Transport {
        Transport { lookups: Lookups::new(lookup) }
    }

    /// Sends if it `may_begin`, and waits for the answer for at most `timeout`, the lookup included. `now` is what a
    /// date in `Retry-After` is compared with. The result is [`DeliveryResult::Unfinished`] when it was called off.
    #[must_use]
    pub fn send(
        &self,
        outgoing: &Outgoing,
        allow: &[IpNet],
        timeout: Duration,
        now: WallTime,
        may_begin: MayBegin<'_>,
    ) -> Sent {
        let deadline = Instant::now() + timeout;
        let checked = Checked::new(&outgoing.url, allow, &self.lookups, deadline);
        let left = deadline.saturating_duration_since(Instant::now());
        let checked = match checked {
            Ok(checked) => checked,
            Err(why) => return Sent::no_address(&why, outgoing),
        };
        if !may_begin() {
            return Sent::called_off();
        }
        let agent = Agent::with_parts(config(left), DefaultConnector::default(), checked);
        exchange(&agent, outgoing, now).unwrap_or_else(|error| {
            let (failure, detail) = explain(&error, outgoing);
            Sent::failed(failure, detail)
        })
    }
}

fn config(timeout: Duration) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .timeout_global(Some(timeout))
        .user_agent(USER_AGENT)
        .tls_config(TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build())
        .build()
}

fn exchange(agent: &Agent, outgoing: &Outgoing, now: WallTime) -> Result<Sent, ureq::Error> {
    let mut request =
        Request::builder().method(outgoing.method.as_str()).uri(outgoing.url.as_str());
    for (name, value) in &outgoing.headers {
        request = request.header(name, value);
    }
    let mut response = agent.run(request.body(outgoing.body.as_str())?)?;
    let status = response.status().as_u16();
    let retry_after = retry_after(status, response.headers(), now);
    throw_away(&mut response.body_mut().as_reader());
    let result = DeliveryResult::Answered { status };
    Ok(Sent { result, retry_after, detail: None, is_ours: false })
}

/// Reads what fits. A body that is longer, comes too slowly or breaks off is still an answer: whoever said 200 has taken
/// the event, and calling again would start its job twice.
fn throw_away(body: &mut impl Read) {
    let mut buffer = [0; 4_096];
    let mut left = BODY_BYTES_MAX;
    while left > 0 {
        match body.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => left = left.saturating_sub(read),
        }
    }
}

/// `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).
fn retry_after(status: u16, headers: &HeaderMap, now: WallTime) -> Option<Duration> {
    if !matches!(status, 429 | 503) {
        return None;
    }
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            WallTime(date.as_millisecond()).since(now)
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

fn explain_address(why: &NoAddress, outgoing: &Outgoing) -> (DeliveryFailure, String) {
    let failure = match why {
        NoAddress::Refused { .. } => DeliveryFailure::AddressRefused,
        NoAddress::Unknown { .. } | NoAddress::NotAsked { .. } => DeliveryFailure::Resolve,
        NoAddress::Ambiguous { .. } => DeliveryFailure::Configuration,
    };
    (failure, format!("{}: {why}", outgoing.url.origin()))
}

fn explain(error: &ureq::Error, outgoing: &Outgoing) -> (DeliveryFailure, String) {
    let origin = outgoing.url.origin();
    if let ureq::Error::Other(why) = error
        && let Some(why) = why.downcast_ref::<NoAddress>()
    {
        return explain_address(why, outgoing);
    }
    let failure = failure_of(error, outgoing.url.scheme());
    let advice = match failure {
        DeliveryFailure::Connect => "see that the receiver runs and that no firewall is between",
        DeliveryFailure::Tls => {
            "see that its certificate is for this name and signed by a CA that this machine trusts"
        }
        DeliveryFailure::Timeout => {
            "there was no whole answer in time: see that the receiver answers before it does the \
             work, or raise `callbacks.timeout`"
        }
        DeliveryFailure::Configuration => {
            "the request cannot be made: look at the target's headers"
        }
        _ => "see that an HTTP server answers there",
    };
    (failure, format!("{origin}: {error}; {advice}"))
}

fn failure_of(error: &ureq::Error, scheme: Scheme) -> DeliveryFailure {
    match error {
        ureq::Error::Timeout(Timeout::Resolve) | ureq::Error::HostNotFound => {
            DeliveryFailure::Resolve
        }
        ureq::Error::Timeout(_) => DeliveryFailure::Timeout,
        ureq::Error::ConnectionFailed => DeliveryFailure::Connect,
        ureq::Error::Http(_) | ureq::Error::BadUri(_) => DeliveryFailure::Configuration,
        ureq::Error::Rustls(_)
        | ureq::Error::Tls(_)
        | ureq::Error::Pem(_)
        | ureq::Error::TlsRequired => DeliveryFailure::Tls,
        ureq::Error::Io(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => DeliveryFailure::Timeout,
            ErrorKind::ConnectionRefused
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::AddrNotAvailable
            | ErrorKind::PermissionDenied => DeliveryFailure::Connect,
            // A TLS handshake that failed, as for a certificate that nobody vouches for.
            ErrorKind::InvalidData if scheme == Scheme::Https => DeliveryFailure::Tls,
            _ => DeliveryFailure::Protocol,
        },
        _ => DeliveryFailure::Protocol,
    }
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
