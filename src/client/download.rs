//! Saving what the service sends as a file: whole or not at all.
//!
//! The file gets its name when every byte is on the disk; until then it is `NAME.part`, which is removed when
//! something fails. It is for its owner alone: a backup has every holder and claim in it.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write, stdout},
    path::{Path, PathBuf},
};

use super::{Failure, http::Download, unix};
use crate::cli::exit;

/// How each SQLite database begins; what a proxy or another service sends begins otherwise.
const MAGIC: &[u8] = b"SQLite format 3\0";
const BUFFER_BYTES: usize = 64 * 1_024;

/// Writes it to standard output; returns its length.
///
/// # Errors
/// When it breaks off, is no database, or cannot be written.
pub(super) fn to_output(mut download: Download) -> Result<u64, Failure> {
    let mut out = stdout().lock();
    let bytes = copy(&mut download, &mut out, "the output")?;
    out.flush().map_err(|error| unwritten("the output", &error))?;
    Ok(bytes)
}

/// Saves it as `path`; returns its length. A file that is there is replaced if `force` says so.
///
/// # Errors
/// As [`to_output`], and when there is such a file.
pub(super) fn to_file(mut download: Download, path: &Path, force: bool) -> Result<u64, Failure> {
    refuse_existing(path, force)?;
    let part = Part::create(path)?;
    let name = part.path.display().to_string();
    let bytes = copy(&mut download, &mut &part.file, &name)?;
    part.file.sync_all().map_err(|error| unwritten(&name, &error))?;
    refuse_existing(path, force)?;
    fs::rename(&part.path, path)
        .and_then(|()| unix::sync_directory_of(path))
        .map_err(|error| unwritten(&path.display().to_string(), &error))?;
    Ok(bytes)
}

/// Refuses where a file is there that may not be replaced.
///
/// # Errors
/// [`exit::IO`].
pub(super) fn refuse_existing(path: &Path, force: bool) -> Result<(), Failure> {
    if force || fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let message = format!("{} is there already: --force replaces it", path.display());
    Err(Failure::new(exit::IO, message))
}

/// The file before it is whole.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn create(path: &Path) -> Result<Part, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let file = unix::create_private(&path)
            .map_err(|error| unwritten(&path.display().to_string(), &error))?;
        Ok(Part { path, file })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // When it has its name there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

fn copy(download: &mut Download, to: &mut dyn Write, name: &str) -> Result<u64, Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut copied = 0;
    loop {
        let read = match fill(&mut download.body, &mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => return Err(broken(download, copied, &error)),
        };
        if copied == 0 && !buffer[..read].starts_with(MAGIC) {
            let message = "the answer is no database; is the URL that of a semaphored?";
            return Err(Failure::new(exit::INTERNAL, message));
        }
        to.write_all(&buffer[..read]).map_err(|error| unwritten(name, &error))?;
        copied += read as u64;
    }
    if copied == 0 || download.bytes.is_some_and(|bytes| bytes != copied) {
        return Err(broken(download, copied, &ErrorKind::UnexpectedEof.into()));
    }
    Ok(copied)
}

/// Fills the buffer as far as there is something.
fn fill(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn broken(download: &Download, copied: u64, error: &io::Error) -> Failure {
    let of = download.bytes.map(|bytes| format!(" of {bytes}")).unwrap_or_default();
    let message = format!(
        "the answer broke off after {copied}{of} bytes: {error}\nNothing was saved; the service's log says why, if it \
         was not the network"
    );
    Failure::new(exit::UNREACHABLE, message)
}

fn unwritten(name: &str, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::BrokenPipe => Failure::new(unix::exit_code_of_broken_pipe(), ""),
        _ => Failure::new(exit::IO, format!("cannot write {name}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn download(body: &[u8], bytes: u64) -> Download {
        let body = Box::new(io::Cursor::new(body.to_vec()));
        Download { revision: Some(7), bytes: Some(bytes), body }
    }

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("b.db");
        let body = [MAGIC, &[7; 100_000]].concat();
        let length = body.len() as u64;
        for (body, length, exit) in [
            (&body[..500], length, exit::UNREACHABLE),
            (b"<html>", 6, exit::INTERNAL),
            (b"", 0, 69),
        ] {
            let failure = to_file(download(body, length), &path, false).unwrap_err();
            assert_eq!(failure.exit, exit, "{failure}");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "{failure}");
        }
        assert_eq!(to_file(download(&body, length), &path, false), Ok(length));
        assert_eq!(fs::read(&path).unwrap(), body);
        assert_eq!(to_file(download(&body, length), &path, false).unwrap_err().exit, exit::IO);
        assert_eq!(to_file(download(&body, length), &path, true), Ok(length));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
