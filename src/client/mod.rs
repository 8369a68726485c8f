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
//! [`events`](self::event). Each other thread does one blocking thing and reports it: the signals, the
//! acquire, the renewals, the child's end, the release. None of them ever keeps the main thread waiting.
//!
//! Only [`unix`](self::unix) is for Unix alone. No module writes to standard output, which belongs to
//! the command, except for help and version.

mod acquire;
mod args;
mod backoff;
mod event;
mod hold;
mod http;
mod lease;
mod options;
mod progress;
mod release;
mod replies;
mod run;
mod service;
mod stop;
mod unix;
mod wait;

use std::{ffi::OsString, io::Write};

use self::{
    args::HELP,
    options::{Environment, RunOptions},
};
use crate::{
    cli::{Invocation, UsageError, exit},
    model::nearest,
};

/// What the client is called in messages.
const PROGRAM: &str = "semaphorectl";
/// The subcommands.
const COMMANDS: [&str; 2] = ["run", "help"];

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
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure::new(exit::USAGE, error.to_string())
    }
}

/// Runs the client with its arguments (without the program's name) and returns its exit code.
///
/// Messages go to standard error; a help text that was asked for goes to standard output.
#[must_use]
pub fn main(arguments: &[OsString]) -> u8 {
    match dispatch(arguments) {
        Ok(code) => code,
        Err(failure) => {
            progress::write_failure(&failure);
            failure.exit
        }
    }
}

fn dispatch(arguments: &[OsString]) -> Result<u8, Failure> {
    let usage = |message: String| UsageError { message, program: PROGRAM.to_owned() };
    let Some((command, rest)) = arguments.split_first() else {
        return Err(usage(
            "no command; the commonest is `semaphorectl run NAME -- command`".into(),
        )
        .into());
    };
    match command.to_str() {
        Some("run") => run_command(rest),
        Some("help") => match rest.first().and_then(|topic| topic.to_str()) {
            Some("run") => run_command(&["--help".into()]),
            _ => Ok(write_out(HELP)),
        },
        Some("-h" | "--help") => Ok(write_out(HELP)),
        Some("-V" | "--version") => Ok(write_version()),
        _ => {
            let given = command.to_string_lossy();
            let kind = if given.starts_with('-') { "option" } else { "command" };
            let near = nearest(&given, COMMANDS.into_iter().chain(["--help", "--version"]));
            let hint = near.map(|near| format!(". Did you mean {near}?")).unwrap_or_default();
            Err(usage(format!("there is no {kind} {given}{hint}")).into())
        }
    }
}

fn run_command(arguments: &[OsString]) -> Result<u8, Failure> {
    match args::parse_run(arguments)? {
        Invocation::Help(text) => Ok(write_out(&text)),
        Invocation::Version => Ok(write_version()),
        Invocation::Do { options, rest } => {
            let environment = Environment::of_process();
            let options = RunOptions::new(&options, rest, &environment)?;
            run::run(&options)
        }
    }
}

fn write_version() -> u8 {
    write_out(concat!("semaphorectl ", env!("CARGO_PKG_VERSION"), "\n"))
}

/// Writes to standard output. That nobody reads it is not this program's failure.
fn write_out(text: &str) -> u8 {
    let _ = std::io::stdout().write_all(text.as_bytes());
    exit::OK
}
