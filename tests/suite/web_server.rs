//! The web server over real sockets, with an API that the tests hold in their hands.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Barrier, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use semaphored::{
    api::{Answer, Blocked, Call, Calls, Endpoint, Error, Outcome, Reply, Step},
    http_interface::{Interface, Limits},
    model::Revision,
    web_server::{Bound, Config, WebServer, is_of_a_connection},
};

/// Longer than anything here takes; a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

type Then = Box<dyn FnOnce() + Send>;

/// An API of which the test decides when waits end and when changes are committed.
///
/// `PUT claim` waits, `POST claims` changes something that is not committed yet, `DELETE claim` something
/// that is, `GET /api` shows a long text, everything else `{}`.
#[derive(Default)]
struct Script {
    state: Mutex<State>,
    changed: Condvar,
    myself: Weak<Script>,
}

#[derive(Default)]
struct State {
    waiting: usize,
    released: bool,
    stopping: bool,
    uncommitted: Vec<(Revision, Then)>,
    calls: usize,
}

const UNCOMMITTED: Revision = Revision(9);
const COMMITTED: Revision = Revision(5);
const LONG_BODY_BYTES: usize = 20_000;

impl Script {
    fn new() -> Arc<Script> {
        Arc::new_cyclic(|myself| Script { myself: myself.clone(), ..Script::default() })
    }

    /// Waits until the state is as `wanted`.
    fn wait_until(&self, wanted: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&state) {
            assert!(!self.changed.wait_until(&mut state, deadline).timed_out(), "nothing happened");
        }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    fn commit(&self) {
        let ready = std::mem::take(&mut self.state.lock().uncommitted);
        for (_, then) in ready {
            then();
        }
    }
}

fn reply(outcome: Outcome, body: Option<String>, after: Revision) -> Reply {
    let answer = Answer {
        outcome,
        body,
        revision: Some(after),
        location: None,
        retry_after_seconds: None,
        wait_applied: None,
    };
    Reply { result: Ok(answer), after }
}

impl Calls for Script {
    fn handle(&self, call: Call) -> Step {
        self.set(|state| state.calls += 1);
        let empty = Some("{}".to_owned());
        Step::Done(match call.endpoint {
            Endpoint::PutClaim(_) => {
                let script = self.myself.upgrade().unwrap();
                return Step::Blocked(Box::new(Waiter(script)));
            }
            Endpoint::CreateClaim => reply(Outcome::Created, empty, UNCOMMITTED),
            Endpoint::DeleteClaim(_) => reply(Outcome::Done, None, COMMITTED),
            Endpoint::Versions => {
                reply(Outcome::Ok, Some("x".repeat(LONG_BODY_BYTES)), Revision(0))
            }
            Endpoint::CreateClaimOf(_) => {
                let text = String::from_utf8(call.body).unwrap();
                reply(Outcome::Ok, Some(text), Revision(0))
            }
            _ => reply(Outcome::Ok, empty, Revision(0)),
        })
    }

    fn after_commit(&self, revision: Revision, then: Then) {
        if revision <= COMMITTED {
            then();
        } else {
            self.set(|state| state.uncommitted.push((revision, then)));
        }
    }
}

struct Waiter(Arc<Script>);

impl Blocked for Waiter {
    fn wait(self: Box<Self>) -> Reply {
        self.0.set(|state| state.waiting += 1);
        let mut state = self.0.state.lock();
        while !state.released && !state.stopping {
            self.0.changed.wait(&mut state);
        }
        if state.stopping {
            return Reply { result: Err(Error::Stopping), after: Revision(0) };
        }
        reply(Outcome::Created, Some("{}".to_owned()), COMMITTED)
    }
}

fn start_with(change: impl FnOnce(&mut Config)) -> (Arc<Script>, WebServer) {
    let script = Script::new();
    let interface = Interface::new(script.clone(), Limits::default()).unwrap();
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    // No test may pass thanks to the baseline of kicks.
    config.kick_interval = Duration::from_secs(3_600);
    change(&mut config);
    let fatal = Arc::new(|error: &std::io::Error| panic!("fatal: {error}"));
    let server = Bound::new(config).unwrap().start(Arc::new(interface), fatal).unwrap();
    (script, server)
}

fn start() -> (Arc<Script>, WebServer) {
    start_with(|_| {})
}

