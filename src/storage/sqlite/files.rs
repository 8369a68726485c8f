//! The files of a database: what SQLite keeps beside one, and how they are made, for the owner alone, and removed.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use super::{errors::Named, private};
use crate::storage::Error;

/// A database and the files that SQLite may keep beside it.
pub(super) const SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// The file that SQLite keeps beside the database under this suffix.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the data directory if it is not there, and checks that it is the owner's alone.
///
/// # Errors
/// Others may look into it, or the system refuses.
pub(super) fn data_directory(data_dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(Named::new(data_dir).io("create"))?;
    private::check_directory(data_dir)
}

/// Makes a file that is not there yet, for its owner alone whatever the umask is. SQLite gives its mode to the files
/// beside it, too.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Root may work for the daemon's user, whose all files in the data directory have to be.
pub(super) fn give_to_owner(file: &File, data_dir: &Path) -> io::Result<()> {
    let owner = fs::metadata(data_dir)?;
    if file.metadata()?.uid() == owner.uid() {
        return Ok(());
    }
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

/// Removes a database with all that is beside it, as far as it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    for suffix in SUFFIXES {
        match fs::remove_file(beside(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Waits until a file's content, or a directory's names, are on the disk.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path).and_then(|file| file.sync_all())
}
