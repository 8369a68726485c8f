//! Every bound of the web server, in one place.

use std::{net::SocketAddr, time::Duration};

/// Where the server listens and what it may use. The unit of a number is the last word of its name but
/// for `max` and `min`; a length of time is a [`Duration`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Address and port; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections that the kernel keeps until they are accepted; it caps this by `net.core.somaxconn`.
    pub backlog_connections: i32,
    /// Threads that handle requests. None of them ever waits for a permit or a long body; one may wait for
    /// the disk, to commit what its own reply is about.
    pub worker_threads: usize,
    /// Threads that send the responses whose commit came later.
    pub responder_threads: usize,
    /// Threads on which calls wait, at most. More than the calls that the API lets wait at once: past
    /// this bound a call is refused with 503.
    pub waiting_threads_max: usize,
    /// Threads for requests that depend on the pace of their client, at most: those with a body above
    /// 1,024 bytes or in chunks, and those sent before an earlier one of their connection was answered.
    pub slow_threads_max: usize,
    /// How long a thread of the last two kinds, or one that stands in, stays without work.
    pub thread_idle_max: Duration,
    /// How long a send may make no progress before the response is given up (`SO_SNDTIMEO`).
    pub send_time_max: Duration,
    /// How long sent data may stay unacknowledged before the connection is closed (`TCP_USER_TIMEOUT`).
    pub unacknowledged_time_max: Duration,
    /// Idle time of a connection before the kernel asks whether the peer is still there.
    pub keepalive_idle: Duration,
    /// Time between those questions; the third without an answer closes the connection.
    pub keepalive_interval: Duration,
    /// A body that was refused as too long is still read up to here, so that the connection stays in use
    /// and the client reads the answer. Beyond, the connection is abandoned.
    pub discard_bytes_max: u64,
    /// Connections above which calls that would wait are refused, see the module `headroom`. tiny_http
    /// accepts on, until the process has no descriptor left.
    pub connections_max: usize,
    /// Time between two probes, see the module `probe`.
    pub probe_interval: Duration,
    /// How long a probe may take.
    pub probe_time_max: Duration,
    /// How long a connection without a request is remembered as one that was seen already.
    pub connection_memory: Duration,
    /// Connections that are remembered at most; the others count as new with each request.
    pub connections_remembered_max: usize,
    /// Requests of one connection that wait until its earlier ones are answered; the connection of one more
    /// is abandoned.
    pub pipelined_requests_max: usize,
    /// How long [`super::WebServer::stop`] may take.
    pub stop_time_max: Duration,
}

impl Config {
    /// The defaults, for one address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Config {
        Config {
            listen,
            backlog_connections: 4_096,
            worker_threads: 4,
            responder_threads: 4,
            waiting_threads_max: 4_608,
            slow_threads_max: 256,
            thread_idle_max: Duration::from_secs(10),
            send_time_max: Duration::from_secs(10),
            unacknowledged_time_max: Duration::from_secs(30),
            keepalive_idle: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(10),
            discard_bytes_max: 1 << 30,
            connections_max: 8_192,
            probe_interval: Duration::from_secs(1),
            probe_time_max: Duration::from_secs(1),
            connection_memory: Duration::from_secs(2),
            connections_remembered_max: 65_536,
            pipelined_requests_max: 32,
            stop_time_max: Duration::from_millis(1_500),
        }
    }
}
