//! `semaphorectl run`: wait, hold, release.

use std::{ffi::OsString, time::Duration};

use argh::{ArgsInfo, FromArgs};

use crate::cli::{Program, UsageError};
use crate::client::{
    Failure,
    args::{self, ClaimArgs, CommandLine, ServiceArgs},
    environment::Environment,
    hold::{Job, OnLost},
    options::{self, AdoptOptions, ClaimOptions},
    order::Order,
    session::{Obtained, Session},
};

/// The command in messages.
const RUN: &str = "semaphorectl run";
/// How long a command that was asked to end has before it is killed, where nothing is said.
const KILL_AFTER_DEFAULT: Duration = Duration::from_secs(10);

/// Waits for permits, runs a command while it holds them, and gives them back when the command ends. With
/// --claim it takes over a claim that was made before: in the job that a callback starts.
#[derive(Debug, Default, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl run FlexLM-Riviera -- vsim -do run.do",
    example = "semaphorectl run -p FlexLM-Riviera=1 -p FlexLM-Coverage=2 -- ./sim",
    example = "semaphorectl run --claim \"$SEMAPHORE_CLAIM_ID\" -- ./sim",
    note = "The command gets SEMAPHORE_CLAIM_ID and SEMAPHORE_FENCES (JSON) in its\n\
            environment; standard input and output are its own, so there is no --json.\n\
            Signals are passed on to it; one that comes before leaves the queue.\n\
            Durations are a number of seconds, or 90s, 5m, 2h.",
    note = "Exit codes: the command's own; 128 + signal if a signal ended it or the wait;\n\
            64, 65, 69, 70, 75, 77, 78, 79, 80, 126 and 127 as in\n\
            `semaphorectl help exit-codes`."
)]
pub(super) struct RunArgs {
    /// take over this claim instead of making one: confirm its offer, or wait for it; no NAME with it
    #[argh(option, arg_name = "ID")]
    pub(super) claim: Option<String>,
    /// lease between two renewals: how long the permits stay taken if this machine dies (the
    /// semaphore's, 5m)
    #[argh(option, arg_name = "DURATION")]
    pub(super) ttl: Option<String>,
    /// what to do when the lease is lost while the command runs: warn or terminate (warn)
    #[argh(option, arg_name = "WHAT")]
    pub(super) on_lost: Option<String>,
    /// with --on-lost=terminate: kill the command when it has not ended this long after SIGTERM (10s)
    #[argh(option, arg_name = "DURATION")]
    pub(super) kill_after: Option<String>,
    /// the semaphore of which to take one permit
    #[argh(positional, arg_name = "NAME")]
    pub(super) names: Vec<String>,
}

impl CommandLine for RunArgs {
    type Shared = ClaimArgs;
    const PROGRAM: Program<'static> = Program { name: RUN, rest: Some("command [arguments]") };
}

/// `semaphorectl run` with its arguments: waits for the permits, runs the command, gives the permits
/// back; returns the exit code.
///
/// # Errors
/// When the command was not run. The permits are given back, or the release was tried, also then.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    check_separator(arguments)?;
    check_callback(arguments)?;
    args::invoke(arguments, |own: RunArgs, claim, service, command| {
        let (wanted, job) = check(&own, &claim, service, command, &Environment::of_process())?;
        let order = match wanted {
            Wanted::New(claim) => Order::make(&claim)?,
            Wanted::Existing(claim) => Order::adopt(claim),
        };
        let mut session = Session::begin(order, "a run")?;
        match session.obtain()? {
            Obtained::Held { grant, received } => session.hold(&job, &grant, received),
            Obtained::Cancelled(code) => Ok(code),
        }
    })
}

