//! The lookups that are under way, which all deliveries share.
//!
//! The system's resolver cannot be stopped, so each lookup runs on a thread of its own, which is left behind when it
//! takes too long. Who asks for a name that is being looked up waits for that answer: a slow name takes one thread,
//! however many deliveries go there. When it has been silent for [`SILENT_AFTER`] another is begun beside it, at most
//! [`LOOKUPS_OF_NAME_MAX`], and the first answer of any of them is everybody's. Who asks later than that answer has the
//! name looked up anew.
//!
//! There are at most [`LOOKUPS_MAX`] in all. Whoever comes past that waits for a turn, until its own deadline.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, OnceLock},
    thread::Builder,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::outbox::DELIVERY_THREADS_MAX;

/// Most threads that ask the system's resolver at the same time: as many as may want an answer.
const LOOKUPS_MAX: usize = DELIVERY_THREADS_MAX;
/// Most of them for one name.
pub(super) const LOOKUPS_OF_NAME_MAX: usize = 4;
/// How long a lookup is believed to come to something.
const SILENT_AFTER: Duration = Duration::from_secs(5);

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

/// Why nothing was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotFound {
    /// It was looked up, and this came of it.
    Unknown(String),
    /// It could not be looked up for want of means of this machine: that says nothing of the name.
    NotAsked(String),
}

/// What came of a lookup.
type Answer = Result<Vec<SocketAddr>, String>;

/// A host and a port.
type Name = (String, u16);

/// Has names looked up; clones share what is under way.
#[derive(Clone)]
pub(super) struct Lookups(Arc<Shared>);

struct Shared {
    lookup: Arc<dyn Lookup>,
    lookups_max: usize,
    under_way: Mutex<UnderWay>,
    /// A lookup has ended: there is an answer, or a turn.
    ended: Condvar,
}

#[derive(Default)]
struct UnderWay {
    threads: usize,
    names: HashMap<Name, OfName>,
}

#[derive(Default)]
struct OfName {
    threads: usize,
    /// What those who ask now wait for, and when its last lookup began.
    round: Option<(Arc<Round>, Instant)>,
}

/// Lookups of one name whose first answer counts.
#[derive(Default)]
struct Round {
    answer: OnceLock<Answer>,
}

impl Lookups {
    pub(super) fn new(lookup: Arc<dyn Lookup>) -> Lookups {
        Lookups::bounded(lookup, LOOKUPS_MAX)
    }

    fn bounded(lookup: Arc<dyn Lookup>, lookups_max: usize) -> Lookups {
        let (under_way, ended) = Default::default();
        Lookups(Arc::new(Shared { lookup, lookups_max, under_way, ended }))
    }

    /// All addresses of a host, with the port. Blocks until there is an answer, at most until `deadline`.
    pub(super) fn addresses(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, NotFound> {
        let name = (host.to_owned(), port);
        let mut under_way = self.0.under_way.lock();
        let mut waits_for: Option<Arc<Round>> = None;
        loop {
            if let Some(answer) = waits_for.as_ref().and_then(|round| round.answer.get()) {
                return answer.clone().map_err(NotFound::Unknown);
            }
            let now = Instant::now();
            if now >= deadline {
                return Err(under_way.in_vain(&name, waits_for.is_some()));
            }
            if under_way.may_begin(&name, now, self.0.lookups_max)
                && let Err(error) = self.begin(&mut under_way, &name, now)
                && waits_for.is_none()
            {
                return Err(NotFound::NotAsked(format!("no thread to ask on: {error}")));
            }
            let of_name = under_way.names.get(&name);
            let round = of_name.and_then(|of_name| of_name.round.as_ref());
            let silent_at = round.map(|(_, begun_at)| *begun_at + SILENT_AFTER);
            waits_for = round.map(|(round, _)| Arc::clone(round)).or(waits_for);
            let wake_at = silent_at.filter(|at| *at > now).map_or(deadline, |at| at.min(deadline));
            self.0.ended.wait_until(&mut under_way, wake_at);
        }
    }

    /// One more lookup of a name, for those who ask for it now.
    fn begin(&self, under_way: &mut UnderWay, name: &Name, now: Instant) -> io::Result<()> {
        let known = under_way.names.get(name).and_then(|of_name| of_name.round.as_ref());
        let round = known.map_or_else(Arc::default, |(round, _)| Arc::clone(round));
        let (shared, of, for_round) = (Arc::clone(&self.0), name.clone(), Arc::clone(&round));
        // It cannot end before it is counted: for that it needs the lock.
        Builder::new().name("callback-lookup".into()).spawn(move || {
            let answer = Err("the resolver has failed".to_owned());
            let mut turn = Turn { shared, name: of, round: for_round, answer };
            let found = turn.shared.lookup.addresses(&turn.name.0, turn.name.1);
            turn.answer = match found {
                Ok(found) if found.is_empty() => Err("it resolves to nothing".into()),
                Ok(found) => Ok(found),
                Err(error) => Err(error.to_string()),
            };
        })?;
        under_way.threads += 1;
        let of_name = under_way.names.entry(name.clone()).or_default();
        of_name.threads += 1;
        of_name.round = Some((round, now));
        Ok(())
    }
}

impl UnderWay {
    /// Whether a lookup of a name is wanted and has a turn.
    fn may_begin(&self, name: &Name, now: Instant, lookups_max: usize) -> bool {
        let Some(of_name) = self.names.get(name) else { return self.threads < lookups_max };
        let is_wanted =
            of_name.round.as_ref().is_none_or(|(_, begun_at)| now >= *begun_at + SILENT_AFTER);
        is_wanted && of_name.threads < LOOKUPS_OF_NAME_MAX && self.threads < lookups_max
    }

    /// Why somebody has waited in vain.
    fn in_vain(&self, name: &Name, was_asked: bool) -> NotFound {
        let of_name = self.names.get(name).map_or(0, |of_name| of_name.threads);
        if was_asked {
            NotFound::Unknown("the name servers did not answer in time".into())
        } else if of_name >= LOOKUPS_OF_NAME_MAX {
            NotFound::Unknown("the name servers owe answers to earlier questions".into())
        } else {
            NotFound::NotAsked(format!("{} other lookups are not answered", self.threads))
        }
    }
}

/// A lookup that is under way; over when it is dropped.
struct Turn {
    shared: Arc<Shared>,
    name: Name,
    round: Arc<Round>,
    answer: Answer,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let answer = std::mem::replace(&mut self.answer, Ok(Vec::new()));
        let mut under_way = self.shared.under_way.lock();
        under_way.threads -= 1;
        let is_first = self.round.answer.set(answer).is_ok();
        if let Some(of_name) = under_way.names.get_mut(&self.name) {
            of_name.threads -= 1;
            if is_first {
                of_name.round = None;
            }
            if of_name.threads == 0 {
                under_way.names.remove(&self.name);
            }
        }
        self.shared.ended.notify_all();
    }
}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;
