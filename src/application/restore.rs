//! `semaphored --restore FILE`: a backup takes the place of the database, with no daemon running.
//!
//! What is done and why nothing is given out twice is in [`crate::storage::sqlite::restore`]; here is what is said
//! about it, and that the state in the backup is one that the service could start from.

use std::{fmt::Write as _, fs::File, path::Path};

use super::{Failure, clock};
use crate::{
    cli::exit,
    semaphore::{Clock, check_recovered},
    storage::{
        Error,
        sqlite::{self, MARGIN, Restored},
    },
};

/// There is no such file, or it cannot be read (`EX_NOINPUT` of `sysexits.h`).
const NO_INPUT: u8 = 66;

/// Restores, and returns what there is to say about it.
///
/// # Errors
/// 66 without the file, 65 when it is no good, 75 while a daemon runs, 74 when the system fails. But for the last,
/// and for that only once the file was found good, nothing has been changed.
pub(super) fn restore(data_dir: &Path, file: &Path) -> Result<String, Failure> {
    check_input(file)?;
    let now = clock::MachineClock::new().now();
    let check = |recovered| check_recovered(recovered, now).map_err(|error| error.to_string());
    let restored =
        sqlite::restore(data_dir, file, now.wall, check).map_err(|error| failure(&error))?;
    Ok(report(file, &restored))
}

fn check_input(file: &Path) -> Result<(), Failure> {
    let unreadable = |what: String| {
        let message = format!("cannot read the backup {}: {what}", file.display());
        Failure::new(NO_INPUT, &message)
    };
    let metadata = File::open(file).and_then(|file| file.metadata());
    let metadata = metadata.map_err(|error| unreadable(error.to_string()))?;
    if metadata.is_file() { Ok(()) } else { Err(unreadable("it is not a file".to_owned())) }
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Damaged { path, what } => {
            let advice = "nothing was changed; restore another backup";
            Failure::new(exit::REFUSED, &format!("{path} is damaged: {what}: {advice}"))
        }
        Error::Newer { path, found, known } => {
            let message = format!(
                "the backup {path} has schema version {found}, and this semaphored knows up to {known}: restore it with \
                 the version that made it or a newer one; nothing was changed"
            );
            Failure::new(exit::REFUSED, &message)
        }
        Error::Foreign { .. } => {
            Failure::new(exit::REFUSED, &format!("{error}; nothing was changed"))
        }
        Error::InUse { .. } => {
            Failure::new(exit::NO_PERMIT, &format!("{error}; stop it first, nothing was changed"))
        }
        Error::Exposed { .. } => Failure::new(exit::CONFIGURATION, error),
        _ => Failure::new(exit::IO, error),
    }
}

/// What whoever restored it has to know, at 3 in the morning too.
fn report(file: &Path, restored: &Restored) -> String {
    let Restored { backup, present, unreadable, floors, aside, .. } = restored;
    let mut text = format!("restored {}\n", file.display());
    let mut line = |name: &str, what: String| {
        // Writing to memory cannot fail.
        let _ = writeln!(text, "  {name:<12}{what}");
    };
    let before = match present {
        Some(present) if present.revision > 0 => {
            format!("; the database that was here had {}", present.revision)
        }
        Some(_) => "; of the database that was here it is unknown".to_owned(),
        None => "; there was no database here".to_owned(),
    };
    line("revision", format!("{} in the backup{before}", backup.revision));
    line("semaphores", restored.semaphores.to_string());
    let Restored { held, offered, waiting, .. } = restored;
    line("claims", format!("{held} held, {offered} offered, {waiting} waiting"));
    if restored.tokens > 0 {
        let tokens = restored.tokens;
        line(
            "tokens",
            format!("{tokens}, as at the backup: what was revoked since is valid again"),
        );
    }
    let high = format!("{MARGIN} above the highest known, so that nothing is given out twice:");
    line("raised", high);
    line("", format!("the next revision is above {},", floors.revision));
    line("", format!("the next fence above {}, of every semaphore,", floors.fence));
    line("", format!("the next claim's number above {}", floors.sequence));
    if let Some(first) = unreadable.first() {
        let more = match unreadable.len() {
            1 => String::new(),
            number => format!(" (and {} more)", number - 1),
        };
        line("unreadable", format!("in the database that was here: {first}{more}"));
    }
    if let Some(aside) = aside {
        line("kept", format!("{} is the database that was here", aside.display()));
    }
    text.push_str(
        "Start the daemon now. Claims that were held at the backup are held again, with a full lease; jobs that\n\
         ended since hold their permits until that is over: `semaphorectl claims` lists them, `revoke` ends them.\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::storage::sqlite::Highest;

    #[test]
    fn the_report_names_every_number_and_file() {
        let restored = Restored {
            backup: Highest { revision: 11, sequence: 12, fence: 13 },
            present: Some(Highest { revision: 21, sequence: 22, fence: 23 }),
            unreadable: vec!["page 5".into(), "page 6".into()],
            floors: Highest { revision: 31, sequence: 32, fence: 33 },
            aside: Some(PathBuf::from("/d/old")),
            semaphores: 4,
            tokens: 8,
            held: 5,
            offered: 6,
            waiting: 7,
        };
        let text = report(Path::new("/b/x.db"), &restored);
        for expected in [
            "restored /b/x.db",
            "11 in the backup; the database that was here had 21",
            "8, as at the backup",
            "5 held, 6 offered, 7 waiting",
            "above 31,",
            "above 33,",
            "above 32",
            "page 5 (and 1 more)",
            "/d/old is",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let nothing = Restored { present: None, unreadable: vec![], aside: None, ..restored };
        let text = report(Path::new("/b/x.db"), &nothing);
        assert!(text.contains("there was no database here") && !text.contains("kept"), "{text}");
    }
}
