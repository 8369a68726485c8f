//! `semaphorectl token`: its commands, and the one about the tokens that there are.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};

use super::{ids, token_make};
use crate::{
    cli::{Described, Program, UsageError, exit},
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs},
        moment::Moment,
        options::{self, PATIENCE_NONE},
        output,
        progress::Reporter,
        terminal::Terminal,
        token::{NO_TOKEN_OPTION, is_token_option, token_id},
        token_view::TokenView,
        view::{Block, Content, View, text},
    },
    model::{Note, nearest},
};

/// The command in messages.
const TOKEN: &str = "semaphorectl token";

type Main = fn(&[OsString]) -> Result<u8, Failure>;
type Describe = fn(&'static str) -> Vec<Described>;

/// The commands: name, what they are for, where they are done, their options.
const COMMANDS: [(&str, &str, Main, Describe); 5] = [
    (
        "create",
        "make a token, and write it this once",
        token_make::create,
        args::described::<token_make::CreateArgs>,
    ),
    ("list", "all tokens, without their secrets", list, args::described::<ListArgs>),
    ("show", "one token; without an id the own one", show, args::described::<ShowArgs>),
    (
        "rotate",
        "give a token a new secret",
        token_make::rotate,
        args::described::<token_make::RotateArgs>,
    ),
    ("revoke", "end a token", revoke, args::described::<RevokeArgs>),
];

/// What stands below the commands in the help text.
const MORE: &str = "
Examples
  TOKEN=$(semaphorectl token create ci-fpga --scope claim --scope read)
  semaphorectl token create ci-fpga --scope claim --output ./ci-fpga.token
  semaphorectl token list

Options
  The service: --url <URL>, --token-file <FILE>, --unreachable-timeout <DURATION>.
  The output: --json writes the service's JSON.
  `semaphorectl token COMMAND --help` has all of them.

A token says who asks and what they may do: the scope claim is for CI jobs, read
for looking, admin for everything. Making and ending tokens takes one with admin,
for all semaphores; `token show` works with any.

Exit codes: 0; 65 no such token, or it stands in the configuration; 64, 69, 70, 74,
77 and 78 as in `semaphorectl help exit-codes`.
";

/// Its commands with their options.
pub(super) fn described(_: &'static str) -> Vec<Described> {
    COMMANDS.iter().flat_map(|(_, summary, _, described)| described(summary)).collect()
}

/// `semaphorectl token` with its arguments: the first one is the command.
///
/// # Errors
/// Those of the command.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    let Some((word, rest)) = arguments.split_first() else {
        return Err(usage(format!("say what to do: {}", names().join(", "))));
    };
    match word.to_string_lossy().as_ref() {
        "-h" | "--help" => output::write(&help()),
        "-V" | "--version" => output::write_version(),
        "help" if rest.is_empty() => output::write(&help()),
        "help" => find(&rest[0].to_string_lossy())?(&["--help".into()]),
        word => find(word)?(rest),
    }
}

fn names() -> Vec<&'static str> {
    COMMANDS.iter().map(|(name, ..)| *name).collect()
}

fn find(word: &str) -> Result<Main, Failure> {
    if let Some((_, _, main, _)) = COMMANDS.iter().find(|(name, ..)| *name == word) {
        return Ok(*main);
    }
    if is_token_option(word) {
        return Err(usage(NO_TOKEN_OPTION.to_owned()));
    }
    if word.starts_with('-') {
        return Err(usage(format!(
            "first say what to do: {}; then the options",
            names().join(", ")
        )));
    }
    let hint = match nearest(word, names()) {
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", names().join(", ")),
    };
    Err(usage(format!("there is no command {TOKEN} {word}: {hint}")))
}

fn usage(message: String) -> Failure {
    UsageError { message, program: TOKEN.to_owned() }.into()
}

fn help() -> String {
    let mut text = format!(
        "Makes, shows and ends the tokens by which the service knows who asks.\n\nUsage: {TOKEN} COMMAND [options]\n\n\
         Commands\n"
    );
    for (name, summary, ..) in COMMANDS {
        text.push_str(&format!("  {name:10}{summary}\n"));
    }
    text + MORE
}

