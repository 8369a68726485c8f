//! Lanes, tries and breakers at times that the tests choose.

use super::*;

const ILL: Tried = Tried::Failed { health: Health::Ill, retry_after: None };
const REFUSED: Tried = Tried::Failed { health: Health::Well, retry_after: None };
const NOT_SENT: Tried = Tried::Failed { health: Health::Unknown, retry_after: None };
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// An answer with `Retry-After`.
fn busy(seconds: u64) -> Tried {
    let retry_after = Some(Duration::from_secs(seconds));
    Tried::Failed { health: Health::Ill, retry_after }
}

/// No jitter.
const EVEN: f64 = 0.5;

struct Run {
    schedule: Schedule,
    start: Instant,
}

impl Run {
    fn new() -> Run {
        Run { schedule: Schedule::default(), start: Instant::now() }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn add(&mut self, number: u64, lane: &str, seconds: u64) {
        let now = self.at(seconds);
        self.schedule.add(Sequence(number), lane.into(), (0, now + TEN_MINUTES), now);
    }

    fn status(&self, lane: &str, seconds: u64) -> LaneStatus {
        self.schedule.status(lane, self.at(seconds))
    }

    /// When a delivery is due, in seconds, and what delays it.
    fn due(&self, number: u64, seconds: u64) -> Option<(u64, Option<Delay>)> {
        let (due, delay) = self.schedule.due(Sequence(number), self.at(seconds))?;
        Some((due.saturating_duration_since(self.start).as_secs(), delay))
    }

    /// Has the lane `a` paused at 0 by the delivery 1, which was tried.
    fn paused_for(seconds: u64) -> Run {
        let mut run = Run::new();
        run.add(1, "a", 0);
        run.started(0);
        run.done(1, busy(seconds), 0);
        run
    }

    /// All that starts now.
    fn started(&mut self, seconds: u64) -> Vec<u64> {
        let now = self.at(seconds);
        std::iter::from_fn(|| self.schedule.next(now)).map(|sequence| sequence.0).collect()
    }

    fn ask(&mut self, number: u64, record: (usize, bool), seconds: u64) {
        let now = self.at(seconds);
        self.schedule.ask(Sequence(number), "a".into(), record, now);
    }

    /// Tells of a pause that begins, in seconds.
    fn done(&mut self, number: u64, tried: Tried, seconds: u64) -> Option<u64> {
        let now = self.at(seconds);
        let paused = self.schedule.done(Sequence(number), tried, now, EVEN);
        paused.map(|(_, pause)| pause.as_secs())
    }

    fn due_s(&self) -> Option<u64> {
        self.schedule.next_due().map(|due| due.saturating_duration_since(self.start).as_secs())
    }
}

#[test]
fn tries_come_at_0_5_15_30_and_60_seconds_and_then_once_a_minute() {
    let mut run = Run::new();
    run.add(1, "a", 0);
    for seconds in [0, 5, 15, 30, 60, 120, 180] {
        assert_eq!(run.due_s(), Some(seconds));
        if seconds > 0 {
            assert_eq!(run.started(seconds - 1), [0; 0]);
        }
        assert_eq!(run.started(seconds), [1]);
        assert_eq!(run.due_s(), None, "it runs");
        run.done(1, REFUSED, seconds);
    }
    run.started(240);
    run.done(1, Tried::Delivered, 240);
    assert_eq!((run.due_s(), run.schedule.lanes.len()), (None, 0));
}

#[test]
fn chance_spreads_a_gap_by_a_fifth() {
    assert_eq!(gap(1, 0.0), Duration::from_millis(4_500));
    assert_eq!(gap(1, 1.0), Duration::from_millis(5_500));
    assert_eq!(gap(9, 0.5), Duration::from_secs(60));
}

#[test]
fn what_may_have_started_its_job_waits_for_a_gap_but_not_beyond_half_of_its_offer() {
    for (tries, stands_for, expected) in [(1, 600, 5), (2, 600, 10), (1, 8, 4), (3, 0, 0)] {
        let mut run = Run::new();
        let (now, until) = (run.at(0), run.at(stands_for));
        run.schedule.resume(Sequence(1), "a".into(), (tries, until), now, EVEN);
        assert_eq!(run.due_s(), Some(expected), "{tries} {stands_for}");
        assert_eq!(run.started(expected), [1]);
        // From here on as after any try.
        run.done(1, REFUSED, expected);
        let next = expected + gap(tries + 1, EVEN).as_secs();
        assert_eq!(run.due_s(), Some(next), "{tries} {stands_for}");
    }
    let mut run = Run::new();
    let (now, until) = (run.at(0), run.at(600));
    run.schedule.resume(Sequence(1), "a".into(), (DELIVERIES_MAX, until), now, EVEN);
    assert_eq!(run.due_s(), None);
}

#[test]
fn no_pause_holds_what_may_not_have_been_called_beyond_half_of_its_offer() {
    let mut run = Run::paused_for(400);
    let (now, until) = (run.at(1), run.at(601));
    run.schedule.resume(Sequence(2), "a".into(), (1, until), now, EVEN);
    assert_eq!(run.started(6), [2]);
}

#[test]
fn gone_is_the_end_until_somebody_asks() {
    let mut run = Run::new();
    run.add(1, "a", 0);
    run.started(0);
    run.done(1, Tried::Gone, 0);
    assert_eq!(run.due_s(), None);
    run.ask(1, (1, true), 3);
    assert_eq!(run.started(3), [1]);
    run.done(1, REFUSED, 3);
    assert_eq!(run.due_s(), None, "what was over is not repeated by itself");
}

#[test]
fn a_full_lane_delays_no_other() {
    let mut run = Run::new();
    for number in 0..10 {
        run.add(number, "slow", 0);
    }
    run.add(50, "quick", 0);
    let started = run.started(0);
    assert_eq!(started.len(), LANE_RUNNING_MAX + 1);
    assert!(started.contains(&50));
    let status = run.status("slow", 0);
    assert_eq!(status, LaneStatus { queued: 10, is_open: false, paused_for: None });
    run.done(0, Tried::Delivered, 1);
    assert_eq!(run.started(1), [4]);
}

#[test]
fn failures_are_forgotten_when_there_was_nothing_to_do_for_30_seconds() {
    let mut run = Run::new();
    for number in 0..5 {
        run.add(number, "dead", 0);
    }
    for _ in 0..2 {
        for number in run.started(0) {
            run.done(number, ILL, 0);
        }
    }
    assert!(run.status("dead", 100).is_open, "there is something to do");
    (0..5).for_each(|number| run.schedule.remove(Sequence(number)));
    assert!(run.status("dead", 29).is_open);
    assert!(!run.status("dead", 30).is_open);
    // What comes then starts from the beginning: four failures open nothing.
    for number in 10..14 {
        run.add(number, "dead", 40);
    }
    for number in run.started(40) {
        run.done(number, ILL, 40);
    }
    assert!(!run.status("dead", 40).is_open);
    assert_eq!(run.started(46), [10, 11, 12, 13]);
}

#[test]
fn an_open_lane_repeats_nothing_then_one_and_lets_first_tries_through() {
    let mut run = Run::new();
    for number in 0..6 {
        run.add(number, "dead", 0);
    }
    for number in run.started(0) {
        run.done(number, ILL, 0);
    }
    for number in run.started(0) {
        run.done(number, ILL, 0);
    }
    assert!(run.status("dead", 0).is_open);
    assert_eq!(run.started(29), [0; 0]);
    run.add(9, "dead", 29);
    assert_eq!(run.started(29), [9], "a first try goes out");
    run.done(9, ILL, 29);
    assert_eq!(run.due_s(), Some(30));
    assert_eq!(run.started(30), [0], "one finds out");
    run.done(0, ILL, 31);
    assert_eq!(run.due_s(), Some(61));
    assert_eq!(run.started(61), [1]);
    run.done(1, Tried::Delivered, 61);
    assert!(!run.status("dead", 0).is_open);
    assert_eq!(run.started(61).len(), LANE_RUNNING_MAX);
}

#[test]
fn answers_about_one_delivery_open_nothing() {
    let mut run = Run::new();
    for number in 0..20 {
        run.add(number, "a", 0);
        for started in run.started(0) {
            run.done(started, REFUSED, 0);
        }
    }
    assert!(!run.status("a", 0).is_open);
}

#[test]
fn retry_after_is_honoured_for_the_whole_lane_and_has_a_bound() {
    let mut run = Run::paused_for(40);
    run.add(2, "a", 1);
    assert_eq!((run.started(39), run.due_s()), (vec![], Some(40)));
    assert_eq!(run.started(40), [2, 1]);
    assert_eq!(run.done(1, busy(100_000), 40), Some(3_600));
    assert_eq!(run.done(2, busy(1), 40), None, "there is a pause already");
    assert_eq!(run.due_s(), Some(3_640), "the longer one counts");
}

#[test]
fn what_is_asked_for_goes_out_at_once_and_once_more_if_it_runs() {
    let mut run = Run::new();
    run.add(1, "a", 0);
    run.started(0);
    run.ask(1, (0, false), 1);
    assert_eq!(run.started(1), [0; 0]);
    run.done(1, REFUSED, 2);
    assert_eq!(run.started(2), [1]);
    run.done(1, REFUSED, 2);
    run.ask(1, (2, false), 3);
    assert_eq!(run.started(3), [1]);
    run.done(1, Tried::Delivered, 3);
    assert_eq!(run.due_s(), None);
}

#[test]
fn what_is_over_leaves_no_trace_and_tries_have_a_bound() {
    let mut run = Run::new();
    run.add(1, "a", 0);
    run.started(0);
    run.done(1, Tried::Gone, 0);
    assert_eq!((run.schedule.lanes.len(), run.schedule.deliveries.len()), (0, 0));
    let now = run.at(0);
    run.schedule.add(Sequence(2), "a".into(), (DELIVERIES_MAX - 1, now), now);
    assert_eq!(run.started(0), [2]);
    run.done(2, REFUSED, 0);
    assert_eq!((run.schedule.lanes.len(), run.schedule.deliveries.len()), (0, 0));
}

#[test]
fn an_offer_that_is_gone_leaves_at_once() {
    let mut run = Run::new();
    for number in 0..10 {
        run.add(number, "a", 0);
    }
    assert_eq!(run.started(0), [0, 1, 2, 3]);
    run.schedule.remove(Sequence(0));
    run.schedule.remove(Sequence(9));
    assert_eq!(run.status("a", 0).queued, 9);
    run.done(0, ILL, 1);
    assert_eq!((run.started(1), run.status("a", 0).queued), (vec![4], 8));
}

#[test]
fn what_was_not_sent_says_nothing_of_the_receiver() {
    let mut run = Run::new();
    for number in 0..5 {
        run.add(number, "a", 0);
        run.started(0);
        run.done(number, ILL, 0);
    }
    assert!(run.status("a", 0).is_open);
    run.add(7, "a", 1);
    run.started(1);
    run.done(7, NOT_SENT, 1);
    assert!(run.status("a", 0).is_open);
}

#[test]
fn a_first_try_that_comes_through_closes_a_lane_and_an_old_probe_does_not_open_it() {
    let mut run = Run::new();
    for number in 0..5 {
        run.add(number, "a", 0);
        run.started(0);
        run.done(number, ILL, 0);
    }
    assert_eq!(run.started(30), [0], "the probe");
    run.add(7, "a", 31);
    assert_eq!(run.started(31), [7]);
    run.done(7, Tried::Delivered, 31);
    assert!(!run.status("a", 0).is_open);
    assert_eq!(run.started(31), [1, 2, 3]);
    run.done(0, ILL, 32);
    assert!(!run.status("a", 0).is_open);
}

#[test]
fn repetitions_have_their_turn_beside_first_tries() {
    let mut run = Run::new();
    run.add(1, "a", 0);
    run.started(0);
    run.done(1, REFUSED, 0);
    for number in 10..20 {
        run.add(number, "a", 6);
    }
    assert_eq!(run.started(6), [1, 10, 11, 12]);
}

#[test]
fn lanes_take_turns() {
    let mut run = Run::new();
    for number in 0..3 {
        run.add(number, "a", 0);
        run.add(10 + number, "b", 0);
    }
    assert_eq!(run.started(0), [0, 10, 1, 11, 2, 12]);
}

#[test]
fn what_could_not_be_sent_is_no_try_and_comes_again() {
    let mut run = Run::new();
    run.add(1, "a", 0);
    for seconds in [0, 5, 10] {
        assert_eq!((run.started(seconds), run.due_s()), (vec![1], None));
        run.done(1, Tried::NotSent, seconds);
    }
    assert_eq!((run.due_s(), run.schedule.deliveries[&Sequence(1)].tries), (Some(15), 0));
    assert!(!run.status("a", 0).is_open);
    run.started(15);
    run.done(1, Tried::Delivered, 15);
    run.ask(1, (1, true), 16);
    run.started(16);
    run.done(1, Tried::NotSent, 16);
    assert_eq!(run.started(21), [1], "what somebody asked for is not forgotten");
}

#[test]
fn what_is_asked_for_while_it_comes_through_is_not_sent_again() {
    let mut run = Run::new();
    run.add(1, "a", 0);
    run.started(0);
    run.ask(1, (0, false), 1);
    run.done(1, Tried::Delivered, 2);
    assert_eq!((run.started(2), run.due_s(), run.schedule.lanes.len()), (vec![], None, 0));
    run.ask(1, (1, true), 3);
    assert_eq!(run.started(3), [1], "asked for after it, it is");
}

#[test]
fn a_pause_does_not_hold_what_somebody_asks_for() {
    let mut run = Run::paused_for(3_600);
    assert_eq!(run.due(1, 1), Some((3_600, Some(Delay::Pause))));
    run.ask(1, (1, false), 1);
    assert_eq!((run.due(1, 1), run.due_s()), (Some((1, None)), Some(1)));
    assert_eq!(run.started(1), [1]);
    run.done(1, Tried::NotSent, 1);
    assert_eq!(run.started(6), [1], "still asked for");
    run.ask(1, (1, false), 6);
    run.done(1, REFUSED, 7);
    assert_eq!(run.started(7), [1], "asked for while it ran");
    run.done(1, REFUSED, 8);
    assert_eq!(run.due_s(), Some(3_600), "by itself it waits");
}

#[test]
fn a_pause_holds_a_first_try_for_half_of_its_offers_time_and_else_not_at_all() {
    let mut run = Run::paused_for(300);
    run.add(2, "a", 0);
    assert_eq!((run.started(0), run.due(2, 0)), (vec![], Some((300, Some(Delay::Pause)))));
    let now = run.at(0);
    run.schedule.add(Sequence(3), "a".into(), (0, now + TEN_MINUTES - OPEN_FOR), now);
    assert_eq!((run.due(3, 0), run.due_s()), (Some((0, None)), Some(0)));
    assert_eq!(run.started(0), [3], "the pause would take more than half");
    // It says that it wants a longer pause: then the other's offer would not stand for long enough either.
    run.done(3, busy(310), 1);
    assert_eq!((run.due(2, 1), run.started(1)), (Some((0, None)), vec![2]));
    run.done(2, busy(1), 2);
    assert_eq!((run.due_s(), run.due(2, 2)), (Some(311), Some((311, Some(Delay::Pause)))));
}

#[test]
fn a_first_try_that_could_not_be_sent_in_a_pause_comes_again_in_it() {
    let mut run = Run::paused_for(600);
    run.add(2, "a", 0);
    assert_eq!(run.started(0), [2]);
    run.done(2, Tried::NotSent, 0);
    assert_eq!((run.started(0), run.due_s(), run.due(2, 0)), (vec![], Some(5), Some((5, None))));
    assert_eq!(run.started(5), [2]);
}

#[test]
fn what_comes_through_ends_a_pause_and_closes_the_breaker() {
    let paused = |run: &Run| run.status("a", 10).paused_for.map(|left| left.as_secs());
    let end_by: [fn(&mut Run); 3] = [
        |run| {
            run.ask(9, (1, true), 10);
            assert_eq!(run.started(10), [9]);
            run.done(9, Tried::Delivered, 10);
        },
        |run| run.schedule.recover(&"a".into()),
        |run| run.schedule.recover_all(),
    ];
    for end in end_by {
        let mut run = Run::new();
        (0..5).for_each(|number| run.add(number, "a", 0));
        for _ in 0..2 {
            run.started(0)
                .into_iter()
                .for_each(|number| assert_eq!(run.done(number, ILL, 0), None));
        }
        run.add(7, "a", 6);
        assert_eq!(run.started(6), [7]);
        assert_eq!(run.done(7, busy(3_600), 6), Some(3_600));
        assert_eq!((paused(&run), run.status("a", 10).is_open), (Some(3_596), true));
        end(&mut run);
        assert_eq!((paused(&run), run.status("a", 10).is_open), (None, false));
        assert_eq!(run.due(7, 10), Some((11, None)));
    }
}

#[test]
fn a_lane_that_has_recovered_is_forgotten_when_nothing_waits_in_it() {
    let mut run = Run::paused_for(3_600);
    run.schedule.remove(Sequence(1));
    assert_eq!(run.status("a", 1).paused_for.map(|left| left.as_secs()), Some(3_599));
    assert_eq!(run.status("a", 3_600).paused_for, None);
    run.schedule.recover(&"b".into());
    assert_eq!(run.schedule.lanes.len(), 1);
    run.schedule.recover(&"a".into());
    assert_eq!(run.schedule.lanes.len(), 0);
}

#[test]
fn a_delivery_moves_to_the_lane_that_its_callback_has_now() {
    let mut run = Run::new();
    run.add(1, "absent", 5);
    assert_eq!(run.schedule.waiting(), [Sequence(1)]);
    run.schedule.move_to(Sequence(1), "ci".into());
    assert_eq!((run.status("absent", 0).queued, run.status("ci", 0).queued), (0, 1));
    assert_eq!(run.started(5), [1]);
    // What runs stays where it runs.
    run.schedule.move_to(Sequence(1), "other".into());
    assert_eq!(run.status("ci", 5).queued, 1);
    run.done(1, Tried::Delivered, 6);
}
