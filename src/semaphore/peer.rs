//! The far end of a request's connection, as far as the service has to know it.

use std::fmt;

use parking_lot::Mutex;

/// A client that a request blocks for. Whoever has the socket says how to ask for it, and tells when it was
/// seen to be gone; the service asks before it grants, and is woken when it is told.
///
/// Locking: its own lock is innermost, held for a few instructions, and not while it asks or wakes.
pub struct Peer {
    is_gone: Box<dyn Fn() -> bool + Send + Sync>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    gone: bool,
    wake: Option<Wake>,
}

/// What to do when the client is gone.
type Wake = Box<dyn FnOnce() + Send>;

impl Peer {
    /// A client of which `is_gone` tells whether its connection is known to be closed: within microseconds,
    /// for it is called under the service's lock, and `false` where it cannot be known.
    #[must_use]
    pub fn new(is_gone: impl Fn() -> bool + Send + Sync + 'static) -> Peer {
        Peer { is_gone: Box::new(is_gone), told: Mutex::default() }
    }

    /// Tells that the client is gone: whoever blocks for it stops to. Must not be called under a lock.
    pub fn hang_up(&self) {
        let wake = {
            let mut told = self.told.lock();
            told.gone = true;
            told.wake.take()
        };
        if let Some(wake) = wake {
            wake();
        }
    }

    /// Whether somebody told that the client is gone.
    pub(super) fn has_hung_up(&self) -> bool {
        self.told.lock().gone
    }

    /// Whether the client is gone: it was told, or it is so by now.
    pub(super) fn is_gone(&self) -> bool {
        self.has_hung_up() || (self.is_gone)()
    }

    /// Runs `wake` when the client is told to be gone: at once if it was already, so not under a lock.
    pub fn when_gone(&self, wake: Box<dyn FnOnce() + Send>) {
        let mut told = self.told.lock();
        if told.gone {
            drop(told);
            wake();
        } else {
            told.wake = Some(wake);
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("gone", &self.has_hung_up()).finish_non_exhaustive()
    }
}

/// A peer is the same as itself alone.
impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Peer {}
