//! Bursts of new connections that all stay open: every request is answered within a second.
//!
//! tiny_http leaves some of them behind when they meet idle threads of its pool (`web_server::kick`). So there are
//! two kinds of daemons: *fresh* ones, which were just started, and *warm* ones, whose threads are idle since the
//! connections of an earlier burst were closed.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use super::{
    daemon::{Daemon, Port, poll},
    http,
    proxy::{Proxy, descriptors},
};

const CONFIG: &str = "[semaphores]\nA = 1\n";
/// How many bursts of how many connections.
const BURSTS: [(usize, usize); 2] = [(100, 64), (20, 256)];
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// From so many threads the connections of a burst come.
const CLIENT_THREADS: usize = 8;
/// What NGINX keeps open to the service: `keepalive` of the site in each of two worker processes, two
/// descriptors each.
const KEPT_DESCRIPTORS_MAX: usize = 2 * 2 * 32;

/// So many connections at once, each with a request; gives the slowest answer, counted from its connect, and
/// the connections, all open.
pub(crate) fn burst(address: SocketAddr, connections: usize) -> (Duration, Vec<TcpStream>) {
    assert_eq!(connections % CLIENT_THREADS, 0);
    let barrier = Arc::new(Barrier::new(CLIENT_THREADS));
    let threads: Vec<_> = (0..CLIENT_THREADS)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            thread::spawn(move || {
                barrier.wait();
                part_of_a_burst(address, connections / CLIENT_THREADS)
            })
        })
        .collect();
    let (mut slowest, mut open) = (Duration::ZERO, Vec::new());
    for thread in threads {
        let (took, streams) = thread.join().unwrap();
        slowest = slowest.max(took);
        open.extend(streams);
    }
    assert_eq!(open.len(), connections);
    (slowest, open)
}

fn part_of_a_burst(address: SocketAddr, connections: usize) -> (Duration, Vec<TcpStream>) {
    let mut begun = Vec::new();
    for _ in 0..connections {
        let started = Instant::now();
        let mut stream = http::connect(address);
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        begun.push((started, stream));
    }
    let mut slowest = Duration::ZERO;
    for (started, stream) in &begun {
        assert_eq!(http::read_response(stream, false).status, 200);
        slowest = slowest.max(started.elapsed());
    }
    (slowest, begun.into_iter().map(|(_, stream)| stream).collect())
}

/// The bursts of [`BURSTS`], each after `prepare`, which gives the address; gives the slowest answer of each kind.
fn bursts(what: &str, mut prepare: impl FnMut() -> SocketAddr) -> [Duration; 2] {
    BURSTS.map(|(bursts, connections)| {
        let mut slowest = Duration::ZERO;
        for number in 0..bursts {
            let (took, open) = burst(prepare(), connections);
            assert!(took < ANSWER_TIME_MAX, "{what}, {connections}, burst {number}: {took:?}");
            slowest = slowest.max(took);
            drop(open);
        }
        slowest
    })
}

#[test]
fn on_fresh_daemons_all_are_answered() {
    let mut daemon = Daemon::start(CONFIG);
    let slowest = bursts("fresh, direct", || {
        daemon.kill();
        daemon.start_again(Port::New);
        daemon.address()
    });
    println!("slowest answers: {slowest:?}");
}

#[test]
fn on_a_warm_daemon_all_are_answered() {
    let daemon = Daemon::start(CONFIG);
    let at_rest = descriptors(daemon.pid());
    drop(burst(daemon.address(), BURSTS[0].1));
    let slowest = bursts("warm, direct", || {
        wait_until_closed(&daemon, at_rest);
        daemon.address()
    });
    println!("slowest answers: {slowest:?}");
}

#[test]
fn on_fresh_daemons_behind_nginx_all_are_answered() {
    let mut daemon = Daemon::start(CONFIG);
    let proxy = Proxy::start(&daemon);
    let slowest = bursts("fresh, through nginx", || {
        daemon.kill();
        daemon.start_again(Port::Same);
        proxy.address()
    });
    println!("slowest answers: {slowest:?}");
}

#[test]
fn on_a_warm_daemon_behind_nginx_all_are_answered() {
    let daemon = Daemon::start(CONFIG);
    let at_rest = descriptors(daemon.pid());
    let proxy = Proxy::start(&daemon);
    drop(burst(proxy.address(), BURSTS[0].1));
    let slowest = bursts("warm, through nginx", || {
        wait_until_closed(&daemon, at_rest + KEPT_DESCRIPTORS_MAX);
        proxy.address()
    });
    println!("slowest answers: {slowest:?}");
}

/// Waits until the daemon has closed the connections of the last burst, so that their threads are idle.
fn wait_until_closed(daemon: &Daemon, descriptors_max: usize) {
    poll("idle threads", || (descriptors(daemon.pid()) <= descriptors_max).then_some(()));
}
