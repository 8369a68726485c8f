//! What the other threads tell the main thread.

use std::thread;

use crossbeam_channel::Sender;

use super::{
    Failure, acquire::AcquireEvent, lease::LeaseEvent, release::ReleaseEnd, watch::WatchEvent,
};
use crate::cli::exit;

/// How many events may lie unread. The main thread always reads; a thread that finds the channel full
/// waits for it.
pub(super) const EVENTS_MAX: usize = 64;

/// One of them.
#[derive(Debug)]
pub(super) enum Event {
    /// A signal came.
    Signal(Signal),
    /// The acquire got on.
    Acquire(AcquireEvent),
    /// Something about the lease.
    Lease(LeaseEvent),
    /// The child has ended and can be reaped.
    ChildEnded,
    /// The process that `acquire --while-pid` watches has ended.
    WatchedEnded,
    /// The release came to an end.
    Release(ReleaseEnd),
    /// Something new to see.
    Watch(WatchEvent),
}

/// A signal that this process got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signal {
    /// Its number.
    pub(super) number: i32,
    /// Whether it is for the child alone while there is one, and means nothing before.
    pub(super) user_defined: bool,
    /// Whether the terminal sent it, and so sent it to the child as well.
    pub(super) reached_child: bool,
}

/// Starts a thread that reports to the main thread. It is never joined: it ends with the process, or
/// when it has nothing more to do.
///
/// # Errors
/// When the system gives no more threads.
pub(super) fn spawn(
    name: &str,
    events: &Sender<Event>,
    body: impl FnOnce(Sender<Event>) + Send + 'static,
) -> Result<(), Failure> {
    let events = events.clone();
    match thread::Builder::new().name(name.to_owned()).spawn(move || body(events)) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::new(exit::INTERNAL, format!("cannot start a thread: {error}"))),
    }
}
