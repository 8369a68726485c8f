//! One claim from its first request to its end: what `run` and `acquire` have in common. The main thread,
//! which decides everything.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender};

use super::{
    Failure,
    acquire::{AcquireEnd, AcquireEvent},
    event::{self, EVENTS_MAX, Event},
    http::Connection,
    lease::{self, LeaseEvent},
    order::Order,
    outage::Arrival,
    progress::{Reporter, human},
    release::{self, RELEASE_TIME_MAX, ReleaseEnd},
    replies::Grant,
    stop::{StopHandle, stop_pair},
    unix,
    wait::{Cancel, WaitEnd},
};
use crate::cli::exit;

/// How long a PUT that was under way at the order to stop may take to come to its end, after the service
/// said that it does not know the claim.
const LAST_PUT_TIME_MAX: Duration = Duration::from_secs(5);

/// What is known of the last PUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastPut {
    /// The acquire thread runs, so there may be one on its way.
    UnderWay,
    /// The acquire thread has ended, and there will be no other.
    Over {
        /// Whether the service may have the claim.
        may_exist: bool,
    },
}

impl From<&AcquireEnd> for LastPut {
    fn from(end: &AcquireEnd) -> LastPut {
        let may_exist = !matches!(end, AcquireEnd::Failed { may_exist: false, .. });
        LastPut::Over { may_exist }
    }
}

/// One run of `run` or `acquire`.
pub(super) struct Session {
    /// What to get.
    pub(super) order: Arc<Order>,
    pub(super) connection: Connection,
    pub(super) sender: Sender<Event>,
    pub(super) events: Receiver<Event>,
    pub(super) reporter: Reporter,
    /// What is known of the PUTs so far.
    pub(super) arrival: Arc<Arrival>,
    /// What is known of the last PUT.
    pub(super) last_put: LastPut,
    /// Whether a signal told this process to end. The next one cuts the release short.
    pub(super) told_to_end: bool,
}

/// How the attempt to get the permits ended, where it did not fail.
pub(super) enum Obtained {
    /// They are there.
    Held {
        /// The grant.
        grant: Grant,
        /// When the answer came.
        received: Instant,
    },
    /// It was cancelled, and the claim is given back: the exit code.
    Cancelled(u8),
}

impl Session {
    /// Prepares to get a claim and catches signals from now on. `what` is the command, with its article.
    ///
    /// # Errors
    /// When signals cannot be caught.
    pub(super) fn begin(order: Order, what: &str) -> Result<Session, Failure> {
        let (sender, events) = crossbeam_channel::bounded(EVENTS_MAX);
        unix::watch_signals(&sender)?;
        let mut session = Session {
            connection: Connection::new(&order.service.address),
            sender,
            events,
            reporter: Reporter::new(order.quiet),
            arrival: Arc::default(),
            last_put: LastPut::UnderWay,
            told_to_end: false,
            order: Arc::new(order),
        };
        if session.order.is_adopted() {
            // It is there already, and a renewal that comes late makes none.
            session.arrival.record(true);
            session.last_put = LastPut::Over { may_exist: true };
        }
        session.warn_of_dangers(what);
        Ok(session)
    }

    /// Waits for the permits. Where there will be none, the claim is given back, or the release was tried.
    ///
    /// # Errors
    /// When there will be none, and when the system gives no more threads.
    pub(super) fn obtain(&mut self) -> Result<Obtained, Failure> {
        match self.wait_for_permits()? {
            WaitEnd::Held { grant, received } => Ok(Obtained::Held { grant, received }),
            WaitEnd::Cancelled(Cancel::Signal(signal)) => {
                let name = unix::name_of_signal(signal);
                self.reporter.note(&format!("{name}: leaving the queue"));
                self.release(RELEASE_TIME_MAX)?;
                Ok(Obtained::Cancelled(exit::by_signal(signal)))
            }
            WaitEnd::Cancelled(Cancel::WatchedEnded) => {
                self.release(RELEASE_TIME_MAX)?;
                let message = "the process for which the permits were meant has ended";
                Err(Failure::new(exit::NO_PERMIT, message))
            }
            WaitEnd::Failed { failure, may_exist } => {
                self.reporter.clear_status();
                if may_exist {
                    // A service that was out of reach gets one more try, not another half minute; nor does what refused
                    // instead of it.
                    let once = matches!(failure.exit, exit::UNREACHABLE | exit::REFUSED);
                    let time = if once { Duration::ZERO } else { RELEASE_TIME_MAX };
                    self.release(time)?;
                }
                Err(failure)
            }
        }
    }

