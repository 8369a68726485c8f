//! Names to addresses, each of them checked, and no other used.
//!
//! A delivery asks for its name once. All addresses of the answer are checked and exactly those are handed to the
//! connection, so a name server that answers something else the second time is never asked a second time ("DNS
//! rebinding"). One bad address among good ones refuses all: which of them would be taken is a matter of luck.
//! Deliveries may share an answer ([`super::lookups`]), never a check: each has its own entry's rules.

use std::{net::SocketAddr, time::Instant};

use ipnet::IpNet;
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
    lookups::{Lookups, NotFound},
    url::{Destination, Host},
};

/// Most addresses of a name that are tried, in the order of the resolver; all are checked.
const ADDRESSES_MAX: usize = 16;

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

/// Where one delivery goes: all that may be connected to.
#[derive(Debug)]
pub(super) struct Checked {
    origin: String,
    addresses: Vec<SocketAddr>,
}

impl Checked {
    /// Looks a URL's host up, until `deadline`, and checks what is found.
    pub(super) fn new(
        url: &Destination,
        allow: &[IpNet],
        lookups: &Lookups,
        deadline: Instant,
    ) -> Result<Checked, NoAddress> {
        let mut addresses = match url.host() {
            Host::Address(address) => vec![SocketAddr::new(*address, url.port())],
            Host::Name(name) => {
                let found = lookups.addresses(name, url.port(), deadline);
                found.map_err(|why| NoAddress::of(name, why))?
            }
        };
        for address in &addresses {
            let checked = address::check(address.ip(), allow);
            checked.map_err(|refused| NoAddress::Refused { host: url.host_text(), refused })?;
        }
        addresses.truncate(ADDRESSES_MAX);
        Ok(Checked { origin: url.origin(), addresses })
    }
}

impl NoAddress {
    fn of(name: &str, why: NotFound) -> NoAddress {
        let host = name.to_owned();
        match why {
            NotFound::Unknown(what) => NoAddress::Unknown { host, what },
            NotFound::NotAsked(what) => NoAddress::NotAsked { host, what },
        }
    }
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        // What ureq makes of the text must be what we made of it.
        let scheme = uri.scheme_str().unwrap_or_default();
        let theirs = format!("{scheme}://{}", uri.authority().map_or("", |host| host.as_str()));
        if self.origin != theirs {
            let ours = self.origin.clone();
            return Err(ureq::Error::Other(NoAddress::Ambiguous { ours, theirs }.into()));
        }
        let mut addresses = self.empty();
        self.addresses.iter().for_each(|address| addresses.push(*address));
        Ok(addresses)
    }
}
