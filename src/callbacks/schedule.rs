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
//! one because of others that failed. Failures are forgotten, and the breaker closes, when a lane has had nothing to do and
//! [`OPEN_FOR`] has gone by since the last one: nobody would try whether it still fails.
//!
//! A delivery of which it is not known how its last try ended, after a start of this process, waits for a gap as if that
//! had failed, but for half of what is left of its offer at most: the job may be about to start, and then confirms first.
//!
//! A receiver that says `Retry-After` *pauses* its lane: nothing goes there until then, but for two things. What somebody
//! asks for goes out. And a first try goes out at once when the pause would take more than half of the time for which its
//! offer stands: a job needs the rest to start and confirm, and no offer ends without one try because of a pause. A pause
//! ends before its time when a call comes through.
//!
//! Invariants: a delivery waits in its lane exactly if it does not run; a lane runs at most [`LANE_RUNNING_MAX`].

use std::{
    collections::{BTreeMap, HashMap, btree_map::RangeMut},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
    time::{Duration, Instant},
};

use super::waiting::{Kind, Waiting, Waits};
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
    /// How long it is paused still, if it is.
    pub paused_for: Option<Duration>,
}

/// What delays a delivery that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Its receiver said `Retry-After`.
    Pause,
    /// Its receiver has failed often.
    Breaker,
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
    kind: Kind,
    /// When it is to be tried; `None` while it runs.
    due: Option<Instant>,
    /// The latest end of a pause that holds its first try.
    patient_until: Instant,
    /// It was asked for while it ran.
    is_asked: bool,
    /// It came through before, or its receiver wants no more of it: it is tried when somebody asks, not again by itself.
    is_over: bool,
}

/// In which order what waits comes: see the module's text.
#[derive(Debug, Default)]
struct Lane {
    running: usize,
    waiting: Waiting,
    paused_until: Option<Instant>,
    failures: u32,
    /// When the failures are forgotten, if there is nothing to do.
    failures_until: Option<Instant>,
    /// Set while the breaker is not closed.
    open_until: Option<Instant>,
    /// The delivery that finds out whether an open lane can be closed.
    probe: Option<Sequence>,
}

impl Schedule {
    /// Plans a delivery that was tried so often before, for an offer that stands until then; one that is planned already
    /// stays as it is.
    pub(super) fn add(
        &mut self,
        sequence: Sequence,
        lane: LaneName,
        (tries, stands_until): (usize, Instant),
        now: Instant,
    ) {
        self.forget_failures(&lane, now);
        let kind = if tries == 0 { Kind::First } else { Kind::Again };
        self.plan_new(sequence, lane, (kind, tries, half_way(stands_until, now)), now);
    }

    /// Like [`Schedule::add`] for one whose last try may have started its job a moment ago. `chance` is from 0 to 1.
    pub(super) fn resume(
        &mut self,
        sequence: Sequence,
        lane: LaneName,
        (tries, stands_until): (usize, Instant),
        now: Instant,
        chance: f64,
    ) {
        self.forget_failures(&lane, now);
        let patient_until = half_way(stands_until, now);
        let due = patient_until.min(now + gap(tries, chance));
        // Nobody may have got that last call: so no pause holds this one beyond its time.
        self.plan_new(sequence, lane, (Kind::First, tries, patient_until), due);
    }

    fn plan_new(
        &mut self,
        sequence: Sequence,
        lane: LaneName,
        (kind, tries, patient_until): (Kind, usize, Instant),
        due: Instant,
    ) {
        if self.deliveries.contains_key(&sequence) || tries >= DELIVERIES_MAX {
            return;
        }
        let (is_asked, is_over) = (false, false);
        let planned = Planned { lane, tries, kind, due: None, patient_until, is_asked, is_over };
        self.plan(sequence, planned, due);
    }

    /// Plans a delivery for now because somebody asks for it, whatever the breaker and a pause say. One that `is_over` is
    /// tried this once.
    pub(super) fn ask(
        &mut self,
        sequence: Sequence,
        lane: LaneName,
        (tries, is_over): (usize, bool),
        now: Instant,
    ) {
        self.forget_failures(&lane, now);
        let kind = Kind::Asked;
        if let Some(planned) = self.deliveries.get_mut(&sequence)
            && planned.due.is_none()
        {
            planned.is_asked = true;
            return;
        }
        let planned = match self.take_waiting(sequence) {
            Some(planned) => Planned { kind, ..planned },
            None => Planned {
                lane,
                tries,
                kind,
                due: None,
                patient_until: now,
                is_asked: false,
                is_over,
            },
        };
        self.plan(sequence, planned, now);
    }

