//! Tokens as the service shows them: everything but their secrets.

use std::time::Duration;

use serde::Deserialize;

use super::{
    Failure,
    http::Answer,
    moment::Moment,
    replies::unreadable,
    table::{Cell, Column, Fit, Table},
    terminal::Tone,
};

/// How long before a token's end it is time to do something about it.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3_600);

const COLUMNS: &[Column] = &[
    Column::text("ID", Fit::Keep),
    Column::text("NAME", Fit::Shrink(10)),
    Column::text("SCOPES", Fit::Keep),
    Column::text("SEMAPHORES", Fit::Shrink(8)),
    Column::text("EXPIRES", Fit::DropIfAll("never")),
    Column::text("LAST USED", Fit::Drop),
    Column::number("CLAIMS", Fit::Drop),
];

/// A token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct TokenView {
    /// Its public part.
    pub(super) id: String,
    /// What people call it.
    pub(super) name: String,
    scopes: Vec<String>,
    semaphores: Option<Vec<String>>,
    origin: Option<String>,
    created_at: Option<String>,
    expires_at: Option<String>,
    last_used_at: Option<String>,
    claims_max: Option<u64>,
    waiting_requests_max: Option<u64>,
    priority_max: Option<i64>,
    claims: u64,
}

/// When a token ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    /// Never.
    Never,
    /// In good time.
    Later(Moment),
    /// Within a week.
    Soon(Moment),
    /// It has ended.
    Over(Moment),
}

impl TokenView {
    /// The token in an answer.
    ///
    /// # Errors
    /// When there is none.
    pub(super) fn read(answer: &Answer) -> Result<TokenView, Failure> {
        let view: TokenView =
            serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
        if view.id.is_empty() { Err(unreadable(answer)) } else { Ok(view) }
    }

    /// The tokens in an answer.
    ///
    /// # Errors
    /// When it is no list of tokens.
    pub(super) fn read_all(answer: &Answer) -> Result<Vec<TokenView>, Failure> {
        #[derive(Deserialize)]
        struct Tokens {
            tokens: Vec<TokenView>,
        }
        let list: Tokens = serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
        Ok(list.tokens)
    }

    /// What it is, in words: `ci-nightly (id ab12), scopes claim and read, all semaphores, expires never`.
    pub(super) fn describe(&self) -> String {
        let (scopes, semaphores) = (self.scopes.join(" and "), self.semaphores_text());
        let what = if self.scopes.len() == 1 { "scope" } else { "scopes" };
        let which = match semaphores.as_str() {
            "*" => "all semaphores".to_owned(),
            patterns => format!("semaphores {patterns}"),
        };
        let expires = match self.expires() {
            Some(moment) => format!("expires at {}", moment.human()),
            None => "does not expire".to_owned(),
        };
        format!("{} (id {}), {what} {scopes}, {which}, {expires}", self.name, self.id)
    }

    /// When it ends, as seen from `now`.
    pub(super) fn expiry(&self, now: Moment) -> Expiry {
        match self.expires() {
            None => Expiry::Never,
            Some(moment) if moment.since(now).is_zero() => Expiry::Over(moment),
            Some(moment) if moment.since(now) <= EXPIRES_SOON => Expiry::Soon(moment),
            Some(moment) => Expiry::Later(moment),
        }
    }

    fn expires(&self) -> Option<Moment> {
        Moment::from_json(self.expires_at.as_deref()?)
    }

    fn semaphores_text(&self) -> String {
        match &self.semaphores {
            Some(patterns) if !patterns.is_empty() => patterns.join(","),
            _ => "*".to_owned(),
        }
    }

    fn expiry_cell(&self, now: Moment) -> Cell {
        match self.expiry(now) {
            Expiry::Never => Cell::new("never"),
            Expiry::Later(moment) => Cell::new(moment.human()),
            Expiry::Soon(moment) => Cell::new(moment.human()).toned(Tone::Warn, true),
            Expiry::Over(moment) => {
                Cell::new(format!("{}, over", moment.human())).toned(Tone::Bad, true)
            }
        }
    }

    fn claims_text(&self) -> String {
        let most = self.claims_max.map(|most| format!("/{most}"));
        format!("{}{}", self.claims, most.unwrap_or_default())
    }

    /// A table of tokens.
    pub(super) fn table(tokens: &[TokenView], now: Moment) -> Table {
        let rows = tokens.iter().map(|token| {
            vec![
                Cell::new(&token.id),
                Cell::new(&token.name),
                Cell::new(token.scopes.join(",")),
                Cell::new(token.semaphores_text()),
                token.expiry_cell(now),
                Cell::new(time(token.last_used_at.as_deref(), "never")),
                Cell::new(token.claims_text()),
            ]
        });
        Table { columns: COLUMNS, rows: rows.collect() }
    }

    /// Everything about it.
    pub(super) fn facts(&self, now: Moment) -> Vec<(&'static str, Cell)> {
        let most =
            |bound: Option<String>| Cell::new(bound.unwrap_or_else(|| "no limit".to_owned()));
        let mut facts = vec![
            ("name", Cell::new(&self.name)),
            ("scopes", Cell::new(self.scopes.join(","))),
            ("semaphores", Cell::new(self.semaphores_text())),
            ("expires", self.expiry_cell(now)),
            ("made", Cell::new(time(self.created_at.as_deref(), ""))),
            ("last used", Cell::new(time(self.last_used_at.as_deref(), "never"))),
            ("claims", Cell::new(self.claims.to_string())),
            ("most claims", most(self.claims_max.map(|most| most.to_string()))),
            ("most waiting", most(self.waiting_requests_max.map(|most| most.to_string()))),
            ("highest priority", most(self.priority_max.map(|most| most.to_string()))),
        ];
        if let Some(origin) = &self.origin {
            facts.push(("declared by", Cell::new(origin)));
        }
        facts
    }
}

fn time(text: Option<&str>, otherwise: &str) -> String {
    match text.map(|text| (text, Moment::from_json(text))) {
        Some((_, Some(moment))) => moment.human(),
        Some((text, None)) => text.to_owned(),
        None => otherwise.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_seen_in_time() {
        let now = Moment::from_json("2026-11-24T00:00:00Z").unwrap();
        let expiry = |text: Option<&str>| {
            let expires_at = text.map(str::to_owned);
            TokenView { expires_at, ..TokenView::default() }.expiry(now)
        };
        assert_eq!(expiry(None), Expiry::Never);
        assert!(matches!(expiry(Some("2026-12-01T00:00:01Z")), Expiry::Later(_)));
        assert!(matches!(expiry(Some("2026-12-01T00:00:00Z")), Expiry::Soon(_)));
        assert!(matches!(expiry(Some("2026-11-24T00:00:00Z")), Expiry::Over(_)));
    }
}
