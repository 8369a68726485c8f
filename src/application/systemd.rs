//! What the daemon tells the service manager (sd_notify(3)), and hears from it (sd_watchdog_enabled(3),
//! sd_listen_fds(3)). Without one, where `NOTIFY_SOCKET` is not set, nothing is told.
//!
//! The unit is `Type=notify` and reloads with `kill -HUP`, as systemd 252 has it:
//!
//! | when | what |
//! |---|---|
//! | recovery begins | `STATUS=` |
//! | the socket listens | `READY=1`, `STATUS=` |
//! | SIGHUP, and the configuration was read again, or not | `RELOADING=1`, `MONOTONIC_USEC=`; `READY=1`, `STATUS=` |
//! | a stop begins | `STOPPING=1` |
//! | a request of the daemon to itself was answered, and storage takes changes | `WATCHDOG=1` |
//!
//! `EXTEND_TIMEOUT_USEC=` is never sent. A stop is over within two seconds unless the disk hangs, and being killed then loses
//! nothing that was answered. How long a recovery takes nobody knows before, and a thread that asked for more time
//! without knowing whether there is progress would say no more than `TimeoutStartSec=infinity` does.
//!
//! The only module that names `sd_notify`. What cannot be told is logged; nobody is worse off for it but the manager.

use std::{
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use sd_notify::NotifyState;

use super::clock;
use crate::semaphore::{Service, Stuck};

/// With less a machine that is busy for some seconds would have its daemon ended: it asks itself once a second.
const WATCHDOG_TIME_MIN: Duration = Duration::from_secs(10);

/// What is being done before it listens.
pub(super) fn starts(what: &str) {
    tell(&[NotifyState::Status(what)]);
}

/// It listens.
pub(super) fn ready(address: SocketAddr) {
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {address}"))]);
}

/// The configuration is being read again.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("the service manager is not told of the reload: {error}"),
    }
}

/// It goes on after that; `outcome` in words, with its time, since a status has none.
pub(super) fn reloaded(address: SocketAddr, outcome: &str) {
    let time = clock::wall().to_rfc3339();
    // One line, whatever a parser has said about a file.
    let outcome = outcome.replace(char::is_control, " ");
    let status = format!("listening on {address}; {time}: {outcome}");
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// It stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!("cannot tell the service manager {states:?}: {error}");
    }
}

/// How many descriptors were passed to this process.
///
/// # Errors
/// When what the environment says of them is wrong.
pub(super) fn passed_descriptors() -> io::Result<usize> {
    sd_notify::listen_fds().map(|descriptors| descriptors.len())
}

/// The service manager's watchdog: ends a daemon that has not said for some time (`WatchdogSec=`) that it is alive.
pub(super) struct Watchdog {
    /// How long storage may take for a change.
    storage_time_max: Duration,
    is_fed: AtomicBool,
}

impl Watchdog {
    /// As the manager wants it, if it does.
    pub(super) fn wanted() -> Option<Watchdog> {
        let time = sd_notify::watchdog_enabled()?;
        if time < WATCHDOG_TIME_MIN {
            log::warn!(
                "WatchdogSec= is {time:?}: a machine or disk that is busy for so long has this service ended; set {} s \
                 or more",
                WATCHDOG_TIME_MIN.as_secs()
            );
        }
        Some(Watchdog::of(time))
    }

    fn of(time: Duration) -> Watchdog {
        Watchdog { storage_time_max: time / 3, is_fed: AtomicBool::new(true) }
    }

    /// Called when the web server has just answered itself: that is one half of being alive, storage is the other. A disk
    /// that stalls for a third of the watchdog's time is nothing yet, so the process ends after four thirds of it.
    pub(super) fn feed(&self, service: &Service) {
        let stuck = service.stuck(self.storage_time_max);
        self.log(stuck);
        if stuck.is_none() {
            tell(&[NotifyState::Watchdog]);
        }
    }

    /// A line when it begins and one when it is over.
    fn log(&self, stuck: Option<Stuck>) {
        match (stuck, self.is_fed.swap(stuck.is_none(), Ordering::Relaxed)) {
            (Some(stuck), true) => log::error!(
                "{stuck}: if that goes on, the service manager will end this process (WatchdogSec=)"
            ),
            (None, false) => log::warn!("changes are taken again"),
            _ => {}
        }
    }
}
