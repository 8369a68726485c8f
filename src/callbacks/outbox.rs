//! The outbox: has deliveries tried when they are due, by threads that do nothing else.
//!
//! What is due comes from [`Service::on_callback_due`], which tells of an offer once it is safe on disk, and after a
//! start of all offers that stand: the outbox itself keeps nothing that a crash could lose. Each try looks whether
//! the offer still stands, tries, notes what came of it, and only then counts as over. So a callback is called at
//! least once; after a crash perhaps once more, under the same `webhook-id`.
//!
//! # Threads and locks
//!
//! One thread, the dispatcher, owns the order: it takes messages (due, asked for, done) and starts what the
//! [`Schedule`] has. Delivery threads are started when all are busy, at most [`DELIVERY_THREADS_MAX`]; a lane has
//! at most a few of them at a time. The schedule's lock is held for moments and together with no other.
//! Nothing here fails: what goes wrong with a delivery is its result.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{Builder, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;

use super::{
    event::Event,
    schedule::{Delay, Health, LANE_RUNNING_MAX, LaneName, LaneStatus, Schedule, Tried},
    settings::{ALLOW_MAX, TARGETS_MAX},
    transport::{MayBegin, Sent},
};
use crate::{
    model::{
        Callback, CallbackRecord, ClaimState, Delivery, DeliveryFailure, DeliveryResult,
        SemaphoreName, Sequence, Vars, WallTime,
    },
    semaphore::{ClaimStatus, Service},
};

/// Most deliveries at the same time: all that all lanes may have, one more lane being for those that the configuration does
/// not know any more. So no lane waits for another.
pub(super) const DELIVERY_THREADS_MAX: usize = LANE_RUNNING_MAX * (TARGETS_MAX + ALLOW_MAX + 1);
/// How long a stop waits for deliveries that are under way, whose ends would be lost: as long as a CI system may well take
/// to answer, and within the time in which the daemon promises to end.
const STOP_WAIT_MAX: Duration = Duration::from_millis(1_500);
/// A call that began so long ago, and of which it is not known how it ended, may have started its job: so much later
/// the job would have confirmed.
const MAY_BE_STARTING_FOR: Duration = Duration::from_secs(60);
/// The kind of the event that an offer is.
const OFFERED: &str = "claim.offered";
/// The status of a receiver that wants no more: 410 Gone (Standard Webhooks).
const GONE: u16 = 410;

/// The claim as the API shows it.
pub type Render = Box<dyn Fn(&ClaimStatus) -> serde_json::Value + Send + Sync>;

/// How a callback is called: the registry, or a test's stand-in.
pub(super) trait Courier: Send + Sync {
    /// The lane of a callback.
    fn lane(&self, callback: &Callback) -> LaneName;

    /// Calls if it `may_begin`; takes as long as it takes, with a bound.
    fn deliver(&self, callback: &Callback, event: &Event, may_begin: MayBegin<'_>) -> Sent;
}

enum Message {
    /// A claim's callback is due.
    Due(Sequence),
    /// Somebody wants it called now.
    Asked(Sequence),
    /// It was called.
    Done(Sequence, Tried),
    /// The schedule was changed: more may be due.
    Look,
    Stop,
}

struct Work {
    sequence: Sequence,
    record: CallbackRecord,
    event: Event,
}

/// What the threads share.
struct Shared {
    service: Arc<Service>,
    courier: Arc<dyn Courier>,
    render: Render,
    schedule: Mutex<Schedule>,
    /// Nothing may begin any more.
    is_stopping: AtomicBool,
}

/// Running deliveries.
pub(super) struct Outbox {
    shared: Arc<Shared>,
    inbox: Sender<Message>,
    dispatcher: Mutex<Option<JoinHandle<()>>>,
}

impl Outbox {
    /// Starts the dispatcher, and has the service tell it what is due.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(super) fn start(
        service: &Arc<Service>,
        courier: Arc<dyn Courier>,
        render: Render,
    ) -> std::io::Result<Outbox> {
        let (inbox, messages) = unbounded();
        let shared = Arc::new(Shared {
            service: Arc::clone(service),
            courier,
            render,
            schedule: Mutex::default(),
            is_stopping: AtomicBool::new(false),
        });
        let dispatcher = Dispatcher::new(Arc::clone(&shared), inbox.clone());
        let thread = Builder::new()
            .name("callback-outbox".into())
            .spawn(move || dispatcher.run(&messages))?;
        let due = inbox.clone();
        service.on_callback_due(Box::new(move |sequence| {
            // Without a dispatcher the service is stopping.
            let _ = due.send(Message::Due(sequence));
        }));
        Ok(Outbox { shared, inbox, dispatcher: Mutex::new(Some(thread)) })
    }

