//! The subcommands: their names, what they are for, and where they are done.

mod acquire;
mod admin;
mod audit;
mod backup;
mod callback_test;
mod checks;
mod claims;
mod deliveries;
mod doctor;
mod ids;
mod queue;
mod run;
mod status;
mod token;
mod token_make;

use std::ffi::OsString;

use super::{
    Failure,
    args::described,
    output,
    token::{NO_TOKEN_OPTION, is_token_option},
};
use crate::{
    cli::{Described, UsageError},
    model::nearest,
};

/// What the client is called in messages.
const PROGRAM: &str = "semaphorectl";
/// The topic of `help` that is no command.
const EXIT_CODES_TOPIC: &str = "exit-codes";

/// A subcommand.
struct Command {
    name: &'static str,
    /// What it does, in the overview.
    summary: &'static str,
    main: fn(&[OsString]) -> Result<u8, Failure>,
    /// From the summary: itself, or its own commands.
    described: fn(&'static str) -> Vec<Described>,
}

const fn command(
    name: &'static str,
    summary: &'static str,
    main: fn(&[OsString]) -> Result<u8, Failure>,
    described: fn(&'static str) -> Vec<Described>,
) -> Command {
    Command { name, summary, main, described }
}

/// The subcommands, by who wants them.
const GROUPS: [(&str, &[Command]); 3] = [
    (
        "Jobs",
        &[
            command(
                "run",
                "run a command while holding permits",
                run::main,
                described::<run::RunArgs>,
            ),
            command(
                "acquire",
                "take permits for a script, or --callback and end",
                acquire::main,
                described::<acquire::AcquireArgs>,
            ),
            command(
                "renew",
                "prolong the lease of a claim",
                ids::renew,
                described::<ids::RenewArgs>,
            ),
            command("release", "give permits back", ids::release, described::<ids::ReleaseArgs>),
        ],
    ),
    (
        "Look",
        &[
            command(
                "status",
                "the semaphores, or one with holders and queue",
                status::main,
                described::<status::StatusArgs>,
            ),
            command(
                "queue",
                "who waits for a semaphore, in order",
                queue::main,
                described::<queue::QueueArgs>,
            ),
            command(
                "claims",
                "who holds and who waits",
                claims::main,
                described::<claims::ClaimsArgs>,
            ),
            command(
                "deliveries",
                "the calls of a claim's callback, and --retry",
                deliveries::main,
                described::<deliveries::DeliveriesArgs>,
            ),
            command(
                "doctor",
                "what is wrong between here and the service",
                doctor::main,
                described::<doctor::DoctorArgs>,
            ),
        ],
    ),
    (
        "Admin",
        &[
            command(
                "drain",
                "grant no more permits of a semaphore",
                admin::drain,
                described::<admin::DrainArgs>,
            ),
            command("open", "grant them again", admin::open, described::<admin::OpenArgs>),
            command(
                "resize",
                "change how many permits there are",
                admin::resize,
                described::<admin::ResizeArgs>,
            ),
            command("revoke", "end somebody's claim", ids::revoke, described::<ids::RevokeArgs>),
            command("token", "make, show and end tokens", token::main, token::described),
            command(
                "audit",
                "who changed what, and what was refused",
                audit::main,
                described::<audit::AuditArgs>,
            ),
            command(
                "backup",
                "save the service's database while it runs",
                backup::main,
                described::<backup::BackupArgs>,
            ),
            command(
                "callback-test",
                "call a target: really starts its job",
                callback_test::main,
                described::<callback_test::CallbackTestArgs>,
            ),
        ],
    ),
];

fn commands() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|(_, commands)| commands.iter())
}

/// All commands with their options, those of `token` each.
pub(super) fn described_all() -> Vec<Described> {
    commands().flat_map(|command| (command.described)(command.summary)).collect()
}

