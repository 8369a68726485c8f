//! The workers: they take requests from tiny_http and run them to the end, unless that may block. Then the
//! request goes on elsewhere: on a thread that waits, on one for slow requests, or with its commit.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Config, Fatal,
    connections::{Arrival, Connections},
    crew::{Crew, StandIn},
    exchange::Exchange,
    gate::Gate,
    headroom::Headroom,
    intake::{Intake, Source},
    kick::Kicker,
    pool::{Pool, Slot},
    presence::{Caller, Presence},
    responders::Responders,
};
use crate::{
    api,
    http_interface::{BlockedCall, Client, Framing, Handled, Head, Interface, Refusal, Request},
};

/// What all threads of the server share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) server: Arc<tiny_http::Server>,
    pub(super) interface: Arc<Interface>,
    pub(super) gate: Arc<Gate>,
    pub(super) connections: Arc<Connections<tiny_http::Request>>,
    pub(super) intake: Intake<Arrival<tiny_http::Request>>,
    /// The workers.
    pub(super) crew: Arc<Crew>,
    pub(super) kicker: Arc<Kicker>,
    pub(super) headroom: Arc<Headroom>,
    /// Requests that were taken from tiny_http so far.
    pub(super) taken_requests: Arc<AtomicU64>,
    /// Where the kernel says who is there.
    pub(super) presence: Option<Arc<Presence>>,
    pub(super) waiting: Arc<Pool>,
    pub(super) slow: Arc<Pool>,
    pub(super) stand_ins: Arc<Pool>,
    pub(super) responders: Responders,
    pub(super) fatal: Fatal,
}

impl Source<Arrival<tiny_http::Request>> for Shared {
    fn wait(&self, at_most: Option<Duration>) -> io::Result<Option<Arrival<tiny_http::Request>>> {
        let request = match at_most {
            None => self.server.recv().map(Some),
            Some(time) => self.server.recv_timeout(time),
        };
        Ok(request?.map(|request| self.arrived(request)))
    }

    fn take(&self) -> io::Result<Option<Arrival<tiny_http::Request>>> {
        Ok(self.server.try_recv()?.map(|request| self.arrived(request)))
    }
}

impl Shared {
    /// A worker's life: until the intake is closed.
    pub(super) fn work(self: &Arc<Shared>) {
        self.take_all(|| self.intake.next(&**self));
    }

    /// The same for a while, beside workers that are stuck.
    pub(super) fn work_as(self: &Arc<Shared>, stand_in: &StandIn) {
        self.take_all(|| self.intake.next_while(|| stand_in.is_needed(), &**self));
    }

    fn take_all(
        self: &Arc<Shared>,
        next: impl Fn() -> io::Result<Option<Arrival<tiny_http::Request>>>,
    ) {
        loop {
            match next() {
                Ok(Some(arrival)) => self.crew.work(|| self.take(arrival)),
                Ok(None) => return,
                Err(error) => {
                    // tiny_http has ended its accept thread: nobody can connect any more.
                    (self.fatal)(&error);
                    return;
                }
            }
        }
    }

    /// Runs on a thread of the pool that nobody else uses, if the system gives one.
    pub(super) fn start_stand_in(&self, run: impl FnOnce() + Send + 'static) {
        if let Some(slot) = self.stand_ins.slot() {
            slot.run(Box::new(run));
        }
    }

    /// Answers what came in after the gate was closed and that no worker took. More may come all the time, and a
    /// client that takes no answers blocks it.
    pub(super) fn turn_the_rest_away(self: &Arc<Shared>, deadline: Instant) -> io::Result<()> {
        // tiny_http gives nothing once where the wait was ended, and what came after that follows.
        for _ in 0..2 {
            while Instant::now() < deadline
                && let Some(arrival) = Source::take(&**self)?
            {
                self.take(arrival);
            }
        }
        Ok(())
    }

    fn arrived(&self, request: tiny_http::Request) -> Arrival<tiny_http::Request> {
        // There is no address only on a unix socket, and we listen on none.
        let address = request.remote_addr().copied().unwrap_or(self.config.listen);
        self.connections.arrive(address, request, Instant::now())
    }

    fn take(self: &Arc<Shared>, arrival: Arrival<tiny_http::Request>) {
        self.taken_requests.fetch_add(1, Ordering::Relaxed);
        match arrival {
            Arrival::Serve(ticket, request) => {
                if ticket.is_new {
                    self.kicker.ask();
                    self.headroom.one_more(Instant::now());
                }
                self.begin(Exchange::new(request, ticket));
            }
            Arrival::Forget(request) => {
                log::warn!("a request on a connection that was given up");
                std::mem::forget(request);
            }
            Arrival::Kept => {}
        }
    }