    /// Has a claim's callback called once more, now.
    pub(super) fn ask(&self, sequence: Sequence) {
        let _ = self.inbox.send(Message::Asked(sequence));
    }

    /// When a claim's callback is to be called next, and what delays it.
    pub(super) fn next_try_in(&self, sequence: Sequence) -> Option<(Duration, Option<Delay>)> {
        let now = Instant::now();
        let (due, delay) = self.shared.schedule.lock().due(sequence, now)?;
        Some((due.saturating_duration_since(now), delay))
    }

    /// What a lane does.
    pub(super) fn lane_status(&self, lane: &str) -> LaneStatus {
        self.shared.schedule.lock().status(lane, Instant::now())
    }

    /// A test of a lane's receiver came through: it has recovered.
    pub(super) fn recover(&self, lane: &LaneName) {
        self.shared.schedule.lock().recover(lane);
        let _ = self.inbox.send(Message::Look);
    }

    /// The configuration is another one: no lane is paused or has failed.
    pub(super) fn recover_all(&self) {
        // Not under the schedule's lock: it is held together with no other.
        let waiting = self.shared.schedule.lock().waiting();
        let lanes = waiting.into_iter().filter_map(|sequence| {
            let record = self.shared.service.offer(sequence)?.claim.callback?;
            Some((sequence, self.shared.courier.lane(&record.callback)))
        });
        let lanes: Vec<_> = lanes.collect();
        let mut schedule = self.shared.schedule.lock();
        lanes.into_iter().for_each(|(sequence, lane)| schedule.move_to(sequence, lane));
        schedule.recover_all();
        drop(schedule);
        let _ = self.inbox.send(Message::Look);
    }

    /// From now on nothing begins.
    pub(super) fn begin_stop(&self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        let _ = self.inbox.send(Message::Stop);
    }

