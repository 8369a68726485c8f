//! `semaphorectl token create` and `rotate`: the two answers with a secret in them, which must get to where it is
//! wanted and nowhere else.

use std::{
    cell::Cell,
    ffi::OsString,
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use argh::{ArgsInfo, FromArgs};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ids;
use crate::{
    cli::{Program, exit},
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs, ServiceArgs},
        http::{Answer, Connection, Unreachable},
        options::{self, PATIENCE_NONE},
        output,
        progress::Reporter,
        replies::{Problem, unreadable},
        token::token_id,
        token_view::TokenView,
        unix,
    },
    model::{Priority, format_duration},
};

/// Makes a token and writes it to standard output, this once: the service keeps no secret that it could show
/// again.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "TOKEN=$(semaphorectl token create ci-fpga --scope claim --scope read)",
    example = "semaphorectl token create ci-fpga --scope claim --semaphore 'FlexLM-*' \\",
    example = "    --expires-in 8760h --output ./ci-fpga.token",
    note = "Scopes: claim acquires, renews and releases claims of its own, as CI jobs do; read\n\
            sees semaphores, holders and queues; admin does everything.",
    note = "--output writes the token to a new file that is for you alone (mode 0600), and\n\
            the file's path to standard output. --json writes the service's object, with the\n\
            token in it unless that goes to a file.",
    note = "Exit codes: 0; 65 refused; 74 the token could not be written, or the file is there\n\
            already; 64, 69, 70, 77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct CreateArgs {
    /// what it may do: claim, read or admin; may be repeated
    #[argh(option, arg_name = "SCOPE")]
    scope: Vec<String>,
    /// the semaphores that it may use, by name; * stands for any characters; may be repeated (all)
    #[argh(option, arg_name = "PATTERN")]
    semaphore: Vec<String>,
    /// for how long it is good (no limit)
    #[argh(option, arg_name = "DURATION")]
    expires_in: Option<String>,
    /// how many live claims it may have (the service's setting)
    #[argh(option, arg_name = "N")]
    claims_max: Option<String>,
    /// how many of its requests may wait at the same time (the service's setting)
    #[argh(option, arg_name = "N")]
    waiting_requests_max: Option<String>,
    /// the highest priority that it may ask for, -100 to 100 (0)
    #[argh(option, arg_name = "N")]
    priority_max: Option<String>,
    /// write the token to this file, which must not be there yet
    #[argh(option, arg_name = "FILE")]
    output: Option<String>,
    /// what to call it: the farm, machine or person that gets it
    #[argh(positional, arg_name = "NAME")]
    name: String,
}

impl CommandLine for CreateArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl token create", rest: None };
}

/// What is sent: what was asked for and nothing else.
#[derive(Serialize)]
struct Wanted<'a> {
    name: &'a str,
    scopes: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    semaphores: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_requests_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority_max: Option<i8>,
}

impl CreateArgs {
    fn body(&self) -> Result<String, Failure> {
        if self.scope.is_empty() {
            return Err(Failure::usage(
                "say what it may do: --scope claim for CI jobs, --scope read for looking, --scope admin for everything",
            ));
        }
        let priority = self.priority_max.as_deref().map(|text| {
            // What is no number is out of the range of every priority, too.
            let number = text.parse().unwrap_or(i64::MAX);
            options::checked("--priority-max", text, Priority::new(number))
        });
        let wanted = Wanted {
            name: &self.name,
            scopes: &self.scope,
            semaphores: &self.semaphore,
            expires_in: options::duration("--expires-in", self.expires_in.as_deref())?
                .map(format_duration),
            claims_max: count("--claims-max", self.claims_max.as_deref())?,
            waiting_requests_max: count(
                "--waiting-requests-max",
                self.waiting_requests_max.as_deref(),
            )?,
            priority_max: priority.transpose()?.map(Priority::value),
        };
        serde_json::to_string(&wanted).map_err(|error| {
            Failure::new(exit::INTERNAL, format!("cannot write the request: {error}"))
        })
    }
}

fn count(option: &str, given: Option<&str>) -> Result<Option<u32>, Failure> {
    let Some(text) = given else { return Ok(None) };
    match text.parse() {
        Ok(number) if number > 0 => Ok(Some(number)),
        _ => Err(Failure::usage(format!("{option} must be a whole number from 1; it is {text:?}"))),
    }
}

/// `semaphorectl token create` with its arguments.
///
/// # Errors
/// A wrong command line, a service out of reach or that refuses, and a token that cannot be written.
pub(super) fn create(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: CreateArgs, shared, service, _| {
        let body = own.body()?;
        let what = Making {
            verb: "made",
            if_lost: "The token may be there all the same: `semaphorectl token list` shows it, and `semaphorectl token \
                      revoke` ends it",
            if_unwritten: "end it with `semaphorectl token revoke",
        };
        make(&what, own.output.as_deref(), shared.json, service, |connection| {
            connection.create_token(&body)
        })
    })
}

