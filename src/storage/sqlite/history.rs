//! Ended claims, in columns that people can ask questions of, and the reader beside the commit writer.
//!
//! The audit log is read over the same connection, in steps: a look for something rare in a long log holds up
//! nobody who looks for an ended claim.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, Row, named_params, params};

use super::{DATABASE, audit, callbacks, columns::Columns, errors::Named, snapshot::snapshot};
use crate::{
    model::{
        Claim, ClaimId, ClaimState, EndReason, EndedId, Fence, Holder, IdHash, JobId, Labels, Note,
        Permits, Priority, Revision, SemaphoreName, Sequence, Terms, TokenId, WallTime,
    },
    storage::{
        AuditFilter, AuditRow, Error, History, Snapshot, SnapshotError, SnapshotOptions, net::Net,
    },
};

/// How long a reader waits for another one.
const READER_WAIT_MAX: Duration = Duration::from_secs(2);
/// How long a look into the audit log may take. A million rows take 0.1 s from memory, some seconds from a slow disk.
const AUDIT_TIME_MAX: Duration = Duration::from_secs(10);

/// Adds what a fold comes to: ended claims and rows of the audit log.
pub(super) fn add(connection: &Connection, named: &Named, net: &Net) -> Result<(), Error> {
    net.ended.iter().try_for_each(|claim| insert(connection, named, claim))?;
    net.audit.iter().try_for_each(|row| audit::insert(connection, named, row))
}

/// Adds an ended claim.
fn insert(connection: &Connection, named: &Named, claim: &Claim) -> Result<(), Error> {
    let ClaimState::Ended { reason, ended_at, granted_at, fences, note } = &claim.state else {
        return Err(named.damaged(format_args!("claim {} has not ended", claim.sequence)));
    };
    let terms = &claim.terms;
    let weights: BTreeMap<&str, u32> =
        terms.permits.iter().map(|(name, weight)| (name.as_str(), weight)).collect();
    let fences: Option<BTreeMap<&str, u64>> = fences.as_ref().map(|fences| {
        terms.permits.names().zip(fences.iter()).map(|(name, f)| (name.as_str(), f.0)).collect()
    });
    let labels: BTreeMap<&str, &str> = terms.labels.iter().collect();
    let json = |text: serde_json::Result<String>| text.map_err(|e| named.database("write to", e));
    let record = claim.callback.as_deref().map(callbacks::write).transpose();
    let (callback, deliveries) = record.map_err(|error| named.database("write to", error))?.unzip();
    let row = named_params! {
        ":sequence": claim.sequence.0.cast_signed(),
        ":id": claim.id.as_str(),
        ":holder": terms.holder.as_ref().map(Holder::as_str),
        ":permits": json(serde_json::to_string(&weights))?,
        ":fences": fences.map(|fences| json(serde_json::to_string(&fences))).transpose()?,
        ":labels": json(serde_json::to_string(&labels))?,
        ":priority": terms.priority.value(),
        ":queued_at": claim.queued_at.0,
        ":granted_at": granted_at.map(|at| at.0),
        ":ended_at": ended_at.0,
        ":reason": reason.as_str(),
        ":note": note.as_ref().map(Note::as_str),
        ":revision": claim.revision.0.cast_signed(),
        ":ttl": milliseconds(terms.ttl),
        ":queue_ttl": terms.queue_ttl.map(milliseconds),
        ":offer_ttl": milliseconds(terms.offer_ttl),
        ":wait_timeout": terms.wait_timeout.map(milliseconds),
        ":has_callback": terms.has_callback,
        ":fingerprint": terms.fingerprint,
        ":callback": callback,
        ":deliveries": deliveries,
        ":owner": claim.owner.as_ref().map(TokenId::as_str),
        ":job": claim.job.as_ref().map(JobId::as_str),
    };
    connection
        .prepare_cached(
            "INSERT INTO history VALUES (:sequence, :id, :holder, :permits, :fences, :labels,
                :priority, :queued_at, :granted_at, :ended_at, :reason, :note, :revision, :ttl,
                :queue_ttl, :offer_ttl, :wait_timeout, :has_callback, :fingerprint,
                :callback, :deliveries, :owner, :job)",
        )
        .and_then(|mut statement| statement.execute(row))
        .map_err(named.sql("write to"))?;
    Ok(())
}

