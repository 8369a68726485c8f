//! Which delivery is to be tried when: pure, time is a parameter.
//!
//! Each target has a *lane*: a queue of its own, so many deliveries at the same time, and a breaker. What is slow or
//! dead fills its own lane and delays no other.
//!
//! A delivery is tried at once, then about 5, 15, 30 and 60 s later, then once a minute, for as long as its offer
//! stands; who asks finds out whether it does. After [`FAILURES_MAX`] failures in a row that are the
//! receiver's own (no answer, or one that says so) the breaker *opens*: for [`OPEN_FOR`] a lane does not
//! repeat anything, then tries one delivery, which closes or opens it again (Nygard, "Release It!", circuit
//! breaker). First tries go out all the same, in the order in which they are due, so that a claim does not end without
//! one because of others that failed. A receiver that says `Retry-After` gets nothing at all until then; an offer
//! that does not stand for so long ends without a try.
//!
//! Invariants: a delivery is in its lane's waiting sets exactly if it does not run; a lane runs at most
//! [`LANE_RUNNING_MAX`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::RangeMut},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::model::{DELIVERIES_MAX, Sequence};

/// Deliveries of one lane at the same time.
pub(super) const LANE_RUNNING_MAX: usize = 4;
/// Failures in a row that open a lane's breaker.
const FAILURES_MAX: u32 = 5;
/// How long an open lane repeats nothing.
const OPEN_FOR: Duration = Duration::from_secs(30);
/// Longest `Retry-After` that is honoured: no offer stands for longer.
const PAUSE_MAX: Duration = Duration::from_secs(3_600);
/// Seconds between a try and the next one; the last goes on.
const GAPS_S: [u64; 5] = [5, 10, 15, 30, 60];
/// How much of a gap is left to chance, so that deliveries that failed together do not come back together.
const JITTER_PART: f64 = 0.2;

/// The name of a lane.
pub(super) type LaneName = Arc<str>;

/// What came of a try, as far as the next one goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// It came through.
    Delivered,
    /// The receiver wants no more of it, or its offer does not stand any more.
    Gone,
    /// It was not sent, for want of means of this machine: that is no try.
    NotSent,
    /// It did not come through.
    Failed {
        /// What that says of the receiver.
        health: Health,
        /// How long the receiver wants to be left alone.
        retry_after: Option<Duration>,
    },
}

/// What a try says of its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It answers, and does not want this one.
    Well,
    /// It does not answer, or says that it cannot.
    Ill,
    /// Nothing: there is nothing that could be sent to it.
    Unknown,
}

/// A lane as people look at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneStatus {
    /// Deliveries that wait or run.
    pub queued: usize,
    /// Whether its breaker is open.
    pub is_open: bool,
}

/// All deliveries that are not over.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    lanes: BTreeMap<LaneName, Lane>,
    /// The lane that had its turn last; the empty name stands before all lanes.
    served: LaneName,
    deliveries: HashMap<Sequence, Planned>,
}

#[derive(Debug)]
struct Planned {
    lane: LaneName,
    tries: usize,
    /// When it is to be tried; `None` while it runs.
    due: Option<Instant>,
    /// It was asked for while it ran.
    is_asked: bool,
    /// It came through before, or its receiver wants no more of it: it is tried when somebody asks, not again by itself.
    is_over: bool,
}

/// In which order what waits comes: see the module's text.
#[derive(Debug, Default)]
struct Lane {
    running: usize,
    /// Asked for by people, and first tries.
    first: BTreeSet<(Instant, Sequence)>,
    /// Repetitions.
    again: BTreeSet<(Instant, Sequence)>,
    paused_until: Option<Instant>,
    failures: u32,
    /// Set while the breaker is not closed.
    open_until: Option<Instant>,
    /// The delivery that finds out whether an open lane can be closed.
    probe: Option<Sequence>,
}

impl Schedule {
    /// Plans a delivery that was tried so often before; one that is planned already stays as it is.
    pub(super) fn add(&mut self, sequence: Sequence, lane: LaneName, tries: usize, now: Instant) {
        if self.deliveries.contains_key(&sequence) || tries >= DELIVERIES_MAX {
            return;
        }
        let lane_of = self.lanes.entry(Arc::clone(&lane)).or_default();
        lane_of.waiting(tries).insert((now, sequence));
        let due = Some(now);
        let planned = Planned { lane, tries, due, is_asked: false, is_over: false };
        self.deliveries.insert(sequence, planned);
    }

