//! `semaphorectl audit`: what was done by whom, and what was refused.

use std::{ffi::OsString, time::Duration};

use argh::{ArgsInfo, FromArgs};

use super::ids;
use crate::{
    cli::{Program, exit},
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs},
        audit_list::{AuditFilter, AuditList},
        moment::Moment,
        options::{self, PATIENCE_NONE},
        output,
        progress::Reporter,
        terminal::Terminal,
        token::token_id,
        view::text,
    },
};

/// Rows where nothing is said: a screen and a bit.
const ROWS_DEFAULT: usize = 50;
/// Most rows: all of them are in memory at the same time.
const ROWS_MAX: usize = 100_000;

/// Shows the audit log: who changed what, and what was refused. The newest entry comes last, as in a log.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl audit --since 24h",
    example = "semaphorectl audit --object 'semaphore FlexLM-Riviera'",
    example = "semaphorectl audit --action 'token.*' --all",
    example = "semaphorectl audit --token ab12 --result scope-missing",
    note = "Tries that were refused with the same code, from one address within a minute, are\n\
            one entry; RESULT has their number. CHANGE is what was, and what is since then.\n\
            With --json it is the service's answer, where the newest entry comes first.",
    note = "It takes a token with the scope admin.",
    note = "Exit codes: 0; 64, 65, 69, 70, 74, 77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct AuditArgs {
    /// only what was asked with the token of this id
    #[argh(option, arg_name = "ID")]
    token: Option<String>,
    /// only this action; with * at its end all that begin so
    #[argh(option, arg_name = "ACTION")]
    action: Option<String>,
    /// only what was done to this: semaphore NAME, claim ID, token ID
    #[argh(option, arg_name = "OBJECT")]
    object: Option<String>,
    /// only what came to this: done, or the code of an error
    #[argh(option, arg_name = "RESULT")]
    result: Option<String>,
    /// only from then on: so long ago, or a time such as 2026-11-24T03:50:00Z
    #[argh(option, arg_name = "WHEN")]
    since: Option<String>,
    /// only up to then
    #[argh(option, arg_name = "WHEN")]
    until: Option<String>,
    /// so many entries at most, the newest ones (50)
    #[argh(option, arg_name = "N")]
    limit: Option<String>,
    /// all entries
    #[argh(switch)]
    all: bool,
    /// leave the line with the names of the columns out
    #[argh(switch)]
    no_header: bool,
}

impl CommandLine for AuditArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl audit", rest: None };
}

/// `semaphorectl audit` with its arguments.
///
/// # Errors
/// A wrong command line, a service out of reach or that refuses.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: AuditArgs, shared, service, _| {
        let rows = own.rows()?;
        let filter = own.filter(Moment::here())?;
        let mut service = ids::open(service, PATIENCE_NONE)?;
        let list = AuditList::read(&filter, rows, &mut |path| service.look(path))?;
        if shared.json {
            return output::write_json(&list.json());
        }
        let mut reporter = Reporter::new(false);
        if list.is_empty() {
            reporter.note("nothing of that is in the audit log");
            return Ok(exit::OK);
        }
        if list.has_more {
            let how = if own.all { "--until" } else { "--limit, --all or --until" };
            reporter.note(&format!("there are older entries: {how} shows them"));
        }
        output::write(&text(&list.table().lines(Terminal::of_output(), !own.no_header)))
    })
}

impl AuditArgs {
    fn rows(&self) -> Result<usize, Failure> {
        match &self.limit {
            Some(_) if self.all => Err(Failure::usage("--all has no --limit: choose one of them")),
            Some(text) => {
                let number = text.parse().ok().filter(|rows| (1..=ROWS_MAX).contains(rows));
                number.ok_or_else(|| {
                    Failure::usage(format!(
                        "--limit must be a whole number from 1 to {ROWS_MAX}; it is {text:?}"
                    ))
                })
            }
            None if self.all => Ok(ROWS_MAX),
            None => Ok(ROWS_DEFAULT),
        }
    }

    fn filter(&self, now: Moment) -> Result<AuditFilter, Failure> {
        let token = self.token.as_deref().map(token_id).transpose()?;
        let time = |option, text: &Option<String>| -> Result<_, Failure> {
            text.as_deref().map(|text| when(option, text, now)).transpose()
        };
        Ok(AuditFilter {
            token: token.map(str::to_owned),
            action: self.action.clone(),
            object: self.object.clone(),
            result: self.result.clone(),
            since: time("--since", &self.since)?,
            until: time("--until", &self.until)?,
        })
    }
}

/// A point in time: so long ago, or as the service writes it.
fn when(option: &str, text: &str, now: Moment) -> Result<String, Failure> {
    if let Some(moment) = Moment::from_json(text) {
        return Ok(moment.to_json());
    }
    let ago: Option<Duration> = options::duration(option, Some(text)).ok().flatten();
    let before = ago.and_then(|ago| now.before(ago));
    before.map(Moment::to_json).ok_or_else(|| {
        Failure::usage(format!(
            "{option} must be how long ago, such as 90m or 24h, or a time such as 2026-11-24T03:50:00Z; it is {text:?}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_either_way() {
        let now = Moment::from_json("2026-11-24T03:50:53.5Z").unwrap();
        for (text, expected) in [
            ("24h", "2026-11-23T03:50:53Z"),
            ("90", "2026-11-24T03:49:23Z"),
            ("2026-11-24T03:50:00Z", "2026-11-24T03:50:00Z"),
            ("2026-11-24T04:50:00+01:00", "2026-11-24T03:50:00Z"),
        ] {
            assert_eq!(when("--since", text, now).as_deref(), Ok(expected), "{text}");
        }
        for text in ["yesterday", "2026-11-24", "0", "999999999h", ""] {
            let failure = when("--since", text, now).unwrap_err();
            assert_eq!(failure.exit, exit::USAGE, "{text}");
            assert!(failure.message.starts_with("--since must be how long ago"), "{text}");
        }
    }
}
