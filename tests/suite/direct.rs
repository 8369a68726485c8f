//! What clients can do to the daemon that reach it without NGINX: what it withstands, and what it cannot prevent
//! (docs/threat-model.md). Everybody else is served meanwhile.

use std::{
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    daemon::{Daemon, poll},
    http::{self, Request},
    proxy::{IDLE_THREADS_MAX, descriptors, threads},
    slow_reader::{self, SlowReader},
};

const CONFIG: &str = "[semaphores]\nA = 1\nB = 1\nC = 1\n";
const A: &str = r#"{"permits": {"A": 1}}"#;
const C: &str = r#"{"permits": {"C": 1}}"#;
/// Longer than an answer takes beside such clients; the send time-out is ten times that.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);
/// Above the bound that the documentation names, for a machine that has other things to do.
const STOP_TIME_MAX: Duration = Duration::from_secs(4);
const DESCRIPTORS_PER_CONNECTION: usize = 2;
/// What the first call and a kick may still have had when they were counted.
const DESCRIPTORS_TOO_MANY_MAX: usize = 5;
/// Of three connections of the server to itself, a kick's and probes': tiny_http leaves these behind others, too, and on a busy
/// machine they may stand there for longer than anybody waits here.
const DESCRIPTORS_OF_ITS_OWN_MAX: usize = 3 * DESCRIPTORS_PER_CONNECTION;

/// A daemon, and what it had before the clients came.
struct Stage {
    daemon: Daemon,
    threads: usize,
    descriptors: usize,
}

impl Stage {
    fn new() -> Stage {
        let daemon = Daemon::start(CONFIG);
        // From the first answer on all threads are there that stay.
        assert_eq!(daemon.call("GET", "/healthz", "").status, 200);
        let (threads, descriptors) = (threads(daemon.pid()), descriptors(daemon.pid()));
        Stage { daemon, threads, descriptors }
    }

    /// Connections, on each of which these bytes were sent.
    fn send(&self, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
        let streams = (0..count).map(|_| http::connect(self.daemon.address()));
        streams.inspect(|mut stream| stream.write_all(bytes).unwrap()).collect()
    }

    /// Fails if a claim of this id is not acquired and released in time.
    fn assert_serves(&self, id: &str) {
        let target = format!("/api/v1/claims/{id}");
        for (method, body, status) in [("PUT", A, 201), ("DELETE", "", 204)] {
            let request = Request::json(method, &target, body);
            let started = Instant::now();
            let answer = self.daemon.send(&request);
            let took = started.elapsed();
            assert!(answer.status == status && took < ANSWER_TIME_MAX, "{took:?}: {answer:?}");
        }
    }

    /// Waits until so many connections are held: by two descriptors each, and not more threads than connections.
    /// Some may have no thread yet: those that tiny_http has left behind (`web_server::kick`).
    fn wait_for_held(&self, connections: usize) {
        let descriptors_held = self.descriptors + connections * DESCRIPTORS_PER_CONNECTION;
        let descriptors_held = descriptors_held - DESCRIPTORS_TOO_MANY_MAX
            ..=descriptors_held + DESCRIPTORS_OF_ITS_OWN_MAX;
        let threads_max = self.threads + connections + IDLE_THREADS_MAX;
        let pid = self.daemon.pid();
        poll(&format!("{connections} held connections"), || {
            let held = descriptors_held.contains(&descriptors(pid)) && threads(pid) <= threads_max;
            held.then_some(())
        });
    }
}

/// tiny_http cannot close a connection whose body is not read, and cannot be kept from reading it otherwise.
#[test]
fn a_length_beyond_all_memory_costs_its_connection() {
    let stage = Stage::new();
    let head =
        b"POST /api/v1/claims HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\nhello";
    let streams = stage.send(20, head);
    for stream in &streams {
        assert_eq!(http::read_response(stream, false).status, 413);
    }
    stage.assert_serves("beside");
    drop(streams);
    stage.wait_for_held(20);
    stage.assert_serves("after");
}