    /// Starts nothing any more, and waits for what is under way, for [`STOP_WAIT_MAX`] after the stop began. What takes
    /// longer goes on until the process ends, and what came of it may be lost; so it is called again after the next
    /// start, a while later.
    pub(super) fn stop(&self) {
        self.begin_stop();
        if let Some(thread) = self.dispatcher.lock().take()
            && thread.join().is_err()
        {
            log::error!("the thread that has callbacks called had panicked");
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Dispatcher {
    shared: Arc<Shared>,
    inbox: Sender<Message>,
    work: Sender<Work>,
    for_threads: Receiver<Work>,
    threads: usize,
    running: usize,
}

impl Dispatcher {
    fn new(shared: Arc<Shared>, inbox: Sender<Message>) -> Dispatcher {
        let (work, for_threads) = unbounded();
        Dispatcher { shared, inbox, work, for_threads, threads: 0, running: 0 }
    }

    fn run(mut self, messages: &Receiver<Message>) {
        loop {
            self.start_what_is_due();
            let next_due = self.shared.schedule.lock().next_due();
            let is_full = self.running >= DELIVERY_THREADS_MAX;
            let message = match next_due.filter(|_| !is_full) {
                Some(due) => messages.recv_deadline(due),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Due(sequence)) => self.plan(sequence, false),
                Ok(Message::Asked(sequence)) => self.plan(sequence, true),
                Ok(Message::Done(sequence, tried)) => {
                    self.running -= 1;
                    self.done(sequence, tried);
                }
                Ok(Message::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let deadline = Instant::now() + STOP_WAIT_MAX;
        while self.running > 0 {
            match messages.recv_deadline(deadline) {
                Ok(Message::Done(..)) => self.running -= 1,
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }

    fn plan(&self, sequence: Sequence, is_asked: bool) {
        let offer = self.shared.service.offer(sequence);
        let left =
            offer.as_ref().and_then(|status| Some(status.expires_at?.since(status.now.wall)));
        let Some(record) = offer.and_then(|status| status.claim.callback) else {
            self.shared.schedule.lock().remove(sequence);
            return;
        };
        let lane = self.shared.courier.lane(&record.callback);
        let (tries, now) = (record.deliveries.len(), Instant::now());
        let stands_until = now + left.unwrap_or_default();
        let may_be_starting = may_be_starting(&record, self.shared.service.now().wall);
        let mut schedule = self.shared.schedule.lock();
        if is_asked {
            schedule.ask(sequence, lane, (tries, is_over(&record)), now);
        } else if may_be_starting && !is_over(&record) {
            schedule.resume(sequence, lane, (tries, stands_until), now, chance());
        } else if !is_over(&record) {
            schedule.add(sequence, lane, (tries, stands_until), now);
        }
    }

    fn start_what_is_due(&mut self) {
        while self.running < DELIVERY_THREADS_MAX {
            let Some(sequence) = self.shared.schedule.lock().next(Instant::now()) else { return };
            let Some(work) = self.shared.work(sequence) else {
                self.done(sequence, Tried::Gone);
                continue;
            };
            if self.running >= self.threads && !self.spawn() && self.threads == 0 {
                self.done(sequence, Tried::NotSent);
                continue;
            }
            self.running += 1;
            let _ = self.work.send(work);
        }
    }

    fn done(&self, sequence: Sequence, tried: Tried) {
        let paused = self.shared.schedule.lock().done(sequence, tried, Instant::now(), chance());
        if let Some((lane, pause)) = paused {
            let seconds = pause.as_secs();
            log::warn!(
                "{lane} asks not to be called for {seconds} s (Retry-After): callbacks to it wait until then, or \
                 until a test or a retry by hand comes through"
            );
        }
    }

    /// One more delivery thread; tells whether it could be had.
    fn spawn(&mut self) -> bool {
        let (shared, inbox) = (Arc::clone(&self.shared), self.inbox.clone());
        let works = self.for_threads.clone();
        let spawned = Builder::new().name("callback-delivery".into()).spawn(move || {
            for work in works {
                let tried = shared.deliver(&work);
                let _ = inbox.send(Message::Done(work.sequence, tried));
            }
        });
        match spawned {
            Ok(_) => self.threads += 1,
            Err(error) => log::error!("a thread for callbacks cannot be started: {error}"),
        }
        self.running < self.threads
    }
}

impl Shared {
    /// What is to be delivered, if the offer still stands.
    fn work(&self, sequence: Sequence) -> Option<Work> {
        let status = self.service.offer(sequence)?;
        let record = status.claim.callback.as_deref()?.clone();
        let event = event(&status, (self.render)(&status));
        Some(Work { sequence, record, event })
    }

    fn deliver(&self, work: &Work) -> Tried {
        let started_at = self.service.now().wall;
        let start = Instant::now();
        // Noted first, and safe: if the claim ends before the answer comes, or the process does, its record says that
        // it was called.
        let may_begin = || {
            !self.is_stopping.load(Ordering::Acquire)
                && self.service.begin_delivery(work.sequence, started_at)
        };
        let sent = self.courier.deliver(&work.record.callback, &work.event, &may_begin);
        let (id, number) = (&work.event.claim_id, work.record.deliveries.len() + 1);
        let lane = self.courier.lane(&work.record.callback);
        if sent.is_ours {
            let why = sent.detail.as_deref().unwrap_or_default();
            log::warn!("claim {id} has a callback to {lane} that could not be sent yet: {why}");
            return Tried::NotSent;
        }
        if sent.result == DeliveryResult::Unfinished {
            return Tried::Gone;
        }
        let delivery = Delivery { started_at, duration: start.elapsed(), result: sent.result };
        if !self.service.note_delivery(work.sequence, delivery) {
            log::info!("claim {} ended before its callback was answered", work.event.claim_id);
        }
        let what = format!("callback of claim {id} to {lane}, delivery {number}");
        log_delivery(&what, &delivery, sent.detail.as_deref());
        tried(&sent)
    }
}

/// The event of an offer.
fn event(status: &ClaimStatus, data: serde_json::Value) -> Event {
    let claim = &status.claim;
    let occurred_at = match claim.state {
        ClaimState::Offered { offered_at, .. } => offered_at,
        _ => claim.queued_at,
    };
    let names = claim.terms.permits.names().map(SemaphoreName::as_str);
    let fences = claim.fences().cloned().unwrap_or_default();
    let fences: serde_json::Map<String, serde_json::Value> =
        names.map(str::to_owned).zip(fences.iter().map(|fence| fence.0.into())).collect();
    Event {
        webhook_id: claim.webhook_id(),
        kind: OFFERED,
        occurred_at,
        claim_id: claim.id.as_str().to_owned(),
        holder: claim.terms.holder.as_ref().map(|holder| holder.as_str().to_owned()),
        fences_json: serde_json::Value::Object(fences).to_string(),
        data,
        vars: Vars::default(),
    }
}

/// Whether nothing is sent by itself any more: it came through, or the receiver has said once that it wants no more of
/// it, whatever came of retries by hand since.
fn is_over(record: &CallbackRecord) -> bool {
    let is_last = |delivery: &Delivery| {
        delivery.is_success()
            || matches!(delivery.result, DeliveryResult::Answered { status: GONE })
    };
    record.deliveries.iter().any(is_last)
}

/// Whether the last call may have started a job that has not confirmed yet: it had no answer, because the process ended
/// before, or the receiver was too slow or broke off.
fn may_be_starting(record: &CallbackRecord, now: WallTime) -> bool {
    record.deliveries.last().is_some_and(|last| {
        let has_no_answer = matches!(
            last.result,
            DeliveryResult::Unfinished
                | DeliveryResult::Failed(DeliveryFailure::Timeout | DeliveryFailure::Protocol)
        );
        has_no_answer && now.since(last.started_at) < MAY_BE_STARTING_FOR
    })
}

fn tried(sent: &Sent) -> Tried {
    let retry_after = sent.retry_after;
    match sent.result {
        DeliveryResult::Answered { status: 200..=299 } => Tried::Delivered,
        DeliveryResult::Answered { status: GONE } => Tried::Gone,
        DeliveryResult::Answered { status } => {
            let health = if status >= 500 || status == 429 { Health::Ill } else { Health::Well };
            Tried::Failed { health, retry_after }
        }
        DeliveryResult::Failed(DeliveryFailure::Configuration) | DeliveryResult::Unfinished => {
            Tried::Failed { health: Health::Unknown, retry_after }
        }
        DeliveryResult::Failed(_) => Tried::Failed { health: Health::Ill, retry_after },
    }
}

/// One line about a call.
pub(super) fn log_delivery(what: &str, delivery: &Delivery, detail: Option<&str>) {
    let seconds = delivery.duration.as_secs_f64();
    let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
    let result = match delivery.result {
        DeliveryResult::Answered { status } => format!("status {status}"),
        DeliveryResult::Failed(failure) => failure.as_str().to_owned(),
        DeliveryResult::Unfinished => "unfinished".to_owned(),
    };
    if delivery.is_success() {
        log::info!("{what} came through: {result} after {seconds:.3} s");
    } else {
        log::warn!("{what} failed: {result} after {seconds:.3} s{detail}");
    }
}

/// A random number from 0 to 1, from the keys that the standard library draws for its hash maps.
fn chance() -> f64 {
    let hash = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(hash >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TargetName;

    fn record(results: &[DeliveryResult]) -> CallbackRecord {
        let name = TargetName::new("ci").unwrap();
        let callback = Arc::new(Callback::Target { name, vars: Vars::default() });
        let delivery = |(at, result): (usize, &DeliveryResult)| Delivery {
            started_at: WallTime(i64::try_from(at).unwrap()),
            duration: Duration::ZERO,
            result: *result,
        };
        let deliveries = results.iter().enumerate().map(delivery).collect();
        CallbackRecord { callback, deliveries }
    }

    #[test]
    fn one_success_or_one_gone_is_the_end_whatever_came_after_it() {
        let answered = |status| DeliveryResult::Answered { status };
        let failed = DeliveryResult::Failed(DeliveryFailure::Timeout);
        for (results, expected) in [
            (&[][..], false),
            (&[failed, answered(404), DeliveryResult::Unfinished][..], false),
            (&[failed, answered(410)][..], true),
            (&[answered(410), answered(503)][..], true),
            (&[answered(410), failed, DeliveryResult::Unfinished][..], true),
            (&[answered(204), answered(500)][..], true),
        ] {
            assert_eq!(is_over(&record(results)), expected, "{results:?}");
        }
    }
    #[test]
    fn a_call_without_an_answer_counts_for_a_minute() {
        let failed = DeliveryResult::Failed(DeliveryFailure::Timeout);
        let refused = DeliveryResult::Answered { status: 503 };
        let unfinished = DeliveryResult::Unfinished;
        for (results, now, expected) in [
            (&[][..], 0, false),
            (&[unfinished][..], 59_999, true),
            (&[unfinished][..], 60_000, false),
            (&[failed, unfinished][..], 1_000, true),
            (&[unfinished, failed][..], 1_000, true),
            (&[unfinished, refused][..], 1_000, false),
        ] {
            let found = may_be_starting(&record(results), WallTime(now));
            assert_eq!(found, expected, "{results:?} at {now}");
        }
    }
}
