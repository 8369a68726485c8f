//! The audit log as the service lists it: newest first, in pages.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    Failure,
    http::{Answer, query},
    moment::Moment,
    replies::unreadable,
    table::{Cell, Column, Fit, Table},
    terminal::Tone,
};

/// Entries of a page.
const PAGE_ROWS: usize = 500;
/// What an act that was done came to.
const DONE: &str = "done";
/// Letters of a value that are shown.
const VALUE_LETTERS_MAX: usize = 40;

const COLUMNS: &[Column] = &[
    Column::text("TIME", Fit::Keep),
    Column::text("WHO", Fit::Shrink(8)),
    Column::text("FROM", Fit::Drop),
    Column::text("ACTION", Fit::Keep),
    Column::text("OBJECT", Fit::Shrink(12)),
    Column::text("CHANGE", Fit::Shrink(12)),
    Column::text("RESULT", Fit::DropIfAll(DONE)),
    Column::text("REASON", Fit::DropIfAll("-")),
];

/// Which entries.
#[derive(Clone, Debug, Default)]
pub(super) struct AuditFilter {
    /// Of the token with this id.
    pub(super) token: Option<String>,
    /// With this action, or the beginning of one and a `*`.
    pub(super) action: Option<String>,
    /// About this.
    pub(super) object: Option<String>,
    /// That came to this.
    pub(super) result: Option<String>,
    /// From then on.
    pub(super) since: Option<String>,
    /// Up to then.
    pub(super) until: Option<String>,
}

impl AuditFilter {
    fn path(&self, rows: usize, after: Option<&str>) -> String {
        let rows = rows.to_string();
        let parameters = [
            ("token", self.token.as_deref()),
            ("action", self.action.as_deref()),
            ("object", self.object.as_deref()),
            ("result", self.result.as_deref()),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("limit", Some(rows.as_str())),
            ("after", after),
        ];
        format!("/api/v1/audit{}", query(&parameters))
    }
}

/// An entry, as far as it is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    at: String,
    actor: String,
    token_id: Option<String>,
    token_name: Option<String>,
    address: Option<String>,
    action: String,
    object: String,
    old: Value,
    new: Value,
    reason: Option<String>,
    result: String,
    tries: Option<u64>,
}

#[derive(Deserialize)]
struct Page {
    entries: Vec<Box<RawValue>>,
    #[serde(default)]
    next: Option<String>,
    #[serde(default)]
    revision: u64,
}

/// Entries, newest first.
#[derive(Debug)]
pub(super) struct AuditList {
    raw: Vec<Box<RawValue>>,
    entries: Vec<Entry>,
    next: Option<String>,
    revision: u64,
    /// Whether there are older ones.
    pub(super) has_more: bool,
}