/// A connection that speaks as much HTTP as the tests need.
struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, unread: Vec::new() }
    }

    fn send(&mut self, method: &str, path: &str, more: &str) {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n");
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a JSON body with its length.
    fn send_body(&mut self, method: &str, path: &str, body: &[u8]) {
        let bytes = body.len();
        let more = format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n");
        self.send(method, path, &more);
        self.send_raw(body);
    }

    /// Reads one response; interim ones are skipped.
    fn receive(&mut self) -> Response {
        loop {
            let response = self.receive_any();
            if response.status >= 200 {
                return response;
            }
        }
    }

    fn receive_any(&mut self) -> Response {
        let end = loop {
            match self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.read_more(),
            }
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = length.map_or(0, |digits| digits.parse().unwrap());
        while self.unread.len() < length {
            self.read_more();
        }
        let body = self.unread.drain(..length).collect();
        Response { status, head, body }
    }

    fn read_more(&mut self) {
        let mut buffer = [0; 4_096];
        let count = self.stream.read(&mut buffer).expect("an answer in time");
        assert!(count > 0, "the connection was closed");
        self.unread.extend_from_slice(&buffer[..count]);
    }

    fn has_received_nothing(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.unread.is_empty() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, "");
        self.receive()
    }
}

/// Sixty-four connections from eight threads at once, all kept open; gives the slowest answer.
fn burst(address: SocketAddr) -> (Duration, Vec<Client>) {
    let barrier = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let barrier = Arc::clone(&barrier);
            std::thread::spawn(move || {
                barrier.wait();
                let started = Instant::now();
                let mut clients: Vec<_> = (0..8).map(|_| Client::new(address)).collect();
                for client in &mut clients {
                    client.send("GET", "/healthz", "");
                }
                for client in &mut clients {
                    assert_eq!(client.receive().status, 200);
                }
                (started.elapsed(), clients)
            })
        })
        .collect();
    let (mut slowest, mut open) = (Duration::ZERO, Vec::new());
    for thread in threads {
        let (took, clients) = thread.join().unwrap();
        slowest = slowest.max(took);
        open.extend(clients);
    }
    (slowest, open)
}

/// Without kicks some of these connections are never answered (see `web_server::kick`).
#[test]
fn bursts_of_connections_that_stay_open_are_all_answered() {
    for _ in 0..10 {
        let (_script, server) = start();
        let (cold, first) = burst(server.local_addr());
        let (warm, second) = burst(server.local_addr());
        drop(first);
        let (after_a_drop, third) = burst(server.local_addr());
        println!("slowest answers: {cold:?} {warm:?} {after_a_drop:?}");
        drop((second, third));
        assert!(server.stop());
    }
}

#[test]
fn a_connection_serves_many_requests() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    for _ in 0..3 {
        let response = client.get("/healthz");
        assert_eq!((response.status, response.body.as_slice()), (200, b"{}".as_slice()));
        assert!(response.head.contains("\r\nCache-Control: no-store\r\n"), "{}", response.head);
        assert!(response.head.contains("\r\nServer: semaphored\r\n"), "{}", response.head);
        assert_eq!(client.get("/nothing").status, 404);
        client.send("HEAD", "/healthz", "");
        let end = "Content-Length: 2\r\n\r\n";
        let mut head = vec![0; 4_096];
        let count = client.stream.read(&mut head).unwrap();
        assert!(String::from_utf8_lossy(&head[..count]).ends_with(end), "no body after it");
        client.send("DELETE", "/api/v1/claims/a", "");
        let response = client.receive();
        assert_eq!(response.status, 204);
        assert!(response.head.contains("\r\nSemaphore-Revision: 5\r\n"), "{}", response.head);
    }
    assert_eq!(script.state.lock().calls, 9);
    assert!(server.stop());
}

/// Without `TCP_NODELAY` each of these takes 44 ms.
#[test]
fn long_answers_do_not_wait_for_an_acknowledgement() {
    let (_script, server) = start();
    let mut client = Client::new(server.local_addr());
    let mut times: Vec<_> = (0..20)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(client.get("/api").body.len(), LONG_BODY_BYTES);
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    assert!(times[10] < Duration::from_millis(30), "{times:?}");
    assert!(server.stop());
}

#[test]
fn bodies_of_every_kind_arrive() {
    let (_script, server) = start();
    let mut client = Client::new(server.local_addr());
    let path = "/api/v1/semaphores/s/claims";
    for bytes in [0, 1, 1_024, 1_025, 65_536] {
        let body = vec![b'x'; bytes];
        client.send_body("POST", path, &body);
        assert_eq!(client.receive().body, body, "{bytes} bytes");
    }
    let json = "Content-Type: application/json\r\n";
    client.send("POST", path, &format!("{json}Transfer-Encoding: chunked\r\n"));
    client.send_raw(b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
    assert_eq!(client.receive().body, b"abcde");
    client.send("POST", path, &format!("{json}Content-Length: 3\r\nExpect: 100-continue\r\n"));
    assert_eq!(client.receive_any().status, 100);
    client.send_raw(b"abc");
    assert_eq!(client.receive().body, b"abc");
    assert!(server.stop());
}

#[test]
fn bodies_that_are_too_long_are_refused_and_the_connection_goes_on() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    let path = "/api/v1/semaphores/s/claims";
    let long = vec![b'x'; 70_000];
    for _ in 0..2 {
        client.send_body("POST", path, &long);
        let response = client.receive();
        assert_eq!(response.status, 413);
        assert!(String::from_utf8_lossy(&response.body).contains("\"code\":\"body-too-large\""));
    }
    client.send("POST", path, "Transfer-Encoding: chunked\r\n");
    for _ in 0..3 {
        client.send_raw(b"6000\r\n");
        client.send_raw(&long[..0x6000]);
        client.send_raw(b"\r\n");
    }
    client.send_raw(b"0\r\n\r\n");
    assert_eq!(client.receive().status, 413);
    assert_eq!(script.state.lock().calls, 0, "the API saw one");
    assert_eq!(client.get("/healthz").status, 200);
    assert!(server.stop());
}

