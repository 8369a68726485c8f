//! A daemon that runs out of descriptors or threads goes on serving, or ends so that it is started again. It is
//! never deaf and alive.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitStatus,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{
    daemon::{Daemon, Port, poll},
    http::{self, Request},
};

/// How long it may be deaf.
const DEAF_TIME_MAX: Duration = Duration::from_secs(5);

const WAIT: &str = "PUT /api/v1/claims/ID?wait=50 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                    Content-Length: 21\r\n\r\n{\"permits\": {\"A\": 1}}";

/// As many connections as can be made of so many, each with this sent on it. `ID` becomes an id of its own.
fn crowd(address: SocketAddr, connections: usize, sent: &str) -> Vec<TcpStream> {
    let connect = |number: usize| {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(sent.replace("ID", &number.to_string()).as_bytes()).ok()?;
        Some(stream)
    };
    (0..connections).map_while(connect).collect()
}

/// What became of the daemon.
#[derive(Debug)]
enum Fate {
    Serves,
    Ended(ExitStatus),
}

/// Sees that it answers or ends, in time.
fn fate(daemon: &mut Daemon) -> Fate {
    let started = Instant::now();
    loop {
        if let Some(status) = daemon.has_exited() {
            return Fate::Ended(status);
        }
        let asked_at = Instant::now();
        if http::try_send(daemon.address(), &Request::new("GET", "/healthz")) == Some(200) {
            assert!(asked_at.elapsed() < DEAF_TIME_MAX, "{:?}", asked_at.elapsed());
            return Fate::Serves;
        }
        assert!(started.elapsed() < DEAF_TIME_MAX, "it is deaf and alive");
    }
}

const DESCRIPTORS: u32 = 60;

#[test]
fn with_sixty_descriptors_and_a_hundred_connections_it_serves_or_ends() {
    let mut daemon = Daemon::start_limited("[semaphores]\nA = 1", DESCRIPTORS);
    // A connection takes two.
    let fit = DESCRIPTORS as usize / 2;
    let mut crowded = false;
    for round in 0..5 {
        for sent in ["", "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", WAIT] {
            let open = crowd(daemon.address(), 100, sent);
            let fate = fate(&mut daemon);
            println!("round {round}, {} connections with {sent:.12?}: {fate:?}", open.len());
            crowded |= sent == WAIT && (open.len() > fit || matches!(fate, Fate::Ended(_)));
            if let Fate::Ended(status) = fate {
                assert_eq!(status.code(), Some(70), "{status}");
                drop(open);
                daemon.start_again(Port::New);
            }
        }
    }
    assert!(crowded, "there were never more that wait than fit, so nothing is shown");
}

#[test]
fn what_fits_is_served_and_the_log_says_what_bounds_it() {
    let daemon = Daemon::start_limited("[semaphores]\nA = 1", 400);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", r#"{"permits": {"A": 1}}"#).status, 201);
    let open = crowd(daemon.address(), 50, WAIT);
    assert_eq!(open.len(), 50);
    daemon.wait_for_blocked(50);
    // 256 descriptors are kept for everything else, and of 72 connections 63 may wait.
    assert_eq!(daemon.look("/api/v1/service")["waiting_requests_max"], 63);
    let line = daemon.log().wait_for("requests that wait");
    assert!(line.contains("63 requests") && line.contains("LimitNOFILE="), "{line}");
}

fn ask(kept: &mut TcpStream) -> Option<u16> {
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut status_line = [0; 12];
    kept.read_exact(&mut status_line).ok()?;
    let mut rest = Vec::new();
    while !rest.ends_with(br#"{"status":"ok"}"#) {
        let mut byte = [0];
        kept.read_exact(&mut byte).ok()?;
        rest.extend(byte);
    }
    std::str::from_utf8(&status_line[9..]).ok()?.parse().ok()
}

/// A daemon whose limit is lowered below what is in use, and that still serves a connection which it had before.
/// One that just then was making a connection to itself has ended.
fn full() -> Option<(Daemon, TcpStream)> {
    let mut daemon = Daemon::start("[semaphores]\nA = 1");
    let mut kept = http::connect(daemon.address());
    for _ in 0..20 {
        assert_eq!(ask(&mut kept), Some(200));
    }
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    let limit = Some(8);
    prlimit(pid, Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
    let serves = (0..20).all(|_| ask(&mut kept) == Some(200));
    (serves && daemon.has_exited().is_none()).then_some((daemon, kept))
}

/// Nothing happens to those who are there; the next connection is one too many.
#[test]
fn the_last_descriptor_ends_it_and_not_before_somebody_asks() {
    let (mut daemon, _kept) = (0..5).find_map(|_| full()).expect("it ends for those who are there");
    let log = daemon.log().clone();
    let asked_at = Instant::now();
    let _ = http::try_send(daemon.address(), &Request::new("GET", "/healthz"));
    let status = poll("its end", || daemon.has_exited());
    assert!(asked_at.elapsed() < DEAF_TIME_MAX, "{:?}", asked_at.elapsed());
    assert_eq!(status.code(), Some(70), "{status}");
    log.wait_for("has to be started again");
    assert!(log.text().contains("raise LimitNOFILE="), "{}", log.text());
}

/// The same for threads: no memory is left for the stack of one more.
#[test]
fn the_last_thread_ends_it_and_it_says_what_to_raise() {
    let mut daemon = Daemon::start("[semaphores]\nA = 1");
    let log = daemon.log().clone();
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap());
    // Half a stack. An allocator that is just making an arena has up to 128 MiB more for a moment, and ended threads leave
    // stacks behind, so there are far more connections than that is good for.
    let limit = Some((size + 1_024) * 1_024);
    prlimit(pid, Resource::As, Rlimit { current: limit, maximum: limit }).unwrap();
    let asked_at = Instant::now();
    let open = crowd(daemon.address(), 200, "");
    let status = poll("its end", || daemon.has_exited());
    assert!(asked_at.elapsed() < DEAF_TIME_MAX, "{:?}", asked_at.elapsed());
    assert_eq!(status.code(), Some(70), "{status}: {}", log.text());
    log.wait_for("the system gives no more threads");
    assert!(log.text().contains("raise TasksMax= of its unit"), "{}", log.text());
    drop(open);
}
