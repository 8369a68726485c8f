//! Options that several commands share, and how a command gets its own together with them.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};

use super::{
    Failure, output,
    token::{NO_TOKEN_OPTION, is_token_option},
};
use crate::cli::{self, Described, Invocation, Program, UsageError, exit};

/// The service
#[derive(Debug, Default, PartialEq, FromArgs, ArgsInfo)]
pub(super) struct ServiceArgs {
    /// where the service is ($SEMAPHORE_URL, or http://127.0.0.1:7420)
    #[argh(option, arg_name = "URL")]
    pub(super) url: Option<String>,
    /// file with the token ($SEMAPHORE_TOKEN holds the token itself)
    #[argh(option, arg_name = "FILE")]
    pub(super) token_file: Option<String>,
    /// give up with exit code 69 after this long without an answer of the service (run, acquire and
    /// --watch: 5m; renew and release: 30s; others at once)
    #[argh(option, arg_name = "DURATION")]
    pub(super) unreachable_timeout: Option<String>,
}

/// The claim
#[derive(Debug, Default, PartialEq, FromArgs, ArgsInfo)]
pub(super) struct ClaimArgs {
    /// a semaphore and how many of its permits to take; may be repeated
    #[argh(option, short = 'p', long = "permits", arg_name = "NAME=N")]
    pub(super) permits: Vec<String>,
    /// end the wait after this long with exit code 75 (no limit; 24h with a callback)
    #[argh(option, arg_name = "DURATION")]
    pub(super) wait_timeout: Option<String>,
    /// do not wait: exit code 75 if the permits are not free
    #[argh(switch)]
    pub(super) no_queue: bool,
    /// place in the queue, -100 to 100, higher first (0)
    #[argh(option, arg_name = "N")]
    pub(super) priority: Option<String>,
    /// who claims, as others see it (the URL of the CI job, or user@host:pid)
    #[argh(option, arg_name = "TEXT")]
    pub(super) holder: Option<String>,
    /// a label of the claim; may be repeated
    #[argh(option, arg_name = "KEY=VALUE")]
    pub(super) label: Vec<String>,
    /// write warnings and errors only
    #[argh(switch)]
    pub(super) quiet: bool,
}

/// The output
#[derive(Debug, Default, PartialEq, FromArgs, ArgsInfo)]
pub(super) struct ViewArgs {
    /// write the service's JSON; with --watch one line for each change
    #[argh(switch)]
    pub(super) json: bool,
    /// leave the line with the names of the columns out
    #[argh(switch)]
    pub(super) no_header: bool,
    /// go on and show each change, until interrupted
    #[argh(switch)]
    pub(super) watch: bool,
}

/// The output
#[derive(Debug, Default, PartialEq, FromArgs, ArgsInfo)]
pub(super) struct JsonArgs {
    /// write JSON, where there is some that of the service
    #[argh(switch)]
    pub(super) json: bool,
}

/// The options of one command that are its own, with what else its command line is made of.
pub(super) trait CommandLine: FromArgs + ArgsInfo {
    /// The group of options that it shares with others.
    type Shared: FromArgs + ArgsInfo;
    /// Its name, and what comes after `--`.
    const PROGRAM: Program<'static>;
}

/// A command as its help text has it.
pub(super) fn described<A: CommandLine>(summary: &'static str) -> Vec<Described> {
    let groups = vec![A::get_args_info(), A::Shared::get_args_info(), ServiceArgs::get_args_info()];
    vec![Described { program: A::PROGRAM, summary, groups }]
}

/// Reads the arguments of a command, with its own options and a group that it shares; answers questions
/// for help and version, and otherwise does what `act` does with the options and with what came after `--`.
///
/// # Errors
/// A wrong command line, and those of `act`.
pub(super) fn invoke<A: CommandLine>(
    arguments: &[OsString],
    act: impl FnOnce(A, A::Shared, &ServiceArgs, Vec<OsString>) -> Result<u8, Failure>,
) -> Result<u8, Failure> {
    let parsed = cli::parse_groups::<A, A::Shared, ServiceArgs>(A::PROGRAM, arguments);
    match parsed.map_err(|error| explain_token_option::<A>(error, arguments))? {
        Invocation::Help(text) => output::write(&text),
        Invocation::Version => output::write_version(),
        Invocation::Do { options: (own, shared, service), rest } => {
            act(own, shared, &service, rest).map_err(|failure| match failure.exit {
                exit::USAGE => {
                    let program = A::PROGRAM.name.to_owned();
                    UsageError { message: failure.message, program }.into()
                }
                _ => failure,
            })
        }
    }
}

/// Where somebody gave the token itself, that is what has to be said about a command line that is wrong.
fn explain_token_option<A: ArgsInfo>(error: UsageError, arguments: &[OsString]) -> UsageError {
    let mut own =
        arguments.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let has_option = A::get_args_info().flags.iter().any(|flag| flag.long == "--token");
    if !has_option && own.any(|word| is_token_option(&word)) {
        return UsageError { message: NO_TOKEN_OPTION.to_owned(), ..error };
    }
    error
}
