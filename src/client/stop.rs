//! How the main thread tells another one to stop, also in the middle of a pause.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

/// The main thread's side: dropping it is the order to stop.
#[derive(Debug)]
pub(super) struct StopHandle {
    _open: Sender<Never>,
}

/// The other thread's side.
#[derive(Debug)]
pub(super) struct Stop(Receiver<Never>);

/// Nothing is ever sent; the channel's end is the message.
#[derive(Debug)]
enum Never {}

/// The two sides.
pub(super) fn stop_pair() -> (StopHandle, Stop) {
    let (sender, receiver) = crossbeam_channel::bounded(0);
    (StopHandle { _open: sender }, Stop(receiver))
}

impl Stop {
    /// Whether the order was given.
    pub(super) fn is_ordered(&self) -> bool {
        self.0.try_recv().err() == Some(TryRecvError::Disconnected)
    }

    /// Sleeps, unless the order is given; returns whether it was.
    pub(super) fn sleep(&self, duration: Duration) -> bool {
        self.0.recv_timeout(duration).err() == Some(RecvTimeoutError::Disconnected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_the_handle_is_the_order() {
        let (handle, stop) = stop_pair();
        assert!(!stop.is_ordered());
        assert!(!stop.sleep(Duration::from_millis(1)));
        drop(handle);
        assert!(stop.is_ordered());
        assert!(stop.sleep(Duration::from_secs(60)));
    }
}
