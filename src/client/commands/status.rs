//! `semaphorectl status`: all semaphores, or one with its holders and its queue.

use std::ffi::OsString;

use argh::{ArgsInfo, FromArgs};
use serde::Deserialize;

use crate::{
    cli::Program,
    client::{
        Failure,
        args::{self, CommandLine, ViewArgs},
        claim_list::{ClaimList, Filter, seconds},
        http::Answer,
        options,
        progress::human,
        replies::unreadable,
        table::{Cell, Column, Fit, Table},
        terminal::Tone,
        view::{self, Block, Content, Look, View},
    },
    model::{SemaphoreName, format_duration},
};

const COLUMNS: &[Column] = &[
    Column::text("SEMAPHORE", Fit::Shrink(14)),
    Column::text("STATE", Fit::DropIfAll("open")),
    Column::number("CAPACITY", Fit::Keep),
    Column::number("IN USE", Fit::Keep),
    Column::number("OFFERED", Fit::DropIfAll("0")),
    Column::number("COOLING", Fit::DropIfAll("0")),
    Column::number("SET ASIDE", Fit::DropIfAll("0")),
    Column::number("AVAILABLE", Fit::Keep),
    Column::number("WAITING", Fit::Keep),
    Column::time("LONGEST WAIT", Fit::DropIfAll("-")),
];

/// Shows the semaphores: who has how many permits, how many wait; or one of them with its holders and
/// its queue.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl status",
    example = "semaphorectl status FlexLM-Riviera --watch",
    example = "semaphorectl status FlexLM-Riviera --json | jq .available",
    note = "AVAILABLE is what a new claim could have at once; SET ASIDE are free permits kept\n\
            for earlier claims that wait. In a pipe, columns are separated by two spaces or\n\
            more, and none is left out.",
    note = "Exit codes: 0; 64, 65 (no such semaphore), 69, 70, 77 and 78 as in\n\
            `semaphorectl help exit-codes`; 130 when --watch is interrupted."
)]
pub(super) struct StatusArgs {
    /// the semaphore to show more of
    #[argh(positional, arg_name = "NAME")]
    name: Option<String>,
}

impl CommandLine for StatusArgs {
    type Shared = ViewArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl status", rest: None };
}

/// `semaphorectl status` with its arguments.
///
/// # Errors
/// As [`view::show`].
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: StatusArgs, view, service, _| match own.name {
        Some(name) => view::show(One { name: options::semaphore_name(&name)? }, &view, service),
        None => view::show(All, &view, service),
    })
}

/// A semaphore, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct SemaphoreView {
    /// Its name.
    pub(super) name: String,
    /// `open` or `draining`.
    pub(super) state: String,
    /// How many permits there are.
    pub(super) capacity: u64,
    /// How many of them are held.
    pub(super) in_use: u64,
    offered: u64,
    cooling: u64,
    set_aside: u64,
    available: u64,
    /// How many are out that there are no more.
    pub(super) over_committed: u64,
    /// How many claims wait.
    pub(super) waiting: u64,
    longest_wait_seconds: f64,
    default_ttl_seconds: f64,
    max_ttl_seconds: f64,
    max_hold_seconds: Option<f64>,
    wait_timeout_seconds: Option<f64>,
    cooldown_seconds: f64,
    description: Option<String>,
    origin: String,
}

