//! Errors that name the database file.

use std::{fmt, io, path::Path, sync::Arc};

use rusqlite::ErrorCode;

use crate::storage::Error;

/// A file, by the name that errors show.
#[derive(Clone, Debug)]
pub(super) struct Named(Arc<str>);

impl Named {
    pub(super) fn new(path: &Path) -> Named {
        Named(path.to_string_lossy().into())
    }

    pub(super) fn path(&self) -> String {
        self.0.as_ref().to_owned()
    }

    pub(super) fn damaged(&self, what: impl fmt::Display) -> Error {
        Error::Damaged { path: self.path(), what: what.to_string() }
    }

    pub(super) fn foreign(&self, what: impl fmt::Display) -> Error {
        Error::Foreign { path: self.path(), what: what.to_string() }
    }

    pub(super) fn database(&self, action: &'static str, what: impl fmt::Display) -> Error {
        Error::Database { action, path: self.path(), what: what.to_string() }
    }

    /// For `map_err`: what SQLite said while `action` was tried. Corruption is damage, whatever was
    /// tried.
    pub(super) fn sql(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> Error {
        move |error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => self.damaged(error),
            // STRICT tables have the types that they say: another one is damage that SQLite has not seen.
            None if matches!(error, rusqlite::Error::InvalidColumnType(..)) => self.damaged(error),
            _ => self.database(action, error),
        }
    }

    /// For `map_err`: what the system said while `action` was tried.
    pub(super) fn io(&self, action: &'static str) -> impl Fn(io::Error) -> Error {
        move |source| Error::Io { action, path: self.path(), source }
    }
}
