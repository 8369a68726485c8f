//! `semaphorectl deliveries`: what came of the calls of a claim's callback, and one more try.

use std::{collections::BTreeMap, ffi::OsString};

use argh::{ArgsInfo, FromArgs};
use serde::Deserialize;

use super::ids;
use crate::{
    cli::{Program, exit},
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs},
        callback,
        delivery::{CallEnd, LOG, short_time},
        http::Answer,
        moment::Moment,
        options::{self, PATIENCE_NONE},
        output,
        progress::human,
        replies::unreadable,
        table::{Cell, Column, Fit, Table},
        terminal::{Terminal, Tone},
        view::text,
    },
    model::{ClaimId, DELIVERIES_MAX},
};

/// Columns of the table.
const COLUMNS: &[Column] = &[
    Column::number("NUMBER", Fit::Keep),
    Column::text("STARTED", Fit::Keep),
    Column::number("DURATION", Fit::Keep),
    Column::text("RESULT", Fit::Shrink(12)),
];

/// The status by which a receiver says that it wants no more calls (RFC 9110, section 15.5.11).
const GONE: u16 = 410;
/// Of a call whose end nobody noted.
const NO_ANSWER_RECORDED: &str = "no answer was recorded before the claim ended or the daemon stopped; the call may \
                                  have started the job all the same";

/// Shows each call of a claim's callback, what came of it, and what comes next.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl deliveries \"$id\"",
    example = "semaphorectl deliveries \"$id\" --retry",
    note = "A call that fails is tried again while the offer stands. --retry does so at once,\n\
            as after a change of the configuration; also when a call came through already,\n\
            and with a CI system that starts the job once more. The receiver finds the\n\
            webhook id in the header webhook-id, the same for each try.",
    note = "Exit codes: 0; 65 no such claim, it has no callback, or with --retry it is not\n\
            offered; 64, 69, 70, 77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct DeliveriesArgs {
    /// call once more, at once
    #[argh(switch)]
    retry: bool,
    /// the claim
    #[argh(positional, arg_name = "ID")]
    id: String,
}

impl CommandLine for DeliveriesArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl deliveries", rest: None };
}

/// `semaphorectl deliveries` with its arguments.
///
/// # Errors
/// A wrong command line, a service out of reach or that refuses, and output that cannot be written.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: DeliveriesArgs, shared, service, _| {
        let id = options::claim_id(&own.id)?;
        let mut service = ids::open(service, PATIENCE_NONE)?;
        let mut answer = service.look(&format!("/api/v1/claims/{id}/deliveries"))?;
        if own.retry {
            let number = Deliveries::read(&answer)?.last_number(&id)?;
            answer = service.ask_once(|connection| connection.retry_delivery(&id, number))?;
        }
        let now = Moment::of_answer(&answer);
        if shared.json {
            return output::write_json(&answer.body);
        }
        let deliveries = Deliveries::read(&answer)?;
        let lines = deliveries.lines(&id, own.retry, now, Terminal::of_output());
        output::write(&text(&lines))
    })
}

