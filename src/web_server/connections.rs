//! What can be known of connections from their requests, since tiny_http shows no connections: whether one
//! was seen before, whether it still has a request under way, and whether it was given up.
//!
//! The requests of a connection are served one after another. A client may send some at once
//! (pipelining, RFC 9112 section 9.3.2); tiny_http hands them all out and then blocks each answer until the
//! earlier ones are written. So they wait here, where they hold up no thread.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Takes on a request that had to wait for the one before it. Called without a lock; must not block.
type GoOn<R> = Box<dyn Fn(Ticket<R>, R) + Send + Sync>;

/// A table of connections by their peers' addresses, with requests of type `R` in it. Its mutex is held for
/// a look-up, and for one pass over the table each time that it has doubled.
pub(super) struct Connections<R> {
    table: Mutex<Table<R>>,
    bounds: Bounds,
    go_on: GoOn<R>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How long a connection without a request is remembered.
    pub(super) memory: Duration,
    pub(super) connections_remembered_max: usize,
    /// Requests that wait for an earlier one of their connection.
    pub(super) pipelined_requests_max: usize,
}

struct Table<R> {
    entries: HashMap<SocketAddr, Entry<R>>,
    prune_at_entries: usize,
}

struct Entry<R> {
    seen_at: Instant,
    /// A request of it is handled.
    is_busy: bool,
    answers_being_written: usize,
    is_abandoned: bool,
    backlog: VecDeque<R>,
}

/// Answers that are written to a connection at once: one, and another whose request came before the writing call
/// for the first had returned. So a client that takes no answers holds up two threads and not more.
const ANSWERS_BEING_WRITTEN_MAX: usize = 2;

const PRUNE_AT_ENTRIES_MIN: usize = 1_024;

/// What to do with a request.
pub(super) enum Arrival<R> {
    /// Serve it now.
    Serve(Ticket<R>, R),
    /// Nothing: it is kept until its turn.
    Kept,
    /// Forget it: its connection was given up, and an answer could never be sent.
    Forget(R),
}

/// A request under way, until its answer is written or it is dropped.
pub(super) struct Ticket<R> {
    connections: Arc<Connections<R>>,
    address: SocketAddr,
    is_answered: bool,
    /// Nothing was heard of this connection for a while, if ever.
    pub(super) is_new: bool,
}

impl<R> Connections<R> {
    pub(super) fn new(bounds: Bounds, go_on: GoOn<R>) -> Connections<R> {
        let table = Table { entries: HashMap::new(), prune_at_entries: PRUNE_AT_ENTRIES_MIN };
        Connections { table: Mutex::new(table), bounds, go_on }
    }

    /// Notes a request. To be called in the order in which requests arrived. When the table is full of
    /// newer connections this one is not remembered, which costs a kick with each of its requests.
    pub(super) fn arrive(
        self: &Arc<Connections<R>>,
        address: SocketAddr,
        request: R,
        now: Instant,
    ) -> Arrival<R> {
        let mut table = self.table.lock();
        if table.entries.len() >= table.prune_at_entries {
            table.entries.retain(|_, entry| entry.is_kept() || self.is_known(entry, now));
            // Also when it is full, so that it does not stay full of those that have gone.
            table.prune_at_entries = (table.entries.len() * 2)
                .max(PRUNE_AT_ENTRIES_MIN)
                .min(self.bounds.connections_remembered_max);
        }
        let full = table.entries.len() >= self.bounds.connections_remembered_max;
        let is_new = match table.entries.get_mut(&address) {
            Some(entry) if entry.is_abandoned => return Arrival::Forget(request),
            Some(entry) if !entry.is_free() => {
                if entry.backlog.len() < self.bounds.pipelined_requests_max {
                    entry.backlog.push_back(request);
                    return Arrival::Kept;
                }
                // What was kept is still served; from this one on nothing is.
                entry.is_abandoned = true;
                return Arrival::Forget(request);
            }
            Some(entry) => {
                let is_new = !self.is_known(entry, now);
                entry.is_busy = true;
                entry.seen_at = now;
                is_new
            }
            None => {
                if !full {
                    table.entries.insert(address, Entry::new(now));
                }
                true
            }
        };
        drop(table);
        Arrival::Serve(self.ticket(address, is_new), request)
    }

    fn ticket(self: &Arc<Connections<R>>, address: SocketAddr, is_new: bool) -> Ticket<R> {
        Ticket { connections: Arc::clone(self), address, is_answered: false, is_new }
    }

    /// Changes a connection's entry, and lets its next request go on if that can be served now.
    fn change(self: &Arc<Connections<R>>, address: SocketAddr, change: impl FnOnce(&mut Entry<R>)) {
        let mut table = self.table.lock();
        let Some(entry) = table.entries.get_mut(&address) else {
            return;
        };
        change(entry);
        // A request may have blocked for long; it was the same connection all the time.
        entry.seen_at = Instant::now();
        let next = if entry.is_free() { entry.backlog.pop_front() } else { None };
        entry.is_busy |= next.is_some();
        drop(table);
        if let Some(request) = next {
            (self.go_on)(self.ticket(address, false), request);
        }
    }

    fn is_known(&self, entry: &Entry<R>, now: Instant) -> bool {
        now.saturating_duration_since(entry.seen_at) <= self.bounds.memory
    }
}

impl<R> Entry<R> {
    fn new(now: Instant) -> Entry<R> {
        Entry {
            seen_at: now,
            is_busy: true,
            answers_being_written: 0,
            is_abandoned: false,
            backlog: VecDeque::new(),
        }
    }