    /// Plans a delivery for now because somebody asks for it, whatever the breaker says. One that `is_over` is tried this
    /// once.
    pub(super) fn ask(
        &mut self,
        sequence: Sequence,
        lane: LaneName,
        (tries, is_over): (usize, bool),
        now: Instant,
    ) {
        if let Some(planned) = self.deliveries.get_mut(&sequence) {
            let Some(due) = planned.due else {
                planned.is_asked = true;
                return;
            };
            if let Some(lane) = self.lanes.get_mut(&planned.lane) {
                lane.remove(due, sequence);
                lane.first.insert((now, sequence));
            }
            planned.due = Some(now);
            return;
        }
        self.lanes.entry(Arc::clone(&lane)).or_default().first.insert((now, sequence));
        let planned = Planned { lane, tries, due: Some(now), is_asked: false, is_over };
        self.deliveries.insert(sequence, planned);
    }

    /// The offer of a delivery does not stand any more.
    pub(super) fn remove(&mut self, sequence: Sequence) {
        let Some(planned) = self.deliveries.get_mut(&sequence) else { return };
        let Some(due) = planned.due else {
            (planned.is_over, planned.is_asked) = (true, false);
            return;
        };
        let name = Arc::clone(&planned.lane);
        self.deliveries.remove(&sequence);
        if let Some(lane) = self.lanes.get_mut(&name) {
            lane.remove(due, sequence);
        }
        self.tidy(&name);
    }

    /// A delivery that is to be tried now; it runs from here on, until [`Schedule::done`].
    pub(super) fn next(&mut self, now: Instant) -> Option<Sequence> {
        // In turns, so that lanes whose names come late are not last each time.
        let served = std::mem::take(&mut self.served);
        let first_of = |mut lanes: RangeMut<'_, LaneName, Lane>| {
            lanes.find_map(|(name, lane)| Some((Arc::clone(name), lane.next(now)?)))
        };
        let (name, sequence) = first_of(
            self.lanes.range_mut::<str, _>((Excluded(&*served), Unbounded)),
        )
        .or_else(|| first_of(self.lanes.range_mut::<str, _>((Unbounded, Included(&*served)))))?;
        self.served = name;
        if let Some(planned) = self.deliveries.get_mut(&sequence) {
            planned.due = None;
        }
        Some(sequence)
    }

    /// When [`Schedule::next`] may have something, as it looks now.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lanes.values().filter_map(Lane::next_due).min()
    }

    /// When a delivery is to be tried next, if its lane lets it.
    pub(super) fn due(&self, sequence: Sequence) -> Option<Instant> {
        let planned = self.deliveries.get(&sequence)?;
        let lane = self.lanes.get(&planned.lane)?;
        let due = planned.due?;
        let held_until = if lane.again.contains(&(due, sequence)) { lane.open_until } else { None };
        Some(due.max(lane.paused_until.unwrap_or(due)).max(held_until.unwrap_or(due)))
    }

    /// A running delivery was tried. `chance` is from 0 to 1.
    pub(super) fn done(&mut self, sequence: Sequence, tried: Tried, now: Instant, chance: f64) {
        let Some(mut planned) = self.take_running(sequence) else { return };
        let name = Arc::clone(&planned.lane);
        let Some(lane) = self.lanes.get_mut(&name) else { return };
        let was_probe = lane.probe.take_if(|probe| *probe == sequence).is_some();
        planned.tries += usize::from(tried != Tried::NotSent);
        match tried {
            Tried::Delivered => {
                lane.close();
                // Who asked for it while it ran has what he wanted; once more would start the job twice.
                planned.is_asked = false;
            }
            Tried::Gone | Tried::NotSent => {}
            Tried::Failed { health, retry_after } => {
                match health {
                    Health::Well => lane.close(),
                    Health::Ill => lane.fail(was_probe, now),
                    Health::Unknown => {}
                }
                let pause = retry_after.map(|pause| now + pause.min(PAUSE_MAX));
                lane.paused_until = lane.paused_until.max(pause);
            }
        }
        planned.is_over |= matches!(tried, Tried::Delivered | Tried::Gone);
        if planned.is_asked {
            planned.is_asked = false;
            planned.due = Some(now);
            lane.first.insert((now, sequence));
        } else if tried == Tried::NotSent {
            // Also what was asked for and is over else: nobody has been called.
            let due = now + gap(1, chance);
            planned.due = Some(due);
            lane.first.insert((due, sequence));
        } else if planned.is_over || planned.tries >= DELIVERIES_MAX {
            self.tidy(&name);
            return;
        } else {
            let due = now + gap(planned.tries, chance);
            planned.due = Some(due);
            lane.again.insert((due, sequence));
        }
        self.deliveries.insert(sequence, planned);
    }

    /// What a lane does.
    pub(super) fn status(&self, lane: &str) -> LaneStatus {
        self.lanes.get(lane).map_or_else(LaneStatus::default, |lane| LaneStatus {
            queued: lane.running + lane.first.len() + lane.again.len(),
            is_open: lane.open_until.is_some(),
        })
    }

    fn take_running(&mut self, sequence: Sequence) -> Option<Planned> {
        if self.deliveries.get(&sequence)?.due.is_some() {
            return None;
        }
        let planned = self.deliveries.remove(&sequence)?;
        if let Some(lane) = self.lanes.get_mut(&planned.lane) {
            lane.running -= 1;
        }
        Some(planned)
    }

    /// Forgets a lane that has nothing to do and nothing to remember.
    fn tidy(&mut self, name: &LaneName) {
        let is_idle = |lane: &Lane| {
            lane.running + lane.first.len() + lane.again.len() == 0
                && lane.failures == 0
                && lane.paused_until.is_none()
        };
        if self.lanes.get(name).is_some_and(is_idle) {
            self.lanes.remove(name);
        }
    }
}