/// Whether `--` is there before the command: without it the complaint would be about the command's own
/// options.
fn check_separator(arguments: &[OsString]) -> Result<(), UsageError> {
    let words = || arguments.iter().map(|word| word.to_string_lossy());
    let leading = words().take_while(|word| !word.starts_with('-')).count();
    if leading < 2 || words().any(|word| word == "--") {
        return Ok(());
    }
    let line: Vec<_> = words().collect();
    let message = format!(
        "put `--` between the semaphore and the command: {RUN} {} -- {}",
        line[0],
        line[1..].join(" ")
    );
    Err(UsageError { message, program: RUN.to_owned() })
}

/// Who knows of callbacks looks for them here, and would hear only that there is no such option.
fn check_callback(arguments: &[OsString]) -> Result<(), UsageError> {
    let own = arguments.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--");
    let names: Vec<_> =
        own.map(|word| word.split('=').next().unwrap_or_default().to_owned()).collect();
    let of_acquire = ["--callback", "--callback-url", "--var", "--offer-ttl"];
    let Some(option) = of_acquire.iter().find(|option| names.iter().any(|name| name == *option))
    else {
        return Ok(());
    };
    let message = format!(
        "{option} is an option of `semaphorectl acquire`, which leaves a claim and ends; `run` waits here, or in the \
         job that the call starts: {RUN} --claim ID -- command"
    );
    Err(UsageError { message, program: RUN.to_owned() })
}

/// Which claim to hold.
#[derive(Debug)]
enum Wanted {
    New(Box<ClaimOptions>),
    Existing(AdoptOptions),
}

fn check(
    own: &RunArgs,
    claim: &ClaimArgs,
    service: &ServiceArgs,
    command: Vec<OsString>,
    environment: &Environment,
) -> Result<(Wanted, Job), Failure> {
    let ttl = own.ttl.as_deref();
    let wanted = match &own.claim {
        Some(id) => {
            check_adoption(own, claim)?;
            Wanted::Existing(AdoptOptions::new(id, claim, service, environment)?)
        }
        None => {
            let claim = ClaimOptions::new(&own.names, claim, ttl, service, environment)?;
            Wanted::New(Box::new(claim))
        }
    };
    if command.is_empty() {
        let which = match &own.claim {
            Some(id) => format!("--claim {id}"),
            None => own.names.first().map_or("NAME", String::as_str).to_owned(),
        };
        return Err(Failure::usage(format!(
            "no command to run; put it after `--`: {RUN} {which} -- command"
        )));
    }
    let kill_after = options::duration("--kill-after", own.kill_after.as_deref())?;
    let job = Job {
        command,
        on_lost: on_lost(own.on_lost.as_deref())?,
        kill_after: kill_after.unwrap_or(KILL_AFTER_DEFAULT),
    };
    Ok((wanted, job))
}

/// What is asked for was said when the claim was made, and cannot be said again.
fn check_adoption(own: &RunArgs, claim: &ClaimArgs) -> Result<(), Failure> {
    if let Some(name) = own.names.first() {
        return Err(Failure::usage(format!(
            "--claim takes over a claim with the permits that it was made for: leave {name:?} out, or if it \
             is the command, put `--` before it"
        )));
    }
    let given = [
        ("--permits", !claim.permits.is_empty()),
        ("--wait-timeout", claim.wait_timeout.is_some()),
        ("--no-queue", claim.no_queue),
        ("--priority", claim.priority.is_some()),
        ("--holder", claim.holder.is_some()),
        ("--label", !claim.label.is_empty()),
        ("--ttl", own.ttl.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::usage(format!(
            "--claim takes over a claim as it was made: {option} goes with the `acquire` that makes it"
        ))),
        None => Ok(()),
    }
}

fn on_lost(given: Option<&str>) -> Result<OnLost, Failure> {
    match given {
        None | Some("warn") => Ok(OnLost::Warn),
        Some("terminate") => Ok(OnLost::Terminate),
        Some(other) => {
            let message = format!("--on-lost must be warn or terminate; it is {other:?}");
            Err(Failure::usage(message))
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