/// Gives a token a new secret and writes it to standard output, this once. The old one is refused from now
/// on, also where a job waits with it.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "TOKEN=$(semaphorectl token rotate ab12)",
    example = "semaphorectl token rotate ab12 --output ./ci-fpga.token.new",
    note = "Name, scopes, expiry and claims of the token stay. What its claims hold they hold\n\
            to the end of their leases; whoever has the new one renews them.",
    note = "Exit codes: 0; 65 no such token, or it stands in the configuration; 74 the token\n\
            could not be written, or the file is there already; 64, 69, 70, 77 and 78 as in\n\
            `semaphorectl help exit-codes`."
)]
pub(super) struct RotateArgs {
    /// write the token to this file, which must not be there yet
    #[argh(option, arg_name = "FILE")]
    output: Option<String>,
    /// the token's id
    #[argh(positional, arg_name = "ID")]
    id: String,
}

impl CommandLine for RotateArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl token rotate", rest: None };
}

/// `semaphorectl token rotate` with its arguments.
///
/// # Errors
/// As [`create`].
pub(super) fn rotate(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: RotateArgs, shared, service, _| {
        let id = token_id(&own.id)?;
        let what = Making {
            verb: "new secret, and the old one is refused from now on:",
            if_lost: "The old secret may be refused already: rotate once more",
            if_unwritten: "the old secret is refused already; make another one with `semaphorectl token rotate",
        };
        make(&what, own.output.as_deref(), shared.json, service, |connection| {
            connection.rotate_token(id)
        })
    })
}

/// What is said about the two ways to a new token.
struct Making {
    verb: &'static str,
    /// Where it is not known what became of the request.
    if_lost: &'static str,
    /// What to do about a token that nobody has; the id follows.
    if_unwritten: &'static str,
}

/// Asks for a token, once, and hands it over.
fn make(
    what: &Making,
    output: Option<&str>,
    json: bool,
    service: &ServiceArgs,
    call: impl Fn(&Connection) -> Result<Answer, Unreachable>,
) -> Result<u8, Failure> {
    #[derive(Deserialize)]
    struct Made {
        token: String,
    }
    let mut service = ids::open(service, PATIENCE_NONE)?;
    // Before there is a token that could not be put there.
    let file = output.map(|path| NewFile::create(Path::new(path))).transpose()?;
    let is_lost = Cell::new(false);
    let answer = service.ask_once(|connection| {
        let result = call(connection);
        is_lost.set(match &result {
            // Without a code it is not the service that refuses, but something before it that gave up.
            Ok(answer) => answer.status >= 500 && Problem::read(answer).code.is_empty(),
            Err(unreachable) => unreachable.may_have_arrived,
        });
        result
    });
    let answer = answer.map_err(|failure| match is_lost.get() {
        true => Failure::new(failure.exit, format!("{}\n{}", failure.message, what.if_lost)),
        false => failure,
    })?;
    let view = TokenView::read(&answer)?;
    let made: Made = serde_json::from_slice(&answer.body).map_err(|_| unreadable(&answer))?;
    let code = hand_over(&answer, &made.token, file, json).map_err(|failure| {
        let message = format!(
            "{}\nNobody has the token now: {} {}`",
            failure.message, what.if_unwritten, view.id
        );
        Failure::new(failure.exit, message.trim_start().to_owned())
    })?;
    let mut reporter = Reporter::new(json);
    reporter.note(&format!("{} {}", what.verb, view.describe()));
    let place = match output {
        Some(path) => format!("it is in {path}, for you alone, and is not shown again"),
        None => "it is not shown again: keep it where the job has it as SEMAPHORE_TOKEN, or as the file of --token-file"
            .to_owned(),
    };
    reporter.note(&place);
    Ok(code)
}

fn hand_over(
    answer: &Answer,
    token: &str,
    file: Option<NewFile>,
    json: bool,
) -> Result<u8, Failure> {
    let Some(file) = file else {
        return match json {
            true => output::write_json(&answer.body),
            false => output::write(&format!("{token}\n")),
        };
    };
    let path = file.keep(token)?;
    // The token is in the file, so the rest may fail.
    let said = if json {
        let mut object: Value =
            serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
        if let Some(members) = object.as_object_mut() {
            members.remove("token");
        }
        output::write_as_json(&object)
    } else {
        output::write(&format!("{}\n", path.display()))
    };
    Ok(said.unwrap_or_else(|failure| failure.exit))
}

/// A file that is removed again where nothing gets into it.
struct NewFile {
    path: PathBuf,
    file: File,
    is_kept: bool,
}

impl NewFile {
    fn create(path: &Path) -> Result<NewFile, Failure> {
        let file = unix::create_new_private(path).map_err(|error| {
            let path = path.display();
            let message = match error.kind() {
                ErrorKind::AlreadyExists => {
                    format!(
                        "{path} is there already, and a token replaces no file: name another one"
                    )
                }
                _ => format!("cannot write {path}: {error}"),
            };
            Failure::new(exit::IO, message)
        })?;
        Ok(NewFile { path: path.to_owned(), file, is_kept: false })
    }

    /// Writes the token into it; returns its path.
    fn keep(mut self, token: &str) -> Result<PathBuf, Failure> {
        let written = self.file.write_all(format!("{token}\n").as_bytes());
        written.and_then(|()| self.file.sync_all()).map_err(|error| {
            Failure::new(exit::IO, format!("cannot write {}: {error}", self.path.display()))
        })?;
        self.is_kept = true;
        Ok(self.path.clone())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_kept {
            // It is empty, or holds a part of a token that nobody has.
            let _ = fs::remove_file(&self.path);
        }
    }
}