/// tiny_http waits for an answer of its own that can never be sent, and never shows the request.
#[test]
fn an_http_2_preface_costs_its_connection() {
    let stage = Stage::new();
    let streams = stage.send(200, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    stage.assert_serves("beside");
    drop(streams);
    stage.wait_for_held(200);
    stage.assert_serves("after");
}

#[test]
fn a_thousand_idle_connections_are_held_until_they_are_closed() {
    let stage = Stage::new();
    let streams = stage.send(1_000, b"");
    stage.assert_serves("beside");
    stage.wait_for_held(1_000);
    stage.assert_serves("later");
    drop(streams);
    stage.wait_for_held(0);
}

#[test]
fn slow_headers_are_held_until_they_are_closed() {
    let stage = Stage::new();
    let streams = stage.send(200, b"GET /healthz HTTP/1.1\r\nHo");
    stage.assert_serves("beside");
    stage.wait_for_held(200);
    stage.assert_serves("later");
    drop(streams);
    stage.wait_for_held(0);
}

/// tiny_http sends a line break in a header of an answer as it is (CVE-2026-66753), so no header has text of a client.
#[test]
fn no_text_of_a_client_gets_into_a_header() {
    let stage = Stage::new();
    let lines = [
        "\nSet-Cookie: a=b",
        "\rSet-Cookie: a=b",
        "%0d%0aSet-Cookie:%20a=b",
        "%0aSet-Cookie:%20a=b",
    ];
    for (number, line) in lines.into_iter().enumerate() {
        let id = format!("x{number}");
        let encoded = if line.starts_with('%') { line } else { "" };
        let heads = [
            format!("PUT /api/v1/claims/{id}{encoded} HTTP/1.1\r\nPrefer: wait=0{line}"),
            format!(
                "POST /api/v1/semaphores/A/claims?x={encoded} HTTP/1.1\r\nX-Request-Id: 1{line}"
            ),
            format!("DELETE /api/v1/claims/{id}{encoded} HTTP/1.1\r\nAccept: x{line}"),
            format!("POST /api/v1/claims HTTP/1.1\r\nContent-Type: application/json{line}"),
        ];
        for head in heads {
            let length = A.len();
            let json = "Content-Type: application/json";
            let request =
                format!("{head}\r\nHost: x\r\n{json}\r\nContent-Length: {length}\r\n\r\n{A}");
            let answer = http::exchange(stage.daemon.address(), request.as_bytes(), false);
            for (name, value) in &answer.headers {
                let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
                assert!(plain && name != "Set-Cookie", "{head}: {answer:?}");
                assert!(!value.contains("Set-Cookie"), "{head}: {answer:?}");
            }
        }
    }
}

/// More of them than there are threads that send.
#[test]
fn slow_readers_of_a_large_answer_hold_up_nobody() {
    let stage = Stage::new();
    slow_reader::fill(&stage.daemon, "B");
    let ended = AtomicBool::new(false);
    let mut readers = std::thread::scope(|scope| {
        // So that the readers' answers wait for commits, too.
        let writer = scope.spawn(|| {
            for number in 0.. {
                let target = format!("/api/v1/claims/writer-{number}");
                assert_eq!(stage.daemon.call("PUT", &target, C).status, 201);
                assert_eq!(stage.daemon.call("DELETE", &target, "").status, 204);
                if ended.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let mut readers = SlowReader::start(stage.daemon.address(), 9);
        for (number, reader) in readers.iter_mut().enumerate() {
            reader.take();
            stage.assert_serves(&format!("beside-{number}"));
        }
        ended.store(true, Ordering::Relaxed);
        writer.join().unwrap();
        readers
    });
    readers.pop().unwrap().finish();
    drop(readers);
    stage.wait_for_held(0);
}

/// Clients that ask and ask and take no answer, slowly enough that each request finds its connection idle.
#[test]
fn who_takes_no_answers_holds_up_nobody() {
    let mut stage = Stage::new();
    let mut clients: Vec<_> = (0..5).map(|_| SlowReader::connect(stage.daemon.address())).collect();
    for number in 0..200 {
        for client in &mut clients {
            client.write_all(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        }
        stage.assert_serves(&format!("beside-{number}"));
    }
    let started = Instant::now();
    stage.daemon.stop();
    assert!(started.elapsed() < STOP_TIME_MAX, "{:?}", started.elapsed());
}
