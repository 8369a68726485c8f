//! Room for many sleeping threads in the kernel's table of futexes (futex(2)).
//!
//! Since version 6.16 Linux gives each process a hash table of its own for what its threads sleep on, sized by
//! the processors: 16 slots on two. With thousands of requests that block, each with two sleeping threads, every
//! wake-up of any thread would walk a chain of hundreds (docs/performance.md). So the daemon asks for more slots,
//! once, at its start. Where the kernel does not know the call it has one large table for all, and nothing is lost.
//!
//! The only module with `unsafe`: no package has this call yet.

#![expect(unsafe_code, reason = "one system call, with its proof below")]

use std::io;

/// `PR_FUTEX_HASH` and `PR_FUTEX_HASH_SET_SLOTS` of `<linux/prctl.h>`.
const FUTEX_HASH: libc::c_int = 78;
const SET_SLOTS: libc::c_ulong = 1;

/// More would not shorten the chains any more; 64 bytes each.
const SLOTS_MAX: usize = 32_768;

/// Asks for a slot for each thread of so many requests that block.
pub(super) fn make_room(waiting_requests_max: usize) {
    match set_slots(slots(waiting_requests_max)) {
        Ok(slots) => log::debug!("{slots} slots for futexes"),
        Err(error) => log::debug!("the table of futexes stays as it is: {error}"),
    }
}

/// Two threads a request, the next power of two.
fn slots(waiting_requests_max: usize) -> usize {
    waiting_requests_max.saturating_mul(2).clamp(256, SLOTS_MAX).next_power_of_two()
}

fn set_slots(slots: usize) -> io::Result<usize> {
    let none: libc::c_ulong = 0;
    // SAFETY: prctl(2) with this option takes numbers only and returns one; it reads and writes no memory of
    // this process. A kernel that does not know the option, or refuses the number, changes nothing and says so.
    let result = unsafe { libc::prctl(FUTEX_HASH, SET_SLOTS, slots as libc::c_ulong, none, none) };
    if result == 0 { Ok(slots) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_for_each_thread_within_bounds() {
        assert_eq!(slots(0), 256);
        assert_eq!(slots(4_000), 8_192);
        assert_eq!(slots(10_000), 32_768);
        assert_eq!(slots(usize::MAX), 32_768);
    }

    #[test]
    fn the_kernel_takes_the_number_or_does_not_know_the_call() {
        match set_slots(slots(100)) {
            Ok(slots) => assert_eq!(slots, 256),
            Err(error) => {
                let code = error.raw_os_error();
                assert!([Some(libc::EINVAL), Some(libc::ENOMEM)].contains(&code), "{error}");
            }
        }
    }
}
