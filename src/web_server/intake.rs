//! How the workers take requests, one thread at a time: the requests of a connection have to be noted in their
//! order.
//!
//! One worker *receives*: it sleeps in tiny_http's queue, takes what is there in one go, and serves it itself,
//! while what comes meanwhile gathers in the queue. Handling takes microseconds, less than waking a thread, so
//! another worker is woken only where there is enough for two, or when this one is about to wait for the disk
//! ([`Intake::step_aside`]). Where it is held up by something that nobody could know of (a client that takes no
//! answer), the others look by themselves after [`LOOK_AGAIN`].
//!
//! Locking: the mutex is held for a few instructions, never while receiving.

use std::{collections::VecDeque, io, time::Duration};

use parking_lot::{Condvar, Mutex};

/// Most requests that are taken in one go.
const TAKEN_MAX: usize = 16;

/// So many that nobody has yet are work for one more worker.
const ENOUGH_FOR_TWO: usize = 4;

/// How long an idle worker sleeps before it looks whether requests wait for one that does not come.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Where requests come from. Called by one thread at a time.
pub(super) trait Source<R> {
    /// Waits for a request. An error means that none will come any more, or that somebody wanted to end the
    /// wait.
    fn wait(&self) -> io::Result<R>;

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
            if state.receives {
                state.asleep += 1;
                self.changed.wait_for(&mut state, LOOK_AGAIN);
                state.asleep -= 1;
                continue;
            }
            state.receives = true;
            drop(state);
            let received = receive(source);
            state = self.state.lock();
            state.receives = false;
            match received {
                Ok(requests) => state.taken.extend(requests),
                Err(_) if state.closed => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The calling worker may be away for longer: another takes its place.
    pub(super) fn step_aside(&self) {
        let state = self.state.lock();
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

/// Waits for a request, and takes those which are there then.
fn receive<R>(source: &impl Source<R>) -> io::Result<Vec<R>> {
    let mut requests = vec![source.wait()?];
    while requests.len() < TAKEN_MAX {
        match source.take() {
            Ok(Some(request)) => requests.push(request),
            // An error comes again at the next wait.
            Ok(None) | Err(_) => break,
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
        time::Duration,
    };

    use super::*;

    /// Numbers, and an end to the wait.
    struct Numbers(Mutex<mpsc::Receiver<Option<u32>>>);

    impl Source<u32> for Numbers {
        fn wait(&self) -> io::Result<u32> {
            let received = self.0.try_lock().expect("one thread at a time").recv();
            received.ok().flatten().ok_or_else(|| io::Error::other("woken"))
        }

        fn take(&self) -> io::Result<Option<u32>> {
            // Like tiny_http, this takes a call that should have ended the wait.
            Ok(self.0.try_lock().expect("one thread at a time").try_recv().ok().flatten())
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
            send.send(Some(number)).unwrap();
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
    fn requests_are_left_in_their_order_and_all_workers_end() {
        let (send, numbers) = mpsc::channel();
        let numbers = Arc::new(Numbers(Mutex::new(numbers)));
        let intake = Arc::new(Intake::new());
        for number in 0..100 {
            send.send(Some(number)).unwrap();
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
        send.send(None).unwrap();
        for worker in workers {
            assert_eq!(worker.join().unwrap(), None);
        }
    }

    #[test]
    fn who_steps_aside_is_followed_at_once() {
        let (send, numbers) = mpsc::channel();
        let numbers = Arc::new(Numbers(Mutex::new(numbers)));
        let intake = Arc::new(Intake::new());
        send.send(Some(0)).unwrap();
        assert_eq!(intake.next(&*numbers).unwrap(), Some(0));
        let follower = thread::spawn({
            let (numbers, intake) = (numbers.clone(), intake.clone());
            move || (intake.next(&*numbers).unwrap(), intake.next(&*numbers).unwrap())
        });
        intake.step_aside();
        send.send(Some(1)).unwrap();
        send.send(Some(2)).unwrap();
        assert_eq!(follower.join().unwrap(), (Some(1), Some(2)));
    }

    #[test]
    fn an_error_of_the_source_is_the_workers() {
        let (send, numbers) = mpsc::channel();
        send.send(Some(1)).unwrap();
        drop(send);
        let intake = Intake::new();
        let numbers = Numbers(Mutex::new(numbers));
        assert_eq!(intake.next(&numbers).unwrap(), Some(1));
        assert!(intake.next(&numbers).is_err());
    }
}