    /// Renews the lease from a thread of its own, until the handle is dropped.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn start_renewals(
        &self,
        grant: &Grant,
        received: Instant,
    ) -> Result<StopHandle, Failure> {
        let (handle, stop) = stop_pair();
        let (connection, id, grant) =
            (self.connection.clone(), self.order.id.clone(), grant.clone());
        event::spawn("renew", &self.sender, move |events| {
            lease::keep(&connection, &id, &grant, received, &stop, &events);
        })?;
        Ok(handle)
    }

    /// A signal to end that came after the grant and was not looked at yet.
    pub(super) fn signal_so_far(&mut self) -> Option<i32> {
        while let Ok(event) = self.events.try_recv() {
            if let Event::Signal(signal) = event
                && !signal.user_defined
            {
                self.told_to_end = true;
                return Some(signal.number);
            }
        }
        None
    }

    /// Says how the renewals go, as long as the lease is not lost.
    pub(super) fn tell_renewals(&mut self, event: &LeaseEvent) {
        match event {
            LeaseEvent::Trouble(why) => {
                self.reporter.warn(&format!("the lease could not be renewed: {why}; trying again"));
            }
            LeaseEvent::Renewed => self.reporter.note("the lease is renewed again"),
            LeaseEvent::Refused { why, left } => self.reporter.warn(&format!(
                "the lease cannot be renewed any more, and is lost in {}: {why}",
                human(*left)
            )),
            LeaseEvent::Lost(_) => {}
        }
    }

    fn warn_of_dangers(&mut self, what: &str) {
        if let Some(outer) = &self.order.outer_claim {
            self.reporter.warn(&format!(
                "{what} inside a run: claim {outer} is held around this one. Two jobs that each hold \
                 what the other waits for wait for ever; one claim for both does not: -p A=1 -p B=1"
            ));
        }
        self.reporter.warn_of_exposed_token(&self.order.service.address);
    }

    /// The next event, or none when `timeout` is over.
    pub(super) fn next_event(&self, timeout: Duration) -> Option<Event> {
        // It is never closed: this session has a sender of its own.
        self.events.recv_timeout(timeout).ok()
    }

    /// Gives the claim back and says so if that fails. A signal cuts it short, if it is the second that
    /// told this process to end.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub(super) fn release(&mut self, time_max: Duration) -> Result<(), Failure> {
        self.reporter.clear_status();
        let put_was_under_way = self.last_put == LastPut::UnderWay;
        let mut end = self.release_once(time_max)?;
        // The PUT may arrive after the DELETE, and make the claim that the DELETE did not find.
        if end == Some(ReleaseEnd::Unknown) && put_was_under_way && self.last_put_made_claim() {
            end = self.release_once(time_max)?;
        }
        match end {
            Some(ReleaseEnd::Gone | ReleaseEnd::Unknown) => {}
            Some(ReleaseEnd::Failed { unreachable: true, .. }) if self.arrival.is_none_so_far() => {
            }
            Some(ReleaseEnd::Failed { why, .. }) => self.reporter.warn(&format!(
                "claim {} could not be released and ends by itself when its time is over: {why}",
                self.order.id
            )),
            None => self.reporter.warn(&format!(
                "claim {} may not be released; it ends by itself when its time is over",
                self.order.id
            )),
        }
        Ok(())
    }

    /// One row of tries; `None` when a signal cut it short.
    fn release_once(&mut self, time_max: Duration) -> Result<Option<ReleaseEnd>, Failure> {
        let (connection, order) = (self.connection.clone(), Arc::clone(&self.order));
        let time_max = if self.arrival.is_none_so_far() { Duration::ZERO } else { time_max };
        event::spawn("release", &self.sender, move |events| {
            let end = release::release(&connection, &order.id, order.job(), time_max);
            let _ = events.send(Event::Release(end));
        })?;
        loop {
            match self.events.recv() {
                Ok(Event::Release(end)) => return Ok(Some(end)),
                Ok(Event::Signal(signal)) if !signal.user_defined => {
                    if self.told_to_end {
                        return Ok(None);
                    }
                    self.told_to_end = true;
                    let name = unix::name_of_signal(signal.number);
                    self.reporter
                        .note(&format!("{name}: giving the permits back; again to give up"));
                }
                Ok(Event::Acquire(AcquireEvent::Done(end))) => self.last_put = (&end).into(),
                Ok(_) => {}
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits for the end of the acquire thread, whose PUT was under way at the order to stop; returns
    /// whether the service may have the claim after all.
    fn last_put_made_claim(&mut self) -> bool {
        let deadline = Instant::now() + LAST_PUT_TIME_MAX;
        loop {
            if let LastPut::Over { may_exist } = self.last_put {
                return may_exist;
            }
            match self.next_event(deadline.saturating_duration_since(Instant::now())) {
                Some(Event::Acquire(AcquireEvent::Done(end))) => self.last_put = (&end).into(),
                Some(Event::Signal(signal)) if !signal.user_defined => return true,
                Some(_) => {}
                None => return true,
            }
        }
    }
}
