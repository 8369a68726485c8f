//! The probe: asks the server something over a connection of its own, about once a second, and ends the
//! process when the server is deaf.
//!
//! A server that nobody can reach while its process lives on is the worst of all outcomes: nothing would
//! start it again. What makes this one deaf at once (no descriptor at accept, a panic) ends the process by
//! itself; the probe is for what nobody has thought of, such as workers that hang.
//!
//! *Deaf* is a server that left [`DEAF_PROBES`] probes in a row without an answer and took no other request
//! meanwhile, or that left [`MUTE_PROBES`] without an answer whatever else it did. The difference is there
//! for a server that has thousands of requests in its queue: it is slow, and to end it would make that worse.
//! Probes are counted and not seconds, so a process that was suspended (SIGSTOP, a laptop that sleeps) has
//! lost one probe when it wakes up. An answer that comes late, to an earlier probe, is an answer: on a
//! machine that has far too much to do a request takes seconds. With the defaults a deaf server is noticed
//! within 4 s.
//!
//! The request is one that needs neither the state's lock nor a commit: a disk that stalls for some seconds
//! does not make a server deaf. Any answer will do, a refusal too.
//!
//! A probe that cannot be made for want of a descriptor or a port says nothing: the server may have been full
//! for hours with connections that it serves. The next connection that comes then ends its accept thread,
//! which is fatal.
//!
//! Each answer is told to whoever wants to know (`Answered`): it proves that connections are taken and workers work. That is
//! what a watchdog outside of the process is fed with.
//!
//! A probe is also what the module `kick` needs now and then: a connection that ends by itself.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{Answered, Fatal, headroom::Headroom, listener::connect_to_self};

/// Probes in a row without an answer, and without any other request, that make a server deaf.
const DEAF_PROBES: u32 = 3;

/// The same while other requests come in.
const MUTE_PROBES: u32 = 30;

/// A constant answer, and only its head.
const REQUEST: &[u8] =
    b"HEAD /api HTTP/1.1\r\nHost: localhost\r\nUser-Agent: semaphored-probe\r\n\r\n";

/// What the probe looks at.
pub(super) struct Watched {
    pub(super) listens_on: SocketAddr,
    /// Requests that the workers have taken, the probes' own among them.
    pub(super) taken_requests: Arc<AtomicU64>,
    pub(super) headroom: Arc<Headroom>,
    pub(super) fatal: Fatal,
    pub(super) answered: Answered,
}

/// Its mutex is held for a few instructions, never during a probe.
pub(super) struct Probe {
    watched: Watched,
    interval: Duration,
    /// How long one probe may take.
    time_max: Duration,
    stopped: Mutex<bool>,
    changed: Condvar,
}

/// What came of one probe.
#[derive(Debug)]
enum Outcome {
    Answered,
    /// Nobody listens: no other client gets a connection either.
    Refused(io::Error),
    /// No answer in time.
    Unanswered(io::Error),
    /// The probe could not be made.
    NotAsked(io::Error),
}

/// What the probes so far say, as a function of their outcomes alone.
#[derive(Debug, Default)]
struct Hearing {
    /// Probes without an answer since the last that had one.
    unanswered: u32,
    /// Those at the end of which no other request was seen either.
    silent: u32,
}

impl Probe {
    /// Starts the one thread that probes. The first comes after one interval.
    pub(super) fn start(
        watched: Watched,
        interval: Duration,
        time_max: Duration,
    ) -> io::Result<(Arc<Probe>, JoinHandle<()>)> {
        let (stopped, changed) = (Mutex::new(false), Condvar::new());
        let probe = Arc::new(Probe { watched, interval, time_max, stopped, changed });
        let thread = std::thread::Builder::new().name("probe".to_owned()).spawn({
            let probe = Arc::clone(&probe);
            move || probe.run()
        })?;
        Ok((probe, thread))
    }

