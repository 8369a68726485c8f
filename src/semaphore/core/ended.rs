//! Ids of ended claims: an id that was used is answered with "gone" and never grants a second time.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::model::{ClaimId, EndReason, EndedId, IdHash, WallTime};

/// How long an ended id is remembered.
pub const ENDED_REMEMBERED: Duration = Duration::from_secs(24 * 3_600);

/// Ended ids of the last 24 h, and at most so many. The hash map is only ever looked up in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EndedIds {
    by_hash: HashMap<IdHash, (EndReason, WallTime)>,
    oldest_first: VecDeque<(IdHash, WallTime)>,
    ids_max: usize,
}

impl EndedIds {
    pub(super) fn new(ids_max: usize) -> EndedIds {
        EndedIds { by_hash: HashMap::new(), oldest_first: VecDeque::new(), ids_max }
    }

    pub(super) fn remember(&mut self, ended: EndedId) {
        self.by_hash.insert(ended.hash, (ended.reason, ended.ended_at));
        self.oldest_first.push_back((ended.hash, ended.ended_at));
        if self.oldest_first.len() > self.ids_max {
            self.forget_oldest();
        }
    }

    /// Forgets what is older than 24 h.
    pub(super) fn forget(&mut self, now: WallTime) {
        while self
            .oldest_first
            .front()
            .is_some_and(|(_, ended_at)| now.since(*ended_at) > ENDED_REMEMBERED)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((hash, ended_at)) = self.oldest_first.pop_front() {
            // The same id may have ended again since, when it was forgotten before.
            if self.by_hash.get(&hash).is_some_and(|(_, at)| *at == ended_at) {
                self.by_hash.remove(&hash);
            }
        }
    }

    pub(super) fn find(&self, id: &ClaimId) -> Option<(EndReason, WallTime)> {
        self.by_hash.get(&IdHash::of(id)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_for_a_day_and_so_many() {
        let id = |text: &str| ClaimId::new(text).unwrap();
        let ended = |text: &str, at| EndedId {
            hash: IdHash::of(&id(text)),
            reason: EndReason::Released,
            ended_at: WallTime(at),
        };
        let mut ids = EndedIds::new(2);
        for (text, at) in [("a", 0), ("b", 1), ("c", 2)] {
            ids.remember(ended(text, at));
        }
        assert_eq!(ids.find(&id("a")), None, "the bound is two");
        assert_eq!(ids.find(&id("b")), Some((EndReason::Released, WallTime(1))));
        ids.forget(WallTime(24 * 3_600_000 + 1));
        assert!(ids.find(&id("b")).is_some(), "exactly 24 h are still remembered");
        ids.forget(WallTime(24 * 3_600_000 + 2));
        assert_eq!((ids.find(&id("b")), ids.find(&id("c")).is_some()), (None, true));
    }
}