/// The newest ids that ended at or after `since`, oldest first.
pub(super) fn ended_ids(
    connection: &Connection,
    named: &Named,
    since: WallTime,
    ids_max: usize,
) -> Result<Vec<EndedId>, Error> {
    let read = named.sql("read");
    let mut statement = connection
        .prepare(
            "SELECT id, reason, ended_at FROM history WHERE ended_at >= ?
             ORDER BY ended_at DESC, sequence DESC LIMIT ?",
        )
        .map_err(&read)?;
    let limit = i64::try_from(ids_max).unwrap_or(i64::MAX);
    let mut rows = statement.query(params![since.0, limit]).map_err(&read)?;
    let mut ids = Vec::new();
    while let Some(row) = rows.next().map_err(&read)? {
        let (id, reason): (String, String) =
            row.get(0).and_then(|id| Ok((id, row.get(1)?))).map_err(&read)?;
        let ended_at = WallTime(row.get(2).map_err(&read)?);
        let id = ClaimId::new(&id).map_err(|_| named.damaged("an ended claim has no valid id"))?;
        let reason = EndReason::from_text(&reason)
            .ok_or_else(|| named.damaged(format_args!("claim {id} ended for no known reason")))?;
        ids.push(EndedId { hash: IdHash::of(&id), reason, ended_at });
    }
    ids.reverse();
    Ok(ids)
}

/// Deletes the oldest claims that ended before `:before`, at most `:rows_max`.
pub(super) const PRUNE: &str = "DELETE FROM history WHERE sequence IN (
    SELECT sequence FROM history WHERE ended_at < :before ORDER BY ended_at, sequence LIMIT :rows_max)";

fn newest(connection: &Connection, named: &Named, id: &ClaimId) -> Result<Option<Claim>, Error> {
    let read = named.sql("read");
    // The index on id has the sequence number behind it: one step down a tree, whatever the history's
    // size, so this query needs no time limit.
    let mut statement = connection
        .prepare_cached("SELECT * FROM history WHERE id = ? ORDER BY sequence DESC LIMIT 1")
        .map_err(&read)?;
    let mut rows = statement.query([id.as_str()]).map_err(&read)?;
    match rows.next().map_err(&read)? {
        Some(row) => claim(row, named).map(Some),
        None => Ok(None),
    }
}

