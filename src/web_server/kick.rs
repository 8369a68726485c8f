//! Kicks: connections that the server makes to itself and closes, so that tiny_http leaves nobody behind.
//!
//! tiny_http 0.12 gives each connection to a pool of threads and starts a new thread only when it counts
//! none that wait. It still counts those which it has notified already, so in a burst connections pile up
//! in the pool's queue with every thread busy, each for the whole life of its connection. With keep-alive
//! that is for ever.
//!
//! A kick that finds no waiting thread gets a new one; that thread is done with the kick at once and then
//! takes the next connection from the queue. So one kick is made for each connection of which a first
//! request is seen, and no stranded connection that has sent a request stays: let X be the connection that
//! left the queue last while others stayed. X's request made a kick after X had left. If the kick found no
//! waiting thread, its new thread took from the queue after X. If it found one, that one took from the
//! queue after X. Either contradicts that X was the last (a kick that is taken from the queue ends at once
//! and its thread takes the next). For connections that are silent and for addresses that came back too
//! soon the module `probe` makes a connection once a second that does the same as a kick: it finds no waiting
//! thread and gets a new one, or finds one, and it ends by itself. So kicks are counted, never merged.
//!
//! A kick sends an empty line, which tiny_http answers with 400 and a close on the connection's own thread.
//! So it is no request and never causes another kick, it ends by itself, and it is seen when it was served.
//! Only a few are under way at a time: each that meets no waiting thread makes one, and when thousands of
//! clients come at once, as they do after a restart, as many kicks would take as many threads again. A kick
//! closes with a reset, which leaves no socket in TIME_WAIT behind: at some hundred kicks a second those
//! would take all ports.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::listener::connect_to_self;

/// A connection to ourselves takes microseconds, unless the backlog is full: then the connections in it
/// do what the kick would.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(100);

/// Kicks that were not served yet, at most.
const UNDER_WAY_MAX: usize = 8;

/// Takes microseconds, unless the kick was left in tiny_http's queue. Then another one has to come after it.
const SERVE_TIME_MAX: Duration = Duration::from_millis(2);

/// More would be of no use: so many connections at once are beyond any descriptor limit.
const OWED_KICKS_MAX: usize = 65_536;

/// Asks for kicks. Its mutex is held for a few instructions, never during a kick.
#[derive(Debug)]
pub(super) struct Kicker {
    state: Mutex<State>,
    changed: Condvar,
    address: SocketAddr,
}

#[derive(Debug, Default)]
struct State {
    owed_kicks: usize,
    stopped: bool,
}

impl Kicker {
    /// Starts the one thread that kicks.
    pub(super) fn start(listens_on: SocketAddr) -> io::Result<(Arc<Kicker>, JoinHandle<()>)> {
        let kicker = Arc::new(Kicker {
            state: Mutex::default(),
            changed: Condvar::new(),
            address: listens_on,
        });
        let thread = std::thread::Builder::new().name("kick".to_owned()).spawn({
            let kicker = Arc::clone(&kicker);
            move || kicker.run()
        })?;
        Ok((kicker, thread))
    }

    /// Asks for one kick.
    pub(super) fn ask(&self) {
        let mut state = self.state.lock();
        state.owed_kicks = (state.owed_kicks + 1).min(OWED_KICKS_MAX);
        let first = state.owed_kicks == 1;
        drop(state);
        if first {
            self.changed.notify_one();
        }
    }

    /// Lets the thread end.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let mut under_way = VecDeque::with_capacity(UNDER_WAY_MAX);
        while self.wait_for_work(&mut under_way) {
            if under_way.len() == UNDER_WAY_MAX
                && let Some(oldest) = under_way.pop_front()
            {
                wait_until_served(oldest);
            }
            match self.kick() {
                Ok(kick) => under_way.push_back(kick),
                // The next one makes up for it: kicks are owed to connections, and probes never end.
                Err(error) => log::debug!("kick failed: {error}"),
            }
        }
    }

    /// Waits until a kick is owed, and lets go of those under way meanwhile; `false` when it is time to end.
    fn wait_for_work(&self, under_way: &mut VecDeque<TcpStream>) -> bool {
        let mut state = self.state.lock();
        while state.owed_kicks == 0 && !state.stopped {
            if under_way.is_empty() {
                self.changed.wait(&mut state);
            } else if self.changed.wait_for(&mut state, SERVE_TIME_MAX).timed_out() {
                under_way.clear();
            }
        }
        state.owed_kicks = state.owed_kicks.saturating_sub(1);
        !state.stopped
    }

    fn kick(&self) -> io::Result<TcpStream> {
        let mut kick = connect_to_self(self.address, CONNECT_TIME_MAX)?;
        kick.write_all(b"\r\n")?;
        Ok(kick)
    }
}

/// Waits for an answer of any kind, or not for long.
fn wait_until_served(mut kick: TcpStream) {
    let answered =
        kick.set_read_timeout(Some(SERVE_TIME_MAX)).and_then(|()| kick.read(&mut [0; 64]));
    if let Err(error) = answered {
        log::debug!("kick not served: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn every_kick_that_was_asked_for_is_made() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (kicker, thread) = Kicker::start(address).unwrap();
        for _ in 0..100 {
            kicker.ask();
        }
        for _ in 0..100 {
            listener.accept().unwrap();
        }
        kicker.stop();
        thread.join().unwrap();
    }

    #[test]
    fn kicks_that_nobody_serves_hold_up_the_others_only_for_a_while() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (kicker, thread) = Kicker::start(listener.local_addr().unwrap()).unwrap();
        let kicks = 4 * UNDER_WAY_MAX;
        for _ in 0..kicks {
            kicker.ask();
        }
        let accepted: Vec<_> = (0..kicks).map(|_| listener.accept().unwrap()).collect();
        kicker.stop();
        thread.join().unwrap();
        for (mut stream, _) in accepted {
            let mut line = [0; 2];
            // Some were reset by now.
            assert!(stream.read_exact(&mut line).is_err() || line == *b"\r\n");
        }
    }

    #[test]
    fn a_kick_that_fails_is_not_the_last() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (kicker, thread) = Kicker::start(address).unwrap();
        kicker.ask();
        while kicker.state.lock().owed_kicks > 0 {
            std::thread::yield_now();
        }
        let listener = TcpListener::bind(address).unwrap();
        kicker.ask();
        listener.accept().unwrap();
        kicker.stop();
        thread.join().unwrap();
    }
}
