//! How each server is spoken to: the same few calls in four spellings.

use std::{
    fmt::Write,
    net::SocketAddr,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{
    engine::Failure,
    http::{self, Answer, write_request},
};

/// Lease of all claims, in seconds: far longer than a run.
const TTL_SECONDS: u32 = 3_600;
/// Permits of the semaphore that nobody has to wait for.
const OPEN_CAPACITY: u32 = 1_000_000;

/// Which server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// This service.
    Semaphored,
    /// throttle 0.5: peers, with a lock on each semaphore; in memory.
    Throttle,
    /// etcd 3.4: leases and locks over its HTTP gateway.
    Etcd,
    /// A bare `tiny_http` that answers a constant to each request.
    Constant,
}

/// A call of a client, whatever the server calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Makes what the server needs before anything can be acquired: a peer, a lease. Not with this service.
    Open,
    /// Acquires one permit, and waits for it.
    Acquire,
    /// Gives it back.
    Release,
    /// Prolongs the lease.
    Renew,
    /// Ends what [`Call::Open`] made, and gives back what was acquired under it.
    Close,
}

/// Which semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pool {
    /// One with permits for everybody. (etcd knows only locks: one for each connection.)
    Open,
    /// One with a single permit.
    One,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    /// No permit yet: ask again.
    Waiting,
}

impl FromStr for Dialect {
    type Err = String;

    fn from_str(text: &str) -> Result<Dialect, String> {
        match text {
            "semaphored" => Ok(Dialect::Semaphored),
            "throttle" => Ok(Dialect::Throttle),
            "etcd" => Ok(Dialect::Etcd),
            "constant" => Ok(Dialect::Constant),
            _ => Err("one of semaphored, throttle, etcd, constant".to_owned()),
        }
    }
}

impl Dialect {
    /// A path that any connection may get.
    pub(crate) fn probe_path(self) -> &'static str {
        match self {
            Dialect::Semaphored | Dialect::Constant => "/healthz",
            Dialect::Throttle | Dialect::Etcd => "/health",
        }
    }

    /// What has to be done once before [`Call::Acquire`].
    pub(crate) fn opening(self) -> &'static [Call] {
        match self {
            Dialect::Semaphored | Dialect::Constant => &[],
            Dialect::Throttle | Dialect::Etcd => &[Call::Open],
        }
    }

    /// Everything that a client does from nothing to nothing.
    pub(crate) fn job(self) -> &'static [Call] {
        match self {
            Dialect::Semaphored | Dialect::Constant => &[Call::Acquire, Call::Release],
            Dialect::Throttle | Dialect::Etcd => &[Call::Open, Call::Acquire, Call::Close],
        }
    }

    /// Registers the semaphores, where that is done over the API.
    pub(crate) fn prepare(self, address: SocketAddr) -> Result<(), Failure> {
        if self != Dialect::Semaphored {
            return Ok(());
        }
        register(address, Pool::Open.name(), OPEN_CAPACITY)?;
        register(address, Pool::One.name(), 1)
    }
}

/// Registers a semaphore of this service, or sets its capacity.
pub(crate) fn register(address: SocketAddr, name: &str, capacity: u32) -> Result<(), Failure> {
    let path = format!("/api/v1/semaphores/{name}");
    let body = format!(r#"{{"capacity": {capacity}}}"#);
    let answer = http::call(address, "PUT", &path, &body)?;
    if !matches!(answer.status, 200 | 201) {
        return Err(unexpected("PUT", &answer));
    }
    Ok(())
}

/// An answer that no client of a working server gets.
pub(crate) fn unexpected(what: &str, answer: &Answer) -> Failure {
    format!("{what} was answered {}: {}", answer.status, answer.text()).into()
}

impl Pool {
    /// Its name, with those servers that have names of one's own.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Pool::Open => "bench-open",
            Pool::One => "bench-one",
        }
    }
}

/// What a client remembers between its calls.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    dialect: Dialect,
    pool: Pool,
    /// Which connection, for names of its own.
    connection: usize,
    /// The start of all its claims' ids: no other run has it.
    run: u128,
    claims: u64,
    /// The claim's id, the peer's number, or the lease's number.
    id: String,
    /// etcd's key of the lock.
    key: String,
    /// Whether the claim was made and has no permit yet.
    waits: bool,
}

impl Session {
    /// Nothing is made yet.
    pub(crate) fn new(dialect: Dialect, pool: Pool, connection: usize) -> Session {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Session {
            dialect,
            pool,
            connection,
            run: since_1970.as_nanos(),
            claims: 0,
            id: String::new(),
            key: String::new(),
            waits: false,
        }
    }