impl AuditList {
    /// Reads pages until there are so many entries, or no more.
    ///
    /// # Errors
    /// Those of `look`, and when an answer is no page of the log.
    pub(super) fn read(
        filter: &AuditFilter,
        rows_max: usize,
        look: &mut dyn FnMut(&str) -> Result<Answer, Failure>,
    ) -> Result<AuditList, Failure> {
        let (mut raw, mut after) = (Vec::new(), None);
        loop {
            let rows = PAGE_ROWS.min(rows_max - raw.len());
            let answer = look(&filter.path(rows, after.as_deref()))?;
            let page: Page =
                serde_json::from_slice(&answer.body).map_err(|_| unreadable(&answer))?;
            // A page without entries would come for ever.
            let is_last = page.next.is_none() || page.entries.is_empty();
            raw.extend(page.entries);
            if is_last || raw.len() >= rows_max {
                let entries = raw.iter().map(|entry| serde_json::from_str(entry.get()));
                let entries = entries.collect::<Result<_, _>>().map_err(|_| unreadable(&answer))?;
                let (next, revision) = (page.next, page.revision);
                return Ok(AuditList { raw, entries, has_more: next.is_some(), next, revision });
            }
            after = page.next;
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// As one page, in the service's JSON.
    pub(super) fn json(&self) -> Vec<u8> {
        let texts: Vec<_> = self.raw.iter().map(|entry| entry.get()).collect();
        let next = Value::from(self.next.clone());
        let (entries, revision) = (texts.join(","), self.revision);
        format!(r#"{{"entries":[{entries}],"next":{next},"revision":{revision}}}"#).into_bytes()
    }

    /// A table of them, the newest last.
    pub(super) fn table(&self) -> Table {
        Table { columns: COLUMNS, rows: self.entries.iter().rev().map(Entry::row).collect() }
    }
}

impl Entry {
    fn row(&self) -> Vec<Cell> {
        let cell = |text: &str| Cell::new(shown(text));
        vec![
            cell(&Moment::from_json(&self.at).map_or_else(|| self.at.clone(), Moment::human)),
            cell(&self.who()),
            cell(self.address.as_deref().unwrap_or_default()),
            cell(&self.action),
            cell(&self.object),
            cell(&change(&self.old, &self.new)),
            cell(&self.outcome()).toned(Tone::Bad, self.result != DONE),
            cell(self.reason.as_deref().unwrap_or_default()),
        ]
    }

    fn who(&self) -> String {
        match (&self.token_name, &self.token_id) {
            (Some(name), Some(id)) => format!("{name} ({id})"),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => self.actor.clone(),
        }
    }

    fn outcome(&self) -> String {
        match self.tries {
            Some(tries) if tries > 1 => format!("{} ×{tries}", self.result),
            _ => self.result.clone(),
        }
    }
}

/// What was and what is, short: `capacity 5 → 7, state open → draining`. Members that stayed are left out.
fn change(old: &Value, new: &Value) -> String {
    match (old, new) {
        (Value::Null, Value::Null) => String::new(),
        (Value::Null, Value::Object(new)) => all_of(new),
        (Value::Object(old), Value::Null) => format!("{} → nothing", all_of(old)),
        (Value::Object(old), Value::Object(new)) => {
            let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            let differing = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
            let parts = differing.map(|name| {
                let [old, new] = [old, new].map(|of| of.get(name).map_or("nothing".into(), short));
                format!("{name} {old} → {new}")
            });
            parts.collect::<Vec<_>>().join(", ")
        }
        (Value::Null, new) => short(new),
        (old, new) => format!("{} → {}", short(old), short(new)),
    }
}

/// The members that say something.
fn all_of(members: &Map<String, Value>) -> String {
    let said = members.iter().filter(|(_, value)| !value.is_null());
    said.map(|(name, value)| format!("{name} {}", short(value))).collect::<Vec<_>>().join(", ")
}

fn short(value: &Value) -> String {
    let text = match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(short).collect::<Vec<_>>().join("+"),
        other => other.to_string(),
    };
    super::table::shorten(&text, VALUE_LETTERS_MAX)
}

/// What may stand on a terminal: a path that was asked for may hold anything.
fn shown(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_short() {
        let change = |old: &str, new: &str| {
            change(&serde_json::from_str(old).unwrap(), &serde_json::from_str(new).unwrap())
        };
        for (old, new, expected) in [
            (
                r#"{"capacity":5,"state":"open","ttl":"5m"}"#,
                r#"{"capacity":7,"state":"draining","ttl":"5m"}"#,
                "capacity 5 → 7, state open → draining",
            ),
            (
                "null",
                r#"{"name":"ci","scopes":["claim","read"],"max":null}"#,
                "name ci, scopes claim+read",
            ),
            (r#"{"capacity":5}"#, "null", "capacity 5 → nothing"),
            (r#"{"a":1}"#, r#"{"a":null,"b":2}"#, "a 1 → nothing, b nothing → 2"),
            ("null", "null", ""),
            ("1", "2", "1 → 2"),
            ("null", "3", "3"),
        ] {
            assert_eq!(change(old, new), expected);
        }
    }

    #[test]
    fn what_somebody_asked_for_cannot_write_on_the_terminal() {
        let entry = Entry { object: "/a\x1b[2J\n".into(), ..Entry::default() };
        assert_eq!(entry.row()[4], Cell::new("/a\u{fffd}[2J\u{fffd}"));
    }
}
