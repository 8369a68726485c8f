//! The listening socket that the service manager passes on, where it does (systemd.socket(5), sd_listen_fds(3)). The
//! manager keeps it open, so that connections queue while the daemon is started again.
//!
//! One of the two modules with `unsafe`: a number from the environment becomes a descriptor that is ours.

#![expect(unsafe_code, reason = "one conversion, with its proof below")]

use std::{
    os::fd::{FromRawFd, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use super::{Failure, systemd};
use crate::cli::exit;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// The socket, the first time that it is asked for; `None` where none was passed.
///
/// To be called before anything else keeps a descriptor open.
///
/// # Errors
/// When there are several, or the environment is wrong about them.
pub(super) fn take() -> Result<Option<OwnedFd>, Failure> {
    let wrong = |what: String| {
        let advice = "a socket unit has one ListenStream=ADDR:PORT";
        Failure::new(exit::CONFIGURATION, &format!("{what}: {advice}"))
    };
    let passed = systemd::passed_descriptors().map_err(|error| {
        wrong(format!("LISTEN_FDS and LISTEN_PID name no sockets of this process ({error})"))
    })?;
    let descriptor = match passed[..] {
        [] => return Ok(None),
        [descriptor] => descriptor,
        _ => {
            let passed = passed.len();
            return Err(wrong(format!("{passed} sockets were passed, and only one can be used")));
        }
    };
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(None);
    }
    // SAFETY: an OwnedFd has to be open and nobody else's. It is open: `passed_descriptors` has just set its flags. It is
    // nobody else's: it is number 3, and was passed to this very process (LISTEN_PID); nothing here has opened and kept a
    // descriptor before, as the text above asks for, and the swap lets this line be reached once.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}
