//! Backups: one at a time, bounded in time, given up when the service stops.
//!
//! A [`BackupTurn`] is the right to make one; it is taken at once or refused, so that nobody waits for another's
//! backup. It lasts until the copy has been read, because so long the disk has less room.

use std::{
    io,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{Peer, Service, Shared};
use crate::{
    model::Revision,
    storage::{Snapshot, SnapshotError, SnapshotOptions},
};

/// How long copying may take.
const COPY_TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// How long reading the copy may take, however slow the client's network is.
const READ_TIME_MAX: Duration = Duration::from_secs(30 * 60);

/// Why there is no backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupRefusal {
    /// Another one is under way.
    Running,
    /// The disk is too full.
    NoSpace {
        /// What it needs, with what has to stay free.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// The service is about to stop.
    Stopping,
    /// It failed, and the log says how.
    Failed,
}

/// The right to make a backup; nobody else has it meanwhile.
pub struct BackupTurn {
    shared: Arc<Shared>,
}

/// A backup, to be read.
pub struct BackupFile {
    turn: BackupTurn,
    snapshot: Snapshot,
    deadline: Instant,
}

impl Service {
    /// Takes the turn to make a backup.
    ///
    /// # Errors
    /// When another one is under way, or the service stops.
    pub fn begin_backup(&self) -> Result<BackupTurn, BackupRefusal> {
        let shared = &self.shared;
        if shared.state.lock().is_stopping() {
            return Err(BackupRefusal::Stopping);
        }
        if shared.is_backing_up.swap(true, Ordering::AcqRel) {
            return Err(BackupRefusal::Running);
        }
        Ok(BackupTurn { shared: Arc::clone(shared) })
    }
}

impl BackupTurn {
    /// Copies all that is committed by now, or until `peer` is gone. Blocks.
    ///
    /// # Errors
    /// When the disk has no room, the service stops, or it fails.
    pub fn copy(self, peer: Option<&Peer>) -> Result<BackupFile, BackupRefusal> {
        let started_at = Instant::now();
        let is_wanted = || !self.is_stopping() && !peer.is_some_and(Peer::has_hung_up);
        let snapshot = self.shared.history.snapshot(&SnapshotOptions {
            free_bytes_min: self.shared.options.free_bytes_min,
            time_max: COPY_TIME_MAX,
            is_wanted: &is_wanted,
        });
        let snapshot = snapshot.map_err(|error| match error {
            SnapshotError::NoSpace { needed_bytes, free_bytes } => {
                log::warn!("no backup: {error}");
                BackupRefusal::NoSpace { needed_bytes, free_bytes }
            }
            SnapshotError::Unwanted => {
                log::info!("a backup was given up: its client is gone, or the service stops");
                BackupRefusal::Stopping
            }
            SnapshotError::TooSlow { .. }
            | SnapshotError::Unsupported
            | SnapshotError::Storage(_) => {
                log::error!("the backup failed, and nothing else did: {error}");
                BackupRefusal::Failed
            }
        })?;
        let took = started_at.elapsed();
        log::info!(
            "a backup of {} bytes at revision {} was copied in {took:.1?}",
            snapshot.bytes,
            snapshot.revision
        );
        Ok(BackupFile { turn: self, snapshot, deadline: Instant::now() + READ_TIME_MAX })
    }

    fn is_stopping(&self) -> bool {
        self.shared.state.lock().is_stopping()
    }
}

impl Drop for BackupTurn {
    fn drop(&mut self) {
        self.shared.is_backing_up.store(false, Ordering::Release);
    }
}

impl BackupFile {
    /// Its length.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.snapshot.bytes
    }

    /// The last change in it: durable, since it was read from the disk.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.snapshot.revision
    }

    /// Reads some of it from `offset` on.
    ///
    /// # Errors
    /// When the disk fails, reading takes too long altogether, or the service stops.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if Instant::now() >= self.deadline {
            let what = format!("the client took longer than {READ_TIME_MAX:?} for a backup");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        if self.turn.is_stopping() {
            return Err(io::Error::other("the service stops in the middle of a backup"));
        }
        self.snapshot.file.read_at(buffer, offset)
    }
}
