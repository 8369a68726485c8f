//! `semaphorectl queue`: who waits for a semaphore, in the order of the grants.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};

use super::status::SemaphoreView;
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
    model::SemaphoreName,
};

/// Shows who waits for a semaphore, in the order in which they will get their permits.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl queue FlexLM-Riviera",
    example = "semaphorectl queue FlexLM-Riviera --watch",
    note = "PRESENCE: an absent claim, whose holder hung up, keeps its place and is passed\n\
            over until its holder is back.",
    note = "Exit codes: 0; 64, 65 (no such semaphore), 69, 70, 77 and 78 as in\n\
            `semaphorectl help exit-codes`; 130 when --watch is interrupted."
)]
pub(super) struct QueueArgs {
    /// the semaphore
    #[argh(positional, arg_name = "NAME")]
    name: String,
}

impl CommandLine for QueueArgs {
    type Shared = ViewArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl queue", rest: None };
}

/// `semaphorectl queue` with its arguments.
///
/// # Errors
/// As [`view::show`].
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: QueueArgs, view, service, _| {
        view::show(Queue { name: options::semaphore_name(&own.name)? }, &view, service)
    })
}

struct Queue {
    name: SemaphoreName,
}

impl Look for Queue {
    fn path(&self) -> String {
        format!("/api/v1/semaphores/{}", self.name)
    }

    fn see(
        &self,
        seen: &Answer,
        look: &mut dyn FnMut(&str) -> Result<Answer, Failure>,
    ) -> Result<View, Failure> {
        let semaphore = SemaphoreView::read(seen)?;
        let name = self.name.as_str();
        let filter = Filter {
            semaphore: Some(name.to_owned()),
            state: Some("waiting".to_owned()),
            holder: None,
        };
        let claims = ClaimList::read(&filter, look)?;
        let (used, capacity) = (semaphore.in_use, semaphore.capacity);
        let empty = format!("nobody waits for {name}; {used} of {capacity} permits are in use");
        let block = Block::of_table(claims.queue(name), empty);
        Ok(View { json: claims.json, blocks: vec![block] })
    }
}