    /// The deliveries that wait.
    pub(super) fn waiting(&self) -> Vec<Sequence> {
        let waits = self.deliveries.iter().filter(|(_, planned)| planned.due.is_some());
        waits.map(|(sequence, _)| *sequence).collect()
    }

    /// Moves a delivery that waits to the lane that its callback has now.
    pub(super) fn move_to(&mut self, sequence: Sequence, lane: LaneName) {
        let due = self.deliveries.get(&sequence).and_then(|planned| planned.due);
        if let Some((due, planned)) = due.zip(self.take_waiting(sequence)) {
            self.plan(sequence, Planned { lane, ..planned }, due);
        }
    }

    fn plan(&mut self, sequence: Sequence, planned: Planned, due: Instant) {
        let lane = self.lanes.entry(Arc::clone(&planned.lane)).or_default();
        lane.waiting.insert(planned.kind, (due, sequence), planned.patient_until);
        self.deliveries.insert(sequence, Planned { due: Some(due), ..planned });
    }

    fn take_waiting(&mut self, sequence: Sequence) -> Option<Planned> {
        let due = self.deliveries.get(&sequence)?.due?;
        let planned = self.deliveries.remove(&sequence)?;
        if let Some(lane) = self.lanes.get_mut(&planned.lane) {
            lane.waiting.remove(planned.kind, (due, sequence));
        }
        Some(planned)
    }

