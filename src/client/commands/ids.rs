//! The commands about claims by their ids: `renew`, `release`, `revoke`.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::{
    cli::{Program, exit},
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs, ServiceArgs},
        ask::Service,
        environment::Environment,
        options::{self, PATIENCE_NONE, PATIENCE_SHORT, ServiceOptions},
        output,
        progress::write_failure,
        release::NO_CONTENT,
        replies::{ClaimReply, unreadable},
    },
    model::{ClaimId, Note, format_duration},
};

/// How long one try of a renewal may take.
const RENEW_TRY_MAX: Duration = Duration::from_secs(10);
/// How long one try of a release may take.
const RELEASE_TRY_MAX: Duration = Duration::from_secs(10);

/// Says that a claim is still needed: prolongs its lease, confirms an offer, keeps its place in the queue.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl renew \"$id\"",
    example = "semaphorectl renew \"$id\" --ttl 4h",
    note = "Exit codes: 0 held; 75 it still waits; 79 it was revoked; 80 its lease is over;\n\
            64, 65 (no such claim, or ended otherwise), 69, 70, 77 and 78 as in\n\
            `semaphorectl help exit-codes`."
)]
pub(super) struct RenewArgs {
    /// lease from now on (what it was)
    #[argh(option, arg_name = "DURATION")]
    ttl: Option<String>,
    /// the claim
    #[argh(positional, arg_name = "ID")]
    id: String,
}

impl CommandLine for RenewArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl renew", rest: None };
}

/// `semaphorectl renew` with its arguments.
///
/// # Errors
/// When the claim is not held any more, or not yet.
pub(super) fn renew(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: RenewArgs, shared, service, _| {
        let id = options::claim_id(&own.id)?;
        let ttl = options::duration("--ttl", own.ttl.as_deref())?;
        let mut service = open(service, PATIENCE_SHORT)?;
        let answer = service.ask(|connection| connection.renew(&id, ttl, RENEW_TRY_MAX))?;
        let claim = ClaimReply::read(&answer).ok_or_else(|| unreadable(&answer))?;
        if shared.json {
            output::write_json(&answer.body)?;
        } else if claim.state == "held" {
            let life = format_duration(claim.lease().life);
            output::write(&format!("{id} is held; its lease lasts {life} from now\n"))?;
        }
        if claim.state == "held" {
            return Ok(exit::OK);
        }
        let place = claim.position.map(|n| format!(", position {n}")).unwrap_or_default();
        let message = format!("{id} is {}{place}: it holds no permit yet", claim.state);
        Err(Failure::new(exit::NO_PERMIT, message))
    })
}

/// Gives permits back, or leaves the queue. That a claim has ended already is well.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl release \"$id\"",
    note = "A service that is out of reach is tried for 30s (--unreachable-timeout).",
    note = "Exit codes: 0 none of the claims holds or waits any more; 65 a claim is unknown,\n\
            the others are released; 64, 69, 70, 77 and 78 as in\n\
            `semaphorectl help exit-codes`."
)]
pub(super) struct ReleaseArgs {
    /// the claims
    #[argh(positional, arg_name = "ID...")]
    ids: Vec<String>,
}

impl CommandLine for ReleaseArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl release", rest: None };
}

/// `semaphorectl release` with its arguments.
///
/// # Errors
/// A wrong command line. What cannot be released is told on the way, and the first such failure is the
/// exit code.
pub(super) fn release(arguments: &[OsString]) -> Result<u8, Failure> {
    #[derive(Serialize)]
    struct Outcome<'a> {
        released: Vec<&'a ClaimId>,
        failed: BTreeMap<&'a str, String>,
    }
    args::invoke(arguments, |own: ReleaseArgs, shared, service, _| {
        if own.ids.is_empty() {
            return Err(Failure::usage("name a claim by the id that `acquire` wrote"));
        }
        let ids: Vec<_> =
            own.ids.iter().map(|id| options::claim_id(id)).collect::<Result<_, _>>()?;
        let mut service = open(service, PATIENCE_SHORT)?;
        let mut outcome = Outcome { released: Vec::new(), failed: BTreeMap::new() };
        let mut code = exit::OK;
        for id in &ids {
            let answer = service.ask(|connection| connection.release(id, None, RELEASE_TRY_MAX));
            let answer = answer.and_then(|answer| match answer.status {
                NO_CONTENT => Ok(()),
                _ => Err(unreadable(&answer)),
            });
            match answer {
                Ok(()) => outcome.released.push(id),
                Err(failure) => {
                    write_failure(&failure);
                    code = if code == exit::OK { failure.exit } else { code };
                    outcome.failed.insert(id.as_str(), failure.message);
                }
            }
        }
        if shared.json {
            output::write_as_json(&outcome)?;
        } else {
            let lines = outcome.released.iter().map(|id| format!("{id} is released\n"));
            output::write(&lines.collect::<String>())?;
        }
        Ok(code)
    })
}

/// Ends a claim of somebody else at once, held or waiting. Its holder is told the reason.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl revoke \"$id\" --reason \"the board is on fire\"",
    note = "The holder's `run` ends with exit code 79, at once when it waits, and at its next\n\
            renewal when it holds; its command is stopped with --on-lost=terminate only.",
    note = "Exit codes: 0; 64, 65 (no such claim), 69, 70, 77 and 78 as in\n\
            `semaphorectl help exit-codes`."
)]
pub(super) struct RevokeArgs {
    /// why, for the holder
    #[argh(option, arg_name = "TEXT")]
    reason: Option<String>,
    /// the claim
    #[argh(positional, arg_name = "ID")]
    id: String,
}

impl CommandLine for RevokeArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl revoke", rest: None };
}

/// `semaphorectl revoke` with its arguments.
///
/// # Errors
/// A wrong command line, a claim that is not there, a service out of reach.
pub(super) fn revoke(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: RevokeArgs, shared, service, _| {
        let id = options::claim_id(&own.id)?;
        let Some(reason) = &own.reason else {
            return Err(Failure::usage("--reason TEXT is missing: the holder wants to know why"));
        };
        options::checked("--reason", reason, Note::new(reason))?;
        let mut service = open(service, PATIENCE_NONE)?;
        let answer = service.ask(|connection| connection.revoke(&id, reason))?;
        if shared.json {
            return output::write_json(&answer.body);
        }
        let claim = ClaimReply::read(&answer).ok_or_else(|| unreadable(&answer))?;
        let how = match claim.reason.as_deref() {
            Some("revoked") | None => "is revoked".to_owned(),
            Some(reason) => format!("had ended before ({reason})"),
        };
        output::write(&format!("{id} {how}\n"))
    })
}

/// The service, for calls by people and scripts.
///
/// # Errors
/// Wrong options.
pub(super) fn open(args: &ServiceArgs, patience: Duration) -> Result<Service, Failure> {
    Ok(Service::new(&ServiceOptions::new(args, patience, &Environment::of_process())?))
}
