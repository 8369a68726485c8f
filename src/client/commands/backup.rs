//! `semaphorectl backup`: the service's database of this moment, as a file.

use std::{cell::RefCell, ffi::OsString, path::PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use super::ids;
use crate::{
    cli::Program,
    client::{
        Failure,
        args::{self, CommandLine, JsonArgs},
        download,
        http::{Answer, Download},
        options::PATIENCE_NONE,
        output,
        progress::Reporter,
        replies::unreadable,
    },
};

/// The output that is no file.
const STANDARD_OUTPUT: &str = "-";

/// Saves the service's database of this moment: semaphores, claims and history, while the service goes on.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphorectl backup --output /backup/semaphored.db --force",
    example = "semaphorectl backup --output - | ssh other 'cat > semaphored.db'",
    note = "To put it back: stop the daemon, `semaphored --restore FILE`, start it.",
    note = "Everything that the service answered before this command is in it. The file is for\n\
            you alone (mode 0600), and is not there before it is whole.",
    note = "Exit codes: 0; 65 refused, as for want of disk space there; 74 the file cannot be\n\
            written, or is there and --force is not; 75 another backup is under way; 64, 69,\n\
            70, 77 and 78 as in `semaphorectl help exit-codes`."
)]
pub(super) struct BackupArgs {
    /// where to: a file, a directory, or - for standard output (semaphored-REVISION.db)
    #[argh(option, arg_name = "FILE")]
    output: Option<String>,
    /// replace a file that is there
    #[argh(switch)]
    force: bool,
}

impl CommandLine for BackupArgs {
    type Shared = JsonArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl backup", rest: None };
}

/// What was saved.
#[derive(Serialize)]
struct Saved {
    file: String,
    bytes: u64,
    revision: u64,
}

/// `semaphorectl backup` with its arguments.
///
/// # Errors
/// A wrong command line, a service out of reach or that refuses, a file that cannot be written.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: BackupArgs, shared, service, _| {
        let mut path = own.output.as_ref().map(PathBuf::from);
        if let Some(path) = path.as_ref().filter(|path| !path.is_dir()) {
            // Before anything is copied.
            download::refuse_existing(path, own.force || own.output.as_deref() == Some("-"))?;
        }
        let mut service = ids::open(service, PATIENCE_NONE)?;
        let begun = RefCell::new(None);
        let answer = service.ask(|connection| {
            Ok(match connection.backup()? {
                Ok(download) => {
                    begun.replace(Some(download));
                    Answer { status: 200, ..Answer::default() }
                }
                Err(refusal) => refusal,
            })
        })?;
        let found = begun.take().and_then(|download| Some((download.revision?, download)));
        let (revision, download): (u64, Download) = found.ok_or_else(|| unreadable(&answer))?;
        if own.output.as_deref() == Some(STANDARD_OUTPUT) {
            let bytes = download::to_output(download)?;
            let saved = Saved { file: STANDARD_OUTPUT.to_owned(), bytes, revision };
            // Standard output is the database's.
            Reporter::new(shared.json).note(&saved.describe());
            return Ok(crate::cli::exit::OK);
        }
        let name = format!("semaphored-{revision}.db");
        let path = match path.take() {
            Some(path) if path.is_dir() => path.join(name),
            Some(path) => path,
            None => PathBuf::from(name),
        };
        let bytes = download::to_file(download, &path, own.force)?;
        let saved = Saved { file: path.display().to_string(), bytes, revision };
        if shared.json {
            return output::write_as_json(&saved);
        }
        output::write(&format!("{}\n", saved.describe()))
    })
}

impl Saved {
    fn describe(&self) -> String {
        format!("{}: {} bytes, all up to revision {}", self.file, self.bytes, self.revision)
    }
}