/// What the service tells.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Deliveries {
    deliveries: Vec<Delivery>,
    webhook_id: Option<String>,
    callback: Callee,
    next_attempt_at: Option<String>,
    claim_state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Delivery {
    number: u64,
    started_at: String,
    duration_seconds: f64,
    #[serde(flatten)]
    end: CallEnd,
    result: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Callee {
    target: Option<String>,
    vars: BTreeMap<String, String>,
    url: Option<String>,
}

impl Callee {
    fn name(&self) -> &str {
        self.target.as_deref().or(self.url.as_deref()).unwrap_or("the callback")
    }
}

impl Delivery {
    fn is_delivered(&self) -> bool {
        self.result == "delivered"
    }

    /// Whether no answer is recorded: it is under way, or its end came when nobody took note of it any more.
    fn is_unfinished(&self) -> bool {
        self.result == "unfinished"
    }

    fn started(&self) -> String {
        Moment::from_json(&self.started_at).map_or_else(|| self.started_at.clone(), Moment::human)
    }

    fn row(&self, is_under_way: bool) -> Vec<Cell> {
        let (result, tone) = match (self.is_unfinished(), self.is_delivered()) {
            (true, _) if is_under_way => ("under way".to_owned(), Tone::Plain),
            (true, _) => ("no answer recorded".to_owned(), Tone::Plain),
            (false, delivered) => {
                let tone = if delivered { Tone::Good } else { Tone::Bad };
                (format!("{}: {}", self.result, self.end.describe()), tone)
            }
        };
        // How long it took was not noted either.
        let duration = match self.is_unfinished() {
            true => String::new(),
            false => short_time(self.duration_seconds),
        };
        vec![
            Cell::new(self.number.to_string()),
            Cell::new(self.started()),
            Cell::new(duration),
            Cell::new(result).toned(tone, true),
        ]
    }
}

impl Deliveries {
    fn read(answer: &Answer) -> Result<Deliveries, Failure> {
        let read: Deliveries =
            serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
        if read.claim_state.is_empty() { Err(unreadable(answer)) } else { Ok(read) }
    }

    /// The delivery to try again; the first one where none was made yet, which a pause may hold back.
    fn last_number(&self, id: &ClaimId) -> Result<u64, Failure> {
        match self.deliveries.iter().map(|delivery| delivery.number).max() {
            Some(number) => Ok(number),
            None if self.claim_state == "offered" => Ok(1),
            None => {
                let next = self.next(id, false, Moment::here());
                let message =
                    format!("nothing was called yet, so there is nothing to try again: {next}");
                Err(Failure::new(exit::REFUSED, message))
            }
        }
    }

    /// What to write; `asked` is whether this process asked for one more try.
    fn lines(&self, id: &ClaimId, asked: bool, now: Moment, terminal: Terminal) -> Vec<String> {
        let vars = self.callback.vars.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let callee = callback::describe(self.callback.name(), vars);
        let webhook = self.webhook_id.as_ref().map(|id| format!(", webhook id {id}"));
        let mut lines = vec![format!("calls {callee}{}", webhook.unwrap_or_default())];
        if !self.deliveries.is_empty() {
            let under_way = self.under_way().map(|last| last.number);
            let row = |delivery: &Delivery| delivery.row(under_way == Some(delivery.number));
            let rows = self.deliveries.iter().map(row).collect();
            lines.extend(Table { columns: COLUMNS, rows }.lines(terminal, true));
        }
        lines.push(format!("next: {}", self.next(id, asked, now)));
        lines.extend(self.to_do());
        lines
    }

    /// The call that the service makes just now: the last one, while the claim is offered and no other one is planned.
    fn under_way(&self) -> Option<&Delivery> {
        let is_possible = self.claim_state == "offered" && self.next_attempt_at.is_none();
        self.deliveries.last().filter(|last| is_possible && last.is_unfinished())
    }

    fn is_refused_for_good(&self) -> bool {
        self.deliveries.last().is_some_and(|last| last.end.status == Some(GONE))
    }

    /// What to do about the last call, if it is one that did not come through.
    fn to_do(&self) -> Option<String> {
        let last = self.deliveries.last().filter(|last| !last.is_delivered())?;
        if self.claim_state == "held" || self.under_way().is_some() {
            return None;
        }
        if last.is_unfinished() {
            return Some(format!("to do: {NO_ANSWER_RECORDED}; {LOG}"));
        }
        Some(format!("to do: {}", last.end.advice(self.callback.target.as_deref())))
    }

    /// What comes next, in words.
    fn next(&self, id: &ClaimId, asked: bool, now: Moment) -> String {
        let callee = self.callback.name();
        let at = self.next_attempt_at.as_deref().and_then(Moment::from_json);
        let delivered = self.deliveries.iter().any(Delivery::is_delivered);
        if let Some(last) = self.under_way() {
            return format!(
                "the call of {callee} is under way since {}; what comes of it shows here in a moment",
                last.started()
            );
        }
        match (self.claim_state.as_str(), at) {
            ("waiting", _) => format!("the claim waits; {callee} is called when its turn comes"),
            ("offered", Some(at)) => match at.since(now).as_secs() {
                0 => "it is tried at once".to_owned(),
                _ => format!("it is tried in {}, at {}", human(at.since(now)), at.human()),
            },
            // Between its plan and its record a try shows nowhere.
            ("offered", None) if asked => {
                format!("it is tried at once; semaphorectl deliveries {id} shows what comes of it")
            }
            ("offered", None) if delivered => format!(
                "the started job confirms the offer: semaphorectl run --claim {id} -- command"
            ),
            ("offered", None) if self.deliveries.is_empty() => {
                format!("{callee} is called at once")
            }
            ("offered", None) if self.is_refused_for_good() => format!(
                "no further try, for {callee} said with 410 that it wants none; semaphorectl deliveries {id} \
                 --retry makes one all the same"
            ),
            ("offered", None) if self.deliveries.len() >= DELIVERIES_MAX => {
                format!("no further try, for {DELIVERIES_MAX} were made")
            }
            ("offered", None) => "a try begins just now".to_owned(),
            ("held", _) => {
                "nothing, a job has confirmed the offer and holds the permits".to_owned()
            }
            ("ended", _) => "nothing, the claim is over".to_owned(),
            (state, _) => format!("the claim is {state}"),
        }
    }
}