fn claim(row: &Row<'_>, named: &Named) -> Result<Claim, Error> {
    let columns = Columns { row, named };
    let object = |text: String| columns.json::<BTreeMap<String, u64>>(&text);
    let weights = object(columns.value("permits")?)?.into_iter().map(|(name, weight)| {
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        Ok((columns.valid(SemaphoreName::new(&name))?, weight))
    });
    let permits = columns.valid(Permits::new(weights.collect::<Result<_, Error>>()?))?;
    let fences = match columns.value::<Option<String>>("fences")? {
        Some(text) => {
            let fences = object(text)?;
            if !fences.keys().map(String::as_str).eq(permits.names().map(SemaphoreName::as_str)) {
                return Err(named.damaged("fences and permits of an ended claim differ"));
            }
            Some(fences.into_values().map(Fence).collect())
        }
        None => None,
    };
    let labels: BTreeMap<String, String> = columns.json(&columns.value::<String>("labels")?)?;
    let reason = EndReason::from_text(&columns.value::<String>("reason")?)
        .ok_or_else(|| named.damaged("a claim ended for no known reason"))?;
    let text = |name| columns.value::<Option<String>>(name);
    let terms = Terms {
        permits,
        holder: text("holder")?.map(|text| columns.valid(Holder::new(&text))).transpose()?,
        labels: columns.valid(Labels::new(labels.into_iter().collect()))?,
        priority: columns.valid(Priority::new(columns.value("priority")?))?,
        ttl: columns.duration("ttl")?.unwrap_or_default(),
        queue_ttl: columns.duration("queue_ttl")?,
        offer_ttl: columns.duration("offer_ttl")?.unwrap_or_default(),
        wait_timeout: columns.duration("wait_timeout")?,
        has_callback: columns.value("has_callback")?,
        fingerprint: columns.value("fingerprint")?,
    };
    let state = ClaimState::Ended {
        reason,
        ended_at: WallTime(columns.value("ended_at")?),
        granted_at: columns.value::<Option<i64>>("granted_at")?.map(WallTime),
        fences,
        note: text("note")?.map(|text| columns.valid(Note::new(&text))).transpose()?,
    };
    let callback = match (text("callback")?, text("deliveries")?) {
        (Some(callback), Some(deliveries)) => {
            let record = callbacks::read(&callback, &deliveries);
            Some(record.map_err(|what| named.damaged(what))?.into())
        }
        (None, None) => None,
        _ => return Err(named.damaged("an ended claim has half a callback")),
    };
    Ok(Claim {
        id: columns.valid(ClaimId::new(&columns.value::<String>("id")?))?,
        sequence: Sequence(columns.unsigned("sequence")?),
        terms: Arc::new(terms),
        queued_at: WallTime(columns.value("queued_at")?),
        revision: Revision(columns.unsigned("revision")?),
        state,
        callback,
        owner: text("owner")?.map(|text| columns.valid(TokenId::new(&text))).transpose()?,
        job: text("job")?.map(|text| columns.valid(JobId::new(&text))).transpose()?,
    })
}

/// Whole milliseconds: no duration that a client can ask for is finer.
fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The reader. Locking: its connection is behind a mutex of its own, waited for with a limit; it never
/// meets the commit writer's, and in WAL mode SQLite lets both go on.
pub(super) struct SqliteHistory {
    connection: Mutex<Connection>,
    named: Named,
    data_dir: PathBuf,
}

impl SqliteHistory {
    pub(super) fn new(connection: Connection, named: Named, data_dir: PathBuf) -> SqliteHistory {
        SqliteHistory { connection: Mutex::new(connection), named, data_dir }
    }

    fn connection(&self) -> Result<MutexGuard<'_, Connection>, Error> {
        let connection = self.connection.try_lock_for(READER_WAIT_MAX);
        connection.ok_or_else(|| self.named.database("read", "too many readers"))
    }
}

impl History for SqliteHistory {
    fn ended_claim(&self, id: &ClaimId) -> Result<Option<Claim>, Error> {
        newest(&*self.connection()?, &self.named, id)
    }

    fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, Error> {
        let deadline = Instant::now() + AUDIT_TIME_MAX;
        let (mut rows, mut before) = (Vec::new(), filter.before);
        loop {
            let rows_max = filter.rows_max - rows.len();
            let step = audit::step(&*self.connection()?, &self.named, filter, before, rows_max)?;
            rows.extend(step.rows);
            before = step.rest;
            if before.is_none() || rows.len() >= filter.rows_max {
                return Ok(rows);
            }
            if Instant::now() >= deadline {
                let what = format!("the audit log was not searched within {AUDIT_TIME_MAX:?}");
                return Err(self.named.database("read", what));
            }
        }
    }

    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        free_bytes(&self.data_dir).map(Some)
    }

    fn snapshot(&self, options: &SnapshotOptions<'_>) -> Result<Snapshot, SnapshotError> {
        snapshot(&self.data_dir.join(DATABASE), &self.data_dir, options)
    }
}

/// Bytes that this user may still write there.
pub(super) fn free_bytes(data_dir: &Path) -> Result<u64, Error> {
    let space = rustix::fs::statvfs(data_dir)
        .map_err(|errno| Named::new(data_dir).io("measure free space of")(errno.into()))?;
    // What root keeps for itself (f_bfree - f_bavail) is not ours.
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}
