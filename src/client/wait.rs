//! The wait: until the permits are there, or there will be none, or a signal says to stop.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Failure,
    acquire::{Acquire, AcquireEnd, AcquireEvent},
    adopt,
    event::{self, Event},
    http::WAIT_MAX,
    order::Demand,
    progress::{WaitLog, human},
    replies::Grant,
    session::Session,
    stop::stop_pair,
};

/// How often the status line is rewritten while nothing happens.
const TICK: Duration = Duration::from_secs(1);
/// How long a PUT blocks where somebody looks on, so that the position shown is not an old one.
const WAIT_ON_TERMINAL: Duration = Duration::from_secs(10);
/// A wait that was shorter than this is not worth a word.
const WAIT_WORTH_TELLING: Duration = Duration::from_secs(2);

/// How a wait ended.
#[derive(Debug)]
pub(super) enum WaitEnd {
    /// The permits are there.
    Held {
        /// The grant.
        grant: Grant,
        /// When the answer came.
        received: Instant,
    },
    /// There will be none.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether the service may have the claim, which is then to be released.
        may_exist: bool,
    },
    /// It was cancelled. The claim is to be released; a PUT may be under way.
    Cancelled(Cancel),
}

/// Why a wait was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    /// By a signal, with this number.
    Signal(i32),
    /// The process that was to be outlived has ended.
    WatchedEnded,
}

/// What is known of the wait, for the lines about it.
struct Waiting {
    begun: Instant,
    position: Option<u64>,
    trouble: Option<String>,
    log: WaitLog,
    what: String,
}

impl Session {
    /// Starts the acquire and waits for its end.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn wait_for_permits(&mut self) -> Result<WaitEnd, Failure> {
        let acquire = Acquire {
            connection: self.connection.clone(),
            order: Arc::clone(&self.order),
            wait: if self.reporter.is_terminal() { WAIT_ON_TERMINAL } else { WAIT_MAX },
            arrival: Arc::clone(&self.arrival),
        };
        // Dropped at the end of this function, which is the order to stop.
        let (_handle, stop) = stop_pair();
        event::spawn("acquire", &self.sender, move |events| acquire.run(&stop, &events))?;
        let mut waiting = Waiting {
            begun: Instant::now(),
            position: None,
            trouble: None,
            log: WaitLog::default(),
            what: self.order.what.clone(),
        };
        loop {
            match self.next_event(TICK) {
                Some(Event::Signal(signal)) if !signal.user_defined => {
                    self.told_to_end = true;
                    return Ok(WaitEnd::Cancelled(Cancel::Signal(signal.number)));
                }
                Some(Event::WatchedEnded) => return Ok(WaitEnd::Cancelled(Cancel::WatchedEnded)),
                Some(Event::Acquire(AcquireEvent::Done(end))) => {
                    self.last_put = (&end).into();
                    return Ok(self.end_of_wait(end, &waiting));
                }
                Some(Event::Acquire(AcquireEvent::Place(position))) => {
                    if waiting.trouble.take().is_some() {
                        self.reporter.note("the service answers again");
                    }
                    waiting.position = position;
                }
                Some(Event::Acquire(AcquireEvent::Trouble(why))) => {
                    self.tell_trouble(why, &mut waiting);
                }
                _ => {}
            }
            self.tell_wait(&mut waiting);
        }
    }

    fn end_of_wait(&mut self, end: AcquireEnd, waiting: &Waiting) -> WaitEnd {
        let received = Instant::now();
        self.reporter.clear_status();
        match end {
            AcquireEnd::Held(grant) => {
                let waited = waiting.begun.elapsed();
                let what = &waiting.what;
                self.reporter.note(&match &self.order.demand {
                    Demand::Register { callee, .. } => {
                        format!("registered for {what}; its turn is told to {callee}")
                    }
                    _ if waited < WAIT_WORTH_TELLING => format!("got {what}"),
                    _ => format!("got {what} after {}", human(waited)),
                });
                if self.order.is_adopted() {
                    self.warn_of_another_start(&grant, waited);
                }
                WaitEnd::Held { grant, received }
            }
            AcquireEnd::Failed { failure, may_exist } => WaitEnd::Failed { failure, may_exist },
            // Only this thread orders it to stop, and it has not.
            AcquireEnd::Stopped => WaitEnd::Failed {
                failure: Failure::new(crate::cli::exit::INTERNAL, "the acquire stopped by itself"),
                may_exist: true,
            },
        }
    }

    /// A claim that was held already has, or had, another job than this one.
    fn warn_of_another_start(&mut self, grant: &Grant, waited: Duration) {
        if let Some(before) = adopt::held_before(grant, waited) {
            self.reporter.warn(&format!(
                "claim {} was held already, for {}, by whoever renewed it without a name (curl, perhaps). If a job of it \
                 still runs, stop one of the two: both use the same permits, and the first to end releases them",
                self.order.id,
                human(before)
            ));
        }
    }

    /// Trouble is told when it starts and when it becomes another one, not at every try.
    fn tell_trouble(&mut self, why: String, waiting: &mut Waiting) {
        if waiting.trouble.as_ref() != Some(&why) {
            self.reporter.warn(&format!("{why}; trying again"));
            waiting.trouble = Some(why);
        }
    }

    fn tell_wait(&mut self, waiting: &mut Waiting) {
        let waited = waiting.begun.elapsed();
        let place = waiting.position.map(|n| format!(", position {n}")).unwrap_or_default();
        let text = format!("waiting for {}{place}, {}", waiting.what, human(waited));
        if self.reporter.is_terminal() {
            if waited >= TICK {
                self.reporter.status(&text);
            }
        } else {
            let first = waiting.log.is_empty();
            if waiting.log.is_due(waited, waiting.position) {
                // An adopted claim is in the text already.
                let id = &self.order.id;
                let named = first && !self.order.is_adopted();
                let claim = if named { format!(" (claim {id})") } else { String::new() };
                self.reporter.note(&format!("{text}{claim}"));
            }
        }
    }
}
