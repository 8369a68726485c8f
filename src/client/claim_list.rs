//! Claims as the service lists them.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Failure,
    http::{Answer, query},
    moment::Moment,
    progress::human,
    replies::unreadable,
    table::{Cell, Column, Fit, Table},
    terminal::Tone,
};

/// Claims of a page.
const PAGE_CLAIMS: &str = "500";

/// Columns of a table of claims.
const CLAIM_COLUMNS: &[Column] = &[
    Column::text("ID", Fit::Keep),
    Column::text("STATE", Fit::Keep),
    Column::time("FOR", Fit::Keep),
    Column::time("EXPIRES IN", Fit::Drop),
    Column::text("PERMITS", Fit::Shrink(8)),
    Column::number("PRIORITY", Fit::DropIfAll("0")),
    Column::text("HOLDER", Fit::Shrink(10)),
];

/// Columns of a table of the claims that wait for one semaphore.
const QUEUE_COLUMNS: &[Column] = &[
    Column::number("POSITION", Fit::Keep),
    Column::text("ID", Fit::Keep),
    Column::time("WAITED", Fit::Keep),
    Column::text("PERMITS", Fit::DropIfAll("1")),
    Column::number("PRIORITY", Fit::DropIfAll("0")),
    Column::text("PRESENCE", Fit::DropIfAll("present")),
    Column::text("HOLDER", Fit::Shrink(10)),
];

/// Which claims.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    /// That name this semaphore.
    pub(super) semaphore: Option<String>,
    /// In this state.
    pub(super) state: Option<String>,
    /// Of this holder.
    pub(super) holder: Option<String>,
}

impl Filter {
    fn path(&self, after: Option<&str>) -> String {
        let parameters = [
            ("limit", Some(PAGE_CLAIMS)),
            ("semaphore", self.semaphore.as_deref()),
            ("state", self.state.as_deref()),
            ("holder", self.holder.as_deref()),
            ("after", after),
        ];
        format!("/api/v1/claims{}", query(&parameters))
    }
}

/// A claim, as far as it is shown.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ClaimView {
    id: String,
    /// `waiting`, `offered` or `held`.
    pub(super) state: String,
    permits: BTreeMap<String, u64>,
    holder: Option<String>,
    priority: i64,
    positions: BTreeMap<String, u64>,
    presence: Option<String>,
    offered_at: Option<String>,
    granted_at: Option<String>,
    expires_in_seconds: Option<f64>,
    waited_seconds: f64,
}

/// All claims that a filter lets through.
#[derive(Debug)]
pub(super) struct ClaimList {
    /// The claims.
    pub(super) claims: Vec<ClaimView>,
    /// As one page, in the service's JSON.
    pub(super) json: Vec<u8>,
    /// When the service said so.
    now: Moment,
}

#[derive(Deserialize)]
struct Page {
    claims: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    revision: u64,
}

impl ClaimList {
    /// Reads all pages.
    ///
    /// # Errors
    /// Those of `look`, and when an answer is no page of claims.
    pub(super) fn read(
        filter: &Filter,
        look: &mut dyn FnMut(&str) -> Result<Answer, Failure>,
    ) -> Result<ClaimList, Failure> {
        let (mut raw, mut after) = (Vec::new(), None);
        loop {
            let answer = look(&filter.path(after.as_deref()))?;
            let page: Page =
                serde_json::from_slice(&answer.body).map_err(|_| unreadable(&answer))?;
            raw.extend(page.claims);
            after = page.next;
            if after.is_none() {
                let texts: Vec<_> = raw.iter().map(|claim| claim.get()).collect();
                let claims = texts.iter().map(|text| serde_json::from_str(text));
                return Ok(ClaimList {
                    claims: claims.collect::<Result<_, _>>().map_err(|_| unreadable(&answer))?,
                    json: format!(
                        r#"{{"claims":[{}],"next":null,"revision":{}}}"#,
                        texts.join(","),
                        page.revision
                    )
                    .into_bytes(),
                    now: Moment::of_answer(&answer),
                });
            }
        }
    }

    /// A table of those that `shown` picks.
    pub(super) fn table(&self, shown: impl Fn(&ClaimView) -> bool) -> Table {
        let rows = self.claims.iter().filter(|claim| shown(claim)).map(|claim| {
            let expires = claim.expires_in_seconds.map(|left| human(seconds(left)));
            vec![
                Cell::new(&claim.id),
                Cell::new(&claim.state).toned(Tone::Warn, claim.state == "offered"),
                Cell::new(human(claim.time_in_state(self.now))),
                Cell::new(expires.unwrap_or_default()),
                Cell::new(claim.permits_text()),
                Cell::new(claim.priority.to_string()),
                Cell::new(claim.holder.clone().unwrap_or_default()),
            ]
        });
        Table { columns: CLAIM_COLUMNS, rows: rows.collect() }
    }

    /// The queue of a semaphore: those that wait, in the order of their positions.
    pub(super) fn queue(&self, semaphore: &str) -> Table {
        let rows = self.claims.iter().filter(|claim| claim.state == "waiting").map(|claim| {
            let position = claim.positions.get(semaphore).map(u64::to_string);
            let presence = claim.presence.clone().unwrap_or_default();
            vec![
                Cell::new(position.unwrap_or_default()),
                Cell::new(&claim.id),
                Cell::new(human(seconds(claim.waited_seconds))),
                Cell::new(claim.permits_beside(semaphore)),
                Cell::new(claim.priority.to_string()),
                Cell::new(&presence).toned(Tone::Warn, presence == "absent"),
                Cell::new(claim.holder.clone().unwrap_or_default()),
            ]
        });
        Table { columns: QUEUE_COLUMNS, rows: rows.collect() }
    }
}

impl ClaimView {
    /// For how long it has been in its state.
    fn time_in_state(&self, now: Moment) -> Duration {
        let since = self.granted_at.as_ref().or(self.offered_at.as_ref());
        match since.and_then(|text| Moment::from_json(text)) {
            Some(since) => now.since(since),
            None => seconds(self.waited_seconds),
        }
    }

    fn permits_text(&self) -> String {
        let each = self.permits.iter().map(|(name, weight)| format!("{name}={weight}"));
        each.collect::<Vec<_>>().join(",")
    }

    /// How many permits of this semaphore, and of which others as well.
    fn permits_beside(&self, semaphore: &str) -> String {
        let own = self.permits.get(semaphore).copied().unwrap_or_default();
        let others = self.permits.iter().filter(|(name, _)| *name != semaphore);
        others.fold(own.to_string(), |text, (name, weight)| format!("{text},{name}={weight}"))
    }
}

/// A number of seconds as a length of time.
pub(super) fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}
