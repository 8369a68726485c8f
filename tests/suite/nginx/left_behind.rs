//! What hostile and slow clients leave behind at the service, which is nothing: no thread, no descriptor. And
//! beside them claims are acquired and released as ever.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{A, Daemon, Proxy, http, poll};
use crate::{
    daemon::DEADLINE,
    http::Request,
    proxy::{IDLE_THREADS_MAX, SITE, SMALLEST, Size, descriptors, threads},
    slow_reader::{self, SlowReader},
};

const CONFIG: &str = "[semaphores]\nA = 1\nB = 1\n";
/// Above what the connections cost that NGINX keeps to the service: fewer than ten here.
const FEW: usize = 40;
/// Longer than any answer takes beside these clients; the service's send time-out is ten times that.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

/// Acquires and releases through NGINX until it is ended; every call has to succeed.
struct Cycles {
    ended: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Cycles {
    /// Returns when some are done.
    fn start(address: SocketAddr) -> Cycles {
        let (ended, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let thread = thread::spawn({
            let (ended, done) = (Arc::clone(&ended), Arc::clone(&done));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    cycle(address, done.fetch_add(1, Ordering::Relaxed));
                }
            }
        });
        let cycles = Cycles { ended, done, thread };
        cycles.wait_for_more();
        cycles
    }

    fn wait_for_more(&self) {
        let before = self.done.load(Ordering::Relaxed);
        poll("cycles to go on", || {
            let done = self.done.load(Ordering::Relaxed);
            (done >= before + 10 || self.thread.is_finished()).then_some(())
        });
    }

