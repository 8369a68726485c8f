//! That only the service's own user can read what it keeps: claims, and whatever else a database holds.
//!
//! What the daemon makes, it makes so (0700, 0600, whatever the umask). What it finds may have been loosened by a copy, a
//! restored archive or a well-meant `chmod`, and nobody would notice; so a start looks, and refuses. Only the modes are
//! looked at: access control lists show in the group's bits, root reads everything.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

use super::{
    errors::Named,
    files::{SUFFIXES, beside},
};
use crate::storage::Error;

/// Group and others.
const OTHERS: u32 = 0o077;

/// Checks the data directory, which exists.
///
/// # Errors
/// Others may look into it, or it cannot be examined.
pub(super) fn check_directory(data_dir: &Path) -> Result<(), Error> {
    check(data_dir, 0o700)
}

/// Checks the database and what SQLite keeps beside it, as far as they are there.
///
/// # Errors
/// Others may read or write one of them, or it cannot be examined.
pub(super) fn check_database(path: &Path) -> Result<(), Error> {
    for suffix in SUFFIXES {
        check(&beside(path, suffix), 0o600)?;
    }
    Ok(())
}

/// Checks one file, if it is there.
fn check(path: &Path, right: u32) -> Result<(), Error> {
    let named = Named::new(path);
    let mode = match fs::metadata(path) {
        Ok(found) => found.permissions().mode() & 0o7777,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(named.io("examine")(error)),
    };
    if mode & OTHERS != 0 {
        return Err(Error::Exposed { path: named.path(), mode, right });
    }
    Ok(())
}
