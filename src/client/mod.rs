//! `semaphorectl`: the client, which stands in front of the licensed tool in a CI job.
//!
//! ```text
//! semaphorectl run FlexLM-Riviera -- vsim -do run.do
//! ```
//!
//! waits for a permit, runs the command while it holds it, and gives it back on every way out. The
//! client speaks HTTP to the service and shares no code with it but the words of [`crate::model`]; its
//! reply types are its own and lenient, so that the two may differ in version.
//!
//! Threads: the main thread owns the terminal, the child and every decision, and waits for
//! events. Each other thread does one blocking thing and reports it: the signals, the
//! acquire, the renewals, the child's end, the release. None of them ever keeps the main thread waiting.
//!
//! Only the module `unix` is for Unix alone. Standard output has what was asked for and nothing else; in
//! `run` it belongs to the command. `commands` lists the subcommands; `session` is what `run` and
//! `acquire` have in common, `ask` what the others do.

mod acquire;
mod adopt;
mod args;
mod ask;
mod audit_list;
mod backoff;
mod callback;
mod claim_list;
mod commands;
mod delivery;
mod download;
mod environment;
mod event;
mod hold;
mod http;
mod lease;
mod moment;
mod options;
mod order;
mod outage;
mod output;
mod permission;
mod progress;
mod release;
mod replies;
mod request;
mod service;
mod session;
mod stop;
mod table;
mod terminal;
mod token;
mod token_view;
mod unix;
mod view;
mod wait;
mod watch;

use std::ffi::OsString;

use crate::cli::{Described, UsageError, exit};

/// Why the client ends without having done what it was asked to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// The exit code: one of [`crate::cli::exit`].
    pub(crate) exit: u8,
    /// What happened and what to do about it; may have several lines.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: u8, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into() }
    }

    /// A wrong command line.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, message)
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure::new(exit::USAGE, error.to_string())
    }
}

/// Its commands with their options, as their help texts have them.
#[must_use]
pub fn described() -> Vec<Described> {
    commands::described_all()
}

/// Runs the client with its arguments (without the program's name) and returns its exit code.
///
/// Messages go to standard error; a help text that was asked for goes to standard output.
#[must_use]
pub fn main(arguments: &[OsString]) -> u8 {
    match commands::dispatch(arguments) {
        Ok(code) => code,
        Err(failure) => {
            progress::write_failure(&failure);
            failure.exit
        }
    }
}
