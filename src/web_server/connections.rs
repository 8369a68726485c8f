//! What can be known of connections from their requests, since tiny_http shows no connections: whether one
//! was seen before, and whether a request was sent before the last one was answered.
//!
//! Workers note requests in the order in which they come to it, not always in that of their arrival. So
//! now and then a pipelined request is taken for the first, and its answer blocks a worker until the first
//! is answered. NGINX never pipelines, nor do the usual clients.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// A table of peers' addresses. Its mutex is held for a look-up, and for one pass over the table each time
/// that it has doubled.
#[derive(Debug)]
pub(super) struct Connections {
    table: Mutex<Table>,
    memory: Duration,
    entries_max: usize,
}

#[derive(Debug)]
struct Table {
    entries: HashMap<SocketAddr, Entry>,
    prune_at_entries: usize,
}

#[derive(Debug)]
struct Entry {
    in_flight: u32,
    seen_at: Instant,
}

const PRUNE_AT_ENTRIES_MIN: usize = 1_024;

/// A request that is being handled; ends with its drop.
#[derive(Debug)]
pub(super) struct Ticket {
    connections: Arc<Connections>,
    address: SocketAddr,
    /// Nothing was heard of this connection for a while, if ever.
    pub(super) is_new: bool,
    /// An earlier request of the same connection is not answered yet. Writing the answer to this one
    /// would block until it is.
    pub(super) is_pipelined: bool,
    /// The client closes the connection after the answer, so its address may soon be another's.
    is_last: bool,
}

impl Connections {
    pub(super) fn new(memory: Duration, entries_max: usize) -> Connections {
        let table = Table { entries: HashMap::new(), prune_at_entries: PRUNE_AT_ENTRIES_MIN };
        Connections { table: Mutex::new(table), memory, entries_max }
    }

    /// Notes a request. When the table is full of newer ones the connection is not remembered, which
    /// costs a kick with each of its requests.
    pub(super) fn begin(
        self: &Arc<Connections>,
        address: SocketAddr,
        is_last: bool,
        now: Instant,
    ) -> Ticket {
        let mut table = self.table.lock();
        if table.entries.len() >= table.prune_at_entries {
            table.entries.retain(|_, entry| entry.in_flight > 0 || self.is_known(entry, now));
            table.prune_at_entries = (table.entries.len() * 2).max(PRUNE_AT_ENTRIES_MIN);
        }
        let full = table.entries.len() >= self.entries_max;
        let (is_new, is_pipelined) = match table.entries.get_mut(&address) {
            Some(entry) => {
                let is_new = entry.in_flight == 0 && !self.is_known(entry, now);
                let is_pipelined = entry.in_flight > 0;
                entry.in_flight += 1;
                entry.seen_at = now;
                (is_new, is_pipelined)
            }
            None => {
                if !full {
                    table.entries.insert(address, Entry { in_flight: 1, seen_at: now });
                }
                (true, false)
            }
        };
        drop(table);
        Ticket { connections: Arc::clone(self), address, is_new, is_pipelined, is_last }
    }

    fn is_known(&self, entry: &Entry, now: Instant) -> bool {
        now.saturating_duration_since(entry.seen_at) <= self.memory
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut table = self.connections.table.lock();
        if let Some(entry) = table.entries.get_mut(&self.address) {
            entry.in_flight = entry.in_flight.saturating_sub(1);
            if self.is_last && entry.in_flight == 0 {
                table.entries.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_connection_is_new_once_and_again_after_a_while() {
        let connections = Arc::new(Connections::new(Duration::from_secs(2), 100));
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(connections.begin(address(1), false, now).is_new);
        assert!(!connections.begin(address(1), false, later(2)).is_new);
        assert!(connections.begin(address(1), false, later(5)).is_new);
        assert!(connections.begin(address(2), true, now).is_new);
        assert!(
            connections.begin(address(2), true, now).is_new,
            "the last one was its last request"
        );
    }

    #[test]
    fn a_request_on_top_of_another_is_pipelined() {
        let connections = Arc::new(Connections::new(Duration::from_secs(2), 100));
        let now = Instant::now();
        let first = connections.begin(address(1), false, now);
        let long_after = now + Duration::from_secs(60);
        let second = connections.begin(address(1), false, long_after);
        assert!(!first.is_pipelined && second.is_pipelined && !second.is_new);
        drop((first, second));
        assert!(!connections.begin(address(1), false, long_after).is_pipelined);
    }

    #[test]
    fn the_table_stays_small() {
        let connections = Arc::new(Connections::new(Duration::from_secs(2), 2_000));
        let now = Instant::now();
        for port in 0..5_000 {
            assert!(connections.begin(address(port), false, now).is_new);
        }
        assert_eq!(connections.table.lock().entries.len(), 2_000);
        drop(connections.begin(address(1), false, now + Duration::from_secs(9)));
        for port in 0..5_000 {
            drop(connections.begin(address(port), false, now + Duration::from_secs(9)));
        }
        assert!(connections.table.lock().entries.len() <= 2_000);
    }
}
