//! The tables that recovery reads, row by row: what is in them must agree with itself.

use std::sync::Arc;

use rusqlite::{Connection, Params, Row, params, types::FromSqlResult};

use super::errors::Named;
use crate::{
    model::{
        Change, Claim, Cooling, Revision, SemaphoreName, SemaphoreRecord, Sequence, Token, TokenId,
    },
    storage::{
        Base, Error,
        encoding::{self, Blob},
        journal::Unfolded,
        net::{Marks, Net, Rows},
    },
};

const READ: &str = "read";
const WRITE: &str = "write to";

/// The live tables as seen by one connection, or within one transaction.
#[derive(Clone, Copy)]
pub(super) struct Live<'c> {
    pub(super) connection: &'c Connection,
    pub(super) named: &'c Named,
}

impl Live<'_> {
    /// The marks of the tables.
    pub(super) fn marks(&self) -> Result<Marks, Error> {
        self.row("SELECT marks FROM meta", [])?.ok_or_else(|| self.named.damaged("no marks"))
    }

    /// The last change, folded or not.
    pub(super) fn last_revision(&self) -> Result<Revision, Error> {
        let read = self.named.sql(READ);
        let last: Option<i64> = self
            .connection
            .query_row("SELECT max(revision) FROM journal", [], |row| row.get(0))
            .map_err(read)?;
        Ok(last
            .map_or(Revision(0), |last| Revision(last.cast_unsigned()))
            .max(self.marks()?.revision))
    }

    /// All rows, and that each is where its key says.
    pub(super) fn base(&self) -> Result<Base, Error> {
        let Marks { revision, sequence, fence_floor } = self.marks()?;
        let semaphores = self.rows(
            "SELECT record, name FROM semaphores ORDER BY name",
            |semaphore: &SemaphoreRecord, row| {
                let at_its_key = row.get_ref(1)?.as_str()? == semaphore.name.as_str();
                Ok(at_its_key && semaphore.revision <= revision)
            },
        )?;
        let claims = self.rows(
            "SELECT claim, sequence, id FROM claims ORDER BY sequence",
            |claim: &Claim, row| {
                let at_its_key = unsigned(row, 1)? == claim.sequence.0
                    && row.get_ref(2)?.as_str()? == claim.id.as_str();
                Ok(at_its_key && claim.sequence <= sequence && claim.revision <= revision)
            },
        )?;
        let cooling = self.rows(
            "SELECT entry, semaphore, sequence FROM cooling ORDER BY semaphore, sequence",
            |cooling: &Cooling, row| {
                let at_its_key = row.get_ref(1)?.as_str()? == cooling.semaphore.as_str();
                Ok(at_its_key && unsigned(row, 2)? == cooling.sequence.0)
            },
        )?;
        let tokens = self
            .rows("SELECT token, id FROM tokens ORDER BY id", |token: &Token, row| {
                Ok(row.get_ref(1)?.as_str()? == token.id.as_str())
            })?;
        let tokens = tokens.into_iter().map(Arc::new).collect();
        Ok(Base { revision, sequence, fence_floor, semaphores, claims, cooling, tokens })
    }

    /// The journal after the tables, in order.
    pub(super) fn journal(&self) -> Result<Unfolded, Error> {
        let folded = self.marks()?.revision;
        let mut unfolded = Unfolded::after(folded);
        let batches = self.rows(
            "SELECT changes, revision FROM journal ORDER BY revision",
            |batch: &Vec<Change>, row| {
                let last = unsigned(row, 1)?;
                Ok(batch.last().is_some_and(|change| change.revision.0 == last))
            },
        )?;
        for mut batch in batches {
            // A row that was folded in part stays until all of it is.
            batch.retain(|change| change.revision > folded);
            unfolded.check(&batch).map_err(|what| self.named.damaged(what))?;
            unfolded.extend(batch);
        }
        Ok(unfolded)
    }

    /// Adds a batch to the journal.
    pub(super) fn append(&self, last: Revision, changes: &[Change]) -> Result<(), Error> {
        let blob = self.blob(encoding::encode_changes(changes))?;
        self.execute("INSERT INTO journal VALUES (?, ?)", params![last.0.cast_signed(), blob])
    }

    /// Writes the net effect of a fold, except what goes into the history, and forgets the journal rows that it
    /// covers.
    pub(super) fn write(&self, net: &Net) -> Result<(), Error> {
        for semaphore in &net.cooling_cleared {
            self.execute("DELETE FROM cooling WHERE semaphore = ?", [semaphore.as_str()])?;
        }
        for name in &net.semaphores.removed {
            self.execute("DELETE FROM semaphores WHERE name = ?", [name.as_str()])?;
        }
        for sequence in &net.claims.removed {
            self.execute("DELETE FROM claims WHERE sequence = ?", [sequence.0.cast_signed()])?;
        }
        for (semaphore, sequence) in &net.cooling.removed {
            let key = params![semaphore.as_str(), sequence.0.cast_signed()];
            self.execute("DELETE FROM cooling WHERE semaphore = ? AND sequence = ?", key)?;
        }
        for id in &net.tokens.removed {
            self.execute("DELETE FROM tokens WHERE id = ?", [id.as_str()])?;
        }
        for row in &net.semaphores.upserted {
            let blob = self.blob(encoding::encode(row))?;
            let row = params![row.name.as_str(), blob];
            self.execute("INSERT OR REPLACE INTO semaphores VALUES (?, ?)", row)?;
        }
        for row in &net.claims.upserted {
            let blob = self.blob(encoding::encode(row))?;
            let row = params![row.sequence.0.cast_signed(), row.id.as_str(), blob];
            // No OR REPLACE: that would delete another claim with the same id without a word.
            let upsert = "INSERT INTO claims VALUES (?, ?, ?)
                ON CONFLICT (sequence) DO UPDATE SET claim = excluded.claim";
            self.execute(upsert, row)?;
        }
        for row in &net.cooling.upserted {
            let blob = self.blob(encoding::encode(row))?;
            let row = params![row.semaphore.as_str(), row.sequence.0.cast_signed(), blob];
            self.execute("INSERT OR REPLACE INTO cooling VALUES (?, ?, ?)", row)?;
        }
        for row in &net.tokens.upserted {
            let blob = self.blob(encoding::encode(row.as_ref()))?;
            let row = params![row.id.as_str(), blob];
            self.execute("INSERT OR REPLACE INTO tokens VALUES (?, ?)", row)?;
        }
        let marks = self.blob(encoding::encode(&net.marks))?;
        self.execute("UPDATE meta SET marks = ?", [marks])?;
        let folded = net.marks.revision.0.cast_signed();
        self.execute("DELETE FROM journal WHERE revision <= ?", [folded])
    }

    fn execute(&self, sql: &str, params: impl Params) -> Result<(), Error> {
        let mut statement = self.connection.prepare_cached(sql).map_err(self.named.sql(WRITE))?;
        statement.execute(params).map_err(self.named.sql(WRITE))?;
        Ok(())
    }

    /// Decodes the first column of each row; `fits` says whether the other columns agree with it.
    fn rows<T: Blob>(
        &self,
        sql: &str,
        fits: impl Fn(&T, &Row<'_>) -> rusqlite::Result<bool>,
    ) -> Result<Vec<T>, Error> {
        let read = self.named.sql(READ);
        let mut statement = self.connection.prepare(sql).map_err(&read)?;
        let mut rows = statement.query([]).map_err(&read)?;
        let mut values = Vec::new();
        while let Some(row) = rows.next().map_err(&read)? {
            let value = self.value(row.get_ref(0).map_err(&read)?.as_blob())?;
            if !fits(&value, row).map_err(&read)? {
                let what =
                    format!("the {} in row {} does not belong there", T::WHAT, values.len() + 1);
                return Err(self.named.damaged(what));
            }
            values.push(value);
        }
        Ok(values)
    }

    fn row<T: Blob>(&self, sql: &str, key: impl Params) -> Result<Option<T>, Error> {
        let read = self.named.sql(READ);
        let mut statement = self.connection.prepare_cached(sql).map_err(&read)?;
        let mut rows = statement.query(key).map_err(&read)?;
        match rows.next().map_err(&read)? {
            Some(row) => self.value(row.get_ref(0).map_err(&read)?.as_blob()).map(Some),
            None => Ok(None),
        }
    }

    /// Decodes what stands in a column of blobs.
    pub(super) fn value<T: Blob>(&self, blob: FromSqlResult<&[u8]>) -> Result<T, Error> {
        let blob = blob.map_err(|error| self.named.damaged(error))?;
        encoding::decode(blob).map_err(|what| self.named.damaged(what))
    }

    fn blob(&self, encoded: Result<Vec<u8>, String>) -> Result<Vec<u8>, Error> {
        encoded.map_err(|what| self.named.database(WRITE, what))
    }
}

impl Rows for Live<'_> {
    fn claim(&self, sequence: Sequence) -> Result<Option<Claim>, Error> {
        self.row("SELECT claim FROM claims WHERE sequence = ?", [sequence.0.cast_signed()])
    }

    fn semaphore(&self, name: &SemaphoreName) -> Result<Option<SemaphoreRecord>, Error> {
        self.row("SELECT record FROM semaphores WHERE name = ?", [name.as_str()])
    }

    fn cooling(
        &self,
        semaphore: &SemaphoreName,
        sequence: Sequence,
    ) -> Result<Option<Cooling>, Error> {
        let key = params![semaphore.as_str(), sequence.0.cast_signed()];
        self.row("SELECT entry FROM cooling WHERE semaphore = ? AND sequence = ?", key)
    }

    fn token(&self, id: &TokenId) -> Result<Option<Arc<Token>>, Error> {
        let token = self.row::<Token>("SELECT token FROM tokens WHERE id = ?", [id.as_str()])?;
        Ok(token.map(Arc::new))
    }

    fn damaged(&self, what: String) -> Error {
        self.named.damaged(what)
    }
}

/// A `u64` that went in as a signed number.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}