    /// Ends them, not before some more are done.
    fn end(self) {
        self.wait_for_more();
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

fn cycle(address: SocketAddr, number: usize) {
    let target = format!("/api/v1/claims/cycle-{number}");
    for (method, body, status) in [("PUT", A, 201), ("DELETE", "", 204)] {
        let answer = http::send(address, &Request::json(method, &target, body));
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
    }
}

/// The service, NGINX in front of it, and what the service had before NGINX came.
struct Stage {
    daemon: Daemon,
    proxy: Proxy,
    threads: usize,
    descriptors: usize,
}

impl Stage {
    fn new(size: Size, replace: &[(&str, &str)]) -> Stage {
        let daemon = Daemon::start(CONFIG);
        // From the first answer on all threads are there that stay.
        assert_eq!(daemon.call("GET", "/healthz", "").status, 200);
        let (threads, descriptors) = (threads(daemon.pid()), descriptors(daemon.pid()));
        let proxy = Proxy::start_sized(size, daemon.address(), replace);
        Stage { daemon, proxy, threads, descriptors }
    }

    /// Plays the clients beside cycles.
    fn play(self, clients: impl FnOnce(&Stage)) {
        let cycles = Cycles::start(self.proxy.address());
        clients(&self);
        cycles.end();
        // NGINX closes the connections that it keeps when it ends; most of tiny_http's idle threads end.
        let Stage { daemon, proxy, threads: threads_before, descriptors: descriptors_before } =
            self;
        drop(proxy);
        poll("the threads and descriptors to go", || {
            let (threads, descriptors) = (threads(daemon.pid()), descriptors(daemon.pid()));
            let gone = threads <= threads_before + IDLE_THREADS_MAX;
            (gone && descriptors <= descriptors_before).then_some(())
        });
        assert_eq!(daemon.call("GET", "/healthz", "").status, 200);
    }

    /// Fails if the service takes its time, through NGINX or not.
    fn assert_answers_in_time(&self) {
        for address in [self.daemon.address(), self.proxy.address()] {
            let started = Instant::now();
            let answer = http::send(address, &Request::new("GET", "/healthz"));
            let took = started.elapsed();
            assert!(answer.status == 200 && took < ANSWER_TIME_MAX, "{took:?}: {answer:?}");
        }
    }

    /// Fails if a number of clients have reached the service.
    fn assert_unburdened(&self, what: &str) {
        let descriptors = descriptors(self.daemon.pid());
        assert!(descriptors < self.descriptors + FEW, "{what}: {descriptors} descriptors");
    }
}

#[test]
fn lengths_beyond_all_memory_and_http_2_leave_nothing_behind() {
    Stage::new(SMALLEST, &[]).play(|stage| {
        let address = stage.proxy.address();
        let length = b"POST /api/v1/claims HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\nhello";
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let mut open = Vec::new();
        for (bytes, status) in [(&length[..], 413), (&preface[..], 400)] {
            for _ in 0..200 {
                let mut stream = http::connect(address);
                stream.write_all(bytes).unwrap();
                assert_eq!(http::read_response(&stream, false).status, status);
                open.push(stream);
            }
        }
        stage.assert_unburdened("hostile requests");
    });
}

/// More connections than NGINX has as Debian ships it: it closes some that idle, or whose header is not whole.
#[test]
fn a_thousand_idle_connections_hold_up_nobody() {
    Stage::new(SMALLEST, &[]).play(|stage| {
        let idle: Vec<TcpStream> = (0..1_000)
            .map(|number| {
                let bytes = ["", "GET /api HTTP/1.1\r\nHo", "GET /api HTTP/1.1\r\nHost: x\r\n\r\n"];
                let stream = begin(stage.proxy.address(), bytes[number % 3]);
                if number % 3 == 2 {
                    assert_eq!(http::read_response(&stream, false).status, 200);
                }
                stream
            })
            .collect();
        stage.assert_unburdened("idle connections");
        stage.assert_answers_in_time();
        let closed = idle.iter().filter(|stream| is_closed(stream)).count();
        println!("{closed} of 1,000 idle connections were closed");
        assert!((232..500).contains(&closed), "{closed}");
        let log = stage.proxy.error_log();
        assert!(
            log.contains("768 worker_connections are not enough, reusing connections"),
            "{log}"
        );
    });
}

#[test]
fn slow_headers_and_bodies_end_at_nginx() {
    let replace = [
        ("client_header_timeout 15s;", "client_header_timeout 1s;"),
        ("client_body_timeout 15s;", "client_body_timeout 1s;"),
    ];
    assert!(replace.iter().all(|(shipped, _)| SITE.contains(shipped)));
    Stage::new(SMALLEST, &replace).play(|stage| {
        let address = stage.proxy.address();
        let head = "POST /api/v1/claims HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nX: x";
        let started = Instant::now();
        let mut headers: Vec<_> = (0..200).map(|_| begin(address, head)).collect();
        let body = format!("{head}\r\n\r\nhello");
        let mut bodies: Vec<_> = (0..200).map(|_| begin(address, &body)).collect();
        stage.assert_unburdened("slow requests");
        poll("nginx to end them", || {
            // A byte now and then does not help a header: its time is for all of it.
            headers.retain_mut(|stream| stream.write_all(b"x").is_ok());
            bodies.retain(|stream| !is_closed(stream));
            (headers.is_empty() && bodies.is_empty()).then_some(())
        });
        assert!(started.elapsed() >= Duration::from_secs(1), "something else ended them");
        stage.assert_unburdened("slow requests");
    });
}

/// More of them than the service has threads that send.
#[test]
fn slow_readers_of_a_large_answer_hold_up_nobody() {
    let stage = Stage::new(SMALLEST, &[]);
    slow_reader::fill(&stage.daemon, "B");
    stage.play(|stage| {
        let mut readers = SlowReader::start(stage.proxy.address(), 9);
        for reader in &mut readers {
            reader.take();
        }
        for _ in 0..10 {
            readers.iter_mut().for_each(SlowReader::take);
            stage.assert_answers_in_time();
        }
        stage.assert_unburdened("slow readers");
        readers.pop().unwrap().finish();
    });
}

/// The same without the help of large socket buffers: NGINX takes an answer, larger than any of the service, as fast
/// as it comes, though its client takes nothing.
#[test]
fn nginx_takes_answers_at_the_pace_of_the_service() {
    const ANSWER_BYTES: usize = 48 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start_with(listener.local_addr().unwrap(), &[]);
    let mut client = begin(proxy.address(), "GET /api HTTP/1.1\r\nHost: x\r\n\r\n");
    let (mut service, _) = listener.accept().unwrap();
    service.set_write_timeout(Some(DEADLINE)).unwrap();
    write!(service, "HTTP/1.1 200 OK\r\nContent-Length: {ANSWER_BYTES}\r\n\r\n").unwrap();
    service.write_all(&vec![b'x'; ANSWER_BYTES]).expect("nginx does not take the answer");
    let mut first = [0; 15];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
}

fn begin(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = http::connect(address);
    stream.write_all(bytes.as_bytes()).unwrap();
    stream
}

/// Whether the other end has closed or reset a connection on which nothing is to be read.
fn is_closed(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false).unwrap();
    !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
}
