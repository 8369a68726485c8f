//! The command line of `semaphorectl` as argh declares it. Checked values are in [`super::options`].

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};

use crate::cli::{self, Invocation, Program, UsageError};

/// The name of the subcommand in messages.
const RUN: &str = "semaphorectl run";

/// The help text of the program as a whole.
pub(super) const HELP: &str = "\
Waits for permits of a semaphore and runs a command while it holds them.

Examples
  semaphorectl run FlexLM-Riviera -- vsim -do run.do
  semaphorectl run -p FlexLM-Riviera=1 -p FlexLM-Coverage=2 --wait-timeout 2h -- ./sim

Usage: semaphorectl <command> [options]

Commands
  run                         run a command while holding permits
  help [command]              this text, or that of a command

Options
  -h, --help                  this text
      --version               the version

Environment
  SEMAPHORE_URL               where the service is (http://127.0.0.1:7420)
  SEMAPHORE_TOKEN             the token, where the service asks for one

Each command has a help text of its own: `semaphorectl run --help`.
";

/// Waits for permits, runs a command while it holds them, and gives them back when the command ends.
#[derive(Debug, Default, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl run FlexLM-Riviera -- vsim -do run.do",
    example = "semaphorectl run -p FlexLM-Riviera=1 -p FlexLM-Coverage=2 --wait-timeout 2h -- ./sim",
    note = "Durations are a number of seconds, or 90s, 5m, 2h.\n\
            The command gets SEMAPHORE_CLAIM_ID and SEMAPHORE_FENCES (JSON) in its environment.\n\
            Environment: SEMAPHORE_URL, SEMAPHORE_TOKEN; options win.",
    note = "Exit codes: the command's own; 128 + signal if a signal ended it or the wait; and\n  \
            64 wrong command line    65 refused by the service    69 service not reachable\n  \
            70 internal error        75 no permit in time         77 not allowed\n  \
            78 configuration         79 revoked                   80 lease lost\n \
            126 command not executable                           127 command not found"
)]
pub(super) struct RunArgs {
    /// a semaphore and how many of its permits to take; may be repeated
    #[argh(option, short = 'p', long = "permits", arg_name = "NAME=N")]
    pub(super) permits: Vec<String>,
    /// end the wait after this long with exit code 75 (no limit)
    #[argh(option, arg_name = "DURATION")]
    pub(super) wait_timeout: Option<String>,
    /// lease between two renewals: how long the permits stay taken if this machine dies (the
    /// semaphore's, 5m)
    #[argh(option, arg_name = "DURATION")]
    pub(super) ttl: Option<String>,
    /// place in the queue, -100 to 100, higher first (0)
    #[argh(option, arg_name = "N")]
    pub(super) priority: Option<i64>,
    /// who claims, as others see it (the URL of the CI job, or user@host:pid)
    #[argh(option, arg_name = "TEXT")]
    pub(super) holder: Option<String>,
    /// a label of the claim; may be repeated
    #[argh(option, arg_name = "KEY=VALUE")]
    pub(super) label: Vec<String>,
    /// do not wait: exit code 75 if the permits are not free
    #[argh(switch)]
    pub(super) no_queue: bool,
    /// what to do when the lease is lost while the command runs: warn or terminate (warn)
    #[argh(option, arg_name = "WHAT")]
    pub(super) on_lost: Option<String>,
    /// where the service is ($SEMAPHORE_URL, or http://127.0.0.1:7420)
    #[argh(option, arg_name = "URL")]
    pub(super) url: Option<String>,
    /// file with the token ($SEMAPHORE_TOKEN holds the token itself)
    #[argh(option, arg_name = "PATH")]
    pub(super) token_file: Option<String>,
    /// give up with exit code 69 after this long without an answer of the service (5m)
    #[argh(option, arg_name = "DURATION")]
    pub(super) unreachable_timeout: Option<String>,
    /// write warnings and errors only
    #[argh(switch)]
    pub(super) quiet: bool,
    /// the semaphore of which to take one permit
    #[argh(positional, arg_name = "NAME")]
    pub(super) names: Vec<String>,
}

/// Reads the arguments of `run`.
///
/// # Errors
/// As [`cli::parse`]; and where `--` is missing before the command, which would otherwise show as a
/// complaint about the command's own options.
pub(super) fn parse_run(arguments: &[OsString]) -> Result<Invocation<RunArgs>, UsageError> {
    let words = || arguments.iter().map(|word| word.to_string_lossy());
    let leading = words().take_while(|word| !word.starts_with('-')).count();
    if leading >= 2 && !words().any(|word| word == "--") {
        let line: Vec<_> = words().collect();
        return Err(usage(format!(
            "put `--` between the semaphore and the command: {RUN} {} -- {}",
            line[0],
            line[1..].join(" ")
        )));
    }
    cli::parse(Program { name: RUN, rest: Some("command [arguments]") }, arguments)
}

/// What is wrong with a command line of `run`.
pub(super) fn usage(message: String) -> UsageError {
    UsageError { message, program: RUN.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(line: &str) -> String {
        let words: Vec<_> = line.split(' ').map(OsString::from).collect();
        parse_run(&words).unwrap_err().message
    }

    #[test]
    fn a_missing_separator_is_explained() {
        let expected = "put `--` between the semaphore and the command: \
                        semaphorectl run lic -- vsim -do run.do";
        assert_eq!(message("lic vsim -do run.do"), expected);
    }

    #[test]
    fn mistyped_options_are_explained() {
        assert!(message("lic --wait-timout 2h -- x").ends_with("Did you mean --wait-timeout?"));
    }
}
