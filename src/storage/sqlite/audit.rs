//! The audit log, in columns that people can ask questions of.

use std::net::IpAddr;

use rusqlite::{Connection, named_params, params};

use super::{columns::Columns, errors::Named};
use crate::{
    model::{Actor, AuditEntry, Note, Revision, TokenId, TokenName, Tries, WallTime},
    storage::{AuditFilter, AuditRow, Error, audit::Action},
};

/// Adds a row. It takes the place of the one that it replaces, which the index on tries finds.
pub(super) fn insert(connection: &Connection, named: &Named, row: &AuditRow) -> Result<(), Error> {
    let entry = &row.entry;
    let (token, token_name) = match &entry.actor {
        Actor::Token { id, name } => (Some(id.as_str()), Some(name.as_str())),
        Actor::Anonymous | Actor::Configuration | Actor::Daemon => (None, None),
    };
    let values = named_params! {
        ":revision": row.revision.0.cast_signed(),
        ":at": row.at.0,
        ":actor": entry.actor.as_str(),
        ":token": token,
        ":token_name": token_name,
        ":address": entry.address.map(|address| address.to_string()).unwrap_or_default(),
        ":action": &*entry.action,
        ":object": &*entry.object,
        ":old": entry.old.as_deref(),
        ":new": entry.new.as_deref(),
        ":reason": entry.reason.as_ref().map(Note::as_str),
        ":result": &*entry.result,
        ":minute": entry.tries.map(|tries| tries.minute.0),
        ":tries": entry.tries.map(|tries| tries.count),
    };
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO audit VALUES (:revision, :at, :actor, :token, :token_name,
                :address, :action, :object, :old, :new, :reason, :result, :minute, :tries)",
        )
        .and_then(|mut statement| statement.execute(values))
        .map_err(named.sql("write to"))?;
    Ok(())
}

/// Deletes the oldest rows from before `:before`, at most `:rows_max`.
pub(super) const PRUNE: &str = "DELETE FROM audit WHERE revision IN (
    SELECT revision FROM audit WHERE at < :before ORDER BY at, revision LIMIT :rows_max)";

/// Rows that one [`step`] looks at: a few milliseconds.
const STEP_ROWS: i64 = 4_096;

/// What a step has found.
#[derive(Debug)]
pub(super) struct Step {
    /// The rows, newest first.
    pub(super) rows: Vec<AuditRow>,
    /// Where the next step begins: before this change; `None` when all was looked at.
    pub(super) rest: Option<Revision>,
}

/// Looks at the next rows before `before` (or at the newest) and takes what the filter takes, at most `rows_max`.
/// A step is short whatever is asked for, so that others can use the connection between two of them.
pub(super) fn step(
    connection: &Connection,
    named: &Named,
    filter: &AuditFilter,
    before: Option<Revision>,
    rows_max: usize,
) -> Result<Step, Error> {
    let read = named.sql("read");
    let before = before.map_or(i64::MAX, |before| i64::try_from(before.0).unwrap_or(i64::MAX));
    let from: Option<i64> = {
        let mut statement = connection
            .prepare_cached(
                "SELECT revision FROM audit WHERE revision < ? ORDER BY revision DESC
                 LIMIT 1 OFFSET ?",
            )
            .map_err(&read)?;
        let mut found = statement.query(params![before, STEP_ROWS - 1]).map_err(&read)?;
        found.next().and_then(|row| row.map(|row| row.get(0)).transpose()).map_err(&read)?
    };
    let (action, action_start) = match filter.action() {
        Some(Action::Is(action)) => (Some(action), None),
        Some(Action::Begins(start)) => (None, Some(start)),
        None => (None, None),
    };
    let values = named_params! {
        ":from": from.unwrap_or(i64::MIN),
        ":before": before,
        ":since": filter.since.map(|since| since.0),
        ":until": filter.until.map(|until| until.0),
        ":token": filter.token.as_ref().map(TokenId::as_str),
        ":actor": filter.actor,
        ":action": action,
        ":action_start": action_start,
        ":object": filter.object,
        ":result": filter.result,
        ":rows_max": i64::try_from(rows_max).unwrap_or(i64::MAX),
    };
    // The beginning is compared with instr, which knows no wildcards and counts bytes and characters alike.
    let mut statement = connection
        .prepare_cached(
            "SELECT * FROM audit WHERE revision >= :from AND revision < :before
                AND (:since IS NULL OR at >= :since)
                AND (:until IS NULL OR at < :until)
                AND (:token IS NULL OR token = :token)
                AND (:actor IS NULL OR actor = :actor)
                AND (:action IS NULL OR action = :action)
                AND (:action_start IS NULL OR instr(action, :action_start) = 1)
                AND (:object IS NULL OR object = :object)
                AND (:result IS NULL OR result = :result)
             ORDER BY revision DESC LIMIT :rows_max",
        )
        .map_err(&read)?;
    let mut found = statement.query(values).map_err(&read)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(&read)? {
        rows.push(audit_row(&Columns { row, named })?);
    }
    Ok(Step { rows, rest: from.map(|from| Revision(from.cast_unsigned())) })
}

fn audit_row(columns: &Columns<'_, '_>) -> Result<AuditRow, Error> {
    let damaged = |what: &str| columns.named.damaged(format_args!("the audit log has {what}"));
    let text = |name| columns.value::<Option<String>>(name);
    let token = (text("token")?, text("token_name")?);
    let actor = match (columns.value::<String>("actor")?.as_str(), token) {
        ("token", (Some(id), Some(name))) => Actor::Token {
            id: columns.valid(TokenId::new(&id))?,
            name: columns.valid(TokenName::new(&name))?,
        },
        ("anonymous", (None, None)) => Actor::Anonymous,
        ("configuration", (None, None)) => Actor::Configuration,
        ("daemon", (None, None)) => Actor::Daemon,
        _ => return Err(damaged("an actor that does not exist")),
    };
    let address = columns.value::<String>("address")?;
    let address: Option<IpAddr> = match address.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| damaged("an address that is none"))?),
    };
    let tries = match (columns.value::<Option<i64>>("minute")?, columns.value("tries")?) {
        (Some(minute), Some(count)) => Some(Tries { minute: WallTime(minute), count }),
        (None, None) => None,
        _ => return Err(damaged("tries without their minute")),
    };
    let entry = AuditEntry {
        actor,
        address,
        action: columns.value::<String>("action")?.into(),
        object: columns.value::<String>("object")?.into(),
        old: text("old")?.map(Into::into),
        new: text("new")?.map(Into::into),
        reason: text("reason")?.map(|text| columns.valid(Note::new(&text))).transpose()?,
        result: columns.value::<String>("result")?.into(),
        tries,
    };
    let revision = Revision(columns.unsigned("revision")?);
    Ok(AuditRow { revision, at: WallTime(columns.value("at")?), entry })
}
