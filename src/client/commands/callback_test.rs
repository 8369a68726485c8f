//! `semaphorectl callback-test`: whether a callback target works, before a claim depends on it.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};
use serde::Deserialize;

use super::ids;
use crate::{
    cli::{Program, exit},
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs},
        callback,
        delivery::{CallEnd, short_time},
        http::Answer,
        options::PATIENCE_NONE,
        output,
        replies::unreadable,
    },
    model::TargetName,
};

/// Calls a target of the service's configuration once, and says what came of it. With the presets for CI
/// systems this REALLY STARTS THE JOB that the vars name.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl callback-test gitlab-fpga --var job_id=412",
    note = "The call is a real one, without a claim behind it: a job that begins with\n\
            `semaphorectl run --claim` starts, and finds no claim of its id. Name a job for\n\
            which that does no harm.",
    note = "Exit codes: 0 the target took the call; 65 it did not, there is no such target, or\n\
            a var is missing; 64, 69, 70, 77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct CallbackTestArgs {
    /// a var for the target, as with `acquire`; may be repeated
    #[argh(option, arg_name = "NAME=VALUE")]
    var: Vec<String>,
    /// the target
    #[argh(positional, arg_name = "TARGET")]
    target: String,
}

impl CommandLine for CallbackTestArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl callback-test", rest: None };
}

/// What the service tells.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcome {
    delivered: Option<bool>,
    #[serde(flatten)]
    end: CallEnd,
    duration_seconds: f64,
    webhook_id: Option<String>,
}

/// `semaphorectl callback-test` with its arguments.
///
/// # Errors
/// When the target did not take the call, and when it was not made.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: CallbackTestArgs, shared, service, _| {
        let target = callback::target_name(&own.target)?;
        let vars = callback::vars(&own.var)?;
        let mut service = ids::open(service, PATIENCE_NONE)?;
        let answer = service.ask_once(|connection| connection.test_callback(&target, &vars))?;
        let verdict = verdict(&target, &answer);
        match (shared.json, verdict) {
            (true, verdict) => {
                output::write_json(&answer.body)?;
                verdict.map(|_| exit::OK)
            }
            (false, verdict) => output::write(&verdict?),
        }
    })
}

/// What came of it: what to write if it went well.
fn verdict(target: &TargetName, answer: &Answer) -> Result<String, Failure> {
    let outcome: Outcome = serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
    let (end, time) = (outcome.end.describe(), short_time(outcome.duration_seconds));
    let webhook = outcome.webhook_id.map(|id| format!(", webhook id {id}")).unwrap_or_default();
    match outcome.delivered {
        Some(true) => Ok(format!("{target} took the call: {end} after {time}{webhook}\n")),
        Some(false) => {
            let advice = outcome.end.advice(Some(target.as_str()));
            let message =
                format!("{target} did not take the call: {end} after {time}{webhook}\n{advice}");
            Err(Failure::new(exit::REFUSED, message))
        }
        None => Err(unreadable(answer)),
    }
}
