//! `semaphorectl claims`: all live claims, or some of them.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};

use crate::{
    cli::Program,
    client::{
        Failure,
        args::{self, CommandLine, ViewArgs},
        claim_list::{ClaimList, Filter},
        http::Answer,
        options,
        view::{self, Block, Look, View},
    },
    model::{Holder, nearest},
};

/// The states that a live claim may be in.
const STATES: [&str; 3] = ["waiting", "offered", "held"];

/// Shows the live claims: held, offered and waiting ones; all of them, or some.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl claims --state held",
    example = "semaphorectl claims --semaphore FlexLM-Riviera --json",
    note = "FOR is how long the claim has been in its state. EXPIRES IN is what is left of its\n\
            lease, of its offer, or of its place in the queue, if nobody asks for it.",
    note = "Exit codes: 0; 64, 65 (no such semaphore), 69, 70, 77 and 78 as in\n\
            `semaphorectl help exit-codes`; 130 when --watch is interrupted."
)]
pub(super) struct ClaimsArgs {
    /// only claims on this semaphore, in the order of its queue
    #[argh(option, arg_name = "NAME")]
    semaphore: Option<String>,
    /// only claims in this state: waiting, offered or held
    #[argh(option, arg_name = "STATE")]
    state: Option<String>,
    /// only claims of exactly this holder
    #[argh(option, arg_name = "TEXT")]
    holder: Option<String>,
}

impl CommandLine for ClaimsArgs {
    type Shared = ViewArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl claims", rest: None };
}

/// `semaphorectl claims` with its arguments.
///
/// # Errors
/// As [`view::show`].
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: ClaimsArgs, view, service, _| {
        view::show(Claims { filter: check(own)? }, &view, service)
    })
}

fn check(own: ClaimsArgs) -> Result<Filter, Failure> {
    if let Some(name) = &own.semaphore {
        options::semaphore_name(name)?;
    }
    if let Some(text) = &own.holder {
        options::checked("--holder", text, Holder::new(text))?;
    }
    if let Some(state) = own.state.as_deref().filter(|state| !STATES.contains(state)) {
        let near = nearest(state, STATES).map(|near| format!(". Did you mean {near}?"));
        return Err(Failure::usage(format!(
            "--state must be waiting, offered or held; it is {state:?}{}",
            near.unwrap_or_default()
        )));
    }
    Ok(Filter { semaphore: own.semaphore, state: own.state, holder: own.holder })
}

struct Claims {
    filter: Filter,
}

impl Look for Claims {
    fn path(&self) -> String {
        match &self.filter.semaphore {
            Some(name) => format!("/api/v1/semaphores/{name}"),
            None => "/api/v1/semaphores".to_owned(),
        }
    }

    fn see(
        &self,
        _seen: &Answer,
        look: &mut dyn FnMut(&str) -> Result<Answer, Failure>,
    ) -> Result<View, Failure> {
        let claims = ClaimList::read(&self.filter, look)?;
        let empty = match (&self.filter.semaphore, &self.filter.state, &self.filter.holder) {
            (None, None, None) => "there are no live claims: nothing is held, and nobody waits",
            _ => "no live claim fits; `semaphorectl claims` alone shows all",
        };
        let block = Block::of_table(claims.table(|_| true), empty);
        Ok(View { json: claims.json, blocks: vec![block] })
    }
}
