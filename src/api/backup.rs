//! The call for a backup.

use std::{io, sync::Arc};

use super::{
    Answer, Api, Blocked, Error, Handled, Outcome, Peer, Reply, Step,
    access::Admitted,
    call::{Content, Download},
    query::Query,
};
use crate::{
    model::Revision,
    semaphore::{BackupFile, BackupRefusal, BackupTurn},
};

/// A backup's media type, as IANA has it.
const MEDIA_TYPE: &str = "application/vnd.sqlite3";

impl Api {
    /// Refused at once where another backup is under way; else it takes a thread that may block.
    pub(super) fn backup(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let turn = self.service.begin_backup().map_err(refused)?;
        self.note_act(call)?;
        Ok(Step::Blocked(Box::new(BlockedBackup { turn, peer: call.peer.clone() })))
    }
}

struct BlockedBackup {
    turn: BackupTurn,
    peer: Option<Arc<Peer>>,
}

impl Blocked for BlockedBackup {
    fn wait(self: Box<Self>) -> Reply {
        match self.turn.copy(self.peer.as_deref()) {
            Ok(file) => reply(file),
            Err(refusal) => refused(refusal),
        }
    }
}

/// The reply waits for no commit: what is in the file was read from the disk.
fn reply(file: BackupFile) -> Reply {
    let revision = file.revision();
    let download = Download {
        bytes: file.bytes(),
        media_type: MEDIA_TYPE,
        file_name: format!("semaphored-{revision}.db"),
        content: Arc::new(file),
    };
    let answer =
        Answer { download: Some(Box::new(download)), ..Answer::new(Outcome::Ok, None, revision) };
    Reply { result: Ok(answer), after: Revision(0) }
}

fn refused(refusal: BackupRefusal) -> Reply {
    Reply::from(match refusal {
        BackupRefusal::Running => Error::BackupRunning,
        BackupRefusal::NoSpace { needed_bytes, free_bytes } => {
            Error::BackupNoSpace { needed_bytes, free_bytes }
        }
        BackupRefusal::Stopping => Error::Stopping,
        BackupRefusal::Failed => Error::Internal,
    })
}

impl Content for BackupFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        BackupFile::read_at(self, buffer, offset)
    }
}
