//! Sockets and threads. The only place that names tiny_http.
//!
//! | threads | do | block on |
//! |---|---|---|
//! | tiny_http's: one that accepts, one for each connection | read heads and short bodies | their client |
//! | `web-N`, a fixed number | handle requests, commit, answer | the disk; a socket until its time-out |
//! | `waiting`, elastic | wait for permits | [`crate::http_interface::BlockedCall::wait`] |
//! | `slow`, elastic | read long bodies, serve pipelined requests | their client |
//! | `stand-in`, elastic | the work of `web` or `respond` threads that are all stuck | as those |
//! | `respond-N`, a fixed number | send what was committed later | a socket, as the workers |
//! | `kick`, one | keeps tiny_http from leaving connections behind | nothing |
//! | `lookout`, one | sees when all `web` or all `respond` are stuck | nothing |
//! | `probe`, one | asks the server something, ends a deaf process | its request, up to a time-out |
//! | `turn-away`, one, from a stop to the end of the process | answers 503 | their client |
//! | `presence`, one | notices clients that hang up while their call waits | nothing |
//!
//! So a release or a status request never queues behind a call that waits. No lock of this module is held
//! while a client's socket is read or written, or while the API is called. Two are held while the kernel is
//! asked something short: those of `headroom` and `presence`.
//!
//! What tiny_http 0.12 does wrong and what is done about it stands where it is done: connections left
//! behind in the module `kick`, clients that hang up in `presence`, clients that take no answers in `crew`,
//! bodies in `exchange`, connections beyond any bound in `headroom`, socket options in `listener`, panics in
//! `panic`. An error from it means that its accept thread has ended, and is fatal; what it does not tell is
//! noticed by `probe`.

mod config;
mod connections;
mod crew;
mod exchange;
mod gate;
mod headroom;
mod intake;
mod kick;
mod listener;
mod panic;
mod pool;
mod presence;
mod probe;
mod responders;
mod sock_diag;
mod workers;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Weak, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

pub use self::config::Config;
pub use self::listener::Bound;
pub use self::panic::{is_for_want_of_a_descriptor, is_for_want_of_a_thread, is_of_a_connection};
use self::{
    connections::{Bounds, Connections},
    crew::{ALL_STAND_INS_MAX, Crew, Lookout},
    exchange::Exchange,
    gate::Gate,
    headroom::Headroom,
    intake::Intake,
    kick::Kicker,
    pool::Pool,
    presence::Presence,
    probe::{Probe, Watched},
    responders::Responders,
    workers::Shared,
};
use crate::http_interface::Interface;

/// Called when the server cannot go on. The process should end, so that it is started again.
pub type Fatal = Arc<dyn Fn(&io::Error) + Send + Sync>;

/// Called about once a second: each time the server has answered itself over its own socket.
pub type Answered = Arc<dyn Fn() + Send + Sync>;

/// A running server.
pub struct WebServer {
    shared: Arc<Shared>,
    lookout: Arc<Lookout>,
    address: SocketAddr,
    probe: Arc<Probe>,
    workers: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

/// The stop has at least so long for threads that have nothing to do any more.
const JOIN_TIME_MIN: Duration = Duration::from_millis(100);

impl Bound {
    /// Listens, and serves from now on. `answered` is called on the thread that asks: what takes long in it
    /// adds to the time until a deaf server is noticed.
    ///
    /// # Errors
    /// When the system gives no socket or thread.
    pub fn start(
        self,
        interface: Arc<Interface>,
        fatal: Fatal,
        answered: Answered,
    ) -> io::Result<WebServer> {
        let address = self.local_addr();
        let headroom = Arc::new(Headroom::new(self.config.connections_max));
        let (listener, config) = self.listen()?;
        let server = tiny_http::Server::from_listener(listener, None).map_err(io::Error::other)?;
        let server = Arc::new(server);
        let (responders, mut others) = Responders::start(config.responder_threads)?;
        let (kicker, kick_thread) = Kicker::start(address)?;
        others.push(kick_thread);
        let presence = Presence::start(address)?.map(|(presence, thread)| {
            others.push(thread);
            presence
        });
        let idle_max = config.thread_idle_max;
        let bounds = Bounds {
            memory: config.connection_memory,
            connections_remembered_max: config.connections_remembered_max,
            pipelined_requests_max: config.pipelined_requests_max,
        };
        let shared = Arc::new_cyclic(|shared: &Weak<Shared>| {
            let shared = shared.clone();
            let go_on = Box::new(move |ticket, request| {
                let exchange = Exchange::new(request, ticket);
                match shared.upgrade() {
                    Some(shared) => shared.go_on(exchange),
                    None => exchange.forget(),
                }
            });
            Shared {
                server,
                interface,
                gate: Arc::new(Gate::default()),
                connections: Arc::new(Connections::new(bounds, go_on)),
                intake: Intake::new(),
                crew: Crew::new(config.worker_threads),
                kicker,
                headroom,
                taken_requests: Arc::default(),
                presence,
                waiting: Pool::new("waiting", config.waiting_threads_max, idle_max),
                slow: Pool::new("slow", config.slow_threads_max, idle_max),
                stand_ins: Pool::new("stand-in", ALL_STAND_INS_MAX, idle_max),
                responders,
                fatal,
                config,
            }
        });
        let (lookout, lookout_thread) = Lookout::start(Arc::downgrade(&shared))?;
        others.push(lookout_thread);
        let workers = (0..shared.config.worker_threads)
            .map(|number| {
                let shared = Arc::clone(&shared);
                let thread = std::thread::Builder::new().name(format!("web-{number}"));
                thread.spawn(move || shared.work())
            })
            .collect::<io::Result<_>>()?;
        let (probe, probe_thread) = shared.start_probe(address, answered)?;
        others.push(probe_thread);
        Ok(WebServer { shared, lookout, address, probe, workers, others })
    }
}

impl Shared {
    fn start_probe(
        &self,
        listens_on: SocketAddr,
        answered: Answered,
    ) -> io::Result<(Arc<Probe>, JoinHandle<()>)> {
        let watched = Watched {
            listens_on,
            taken_requests: Arc::clone(&self.taken_requests),
            headroom: Arc::clone(&self.headroom),
            fatal: Arc::clone(&self.fatal),
            answered,
        };
        Probe::start(watched, self.config.probe_interval, self.config.probe_time_max)
    }
}

impl WebServer {
    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Says that a stop is about to begin: thousands of calls may return at once, so it may be deaf for a
    /// while.
    pub fn expect_stop(&self) {
        self.probe.stop();
    }

