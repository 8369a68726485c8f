//! The ticker thread: lets time pass for the core, once a second, and tells watchers what they missed.

use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use super::{
    Shared,
    core::{Behalf, Command},
    state::{PULSE_EVERY, State},
};

/// The core's deadlines are looked at every so many pulses: once a second.
const TICK_PULSES: u32 = 2;
/// The disk is looked at every so many pulses.
const SPACE_PULSES: u32 = 10;
/// The use of tokens is noted once a minute.
const USES_PULSES: u32 = 120;
/// Refused tries are noted every 5 s.
const TRIES_PULSES: u32 = 10;

/// Runs until the service is closed.
pub(super) fn run(shared: &Shared) {
    for pulse in (0_u32..).cycle() {
        std::thread::park_timeout(PULSE_EVERY);
        if pulse % SPACE_PULSES == 0 {
            look_at_space(shared);
        }
        let mut state = shared.state.lock();
        if state.is_closed() {
            return;
        }
        if pulse % USES_PULSES == 0 {
            shared.note_uses(&mut state);
        }
        if pulse % TRIES_PULSES == 0 {
            shared.note_tries(&mut state);
        }
        if pulse % TICK_PULSES == 0 {
            tick(shared, &mut state);
        }
        if !state.batch.changes.is_empty() {
            shared.wake_writer(&mut state);
        }
        shared.pulse(&mut state);
    }
}

/// Ends what is over. After a gap nothing expires before the next tick: calls that came meanwhile go
/// first.
fn tick(shared: &Shared, state: &mut MutexGuard<'_, State>) {
    let tick = shared.clock.tick();
    if tick.after_gap {
        if state.core.next_deadline(tick.now).is_some() {
            MutexGuard::unlocked(state, || {
                log::warn!("the process did not run for some seconds; leases count one of them");
            });
        }
        return;
    }
    // Each round ends a bounded number of claims and takes their deadlines away; calls come between.
    while state.core.is_due(tick.now) {
        if let Err(error) = state.apply(tick.now, Behalf::default(), Command::Timeout) {
            log::error!("a time-out was refused: {error}");
            return;
        }
        shared.hand_over(state);
        shared.pulse(state);
        MutexGuard::bump(state);
        if state.is_closed() {
            return;
        }
    }
}

fn look_at_space(shared: &Shared) {
    let low = match shared.history.free_bytes() {
        Ok(Some(free_bytes)) => free_bytes < shared.options.free_bytes_min,
        Ok(None) => false,
        Err(error) => {
            log::warn!("cannot tell how much disk space is left: {error}");
            false
        }
    };
    if low != shared.storage_low.swap(low, Ordering::Relaxed) {
        if low {
            log::error!("low on disk space under the data directory: no new claims are taken");
        } else {
            log::warn!("there is disk space again: new claims are taken");
        }
    }
}