/// Each of these would end the process in tiny_http, or make it take the body for a request.
#[test]
fn what_cannot_be_read_to_its_end_is_answered_and_left() {
    let (script, server) = start();
    let cases = [
        ("Content-Length: 1000000000000\r\n", 413),
        ("Content-Length: 18446744073709551615\r\n", 413),
        ("Content-Length: 99999999999999999999\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 501),
    ];
    for (headers, status) in cases {
        let mut client = Client::new(server.local_addr());
        client.send("POST", "/api/v1/claims", headers);
        // A body of up to 1,024 bytes is read by tiny_http before anybody sees the head.
        client.send_raw(b"hello");
        let response = client.receive();
        assert_eq!(response.status, status, "{headers}");
        assert!(response.head.contains("\r\nConnection: close\r\n"), "{}", response.head);
        assert!(String::from_utf8_lossy(&response.body).ends_with('}'), "a whole document");
        let _ = client.stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n");
        drop(client);
        assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
    }
    let mut client = Client::new(server.local_addr());
    client.send("POST", "/api/v1/claims", "Transfer-Encoding: chunked\r\n");
    client.send_raw(b"nonsense\r\nGET /healthz HTTP/1.1\r\n\r\n");
    assert_eq!(client.receive().status, 400);
    assert_eq!(script.state.lock().calls, cases.len(), "a body was taken for a request");
    assert!(server.stop());
}

#[test]
fn slow_bodies_hold_up_nobody() {
    let (_script, server) = start();
    let mut slow: Vec<_> = (0..20).map(|_| Client::new(server.local_addr())).collect();
    for client in &mut slow {
        let json = "Content-Type: application/json\r\nContent-Length: 2000\r\n";
        client.send("POST", "/api/v1/semaphores/s/claims", json);
        client.send_raw(b"x");
    }
    assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
    for client in &mut slow {
        client.send_raw(&[b'x'; 1_999]);
        assert_eq!(client.receive().body.len(), 2_000);
    }
    let mut short = Client::new(server.local_addr());
    short.send("POST", "/api/v1/claims", "Content-Length: 2000\r\n");
    drop(short);
    assert!(server.stop());
}

#[test]
fn a_reply_waits_for_its_commit() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    for _ in 0..3 {
        client.send("POST", "/api/v1/claims", "");
        script.wait_until(|state| state.uncommitted.len() == 1);
        assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
        assert!(client.has_received_nothing());
        script.commit();
        assert_eq!(client.receive().status, 201);
    }
    // A commit that never comes is no success.
    client.send("POST", "/api/v1/claims", "");
    script.wait_until(|state| state.uncommitted.len() == 1);
    script.set(|state| state.uncommitted.clear());
    assert_eq!(client.receive().status, 500);
    assert!(server.stop());
}

#[test]
fn waiting_calls_occupy_no_worker() {
    let (script, server) = start();
    let mut waiting: Vec<_> = (0..500).map(|_| Client::new(server.local_addr())).collect();
    for client in &mut waiting {
        client.send("PUT", "/api/v1/claims/a", "");
    }
    script.wait_until(|state| state.waiting == 500);
    let started = Instant::now();
    assert_eq!(Client::new(server.local_addr()).get("/healthz").status, 200);
    println!("beside 500 waiting calls: {:?}", started.elapsed());
    script.set(|state| state.released = true);
    for client in &mut waiting {
        assert_eq!(client.receive().status, 201);
    }
    assert!(server.stop());
}

#[test]
fn a_call_that_finds_no_thread_is_refused() {
    let (script, server) = start_with(|config| config.waiting_threads_max = 1);
    let mut first = Client::new(server.local_addr());
    first.send("PUT", "/api/v1/claims/a", "");
    script.wait_until(|state| state.waiting == 1);
    let mut second = Client::new(server.local_addr());
    second.send("PUT", "/api/v1/claims/b", "");
    let response = second.receive();
    assert_eq!(response.status, 503);
    assert!(response.head.contains("\r\nRetry-After: 5\r\n"), "{}", response.head);
    script.set(|state| state.released = true);
    assert_eq!(first.receive().status, 201);
    assert!(server.stop());
}