    /// Writes a call's request.
    pub(crate) fn write(&mut self, call: Call, out: &mut Vec<u8>) {
        match self.dialect {
            Dialect::Semaphored | Dialect::Constant => self.write_semaphored(call, out),
            Dialect::Throttle => self.write_throttle(call, out),
            Dialect::Etcd => self.write_etcd(call, out),
        }
    }

    /// Reads a call's answer.
    pub(crate) fn read(&mut self, call: Call, answer: &Answer) -> Result<Reply, Failure> {
        let expected = match self.dialect {
            Dialect::Semaphored => match call {
                Call::Acquire => matches!(answer.status, 200..=202),
                _ => matches!(answer.status, 200 | 204),
            },
            Dialect::Throttle => matches!(answer.status, 200 | 202),
            Dialect::Etcd | Dialect::Constant => matches!(answer.status, 200 | 204),
        };
        if !expected {
            return Err(unexpected(&format!("{call:?}"), answer));
        }
        self.remember(call, answer)?;
        self.waits = call == Call::Acquire && answer.status == 202;
        Ok(if self.waits { Reply::Waiting } else { Reply::Done })
    }

    fn remember(&mut self, call: Call, answer: &Answer) -> Result<(), Failure> {
        let member = |name| answer.member(name).ok_or_else(|| unexpected("a call", answer));
        match (self.dialect, call) {
            (Dialect::Throttle, Call::Open) => answer.text().trim().clone_into(&mut self.id),
            (Dialect::Etcd, Call::Open) => member("ID")?.clone_into(&mut self.id),
            (Dialect::Etcd, Call::Acquire) => member("key")?.clone_into(&mut self.key),
            _ => {}
        }
        Ok(())
    }

    fn write_semaphored(&mut self, call: Call, out: &mut Vec<u8>) {
        if call == Call::Acquire && !self.waits {
            self.claims += 1;
            self.id.clear();
            let (run, connection, claims) = (self.run, self.connection, self.claims);
            let written = write!(self.id, "{run:x}-{connection}-{claims}");
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        }
        let id = &self.id;
        match call {
            Call::Acquire => {
                let name = self.pool.name();
                let body = format!(r#"{{"permits": {{"{name}": 1}}, "ttl": {TTL_SECONDS}}}"#);
                write_request(out, "PUT", &format!("/api/v1/claims/{id}?wait=50"), &body);
            }
            Call::Renew => write_request(out, "POST", &format!("/api/v1/claims/{id}/renew"), ""),
            Call::Open | Call::Release | Call::Close => {
                write_request(out, "DELETE", &format!("/api/v1/claims/{id}"), "");
            }
        }
    }

    fn write_throttle(&self, call: Call, out: &mut Vec<u8>) {
        let (id, name) = (&self.id, self.pool.name());
        let lease = format!(r#"{{"expires_in": "{TTL_SECONDS}s"}}"#);
        match call {
            Call::Open => write_request(out, "POST", "/new_peer", &lease),
            Call::Acquire => {
                write_request(out, "PUT", &format!("/peers/{id}/{name}?block_for=50s"), "1");
            }
            Call::Release => write_request(out, "DELETE", &format!("/peers/{id}/{name}"), ""),
            Call::Renew => write_request(out, "PUT", &format!("/peers/{id}"), &lease),
            Call::Close => write_request(out, "DELETE", &format!("/peers/{id}"), ""),
        }
    }

    fn write_etcd(&self, call: Call, out: &mut Vec<u8>) {
        let (id, key) = (&self.id, &self.key);
        let (path, body) = match call {
            Call::Open => ("/v3/lease/grant", format!(r#"{{"TTL": {TTL_SECONDS}}}"#)),
            Call::Acquire => {
                // Names are base64 there, and any twelve letters and digits are.
                let number = if self.pool == Pool::One { 0 } else { self.connection + 1 };
                let body = format!(r#"{{"name": "lock{number:08}", "lease": "{id}"}}"#);
                ("/v3/lock/lock", body)
            }
            Call::Release => ("/v3/lock/unlock", format!(r#"{{"key": "{key}"}}"#)),
            Call::Renew => ("/v3/lease/keepalive", format!(r#"{{"ID": "{id}"}}"#)),
            Call::Close => ("/v3/lease/revoke", format!(r#"{{"ID": "{id}"}}"#)),
        };
        write_request(out, "POST", path, &body);
    }
}
