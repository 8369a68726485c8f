//! What an admin did and what was refused, for whoever looks it up later.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::{Note, Token, TokenId, TokenName, WallTime, without_secrets};

/// Who did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// Somebody with a token.
    Token {
        /// Its id.
        id: TokenId,
        /// Its name at that time.
        name: TokenName,
    },
    /// Somebody without one.
    Anonymous,
    /// The configuration file said so.
    Configuration,
    /// The daemon by itself, or whoever started it with an option.
    Daemon,
}

impl Actor {
    /// All that [`Actor::as_str`] may say.
    pub const KINDS: [&'static str; 4] = ["token", "anonymous", "configuration", "daemon"];

    /// Whoever has this token.
    #[must_use]
    pub fn of(token: &Token) -> Actor {
        Actor::Token { id: token.id.clone(), name: token.name.clone() }
    }

    /// The kind of actor in the words of the API.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Actor::Token { .. } => "token",
            Actor::Anonymous => "anonymous",
            Actor::Configuration => "configuration",
            Actor::Daemon => "daemon",
        }
    }
}

/// What [`AuditEntry::result`] says of an act that was done.
const AUDIT_DONE: &str = "done";

/// One row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Who.
    pub actor: Actor,
    /// From where, where it came over the network.
    pub address: Option<IpAddr>,
    /// What: a word such as `semaphore.set`, or the method of a refused request.
    pub action: Box<str>,
    /// On what: `semaphore FlexLM`, `claim 7f3c`, or the path of a refused request.
    pub object: Box<str>,
    /// What it was before, JSON.
    pub old: Option<Box<str>>,
    /// What it is from now on, JSON.
    pub new: Option<Box<str>>,
    /// Why, in the admin's words.
    pub reason: Option<Note>,
    /// `done`, or the code of the error.
    pub result: Box<str>,
    /// Refused tries of an address within a minute are one row. With each that comes the row is written anew.
    pub tries: Option<Tries>,
}

impl AuditEntry {
    /// The row of an act that was done.
    #[must_use]
    pub fn done(actor: Actor, action: &str, object: String) -> AuditEntry {
        let hidden = match without_secrets(&object) {
            Cow::Owned(hidden) => Some(hidden),
            Cow::Borrowed(_) => None,
        };
        AuditEntry {
            actor,
            address: None,
            action: action.into(),
            object: hidden.unwrap_or(object).into(),
            old: None,
            new: None,
            reason: None,
            result: AUDIT_DONE.into(),
            tries: None,
        }
    }

    /// What tells the tries of one row from those of another: of which minute they are, from which address, and with which
    /// code they were refused. Nothing for an act.
    #[must_use]
    pub fn tries_key(&self) -> Option<(WallTime, Option<IpAddr>, &str)> {
        self.tries.map(|tries| (tries.minute, self.address, &*self.result))
    }
}

/// Tries that were refused with the same code, from the same address, within a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    /// The minute's begin.
    pub minute: WallTime,
    /// How many so far.
    pub count: u32,
}

/// What counts as one address: of IPv6 the first 64 bits, since whoever has one address has all of those (RFC 4291,
/// section 2.5.4).
#[must_use]
pub fn network_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(address) => address.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}