impl SemaphoreView {
    /// The semaphore in an answer.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn read(answer: &Answer) -> Result<SemaphoreView, Failure> {
        let view: SemaphoreView =
            serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
        if view.name.is_empty() { Err(unreadable(answer)) } else { Ok(view) }
    }

    fn longest_wait(&self) -> String {
        match self.waiting {
            0 => String::new(),
            _ => human(seconds(self.longest_wait_seconds)),
        }
    }

    fn state_cell(&self) -> Cell {
        Cell::new(&self.state).toned(Tone::Warn, self.state == "draining")
    }

    fn in_use_cell(&self) -> Cell {
        Cell::new(self.in_use.to_string()).toned(Tone::Bad, self.over_committed > 0)
    }

    fn available_cell(&self) -> Cell {
        Cell::new(self.available.to_string()).toned(Tone::Good, self.available > 0)
    }

    fn waiting_cell(&self) -> Cell {
        Cell::new(self.waiting.to_string()).toned(Tone::Strong, self.waiting > 0)
    }

    fn row(&self) -> Vec<Cell> {
        let number = |number: u64| Cell::new(number.to_string());
        vec![
            Cell::new(&self.name),
            self.state_cell(),
            number(self.capacity),
            self.in_use_cell(),
            number(self.offered),
            number(self.cooling),
            number(self.set_aside),
            self.available_cell(),
            self.waiting_cell(),
            Cell::new(self.longest_wait()),
        ]
    }

    fn facts(&self) -> Vec<(&'static str, Cell)> {
        let number = |number: u64| Cell::new(number.to_string());
        let time = |length: Option<f64>| match length {
            Some(length) => Cell::new(format_duration(seconds(length))),
            None => Cell::new("no limit"),
        };
        let mut facts = vec![
            ("state", self.state_cell()),
            ("capacity", number(self.capacity)),
            ("in use", self.in_use_cell()),
            ("offered", number(self.offered)),
            ("cooling", number(self.cooling)),
            ("set aside", number(self.set_aside)),
            ("available", self.available_cell()),
        ];
        if self.over_committed > 0 {
            facts.push(("over-committed", number(self.over_committed).toned(Tone::Bad, true)));
        }
        facts.extend([
            ("waiting", self.waiting_cell()),
            ("lease", time(Some(self.default_ttl_seconds))),
            ("longest lease", time(Some(self.max_ttl_seconds))),
            ("longest hold", time(self.max_hold_seconds)),
            ("wait timeout", time(self.wait_timeout_seconds)),
            ("cooldown", time(Some(self.cooldown_seconds))),
            ("declared by", Cell::new(&self.origin)),
        ]);
        if let Some(description) = &self.description {
            facts.push(("description", Cell::new(description)));
        }
        facts
    }
}

/// All semaphores.
struct All;

impl Look for All {
    fn path(&self) -> String {
        "/api/v1/semaphores".to_owned()
    }

    fn see(
        &self,
        seen: &Answer,
        _look: &mut dyn FnMut(&str) -> Result<Answer, Failure>,
    ) -> Result<View, Failure> {
        #[derive(Deserialize)]
        struct Semaphores {
            semaphores: Vec<SemaphoreView>,
        }
        let body: Semaphores = serde_json::from_slice(&seen.body).map_err(|_| unreadable(seen))?;
        let rows = body.semaphores.iter().map(SemaphoreView::row).collect();
        let empty = "there are no semaphores yet; an admin declares them in semaphored.toml: \
                     [semaphores] and a line such as FlexLM-Riviera = 5";
        let block = Block::of_table(Table { columns: COLUMNS, rows }, empty);
        Ok(View { json: seen.body.clone(), blocks: vec![block] })
    }
}

/// One of them.
struct One {
    name: SemaphoreName,
}

impl Look for One {
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
        let filter = Filter { semaphore: Some(name.to_owned()), ..Filter::default() };
        let claims = ClaimList::read(&filter, look)?;
        let holders = claims.table(|claim| claim.state != "waiting");
        let facts = Block { title: None, content: Content::Facts(semaphore.facts()) };
        let blocks = vec![
            facts.titled(name),
            Block::of_table(holders, "nobody holds a permit").titled("Holders"),
            Block::of_table(claims.queue(name), "nobody waits").titled("Queue"),
        ];
        Ok(View { json: seen.body.clone(), blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{table::width_on_screen, terminal::Terminal};

    #[test]
    fn the_semaphores_fit_on_a_terminal_of_60_columns() {
        let semaphore = SemaphoreView {
            name: "FlexLM-Riviera".into(),
            state: "draining".into(),
            waiting: 1,
            longest_wait_seconds: 3_600.0,
            ..SemaphoreView::default()
        };
        let table = Table { columns: COLUMNS, rows: vec![semaphore.row()] };
        for columns in [60, 80, 120] {
            let terminal = Terminal { size: Some((columns, 20)), colour: false };
            for line in table.lines(terminal, true) {
                assert!(width_on_screen(&line) <= columns, "{columns}: {line}");
            }
        }
    }
}
