//! How the workers take requests, one thread at a time: the requests of a connection have to be noted in their
//! order.
//!
//! One worker *receives*: it sleeps in tiny_http's queue, takes what is there in one go, and serves it itself,
//! while what comes meanwhile gathers in the queue. Handling takes microseconds, less than waking a thread, so
//! another worker is woken only where there is enough for two, or when this one is about to wait for the disk
//! ([`Intake::ensure_receiver`]). Where it is held up by something that nobody could know of (a client that takes
//! no answer), the lookout wakes another, see the module `crew`.
//!
//! Locking: the mutex is held for a few instructions, never while receiving.

use std::{collections::VecDeque, io, time::Duration};

use parking_lot::{Condvar, Mutex};

use super::crew::LOOK_INTERVAL;

/// Most requests that are taken in one go.
const TAKEN_MAX: usize = 16;

/// So many that nobody has yet are work for one more worker.
const ENOUGH_FOR_TWO: usize = 4;

/// Where requests come from. Called by one thread at a time.
pub(super) trait Source<R> {
    /// Waits for a request; `None` when the time is over, if there is a bound. An error means that none will come any
    /// more, or that somebody wanted to end the wait.
    fn wait(&self, at_most: Option<Duration>) -> io::Result<Option<R>>;

    /// A request that is there already.
    fn take(&self) -> io::Result<Option<R>>;
}

/// Requests that were taken and that no worker has yet.
pub(super) struct Intake<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    taken: VecDeque<R>,
    receives: bool,
    asleep: usize,
    closed: bool,
}