    /// The offer of a delivery does not stand any more.
    pub(super) fn remove(&mut self, sequence: Sequence) {
        let Some(planned) = self.deliveries.get_mut(&sequence) else { return };
        if planned.due.is_none() {
            (planned.is_over, planned.is_asked) = (true, false);
        } else if let Some(planned) = self.take_waiting(sequence) {
            self.tidy(&planned.lane);
        }
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

    /// When a delivery is to be tried next, as it looks now, and what delays it.
    pub(super) fn due(&self, sequence: Sequence, now: Instant) -> Option<(Instant, Option<Delay>)> {
        let planned = self.deliveries.get(&sequence)?;
        let lane = self.lanes.get(&planned.lane)?;
        let due = planned.due?;
        let pause = lane.pause(now).filter(|until| match planned.kind {
            Kind::Asked => false,
            Kind::First => *until <= planned.patient_until,
            Kind::Again => true,
        });
        let open = lane.open_until.filter(|_| planned.kind == Kind::Again);
        let delays = [(pause, Delay::Pause), (open, Delay::Breaker)].into_iter().filter_map(
            |(until, what)| {
                let until = until.filter(|until| *until > due)?;
                Some((until, Some(what)))
            },
        );
        Some(delays.max_by_key(|(until, _)| *until).unwrap_or((due, None)))
    }

    /// A running delivery was tried. `chance` is from 0 to 1. Tells of a pause that begins.
    pub(super) fn done(
        &mut self,
        sequence: Sequence,
        tried: Tried,
        now: Instant,
        chance: f64,
    ) -> Option<(LaneName, Duration)> {
        let mut planned = self.take_running(sequence)?;
        let name = Arc::clone(&planned.lane);
        let lane = self.lanes.get_mut(&name)?;
        let was_probe = lane.probe.take_if(|probe| *probe == sequence).is_some();
        planned.tries += usize::from(tried != Tried::NotSent);
        let mut pause = None;
        match tried {
            Tried::Delivered => {
                lane.recover();
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
                pause = retry_after.and_then(|pause| lane.begin_pause(pause.min(PAUSE_MAX), now));
            }
        }
        planned.is_over |= matches!(tried, Tried::Delivered | Tried::Gone);
        if planned.is_asked {
            self.plan(sequence, Planned { kind: Kind::Asked, is_asked: false, ..planned }, now);
        } else if tried == Tried::NotSent {
            // Of its kind as before: nobody has been called.
            self.plan(sequence, planned, now + gap(1, chance));
        } else if planned.is_over || planned.tries >= DELIVERIES_MAX {
            self.tidy(&name);
        } else {
            let due = now + gap(planned.tries, chance);
            self.plan(sequence, Planned { kind: Kind::Again, ..planned }, due);
        }
        pause.map(|pause| (name, pause))
    }

    /// Something else that was sent to a lane's receiver has come through.
    pub(super) fn recover(&mut self, name: &LaneName) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.recover();
        }
        self.tidy(name);
    }

    /// The receivers may be others now: what they did before says nothing.
    pub(super) fn recover_all(&mut self) {
        self.lanes.values_mut().for_each(Lane::recover);
        self.lanes.retain(|_, lane| !lane.is_idle());
    }

    /// What a lane does.
    pub(super) fn status(&self, lane: &str, now: Instant) -> LaneStatus {
        self.lanes.get(lane).map_or_else(LaneStatus::default, |lane| LaneStatus {
            queued: lane.running + lane.waiting.len(),
            is_open: lane.open_until.is_some() && !lane.has_forgotten(now),
            paused_for: lane.pause(now).map(|until| until.saturating_duration_since(now)),
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

    /// Closes the breaker of a lane that had nothing to do for long enough.
    fn forget_failures(&mut self, name: &LaneName, now: Instant) {
        if let Some(lane) = self.lanes.get_mut(name)
            && lane.has_forgotten(now)
        {
            lane.close();
        }
    }

    /// Forgets a lane that has nothing to do and nothing to remember.
    fn tidy(&mut self, name: &LaneName) {
        if self.lanes.get(name).is_some_and(Lane::is_idle) {
            self.lanes.remove(name);
        }
    }
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.is_at_rest() && self.failures == 0 && self.paused_until.is_none()
    }

    fn is_at_rest(&self) -> bool {
        self.running + self.waiting.len() == 0
    }

    /// Whether its failures count no more.
    fn has_forgotten(&self, now: Instant) -> bool {
        self.is_at_rest() && self.failures_until.is_some_and(|until| until <= now)
    }

    /// When the pause ends, if there is one.
    fn pause(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }

    /// Pauses for so long if it is not for longer already; tells of it if there was no pause.
    fn begin_pause(&mut self, pause: Duration, now: Instant) -> Option<Duration> {
        let was_paused = self.pause(now).is_some();
        self.paused_until = self.paused_until.max(Some(now + pause));
        (!was_paused && !pause.is_zero()).then_some(pause)
    }

    fn next(&mut self, now: Instant) -> Option<Sequence> {
        if self.running >= LANE_RUNNING_MAX {
            return None;
        }
        self.paused_until = self.pause(now);
        let may_repeat = self.open_until.is_none_or(|until| until <= now && self.probe.is_none());
        let pause = self.paused_until;
        let first = match pause {
            Some(until) => self.waiting.next_unheld(until),
            None => self.waiting.next(Kind::First),
        };
        let again = self.waiting.next(Kind::Again).filter(|_| may_repeat && pause.is_none());
        let asked = self.waiting.next(Kind::Asked);
        // What is due first, so that neither repetitions nor first tries keep the others from their turn.
        let (kind, next) = [(Kind::Asked, asked), (Kind::First, first), (Kind::Again, again)]
            .into_iter()
            .filter_map(|(kind, next)| Some((kind, next.filter(|(due, _)| *due <= now)?)))
            .min_by_key(|(_, next)| *next)?;
        self.waiting.remove(kind, next);
        let (_, sequence) = next;
        if kind == Kind::Again && self.open_until.is_some() {
            self.probe = Some(sequence);
        }
        self.running += 1;
        Some(sequence)
    }

    fn next_due(&self) -> Option<Instant> {
        if self.running >= LANE_RUNNING_MAX {
            return None;
        }
        let pause = self.paused_until;
        let due = |waits: Option<Waits>| waits.map(|(due, _)| due);
        let not_before = |until: Option<Instant>| move |due: Instant| due.max(until.unwrap_or(due));
        let asked = due(self.waiting.next(Kind::Asked));
        let first = due(self.waiting.next(Kind::First)).map(not_before(pause));
        let unheld = due(pause.and_then(|until| self.waiting.next_unheld(until)));
        let again = due(self.waiting.next(Kind::Again)).filter(|_| self.probe.is_none());
        let again = again.map(not_before(self.open_until)).map(not_before(pause));
        [asked, first, unheld, again].into_iter().flatten().min()
    }

    /// A call came through: nothing that was before counts.
    fn recover(&mut self) {
        self.close();
        self.paused_until = None;
    }

    fn close(&mut self) {
        self.failures = 0;
        self.failures_until = None;
        self.open_until = None;
        self.probe = None;
    }

    fn fail(&mut self, was_probe: bool, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.failures_until = Some(now + OPEN_FOR);
        let is_closed = self.open_until.is_none();
        if was_probe || (is_closed && self.failures >= FAILURES_MAX) {
            self.open_until = Some(now + OPEN_FOR);
        }
    }
}

/// When half of what is left of an offer's time is over.
fn half_way(stands_until: Instant, now: Instant) -> Instant {
    now + stands_until.saturating_duration_since(now) / 2
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
