//! What the demo says at the end, worked out from the claims as they ended.

use std::{fmt, time::Duration};

use super::{
    RIVIERA,
    jobs::{KILLED, KILLED_TTL},
    stage::{Record, Stage},
};
use crate::model::{EndReason, WallTime};

/// One job's claim, after its end.
#[derive(Clone, Copy, Debug)]
struct Ended {
    job: usize,
    queued_at: WallTime,
    granted_at: WallTime,
    ended_at: WallTime,
    fence: u64,
    sequence: u64,
    reason: EndReason,
}

/// What happened, and whether it is what was promised.
pub(super) struct Summary {
    ended: Vec<Ended>,
    jobs: usize,
    capacity: u32,
    took: Duration,
}

impl Summary {
    pub(super) fn new(records: &[Record], capacity: u32, took: Duration) -> Summary {
        let ended = records.iter().enumerate().filter_map(|(job, record)| match record.stage {
            Stage::Ended {
                queued_at,
                granted_at: Some(granted_at),
                ended_at,
                fence: Some(fence),
                sequence,
                reason,
            } => Some(Ended { job, queued_at, granted_at, ended_at, fence, sequence, reason }),
            _ => None,
        });
        let mut ended: Vec<Ended> = ended.collect();
        ended.sort_by_key(|ended| ended.fence);
        Summary { ended, jobs: records.len(), capacity, took }
    }

    /// Most permits that were held at once: a permit that ends in the millisecond in which the next begins
    /// was given back before.
    fn most_at_once(&self) -> i64 {
        let mut changes: Vec<(WallTime, i64)> = Vec::new();
        for ended in &self.ended {
            changes.extend([(ended.granted_at, 1), (ended.ended_at, -1)]);
        }
        changes.sort();
        let sums = changes.iter().scan(0, |held, (_, change)| {
            *held += change;
            Some(*held)
        });
        sums.max().unwrap_or(0)
    }

    fn in_queue_order(&self) -> bool {
        self.ended.windows(2).all(|pair| pair[0].sequence < pair[1].sequence)
    }

    /// The first thing that is not as promised.
    pub(super) fn broken_promise(&self) -> Option<String> {
        let most = self.most_at_once();
        if self.ended.len() != self.jobs {
            return Some(format!("only {} of {} jobs got a permit", self.ended.len(), self.jobs));
        }
        if most > i64::from(self.capacity) {
            return Some(format!("{most} permits were held at once"));
        }
        if !self.in_queue_order() {
            return Some("permits were not granted in queue order".into());
        }
        let wrong = self.ended.iter().find(|ended| {
            let expected =
                if ended.job == KILLED { EndReason::Expired } else { EndReason::Released };
            ended.reason != expected
        });
        wrong.map(|wrong| format!("job {} ended as {}", wrong.job + 1, wrong.reason.as_str()))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut waits: Vec<Duration> =
            self.ended.iter().map(|e| e.granted_at.since(e.queued_at)).collect();
        waits.sort();
        let wait = |at: usize| waits.get(at).copied().unwrap_or_default().as_secs_f32();
        let order: Vec<String> = self.ended.iter().map(|e| (e.job + 1).to_string()).collect();
        writeln!(f)?;
        writeln!(
            f,
            "{} jobs on {} permits of {} in {:.0} s.",
            self.ended.len(),
            self.capacity,
            RIVIERA.0,
            self.took.as_secs_f32()
        )?;
        writeln!(f, "  at once      never more than {} held a permit", self.most_at_once())?;
        writeln!(f, "  order        {}", order.join(" "))?;
        writeln!(
            f,
            "  waited       {:.1} s the shortest, {:.1} s the median, {:.1} s the longest",
            wait(0),
            wait(waits.len() / 2),
            wait(waits.len().saturating_sub(1))
        )?;
        writeln!(
            f,
            "  killed       job {}, without a word; its permit went on after its lease of {KILLED_TTL}",
            KILLED + 1
        )?;
        writeln!(f)?;
        writeln!(f, "Next, a service of your own, and a job in another terminal:")?;
        writeln!(f, "  cargo build --release")?;
        writeln!(f, "  target/release/semaphored --config packaging/example.toml")?;
        writeln!(f, "  export SEMAPHORE_TOKEN=$(cat target/quickstart/admin-token)")?;
        writeln!(f, "  target/release/semaphorectl run {} -- sleep 10", RIVIERA.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs that were granted and ended at these seconds, in the order of their arrival.
    fn summary(times: &[(i64, i64)]) -> Summary {
        let record = |(index, (granted, ended)): (usize, &(i64, i64))| Record {
            stage: Stage::Ended {
                queued_at: WallTime(0),
                granted_at: Some(WallTime(granted * 1_000)),
                ended_at: WallTime(ended * 1_000),
                fence: Some(index as u64 + 1),
                sequence: index as u64 + 1,
                reason: if index == KILLED { EndReason::Expired } else { EndReason::Released },
            },
            ..Record::default()
        };
        let records: Vec<Record> = times.iter().enumerate().map(record).collect();
        Summary::new(&records, 2, Duration::from_secs(9))
    }

    #[test]
    fn a_permit_that_goes_on_in_the_same_moment_was_held_once() {
        let kept = summary(&[(0, 3), (0, 4), (3, 5), (4, 5)]);
        assert_eq!((kept.most_at_once(), kept.broken_promise()), (2, None));
        assert!(kept.to_string().contains("order        1 2 3 4\n"));
    }

    #[test]
    fn broken_promises_are_told() {
        let many = summary(&[(0, 3), (0, 4), (2, 5), (4, 5)]);
        assert_eq!(many.broken_promise().unwrap(), "3 permits were held at once");
        let mut late = summary(&[(0, 1), (1, 2)]);
        late.ended.swap(0, 1);
        assert!(late.broken_promise().unwrap().contains("queue order"));
        let mut fewer = summary(&[(0, 1), (1, 2)]);
        fewer.jobs = 3;
        assert!(fewer.broken_promise().unwrap().contains("only 2 of 3"));
    }
}
