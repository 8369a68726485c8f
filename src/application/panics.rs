//! Panics: a bug whose reach nobody knows, so the process ends and starts again from what is on disk.
//!
//! One exception is tiny_http's thread of a single connection, which holds nothing but that connection: see
//! [`crate::web_server::is_of_a_connection`]. The others are a want of descriptors and of threads, which
//! are no bugs and end the process in the way in which other failures of the web server do.

use super::limits::{DESCRIPTORS_ADVICE, THREADS_ADVICE};
use crate::{
    cli::exit,
    web_server::{is_for_want_of_a_descriptor, is_for_want_of_a_thread, is_of_a_connection},
};

/// Logs panics, and aborts on all but those of a connection.
pub(crate) fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        if is_of_a_connection(panic) {
            log::debug!("a connection was reset before it was read: {panic}");
            return;
        }
        if is_for_want_of_a_descriptor(panic) {
            log::error!(
                "no descriptor is left for a new connection, the process ends and has to be started \
                 again{DESCRIPTORS_ADVICE}"
            );
            std::process::exit(exit::INTERNAL.into());
        }
        if is_for_want_of_a_thread(panic) {
            log::error!(
                "the system gives no more threads, the process ends and has to be started \
                 again{THREADS_ADVICE}: {panic}"
            );
            std::process::exit(exit::INTERNAL.into());
        }
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        log::error!("a bug, the process ends and has to be started again: thread {name}: {panic}");
        std::process::abort();
    }));
}
