//! One row of a table that people can ask questions of.

use std::time::Duration;

use rusqlite::{Row, types::FromSql};

use super::errors::Named;
use crate::{model::Invalid, storage::Error};

/// One row, by the names of its columns.
pub(super) struct Columns<'r, 's> {
    pub(super) row: &'r Row<'s>,
    pub(super) named: &'r Named,
}

impl Columns<'_, '_> {
    pub(super) fn value<T: FromSql>(&self, name: &str) -> Result<T, Error> {
        self.row.get(name).map_err(self.named.sql("read"))
    }

    /// A `u64` that went in as a signed number.
    pub(super) fn unsigned(&self, name: &str) -> Result<u64, Error> {
        self.value(name).map(i64::cast_unsigned)
    }

    /// Milliseconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, Error> {
        Ok(self.value::<Option<i64>>(name)?.map(|ms| Duration::from_millis(ms.cast_unsigned())))
    }

    pub(super) fn json<T: serde::de::DeserializeOwned>(&self, text: &str) -> Result<T, Error> {
        serde_json::from_str(text).map_err(|error| self.named.damaged(error))
    }

    /// What the model has to say of a value that was read.
    pub(super) fn valid<T>(&self, value: Result<T, Invalid>) -> Result<T, Error> {
        let what = |error| format!("a row of the history has a value that must be {error}");
        value.map_err(|error| self.named.damaged(what(error)))
    }
}