    /// Whether a request of it can be served.
    fn is_free(&self) -> bool {
        !self.is_busy && self.answers_being_written < ANSWERS_BEING_WRITTEN_MAX
    }

    /// Whether it must not be pruned. An abandoned connection's sockets are never closed, so as long as it
    /// is here no other can have its address.
    fn is_kept(&self) -> bool {
        self.is_busy || self.is_abandoned || self.answers_being_written > 0
    }
}

impl<R> Ticket<R> {
    /// The client's address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the answer is written: the connection's next request may be served.
    pub(super) fn begin_answer(&mut self) {
        self.is_answered = true;
        self.connections.change(self.address, |entry| {
            entry.is_busy = false;
            entry.answers_being_written += 1;
        });
    }

    /// Gives the connection up: no later request of it is served.
    pub(super) fn abandon(self) {
        let mut table = self.connections.table.lock();
        if let Some(entry) = table.entries.get_mut(&self.address) {
            entry.is_abandoned = true;
            entry.forget_backlog();
        }
    }
}

impl<R> Drop for Ticket<R> {
    fn drop(&mut self) {
        self.connections.change(self.address, |entry| {
            if self.is_answered {
                // It may be younger than the request, where the table was full.
                entry.answers_being_written = entry.answers_being_written.saturating_sub(1);
            } else {
                entry.is_busy = false;
            }
        });
    }
}

impl<R> Entry<R> {
    /// Dropping a request would read and answer it, see the module `exchange`.
    fn forget_backlog(&mut self) {
        self.backlog.drain(..).for_each(std::mem::forget);
    }
}

impl<R> Drop for Table<R> {
    fn drop(&mut self) {
        self.entries.values_mut().for_each(Entry::forget_backlog);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Started = Arc<Mutex<VecDeque<(Ticket<u32>, u32)>>>;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn connections() -> (Arc<Connections<u32>>, Started) {
        let started = Started::default();
        let bounds = Bounds {
            memory: Duration::from_secs(2),
            connections_remembered_max: 2_000,
            pipelined_requests_max: 3,
        };
        let go_on = Box::new({
            let started = Arc::clone(&started);
            move |ticket, request| started.lock().push_back((ticket, request))
        });
        (Arc::new(Connections::new(bounds, go_on)), started)
    }

    /// The ticket of a request that is served at once.
    fn serve(connections: &Arc<Connections<u32>>, port: u16, now: Instant) -> Ticket<u32> {
        match connections.arrive(address(port), 0, now) {
            Arrival::Serve(ticket, _) => ticket,
            Arrival::Kept | Arrival::Forget(_) => panic!("not served"),
        }
    }

    #[test]
    fn a_connection_is_new_once_and_again_after_a_while() {
        let (connections, _) = connections();
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(serve(&connections, 1, now).is_new);
        assert!(!serve(&connections, 1, later(2)).is_new);
        assert!(serve(&connections, 1, later(5)).is_new);
        assert!(serve(&connections, 2, now).is_new);
    }

    #[test]
    fn requests_of_a_connection_are_served_in_turn() {
        let (connections, started) = connections();
        let now = Instant::now();
        let first = serve(&connections, 1, now);
        for number in 1..=3 {
            assert!(matches!(connections.arrive(address(1), number, now), Arrival::Kept));
        }
        assert!(matches!(connections.arrive(address(1), 4, now), Arrival::Forget(4)));
        assert!(!serve(&connections, 2, now).connections.table.is_locked());
        drop(first);
        for number in 1..=3 {
            let (ticket, request) = started.lock().pop_front().unwrap();
            assert_eq!(request, number);
            assert!(started.lock().is_empty() && !ticket.is_new);
            drop(ticket);
        }
        assert!(matches!(connections.arrive(address(1), 5, now), Arrival::Forget(5)));
    }

    #[test]
    fn who_takes_no_answers_is_served_no_more() {
        let (connections, started) = connections();
        let now = Instant::now();
        let mut first = serve(&connections, 1, now);
        assert!(matches!(connections.arrive(address(1), 1, now), Arrival::Kept));
        first.begin_answer();
        let mut second = started.lock().pop_front().unwrap().0;
        second.begin_answer();
        assert!(matches!(connections.arrive(address(1), 2, now), Arrival::Kept));
        assert!(started.lock().is_empty(), "two answers are being written");
        drop(first);
        let (third, request) = started.lock().pop_front().unwrap();
        assert_eq!(request, 2);
        drop((second, third));
        drop(serve(&connections, 1, now));
    }

    #[test]
    fn nothing_is_served_on_an_abandoned_connection() {
        let (connections, started) = connections();
        let now = Instant::now();
        let first = serve(&connections, 1, now);
        assert!(matches!(connections.arrive(address(1), 1, now), Arrival::Kept));
        first.abandon();
        assert!(started.lock().is_empty());
        let much_later = now + Duration::from_secs(3_600);
        assert!(matches!(connections.arrive(address(1), 2, much_later), Arrival::Forget(2)));
    }

    #[test]
    fn the_table_stays_small() {
        let (connections, _) = connections();
        let now = Instant::now();
        let later = now + Duration::from_secs(9);
        for port in 0..5_000 {
            assert!(serve(&connections, port, now).is_new);
        }
        assert_eq!(connections.table.lock().entries.len(), 2_000);
        assert!(serve(&connections, 4_000, later).is_new);
        let remembered = connections.table.lock().entries.contains_key(&address(4_000));
        assert!(remembered, "those of long ago have made room");
        for port in 0..5_000 {
            drop(serve(&connections, port, later));
        }
        assert!(connections.table.lock().entries.len() <= 2_000);
    }
}
