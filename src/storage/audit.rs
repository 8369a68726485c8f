//! Rows of the audit log as readers see them, and which of them they ask for.

use crate::model::{Actor, AuditEntry, Revision, TokenId, WallTime};

/// A row of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// The change that it is about; there is one row a change at most.
    pub revision: Revision,
    /// When, by the wall clock.
    pub at: WallTime,
    /// What it says.
    pub entry: AuditEntry,
}

impl AuditRow {
    /// Whether this row says all that an older one said and more: both count the tries of one address within
    /// one minute that were refused with the same code.
    #[must_use]
    pub fn replaces(&self, older: &AuditRow) -> bool {
        let key = self.entry.tries_key();
        key.is_some() && key == older.entry.tries_key()
    }
}

/// Which rows of the audit log somebody asks for: those to which all of it applies. What is `None` applies to
/// every row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Rows of changes before this one: the next page comes before the last row of this one.
    pub before: Option<Revision>,
    /// Rows from this moment on.
    pub since: Option<WallTime>,
    /// Rows before this moment.
    pub until: Option<WallTime>,
    /// What somebody with this token did.
    pub token: Option<TokenId>,
    /// What this kind of actor did, in the words of the API.
    pub actor: Option<String>,
    /// This action, or with a `*` at its end all that begin so.
    pub action: Option<String>,
    /// What was done to just this.
    pub object: Option<String>,
    /// `done`, or the code of an error.
    pub result: Option<String>,
    /// Rows that are answered at most.
    pub rows_max: usize,
}

impl AuditFilter {
    /// Whether it asks for this row, whatever the number of rows.
    #[must_use]
    pub fn takes(&self, row: &AuditRow) -> bool {
        let entry = &row.entry;
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        let acts = match self.action() {
            Some(Action::Is(action)) => *entry.action == *action,
            Some(Action::Begins(start)) => entry.action.starts_with(start),
            None => true,
        };
        self.before.is_none_or(|before| row.revision < before)
            && self.since.is_none_or(|since| row.at >= since)
            && self.until.is_none_or(|until| row.at < until)
            && self.token.as_ref().is_none_or(|token| token_of(&entry.actor) == Some(token))
            && is(&self.actor, entry.actor.as_str())
            && acts
            && is(&self.object, &entry.object)
            && is(&self.result, &entry.result)
    }

    /// What it wants of the action.
    pub(super) fn action(&self) -> Option<Action<'_>> {
        let action = self.action.as_deref()?;
        Some(action.strip_suffix('*').map_or(Action::Is(action), Action::Begins))
    }
}

fn token_of(actor: &Actor) -> Option<&TokenId> {
    match actor {
        Actor::Token { id, .. } => Some(id),
        Actor::Anonymous | Actor::Configuration | Actor::Daemon => None,
    }
}

/// What a filter wants of the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action<'f> {
    /// It is this one.
    Is(&'f str),
    /// It begins so.
    Begins(&'f str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{acted, refused, token_id, tokens};

    #[test]
    fn a_filter_takes_what_it_says() {
        let entry = acted(Actor::of(&tokens().0), "token.set", "token root");
        let row = AuditRow { revision: Revision(7), at: WallTime(5_000), entry };
        let all = AuditFilter::default();
        let before = |n| AuditFilter { before: Some(Revision(n)), ..all.clone() };
        let since = |ms| AuditFilter { since: Some(WallTime(ms)), ..all.clone() };
        let until = |ms| AuditFilter { until: Some(WallTime(ms)), ..all.clone() };
        let by = |id| AuditFilter { token: Some(token_id(id)), ..all.clone() };
        let actor = |text: &str| AuditFilter { actor: Some(text.into()), ..all.clone() };
        let action = |text: &str| AuditFilter { action: Some(text.into()), ..all.clone() };
        let object = |text: &str| AuditFilter { object: Some(text.into()), ..all.clone() };
        let result = |text: &str| AuditFilter { result: Some(text.into()), ..all.clone() };
        for (filter, takes) in [
            (all.clone(), true),
            (before(8), true),
            (before(7), false),
            (since(5_000), true),
            (since(5_001), false),
            (until(5_001), true),
            (until(5_000), false),
            (by("ci4farm"), true),
            (by("root"), false),
            (actor("token"), true),
            (actor("anonymous"), false),
            (action("token.set"), true),
            (action("token"), false),
            (action("token.*"), true),
            (action("set*"), false),
            (action("*"), true),
            (action("*.set"), false),
            (object("token root"), true),
            (object("token*"), false),
            (result("done"), true),
            (result(""), false),
            (AuditFilter { until: Some(WallTime(0)), ..action("token.set") }, false),
        ] {
            assert_eq!(filter.takes(&row), takes, "{filter:?}");
        }
        let row = AuditRow { entry: refused("::1", "unauthorized", 0, 1), ..row };
        assert!(!by("ci4farm").takes(&row) && actor("anonymous").takes(&row));
    }
}