    /// Lets the thread end. From now on it calls nothing fatal.
    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut hearing = Hearing::default();
        let mut earlier = Vec::new();
        let mut due_at = Instant::now() + self.interval;
        while self.wait_until(due_at) {
            due_at = Instant::now() + self.interval;
            self.watched.headroom.look(Instant::now());
            let taken_before = self.taken();
            let outcome = self.ask(&mut earlier);
            // The probes' own may be among them, late ones too.
            let own_max = earlier.len() as u64 + 1;
            let others_came = self.taken().wrapping_sub(taken_before) > own_max;
            if hearing.note(&outcome, others_came) {
                self.end(&hearing, &outcome);
                return;
            }
            match outcome {
                Outcome::Answered => {
                    earlier.clear();
                    (self.watched.answered)();
                }
                outcome => log::debug!("probe: {outcome:?}, other requests came: {others_came}"),
            }
        }
    }

    fn taken(&self) -> u64 {
        self.watched.taken_requests.load(Ordering::Relaxed)
    }

    /// Waits; `false` when it is time to end.
    fn wait_until(&self, due_at: Instant) -> bool {
        let mut stopped = self.stopped.lock();
        while !*stopped {
            if self.changed.wait_until(&mut stopped, due_at).timed_out() {
                break;
            }
        }
        !*stopped
    }

    fn end(&self, hearing: &Hearing, outcome: &Outcome) {
        let stopped = self.stopped.lock();
        if *stopped {
            return;
        }
        drop(stopped);
        let (Outcome::Refused(last) | Outcome::Unanswered(last) | Outcome::NotAsked(last)) =
            outcome
        else {
            return;
        };
        (self.watched.fatal)(&io::Error::other(format!(
            "it is deaf: {} requests to itself on {} in a row had no answer within {:?} each, the last one: \
             {last}",
            hearing.unanswered, self.watched.listens_on, self.time_max
        )));
    }

    /// One probe. Those before it that still wait may be answered meanwhile, which is as good; it joins them
    /// when its time is over.
    fn ask(&self, earlier: &mut Vec<TcpStream>) -> Outcome {
        let outcome = self.ask_anew(earlier);
        if earlier.iter_mut().any(is_answered) {
            return Outcome::Answered;
        }
        outcome
    }

    fn ask_anew(&self, earlier: &mut Vec<TcpStream>) -> Outcome {
        let deadline = Instant::now() + self.time_max;
        let mut stream = match connect_to_self(self.watched.listens_on, self.time_max) {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::ConnectionRefused => Outcome::Refused(error),
                    io::ErrorKind::TimedOut | io::ErrorKind::ConnectionReset => {
                        Outcome::Unanswered(error)
                    }
                    _ => Outcome::NotAsked(error),
                };
            }
        };
        match exchange(&mut stream, deadline) {
            Ok(()) => Outcome::Answered,
            Err(error) => {
                if error.kind() == io::ErrorKind::TimedOut {
                    earlier.push(stream);
                }
                Outcome::Unanswered(error)
            }
        }
    }
}

/// Sends the request and waits for the beginning of an answer.
fn exchange(stream: &mut TcpStream, deadline: Instant) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    let mut answer = [0; 512];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut answer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            // After a SIGSTOP and SIGCONT such a read is interrupted (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether an answer has come by now.
fn is_answered(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).is_ok() && stream.read(&mut [0; 512]).is_ok_and(|bytes| bytes > 0)
}

impl Hearing {
    /// Takes note of a probe; tells whether the server is deaf.
    fn note(&mut self, outcome: &Outcome, others_came: bool) -> bool {
        match outcome {
            Outcome::Answered => *self = Hearing::default(),
            Outcome::NotAsked(_) => {}
            Outcome::Refused(_) => {
                self.unanswered += 1;
                self.silent += 1;
            }
            Outcome::Unanswered(_) => {
                self.unanswered += 1;
                self.silent = if others_came { 0 } else { self.silent + 1 };
            }
        }
        self.silent >= DEAF_PROBES || self.unanswered >= MUTE_PROBES
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
