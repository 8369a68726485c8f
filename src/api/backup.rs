//! The call for a backup.

use std::{io, sync::Arc};

use super::{
    Answer, Api, Blocked, Error, Handled, Outcome, Peer, Reply, Step,
    access::{Admitted, Caller},
    call::{Content, Download},
    query::Query,
};
use crate::{
    model::{AuditEntry, Revision},
    semaphore::{BackupFile, BackupRefusal, BackupTurn},
};

/// A backup's media type, as IANA has it.
const MEDIA_TYPE: &str = "application/vnd.sqlite3";

impl Api {
    /// Refused at once where another backup is under way; else it takes a thread that may block.
    pub(super) fn backup(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let turn = self.service.begin_backup().map_err(refused)?;
        let (api, caller, row) = (self.clone(), call.caller.clone(), call.act(None));
        Ok(Step::Blocked(Box::new(BlockedBackup {
            api,
            caller,
            row,
            turn,
            peer: call.peer.clone(),
        })))
    }
}

struct BlockedBackup {
    api: Api,
    caller: Caller,
    row: Option<Box<AuditEntry>>,
    turn: BackupTurn,
    peer: Option<Arc<Peer>>,
}

impl BlockedBackup {
    fn copy(self) -> Result<Reply, Reply> {
        let file = self.turn.copy(self.peer.as_deref()).map_err(refused)?;
        // It took a while: whoever may not have it now gets nothing.
        let caller = self.api.present(&self.caller)?;
        let noted = self.api.note_act(&caller, self.row)?;
        Ok(reply(file, noted))
    }
}

impl Blocked for BlockedBackup {
    fn wait(self: Box<Self>) -> Reply {
        self.copy().unwrap_or_else(|refused| refused)
    }
}

/// The reply waits for the row of the audit log: what is in the file was read from the disk.
fn reply(file: BackupFile, noted: Revision) -> Reply {
    let revision = file.revision();
    let download = Download {
        bytes: file.bytes(),
        media_type: MEDIA_TYPE,
        file_name: format!("semaphored-{revision}.db"),
        content: Arc::new(file),
    };
    let answer =
        Answer { download: Some(Box::new(download)), ..Answer::new(Outcome::Ok, None, revision) };
    Reply { result: Ok(answer), after: noted }
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
