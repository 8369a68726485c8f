//! Standard output: what was asked for, and nothing else.

use std::io::{ErrorKind, Write, stdout};

use serde::Serialize;

use super::{Failure, unix};
use crate::cli::exit;

/// Writes to standard output.
///
/// # Errors
/// [`exit::IO`]; where nobody reads any more, as behind `head`, what the signal for it would have
/// brought, without a word.
pub(super) fn write(text: &str) -> Result<u8, Failure> {
    let mut out = stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(exit::OK),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            Err(Failure::new(unix::exit_code_of_broken_pipe(), ""))
        }
        Err(error) => Err(Failure::new(exit::IO, format!("cannot write the output: {error}"))),
    }
}

/// Writes JSON as the service gave it, as one line.
///
/// # Errors
/// As [`write()`].
pub(super) fn write_json(json: &[u8]) -> Result<u8, Failure> {
    write(&format!("{}\n", String::from_utf8_lossy(json).trim_end()))
}

/// Writes a value as JSON, on one line.
///
/// # Errors
/// As [`write()`].
pub(super) fn write_as_json(value: &impl Serialize) -> Result<u8, Failure> {
    let json = serde_json::to_vec(value)
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot write JSON: {error}")))?;
    write_json(&json)
}

/// Writes what this program is.
///
/// # Errors
/// As [`write()`].
pub(super) fn write_version() -> Result<u8, Failure> {
    write(concat!("semaphorectl ", env!("CARGO_PKG_VERSION"), "\n"))
}