    /// Stops: lets no request through to the API any more (they are answered 503), waits until all that it
    /// has seen are answered, then ends the threads. Returns within [`Config::stop_time_max`] and a little;
    /// `false` when that was too short for something. Whoever comes until the process ends is answered 503, too.
    ///
    /// The API has to have been told before, so that the calls that wait return, and the commit writer has
    /// to run on, so that the last replies can be sent. Connections stay open until the process ends.
    pub fn stop(self) -> bool {
        self.expect_stop();
        let WebServer { shared, lookout, address: _, probe: _, workers, others } = self;
        let deadline = Instant::now() + shared.config.stop_time_max;
        shared.gate.close();
        let answered = shared.gate.wait_until_empty(deadline);
        // Until here replies may need it: it finds others for those that stuck threads should have sent.
        lookout.stop();
        // Until here the workers have turned away what came in.
        shared.intake.close();
        shared.server.unblock();
        let deadline = deadline.max(Instant::now() + JOIN_TIME_MIN);
        let mut ended = join_until(workers, deadline);
        shared.waiting.stop();
        shared.slow.stop();
        shared.stand_ins.stop();
        shared.responders.stop();
        shared.kicker.stop();
        if let Some(presence) = &shared.presence {
            presence.stop();
        }
        ended &= shared.turn_away(deadline);
        ended &= join_until(others, deadline);
        answered && ended
    }
}

impl Shared {
    /// Turns away what the workers have left, and from then on, until the process ends, what else comes. On a thread of its
    /// own, which nobody waits for beyond the deadline; tells whether it is done with the rest.
    fn turn_away(self: &Arc<Shared>, deadline: Instant) -> bool {
        let server = Arc::clone(&self.server);
        // Never dropped: tiny_http would answer 500 to what it still has, and who gets that cannot know what became of
        // the request.
        std::mem::forget(Arc::clone(&server));
        let shared = Arc::clone(self);
        let (done, is_done) = mpsc::channel();
        let thread = std::thread::Builder::new().name("turn-away".to_owned()).spawn(move || {
            let rest = shared.turn_the_rest_away(deadline);
            // The API has an end now.
            drop(shared);
            // Nobody listens any more after the deadline.
            let _ = done.send(());
            if let Err(error) = rest.and_then(|()| exchange::turn_all_away(&server)) {
                log::warn!("while stopping: {error}");
            }
        });
        if let Err(error) = thread {
            log::warn!("while stopping: {error}");
        }
        is_done.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
    }
}

/// Joins threads that are about to end; `false` when the deadline came first. The standard library cannot
/// join with a time-out, and a channel would not say that a thread has *ended*.
fn join_until(threads: Vec<JoinHandle<()>>, deadline: Instant) -> bool {
    const PAUSE: Duration = Duration::from_millis(1);
    threads.into_iter().all(|thread| {
        while !thread.is_finished() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        thread.join().is_ok()
    })
}