impl<R> Intake<R> {
    pub(super) fn new() -> Intake<R> {
        let state = State { taken: VecDeque::new(), receives: false, asleep: 0, closed: false };
        Intake { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// The next request, for a worker; `None` when there is none any more because this was closed.
    ///
    /// # Errors
    /// That of the source.
    pub(super) fn next(&self, source: &impl Source<R>) -> io::Result<Option<R>> {
        self.next_of(None, source)
    }

    /// The same for a thread that also ends, with `None`, when it finds that it is not to `stay`. It looks now and
    /// then.
    ///
    /// # Errors
    /// That of the source.
    pub(super) fn next_while(
        &self,
        stay: impl Fn() -> bool,
        source: &impl Source<R>,
    ) -> io::Result<Option<R>> {
        self.next_of(Some(&stay), source)
    }

    fn next_of(
        &self,
        stay: Option<&dyn Fn() -> bool>,
        source: &impl Source<R>,
    ) -> io::Result<Option<R>> {
        let mut state = self.state.lock();
        loop {
            if let Some(request) = state.taken.pop_front() {
                if state.taken.len() >= ENOUGH_FOR_TWO && state.asleep > 0 {
                    self.changed.notify_one();
                }
                return Ok(Some(request));
            }
            if state.closed {
                return Ok(None);
            }
            if stay.is_some_and(|stay| !stay()) {
                // It may have been woken to receive.
                self.wake_a_receiver(&state);
                return Ok(None);
            }
            if state.receives {
                state.asleep += 1;
                match stay {
                    None => self.changed.wait(&mut state),
                    Some(_) => _ = self.changed.wait_for(&mut state, LOOK_INTERVAL),
                }
                state.asleep -= 1;
                continue;
            }
            state.receives = true;
            drop(state);
            let received = receive(source, stay.map(|_| LOOK_INTERVAL));
            state = self.state.lock();
            state.receives = false;
            state.taken.extend(received.requests);
            match received.error {
                Some(error) if !state.closed => return Err(error),
                _ => {}
            }
        }
    }

    /// Sees to it that somebody receives. For a worker that is about to be away for longer, and for the lookout,
    /// which cannot tell why nobody does.
    pub(super) fn ensure_receiver(&self) {
        self.wake_a_receiver(&self.state.lock());
    }

    fn wake_a_receiver(&self, state: &State<R>) {
        if !state.receives && state.asleep > 0 {
            self.changed.notify_one();
        }
    }

    /// Lets the workers end when all is taken. Whoever receives has still to be woken, once.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

/// What was there, up to an error: tiny_http tells an error once.
struct Received<R> {
    requests: Vec<R>,
    error: Option<io::Error>,
}

/// Waits for a request, and takes those which are there then.
fn receive<R>(source: &impl Source<R>, at_most: Option<Duration>) -> Received<R> {
    let mut requests = Vec::new();
    let mut next = source.wait(at_most);
    loop {
        match next {
            Ok(Some(request)) => requests.push(request),
            Ok(None) => return Received { requests, error: None },
            Err(error) => return Received { requests, error: Some(error) },
        }
        if requests.len() >= TAKEN_MAX {
            return Received { requests, error: None };
        }
        next = source.take();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
            mpsc,
        },
        thread,
    };

    use super::*;

    /// Numbers, an end to the wait, and errors.
    enum Message {
        Number(u32),
        End,
        Error,
    }

    use Message::{End, Error, Number};

    struct Numbers(Mutex<mpsc::Receiver<Message>>);

    fn error() -> io::Error {
        io::Error::other("an error")
    }

    impl Source<u32> for Numbers {
        fn wait(&self, at_most: Option<Duration>) -> io::Result<Option<u32>> {
            let numbers = self.0.try_lock().expect("one thread at a time");
            let received = match at_most {
                None => numbers.recv().map_err(|_| error())?,
                Some(time) => match numbers.recv_timeout(time) {
                    Err(mpsc::RecvTimeoutError::Timeout) => return Ok(None),
                    received => received.map_err(|_| error())?,
                },
            };
            match received {
                Number(number) => Ok(Some(number)),
                End | Error => Err(error()),
            }
        }

        fn take(&self) -> io::Result<Option<u32>> {
            match self.0.try_lock().expect("one thread at a time").try_recv() {
                Ok(Number(number)) => Ok(Some(number)),
                // Like tiny_http, this takes a call that should have ended the wait.
                Ok(End) | Err(_) => Ok(None),
                Ok(Error) => Err(error()),
            }
        }
    }

    #[test]
    fn a_worker_that_is_held_up_holds_up_no_request() {
        let (send, numbers) = mpsc::channel();
        let numbers = Arc::new(Numbers(Mutex::new(numbers)));
        let intake = Arc::new(Intake::new());
        let (done, seen) = mpsc::channel();
        // Each worker takes one request and never comes back, as if it was held up.
        for number in 0..40 {
            send.send(Number(number)).unwrap();
        }
        let workers: Vec<_> = (0..40)
            .map(|_| {
                let (numbers, intake, done) = (numbers.clone(), intake.clone(), done.clone());
                thread::spawn(move || done.send(intake.next(&*numbers).unwrap().unwrap()).unwrap())
            })
            .collect();
        let mut all: Vec<u32> =
            (0..40).map(|_| seen.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..40));
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    }

    #[test]
    fn who_does_not_stay_passes_the_wake_up_on() {
        let (send, numbers) = mpsc::channel();
        let numbers = Arc::new(Numbers(Mutex::new(numbers)));
        let intake = Arc::new(Intake::new());
        let stays = Arc::new(AtomicBool::new(true));
        let (done, seen) = mpsc::channel();
        let start = |stay: Option<Arc<AtomicBool>>| {
            let (numbers, intake, done) = (numbers.clone(), intake.clone(), done.clone());
            thread::spawn(move || {
                let next = match stay {
                    Some(stay) => intake.next_while(|| stay.load(Ordering::Relaxed), &*numbers),
                    None => intake.next(&*numbers),
                };
                done.send(next.unwrap()).unwrap();
            });
        };
        let wait_for = |wanted: &dyn Fn(&State<u32>) -> bool| {
            while !wanted(&intake.state.lock()) {
                thread::yield_now();
            }
        };
        start(None);
        wait_for(&|state| state.receives);
        start(Some(Arc::clone(&stays)));
        wait_for(&|state| state.asleep == 1);
        start(None);
        wait_for(&|state| state.asleep == 2);
        stays.store(false, Ordering::Relaxed);
        let next = || seen.recv_timeout(Duration::from_secs(60)).unwrap();
        send.send(Number(1)).unwrap();
        let mut first = [next(), next()];
        first.sort_unstable();
        assert_eq!(first, [None, Some(1)]);
        send.send(Number(2)).unwrap();
        assert_eq!(next(), Some(2));
    }

    #[test]
    fn who_receives_and_does_not_stay_ends_too() {
        let (_send, numbers) = mpsc::channel();
        let numbers = Numbers(Mutex::new(numbers));
        let intake = Intake::new();
        let looks = AtomicUsize::new(0);
        let stays = || looks.fetch_add(1, Ordering::Relaxed) < 2;
        assert_eq!(intake.next_while(stays, &numbers).unwrap(), None);
    }

    #[test]
    fn requests_are_left_in_their_order_and_all_workers_end() {
        let (send, numbers) = mpsc::channel();
        let numbers = Arc::new(Numbers(Mutex::new(numbers)));
        let intake = Arc::new(Intake::new());
        for number in 0..100 {
            send.send(Number(number)).unwrap();
        }
        let all: Vec<u32> = (0..100).map(|_| intake.next(&*numbers).unwrap().unwrap()).collect();
        assert_eq!(all, Vec::from_iter(0..100));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let (numbers, intake) = (numbers.clone(), intake.clone());
                thread::spawn(move || intake.next(&*numbers).unwrap())
            })
            .collect();
        intake.close();
        send.send(End).unwrap();
        for worker in workers {
            assert_eq!(worker.join().unwrap(), None);
        }
    }

    #[test]
    fn another_receives_at_once_when_asked() {
        let (send, numbers) = mpsc::channel();
        let numbers = Arc::new(Numbers(Mutex::new(numbers)));
        let intake = Arc::new(Intake::new());
        send.send(Number(0)).unwrap();
        assert_eq!(intake.next(&*numbers).unwrap(), Some(0));
        let follower = thread::spawn({
            let (numbers, intake) = (numbers.clone(), intake.clone());
            move || (intake.next(&*numbers).unwrap(), intake.next(&*numbers).unwrap())
        });
        intake.ensure_receiver();
        send.send(Number(1)).unwrap();
        send.send(Number(2)).unwrap();
        assert_eq!(follower.join().unwrap(), (Some(1), Some(2)));
    }

    #[test]
    fn an_error_of_the_source_is_the_workers() {
        // Behind requests that were taken in one go, too: it comes once.
        for before in 0..3 {
            let (send, numbers) = mpsc::channel();
            for number in 0..before {
                send.send(Number(number)).unwrap();
            }
            send.send(Error).unwrap();
            let (intake, numbers) = (Intake::new(), Numbers(Mutex::new(numbers)));
            assert!(intake.next(&numbers).is_err());
        }
    }
}
