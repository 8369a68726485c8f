//! Names to addresses, each of them checked, and no other used.
//!
//! A name is asked for once for each delivery. All its addresses are checked and exactly those are handed to the
//! connection, so a name server that answers something else the second time is never asked a second time ("DNS
//! rebinding"). One bad address among good ones refuses all: which of them would be taken is a matter of luck.
//!
//! The system's resolver cannot be stopped, so it runs on a thread of its own, which is left behind when it
//! takes too long; there are at most [`LOOKUPS_MAX`] of those, and [`LOOKUPS_OF_NAME_MAX`] for one name, so that a zone
//! whose name servers are dead does not keep others from being looked up.

use std::{
    collections::HashMap,
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, mpsc},
    time::Instant,
};

use ipnet::IpNet;
use parking_lot::Mutex;
use ureq::{
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

use super::{
    address::{self, Refused},
    url::{Destination, Host},
};

/// Most threads that ask the system's resolver at the same time.
const LOOKUPS_MAX: usize = 256;
/// Most of them for one name: those of one lane.
pub(super) const LOOKUPS_OF_NAME_MAX: usize = 4;
/// Most addresses of a name that are tried, in the order of the resolver; all are checked.
const ADDRESSES_MAX: usize = 16;

/// Asks for the addresses of a name. Tests have their own.
pub(super) trait Lookup: Send + Sync + 'static {
    /// All addresses of a host, with the port.
    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver.
pub(super) struct System;

impl Lookup for System {
    fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }
}

/// The lookups that are under way, by name.
#[derive(Clone, Default)]
pub(super) struct Lookups(Arc<Mutex<HashMap<String, usize>>>);

/// One of them; over when it is dropped.
struct Turn {
    lookups: Lookups,
    name: String,
}

impl Lookups {
    fn turn(&self, name: &str) -> Option<Turn> {
        let mut running = self.0.lock();
        if running.values().sum::<usize>() >= LOOKUPS_MAX {
            return None;
        }
        let of_name = running.entry(name.to_owned()).or_default();
        if *of_name >= LOOKUPS_OF_NAME_MAX {
            return None;
        }
        *of_name += 1;
        Some(Turn { lookups: self.clone(), name: name.to_owned() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.lookups.0.lock();
        if let Some(of_name) = running.get_mut(&self.name) {
            *of_name -= 1;
            if *of_name == 0 {
                running.remove(&self.name);
            }
        }
    }
}

/// Why there is no address to connect to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoAddress {
    /// One of them is not sent to.
    #[error("{host} is not called: its address {refused}")]
    Refused { host: String, refused: Refused },
    /// Nobody knows any.
    #[error(
        "{host} has no address: {what}; see that the name is right and that this machine resolves it"
    )]
    Unknown { host: String, what: String },
    /// It could not be asked: that says nothing of the name.
    #[error("{host} was not looked up: {what}")]
    NotAsked { host: String, what: String },
    /// Two parsers read the URL in two ways; it must not happen.
    #[error("the URL was read in two ways, as {ours} and as {theirs}: please report it")]
    Ambiguous { ours: String, theirs: String },
}

/// What one delivery asks.
pub(super) struct Question {
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) running: Lookups,
    pub(super) url: Destination,
    pub(super) allow: Vec<IpNet>,
    pub(super) deadline: Instant,
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Question({})", self.url.origin())
    }
}

impl Resolver for Question {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.same_host(uri).and_then(|()| self.checked_addresses());
        let mut addresses = self.empty();
        for address in found.map_err(|why| ureq::Error::Other(why.into()))? {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

impl Question {
    /// What ureq makes of the text must be what we made of it.
    fn same_host(&self, uri: &Uri) -> Result<(), NoAddress> {
        let ours = self.url.origin();
        let scheme = uri.scheme_str().unwrap_or_default();
        let theirs = format!("{scheme}://{}", uri.authority().map_or("", |host| host.as_str()));
        if ours == theirs { Ok(()) } else { Err(NoAddress::Ambiguous { ours, theirs }) }
    }

    fn checked_addresses(&self) -> Result<Vec<SocketAddr>, NoAddress> {
        let mut found = match self.url.host() {
            Host::Address(address) => vec![SocketAddr::new(*address, self.url.port())],
            Host::Name(name) => self.ask(name)?,
        };
        for found in &found {
            let checked = address::check(found.ip(), &self.allow);
            checked
                .map_err(|refused| NoAddress::Refused { host: self.url.host_text(), refused })?;
        }
        found.truncate(ADDRESSES_MAX);
        Ok(found)
    }

    fn ask(&self, name: &str) -> Result<Vec<SocketAddr>, NoAddress> {
        let unknown = |what: String| NoAddress::Unknown { host: name.to_owned(), what };
        let not_asked = |what: String| NoAddress::NotAsked { host: name.to_owned(), what };
        let Some(turn) = self.running.turn(name) else {
            return Err(not_asked("too many lookups are under way, and none is answered".into()));
        };
        let lookup = Arc::clone(&self.lookup);
        let (host, port) = (name.to_owned(), self.url.port());
        let (answer, answers) = mpsc::sync_channel(1);
        let spawned = std::thread::Builder::new().name("callback-lookup".into()).spawn(move || {
            // Who asked may have gone.
            let _ = answer.send(lookup.addresses(&host, port));
            drop(turn);
        });
        if let Err(error) = spawned {
            return Err(not_asked(format!("no thread to ask on: {error}")));
        }
        let left = self.deadline.saturating_duration_since(Instant::now());
        match answers.recv_timeout(left) {
            Ok(Ok(found)) if found.is_empty() => Err(unknown("it resolves to nothing".into())),
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(unknown(error.to_string())),
            Err(_) => Err(unknown("the name servers did not answer in time".into())),
        }
    }
}