/// Shows all tokens, without their secrets, which nobody can show: the service does not have them.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl token list",
    example = "semaphorectl token list --json | jq -r '.tokens[] | select(.last_used_at == null) .id'",
    note = "SEMAPHORES: the patterns of the names that the token may use; * are all. CLAIMS:\n\
            how many live ones it has, and after the slash how many it may have.",
    note = "Exit codes: 0; 64, 69, 70, 74, 77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct ListArgs {
    /// leave the line with the names of the columns out
    #[argh(switch)]
    no_header: bool,
}

impl CommandLine for ListArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl token list", rest: None };
}

/// `semaphorectl token list` with its arguments.
///
/// # Errors
/// A wrong command line, a service out of reach or that refuses.
fn list(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: ListArgs, shared, service, _| {
        let answer = ids::open(service, PATIENCE_NONE)?.look("/api/v1/tokens")?;
        if shared.json {
            return output::write_json(&answer.body);
        }
        let tokens = TokenView::read_all(&answer)?;
        if tokens.is_empty() {
            Reporter::new(false).note("there are no tokens; `semaphorectl token create` makes one");
            return Ok(exit::OK);
        }
        let table = TokenView::table(&tokens, Moment::of_answer(&answer));
        output::write(&text(&table.lines(Terminal::of_output(), !own.no_header)))
    })
}

/// Shows a token: what it may do, until when, and when it was used last.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl token show",
    example = "semaphorectl token show ab12",
    note = "Without an ID it is the token that is used for asking, which takes no scope. The ID\n\
            is what stands between the two `_` of a token; it is no secret.",
    note = "Exit codes: 0; 65 no such token, or the service has none at all; 64, 69, 70, 74, 77\n\
            and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct ShowArgs {
    /// the token's id
    #[argh(positional, arg_name = "ID")]
    id: Option<String>,
}

impl CommandLine for ShowArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl token show", rest: None };
}

/// `semaphorectl token show` with its arguments.
///
/// # Errors
/// As [`list`], and a token that is not there.
fn show(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: ShowArgs, shared, service, _| {
        let path = match &own.id {
            Some(id) => format!("/api/v1/tokens/{}", token_id(id)?),
            None => "/api/v1/token".to_owned(),
        };
        let answer = ids::open(service, PATIENCE_NONE)?.look(&path)?;
        if shared.json {
            return output::write_json(&answer.body);
        }
        let token = TokenView::read(&answer)?;
        let content = Content::Facts(token.facts(Moment::of_answer(&answer)));
        let blocks = vec![Block { title: None, content }.titled(token.id)];
        let view = View { blocks, ..View::default() };
        output::write(&text(&view.lines(Terminal::of_output(), true)))
    })
}

/// Ends a token: whoever has it is refused from now on. What its claims hold they hold to the end of their
/// leases.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl token revoke ab12 --reason \"it was in a public log\"",
    note = "A token of the configuration is taken out there. To give the same farm another\n\
            one: `semaphorectl token rotate`.",
    note = "Exit codes: 0; 65 no such token, or it stands in the configuration; 64, 69, 70, 74,\n\
            77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct RevokeArgs {
    /// why, for the audit log
    #[argh(option, arg_name = "TEXT")]
    reason: Option<String>,
    /// the token's id
    #[argh(positional, arg_name = "ID")]
    id: String,
}

impl CommandLine for RevokeArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl token revoke", rest: None };
}

/// `semaphorectl token revoke` with its arguments.
///
/// # Errors
/// As [`list`], and a token that is not there or stands in the configuration.
fn revoke(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: RevokeArgs, shared, service, _| {
        let id = token_id(&own.id)?;
        let reason = own.reason.as_deref();
        if let Some(text) = reason {
            options::checked("--reason", text, Note::new(text))?;
        }
        let mut service = ids::open(service, PATIENCE_NONE)?;
        service.ask(|connection| connection.revoke_token(id, reason))?;
        if shared.json {
            return output::write_as_json(&serde_json::json!({ "revoked": id }));
        }
        output::write(&format!("token {id} is revoked\n"))
    })
}