/// Does what the arguments (without the program's name) ask for; returns the exit code.
///
/// # Errors
/// When it did not work.
pub(super) fn dispatch(arguments: &[OsString]) -> Result<u8, Failure> {
    let Some((word, rest)) = arguments.split_first() else {
        let example = "no command; the commonest is `semaphorectl run NAME -- command`";
        return Err(usage(example.to_owned()));
    };
    match word.to_string_lossy().as_ref() {
        "-h" | "--help" => output::write(&overview()),
        "-V" | "--version" => output::write_version(),
        "help" => match rest.first() {
            None => output::write(&overview()),
            Some(topic) if topic == EXIT_CODES_TOPIC => output::write(EXIT_CODES),
            Some(topic) => {
                // What follows is a command of the command: `help token create`.
                let words = [&rest[1..], &["--help".into()]].concat();
                (find(&topic.to_string_lossy())?.main)(&words)
            }
        },
        word => (find(word)?.main)(rest),
    }
}

fn find(word: &str) -> Result<&'static Command, Failure> {
    if let Some(command) = commands().find(|command| command.name == word) {
        return Ok(command);
    }
    if is_token_option(word) {
        return Err(usage(NO_TOKEN_OPTION.to_owned()));
    }
    let kind = if word.starts_with('-') { "option" } else { "command" };
    let others = ["help", "--help", "--version", EXIT_CODES_TOPIC];
    let near = nearest(word, commands().map(|command| command.name).chain(others));
    let hint = near.map(|near| format!(". Did you mean {near}?")).unwrap_or_default();
    Err(usage(format!("there is no {kind} {word}{hint}")))
}

fn usage(message: String) -> Failure {
    UsageError { message, program: PROGRAM.to_owned() }.into()
}

/// The help text of the program as a whole: one screen.
fn overview() -> String {
    let mut text =
        "Holds permits for a job: semaphorectl run FlexLM-Riviera -- vsim -do run.do\n\n"
            .to_owned();
    for (group, commands) in GROUPS {
        text.push_str(&format!("{group}\n"));
        for command in commands {
            text.push_str(&format!("  {:15}{}\n", command.name, command.summary));
        }
    }
    text.push_str(
        "More: semaphorectl <command> --help, semaphorectl help exit-codes, --version\n\
         Environment: SEMAPHORE_URL (http://127.0.0.1:7420), SEMAPHORE_TOKEN\n",
    );
    text
}

/// The topic about exit codes.
const EXIT_CODES: &str = "\
Exit codes of semaphorectl. `run` returns its command's own where it could run it.

    0  it went well
   64  the command line is wrong: the message says what would be right
   65  refused, and would be again: unknown semaphore or claim, more permits than
       there are, an id that is used up
   69  the service is out of reach: `semaphorectl doctor` says why; or it takes no
       more requests just now
   70  internal error, or an answer that makes no sense
   74  the output could not be written
   75  no permit in time: --wait-timeout is over, or --no-queue and none is free;
       no room for a claim with a --callback; another backup is under way
   77  not allowed: the token is missing, unknown, expired, or not good for this
   78  configuration: SEMAPHORE_URL, SEMAPHORE_TOKEN or the token's file is wrong
   79  revoked by an admin
   80  the lease is lost (run: with --on-lost=terminate)
  126  run: the command is there, and cannot be executed
  127  run: the command is not there
128+n  ended by signal n: this program, or the command of run (130: Ctrl-C)
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit;

    #[test]
    fn every_exit_code_is_explained() {
        for code in [
            exit::OK,
            exit::USAGE,
            exit::REFUSED,
            exit::UNREACHABLE,
            exit::INTERNAL,
            exit::IO,
            exit::NO_PERMIT,
            exit::NOT_ALLOWED,
            exit::CONFIGURATION,
            exit::REVOKED,
            exit::LEASE_LOST,
            exit::NOT_EXECUTABLE,
            exit::NOT_FOUND,
        ] {
            assert!(EXIT_CODES.contains(&format!("\n{code:5}  ")), "{code}");
        }
    }

    #[test]
    fn the_overview_is_one_screen() {
        let text = overview();
        assert!(text.lines().count() <= 24, "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