impl Lane {
    fn waiting(&mut self, tries: usize) -> &mut BTreeSet<(Instant, Sequence)> {
        if tries == 0 { &mut self.first } else { &mut self.again }
    }

    fn remove(&mut self, due: Instant, sequence: Sequence) {
        if !self.first.remove(&(due, sequence)) {
            self.again.remove(&(due, sequence));
        }
    }

    fn next(&mut self, now: Instant) -> Option<Sequence> {
        if self.running >= LANE_RUNNING_MAX || self.paused_until.is_some_and(|until| until > now) {
            return None;
        }
        self.paused_until = None;
        let is_due = |set: &BTreeSet<(Instant, Sequence)>| {
            set.first().filter(|(due, _)| *due <= now).copied()
        };
        let may_repeat = self.open_until.is_none_or(|until| until <= now && self.probe.is_none());
        let again = is_due(&self.again).filter(|_| may_repeat);
        let next = match (is_due(&self.first), again) {
            (Some(first), Some(again)) => first.min(again),
            (first, again) => first.or(again)?,
        };
        let (_, sequence) = next;
        if !self.first.remove(&next) {
            self.again.remove(&next);
            if self.open_until.is_some() {
                self.probe = Some(sequence);
            }
        }
        self.running += 1;
        Some(sequence)
    }

    fn next_due(&self) -> Option<Instant> {
        if self.running >= LANE_RUNNING_MAX {
            return None;
        }
        let first = self.first.first().map(|(due, _)| *due);
        let again = self.again.first().filter(|_| self.probe.is_none()).map(|(due, _)| *due);
        let again = again.map(|due| due.max(self.open_until.unwrap_or(due)));
        let due = first.into_iter().chain(again).min()?;
        Some(due.max(self.paused_until.unwrap_or(due)))
    }

    fn close(&mut self) {
        self.failures = 0;
        self.open_until = None;
        self.probe = None;
    }

    fn fail(&mut self, was_probe: bool, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        let is_closed = self.open_until.is_none();
        if was_probe || (is_closed && self.failures >= FAILURES_MAX) {
            self.open_until = Some(now + OPEN_FOR);
        }
    }
}

/// How long after its `tries`th try a delivery is tried again.
fn gap(tries: usize, chance: f64) -> Duration {
    let at = tries.saturating_sub(1).min(GAPS_S.len() - 1);
    let spread = 1.0 + JITTER_PART * (chance.clamp(0.0, 1.0) - 0.5);
    Duration::from_secs(GAPS_S[at]).mul_f64(spread)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
