//! The commands that change a semaphore: `drain`, `open`, `resize`.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};
use serde_json::json;

use super::{ids, status::SemaphoreView};
use crate::{
    cli::Program,
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs, ServiceArgs},
        options::{self, PATIENCE_NONE},
        output,
    },
    model::{Note, SemaphoreName},
};

/// Grants no more permits of a semaphore. Those that are held stay, those that wait go on waiting.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl drain FlexLM-Riviera",
    example = "semaphorectl status FlexLM-Riviera --watch   # until nothing is in use",
    note = "Exit codes: 0, also if it was draining already; 64, 65 (no such semaphore), 69, 70,\n\
            77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct DrainArgs {
    /// why, for the audit log
    #[argh(option, arg_name = "TEXT")]
    reason: Option<String>,
    /// the semaphore
    #[argh(positional, arg_name = "NAME")]
    name: String,
}

impl CommandLine for DrainArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl drain", rest: None };
}

/// Grants permits of a semaphore again, after `drain`.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl open FlexLM-Riviera",
    note = "Exit codes: 0, also if it was open already; 64, 65 (no such semaphore), 69, 70, 77\n\
            and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct OpenArgs {
    /// why, for the audit log
    #[argh(option, arg_name = "TEXT")]
    reason: Option<String>,
    /// the semaphore
    #[argh(positional, arg_name = "NAME")]
    name: String,
}

impl CommandLine for OpenArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl open", rest: None };
}

/// Changes how many permits a semaphore has. A lower number recalls nothing: what is too much comes back
/// when its holders end.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl resize FlexLM-Riviera 7 --reason \"two seats more\"",
    note = "It lasts until the daemon's configuration says something new. To grant nothing:\n\
            semaphorectl drain.",
    note = "Exit codes: 0; 65 no such semaphore, or waiting claims stand in the way; 64, 69, 70,\n\
            77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct ResizeArgs {
    /// why, for the audit log
    #[argh(option, arg_name = "TEXT")]
    reason: Option<String>,
    /// end waiting claims that ask for more permits than there will be
    #[argh(switch)]
    force: bool,
    /// the semaphore
    #[argh(positional, arg_name = "NAME")]
    name: String,
    /// its number of permits from now on
    #[argh(positional, arg_name = "CAPACITY")]
    capacity: String,
}

impl CommandLine for ResizeArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl resize", rest: None };
}

/// `semaphorectl drain` with its arguments.
///
/// # Errors
/// As [`Change::make`].
pub(super) fn drain(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: DrainArgs, shared, service, _| {
        let change = Change {
            settings: json!({ "state": "draining" }).to_string(),
            force: false,
            reason: own.reason.as_deref(),
        };
        change.make(&own.name, &shared, service, |before, after| {
            let held = permits(after.in_use);
            match before.state.as_str() {
                "draining" => format!("was draining already; {held} in use"),
                _ => format!(
                    "was open and is draining now: it grants nothing more; {held} in use, {} waiting",
                    claims(after.waiting)
                ),
            }
        })
    })
}

/// `semaphorectl open` with its arguments.
///
/// # Errors
/// As [`Change::make`].
pub(super) fn open(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: OpenArgs, shared, service, _| {
        let change = Change {
            settings: json!({ "state": "open" }).to_string(),
            force: false,
            reason: own.reason.as_deref(),
        };
        change.make(&own.name, &shared, service, |before, after| match before.state.as_str() {
            "open" => "was open already".to_owned(),
            _ => format!(
                "was draining and is open now; {} in use, {} waiting",
                permits(after.in_use),
                claims(after.waiting)
            ),
        })
    })
}

/// `semaphorectl resize` with its arguments.
///
/// # Errors
/// As [`Change::make`].
pub(super) fn resize(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: ResizeArgs, shared, service, _| {
        let capacity = options::capacity(&own.capacity)?;
        let change = Change {
            settings: json!({ "capacity": capacity }).to_string(),
            force: own.force,
            reason: own.reason.as_deref(),
        };
        change.make(&own.name, &shared, service, |before, after| {
            let over = match after.over_committed {
                0 => String::new(),
                1 => "; 1 more is out until its holder ends".to_owned(),
                over => format!("; {over} more are out until their holders end"),
            };
            if before.capacity == after.capacity {
                return format!("has {} as before{over}", permits(after.capacity));
            }
            format!("had {} and has {} now{over}", permits(before.capacity), after.capacity)
        })
    })
}

/// A change of a semaphore.
struct Change<'a> {
    /// The settings that change, JSON.
    settings: String,
    /// Whether claims end that stand in the way.
    force: bool,
    /// Why, for the audit log.
    reason: Option<&'a str>,
}

impl Change<'_> {
    /// Makes it and says what that did.
    ///
    /// # Errors
    /// A wrong command line, a semaphore that is not there, a change that is refused, a service out of reach.
    fn make(
        &self,
        name: &str,
        shared: &JsonArgs,
        service: &ServiceArgs,
        describe: impl Fn(&SemaphoreView, &SemaphoreView) -> String,
    ) -> Result<u8, Failure> {
        let name: SemaphoreName = options::semaphore_name(name)?;
        if let Some(text) = self.reason {
            options::checked("--reason", text, Note::new(text))?;
        }
        let mut service = ids::open(service, PATIENCE_NONE)?;
        let before = SemaphoreView::read(&service.look(&format!("/api/v1/semaphores/{name}"))?)?;
        let answer = service
            .ask(|connection| connection.change(&name, &self.settings, self.force, self.reason))?;
        if shared.json {
            return output::write_json(&answer.body);
        }
        let after = SemaphoreView::read(&answer)?;
        output::write(&format!("{name} {}\n", describe(&before, &after)))
    }
}

fn permits(number: u64) -> String {
    if number == 1 { "1 permit".to_owned() } else { format!("{number} permits") }
}

fn claims(number: u64) -> String {
    if number == 1 { "1 claim".to_owned() } else { format!("{number} claims") }
}
