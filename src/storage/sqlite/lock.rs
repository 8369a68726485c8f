//! One process a data directory.
//!
//! SQLite itself would let two daemons in, and each would believe its own memory. The lock is the
//! kernel's (`flock`): it goes with the process, however that ends, so a lock file that is left behind
//! means nothing. Other programs may still open the database, a backup for instance.

use std::{
    fs::{File, OpenOptions, Permissions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    process,
};

use super::{errors::Named, files};
use crate::storage::Error;

const LOCK: &str = "lock";

/// The lock on a data directory, until it is dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock or fails at once; does not wait.
    pub(super) fn take(data_dir: &Path) -> Result<DirectoryLock, Error> {
        let path = data_dir.join(LOCK);
        let named = Named::new(&path);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(named.io("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::InUse { path: named.path(), pid: owner(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(named.io("lock")(source)),
        }
        file.set_permissions(Permissions::from_mode(0o600))
            .and_then(|()| files::give_to_owner(&file, data_dir))
            .map_err(named.io("protect"))?;
        // Only for the error text of whoever comes second; nothing else believes it.
        let pid = format!("{}\n", process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(pid.as_bytes()))
            .map_err(named.io("write"))?;
        Ok(DirectoryLock { _file: file })
    }
}

/// Who has the lock, as far as the file tells: its owner may not have written it yet.
fn owner(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
