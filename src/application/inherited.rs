//! The listening socket that the service manager passes on, where it does (systemd.socket(5), sd_listen_fds(3)). The
//! manager keeps it open, so that connections queue while the daemon is started again.

use std::net::TcpListener;

use listenfd::ListenFd;

use super::{Failure, systemd};
use crate::cli::exit;

/// The socket; `None` where none was passed, and after the first time.
///
/// To be called while there is one thread: it takes the variables about the socket out of the environment.
///
/// # Errors
/// When there are several, the environment is wrong about them, or it is no TCP socket.
pub(super) fn take() -> Result<Option<TcpListener>, Failure> {
    let wrong = |what: String| {
        let advice = "a socket unit has one ListenStream=ADDR:PORT, and no Accept=yes";
        Failure::new(exit::CONFIGURATION, &format!("{what}: {advice}"))
    };
    // listenfd would take what is wrong there for nothing, and what was meant for nobody for ours.
    let passed = systemd::passed_descriptors().map_err(|error| {
        wrong(format!("LISTEN_FDS and LISTEN_PID name no sockets of this process ({error})"))
    })?;
    match passed {
        0 => Ok(None),
        1 => ListenFd::from_env().take_tcp_listener(0).map_err(|error| {
            wrong(format!("what was passed to this process is not a TCP socket ({error})"))
        }),
        _ => Err(wrong(format!("{passed} sockets were passed, and only one can be used"))),
    }
}
