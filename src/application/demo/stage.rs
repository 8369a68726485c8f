//! What is known of a job.

use crate::{
    model::{Claim, ClaimId, ClaimState, EndReason, WallTime},
    semaphore::{Asker, ClaimLook, Service},
};

/// A job and its claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) id: Option<ClaimId>,
    pub(super) stage: Stage,
    pub(super) killed: bool,
}

/// Where a job stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Unstarted,
    Started,
    Waiting {
        queued_at: WallTime,
        position: usize,
    },
    Held {
        queued_at: WallTime,
        granted_at: WallTime,
        fence: u64,
    },
    Ended {
        queued_at: WallTime,
        /// When it had its permit, if it ever did.
        granted_at: Option<WallTime>,
        ended_at: WallTime,
        fence: Option<u64>,
        sequence: u64,
        reason: EndReason,
    },
}

impl Record {
    /// Notes how the job's claim stands.
    pub(super) fn update(&mut self, claim: &Claim, position: Option<usize>) {
        let queued_at = claim.queued_at;
        // The licence that all jobs share comes last by name.
        let fence = claim.fences().and_then(|fences| fences.last()).map(|fence| fence.0);
        self.stage = match &claim.state {
            ClaimState::Waiting | ClaimState::Offered { .. } => {
                Stage::Waiting { queued_at, position: position.unwrap_or(1) }
            }
            ClaimState::Held { granted_at, .. } => {
                Stage::Held { queued_at, granted_at: *granted_at, fence: fence.unwrap_or(0) }
            }
            ClaimState::Ended { reason, ended_at, granted_at, .. } => Stage::Ended {
                queued_at,
                granted_at: *granted_at,
                ended_at: *ended_at,
                fence,
                sequence: claim.sequence.0,
                reason: *reason,
            },
        };
    }

    /// Notes the end of a claim that is not listed any more.
    pub(super) fn look_for_end(&mut self, service: &Service) {
        let Some(id) = &self.id else { return };
        if matches!(self.stage, Stage::Ended { .. }) {
            return;
        }
        if let Ok(seen) = service.look(id, &Asker::default())
            && let ClaimLook::Ended(claim) = seen.what
        {
            self.update(&claim, None);
        }
    }
}