#[test]
fn pipelined_requests_are_served_in_turn_and_hold_up_nobody() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    client.send("PUT", "/api/v1/claims/a", "");
    for _ in 0..10 {
        client.send("POST", "/api/v1/claims", "");
        client.send("GET", "/healthz", "");
    }
    script.wait_until(|state| state.waiting == 1);
    let mut other = Client::new(server.local_addr());
    for _ in 0..10 {
        assert_eq!(other.get("/healthz").status, 200);
    }
    assert_eq!(script.state.lock().calls, 11, "one began before the one before it was answered");
    script.set(|state| state.released = true);
    assert_eq!(client.receive().status, 201);
    for _ in 0..10 {
        script.wait_until(|state| state.uncommitted.len() == 1);
        assert!(client.has_received_nothing());
        script.commit();
        assert_eq!(client.receive().status, 201);
        assert_eq!(client.receive().status, 200);
    }
    assert_eq!(client.get("/healthz").status, 200);
    assert!(server.stop());
}

#[test]
fn a_client_that_pipelines_without_end_is_left_alone() {
    let (script, server) = start_with(|config| config.pipelined_requests_max = 3);
    let mut client = Client::new(server.local_addr());
    client.send("PUT", "/api/v1/claims/a", "");
    script.wait_until(|state| state.waiting == 1);
    for _ in 0..50 {
        client.send("GET", "/healthz", "");
    }
    let mut other = Client::new(server.local_addr());
    assert_eq!(other.get("/healthz").status, 200);
    script.set(|state| state.released = true);
    assert_eq!(client.receive().status, 201);
    for _ in 0..3 {
        assert_eq!(client.receive().status, 200);
    }
    assert_eq!(other.get("/healthz").status, 200);
    assert!(server.stop());
}

#[test]
fn a_stop_answers_everybody() {
    let (script, server) = start();
    let address = server.local_addr();
    let mut waiting: Vec<_> = (0..50).map(|_| Client::new(address)).collect();
    for client in &mut waiting {
        client.send("PUT", "/api/v1/claims/a", "");
    }
    let mut changing = Client::new(address);
    changing.send("POST", "/api/v1/claims", "");
    let mut late = Client::new(address);
    assert_eq!(late.get("/healthz").status, 200);
    script.wait_until(|state| state.waiting == 50 && state.uncommitted.len() == 1);
    let started = Instant::now();
    script.set(|state| state.stopping = true);
    let stopper = std::thread::spawn(move || server.stop());
    for client in &mut waiting {
        let response = client.receive();
        assert_eq!(response.status, 503);
        assert!(response.head.contains("\r\nRetry-After: 1\r\n"), "{}", response.head);
    }
    // The stop waits for the commit; meanwhile nobody gets in.
    loop {
        let calls = script.state.lock().calls;
        let response = late.get("/healthz");
        if response.status == 503 {
            assert!(String::from_utf8_lossy(&response.body).contains("\"code\":\"stopping\""));
            assert_eq!(script.state.lock().calls, calls);
            break;
        }
    }
    script.commit();
    assert_eq!(changing.receive().status, 201);
    assert!(stopper.join().unwrap());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let (script, server) = start();
    let mut client = Client::new(server.local_addr());
    client.send("PUT", "/api/v1/claims/a", "");
    script.wait_until(|state| state.waiting == 1);
    let started = Instant::now();
    assert!(!server.stop());
    assert!(started.elapsed() < Duration::from_millis(1_900), "{:?}", started.elapsed());
    script.set(|state| state.released = true);
}

/// tiny_http panics when it reads a head from a connection that was reset before it was accepted.
#[test]
fn clients_that_reset_their_connections_do_no_harm() {
    let (_script, server) = start();
    let panics = Arc::new(AtomicUsize::new(0));
    let default_hook = std::panic::take_hook();
    let counted = Arc::clone(&panics);
    std::panic::set_hook(Box::new(move |panic| {
        if is_of_a_connection(panic) {
            counted.fetch_add(1, Ordering::Relaxed);
        } else {
            default_hook(panic);
        }
    }));
    let address = server.local_addr();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..500 {
                    let mut client = Client::new(address);
                    client.send("GET", "/healthz", "");
                    socket2::SockRef::from(&client.stream)
                        .set_linger(Some(Duration::ZERO))
                        .unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    println!("connections that panicked: {}", panics.load(Ordering::Relaxed));
    let (_, clients) = burst(address);
    drop(clients);
    assert!(server.stop());
}

#[test]
fn a_port_that_is_taken_is_an_error() {
    let (_script, server) = start();
    assert!(Bound::new(Config::new(server.local_addr())).is_err());
    assert!(server.stop());
}