    /// Serves a request that had to wait for the one before it. This thread is done with the earlier one but
    /// for writing its answer, so the next is another's.
    pub(super) fn go_on(self: &Arc<Shared>, exchange: Exchange) {
        match self.slow.slot() {
            Some(slot) => {
                let shared = Arc::clone(self);
                slot.run(Box::new(move || shared.begin(exchange)));
            }
            None => exchange.forget(),
        }
    }

    fn begin(self: &Arc<Shared>, mut exchange: Exchange) {
        if self.headroom.is_used_up() {
            exchange.ask_to_close();
        }
        let head = exchange.head();
        match self.interface.check_head(&head) {
            Err(refusal) => self.refuse_unread(exchange, *refusal),
            Ok(framing) if exchange.has_slow_body(framing) => {
                self.serve_slowly(exchange, head, framing);
            }
            Ok(framing) => self.serve(exchange, head, framing),
        }
    }

    /// Refuses before the body was read. Reading the rest may block.
    fn refuse_unread(self: &Arc<Shared>, exchange: Exchange, refusal: Refusal) {
        let Refusal { response, framing } = refusal;
        let discard_bytes_max = self.config.discard_bytes_max;
        if framing == Some(Framing::Empty) {
            exchange.respond(response);
            return;
        }
        match self.slow.slot() {
            Some(slot) => slot.run(Box::new(move || {
                exchange.refuse_unread(response, framing, discard_bytes_max);
            })),
            None => exchange.abandon(&response),
        }
    }

    /// Serves on a thread of its own, where the client's pace holds up nobody.
    fn serve_slowly(self: &Arc<Shared>, exchange: Exchange, head: Head, framing: Framing) {
        match self.slow.slot() {
            Some(slot) => {
                let shared = Arc::clone(self);
                slot.run(Box::new(move || shared.serve(exchange, head, framing)));
            }
            None => {
                let full = api::Error::ServiceFull {
                    bound: "slow_threads_max",
                    limit: self.config.slow_threads_max,
                };
                exchange.abandon(&Interface::refuse(&head, &full));
            }
        }
    }

    fn serve(self: &Arc<Shared>, mut exchange: Exchange, head: Head, framing: Framing) {
        let bytes_max = self.interface.limits().body_bytes_max;
        let body = match exchange.read_body(framing, bytes_max) {
            Ok(body) => body,
            Err(error) => {
                let response = self.interface.refuse_body(&head, &error);
                let discard_bytes_max = self.config.discard_bytes_max;
                exchange.refuse_unread(response, Some(framing), discard_bytes_max);
                return;
            }
        };
        let Some(pass) = self.gate.enter() else {
            exchange.respond(Interface::refuse(&head, &api::Error::Stopping));
            return;
        };
        exchange.admit(pass);
        let presence = self.presence.as_ref();
        let caller = presence.and_then(|presence| presence.caller(exchange.address()));
        let peer = caller.as_ref().map(|caller| Arc::clone(&caller.peer));
        let client = Client { peer, address: Some(exchange.address().ip()) };
        match self.interface.handle(Request { head, body }, client) {
            Handled::Ready { response, after } => {
                let before_commit = || self.intake.ensure_receiver();
                self.responders.deliver(&self.interface, exchange, response, after, before_commit);
            }
            Handled::Blocked(call) if self.headroom.is_used_up() => {
                let full = api::Error::ServiceFull {
                    bound: "connections_max",
                    limit: self.headroom.connections_max(),
                };
                exchange.respond(call.refuse(&full));
            }
            Handled::Blocked(call) => match self.waiting.slot() {
                Some(slot) => self.wait_on(slot, exchange, call, caller),
                None => {
                    let full = api::Error::ServiceFull {
                        bound: "waiting_threads_max",
                        limit: self.config.waiting_threads_max,
                    };
                    exchange.respond(call.refuse(&full));
                }
            },
        }
    }

    fn wait_on(
        self: &Arc<Shared>,
        slot: Slot,
        exchange: Exchange,
        call: BlockedCall,
        caller: Option<Caller>,
    ) {
        let shared = Arc::clone(self);
        slot.run(Box::new(move || {
            let watched = shared.presence.as_ref().zip(caller).map(|(p, caller)| p.watch(caller));
            let (response, after) = call.wait();
            drop(watched);
            shared.responders.deliver(&shared.interface, exchange, response, after, || ());
        }));
    }
}
