//! The transport against receivers of all kinds.

use std::{
    io::Write,
    net::SocketAddr,
    process::Command,
    sync::{Mutex, atomic::AtomicUsize},
};

use super::*;
use crate::callbacks::{
    presets::Method,
    testing::{NO_CONTENT, Receiving},
    url::Destination,
};

const LONG: Duration = Duration::from_secs(20);
const LOOPBACK: &str = "127.0.0.0/8";

fn outgoing(url: &str) -> Outgoing {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Outgoing {
        method: Method::Post,
        url: Destination::parse(url).unwrap(),
        headers: vec![header("X-Build", "a b"), header("Content-Type", "application/json")],
        body: r#"{"a":"ü"}"#.into(),
    }
}

fn send_with(transport: &Transport, url: &str, allow: &[&str], timeout: Duration) -> Sent {
    let allow: Vec<IpNet> = allow.iter().map(|range| range.parse().unwrap()).collect();
    transport.send(&outgoing(url), &allow, timeout, WallTime(784_111_777_000), &|| true)
}

fn send(receiving: &Receiving, timeout: Duration) -> Sent {
    let url = format!("http://{}/hook", receiving.address);
    send_with(&Transport::default(), &url, &[LOOPBACK], timeout)
}

fn failure(sent: &Sent) -> DeliveryFailure {
    match sent.result {
        DeliveryResult::Failed(failure) => failure,
        other => panic!("{other:?}"),
    }
}

/// Gives each of its answers once, the last for ever.
struct Script {
    answers: Mutex<Vec<Vec<SocketAddr>>>,
    asked: AtomicUsize,
}

impl Script {
    fn new(answers: &[&[SocketAddr]]) -> Arc<Script> {
        let answers = answers.iter().rev().map(|answer| answer.to_vec()).collect();
        Arc::new(Script { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Lookup for Script {
    fn addresses(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop() } else { answers.last().cloned() };
        Ok(answer.unwrap_or_default())
    }
}

#[test]
fn a_request_as_it_arrives() {
    let receiving = Receiving::answering(NO_CONTENT);
    let sent = send(&receiving, LONG);
    assert_eq!(sent.result, DeliveryResult::Answered { status: 204 });
    assert_eq!((sent.retry_after, sent.detail), (None, None));
    let request = receiving.next();
    assert_eq!(request.line, "POST /hook HTTP/1.1");
    assert_eq!(request.header("host"), Some(receiving.address.to_string().as_str()));
    assert_eq!(request.header("x-build"), Some("a b"));
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("content-length"), Some("10"));
    assert_eq!(request.header("user-agent"), Some(USER_AGENT));
    assert_eq!(request.body, r#"{"a":"ü"}"#);
    let mut names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["accept", "content-length", "content-type", "host", "user-agent", "x-build"]
    );
}

#[test]
fn redirects_are_answers() {
    let elsewhere = Receiving::answering(NO_CONTENT);
    let location = format!("Location: http://{}/\r\n", elsewhere.address);
    for status in ["301 Moved", "302 Found", "303 See", "307 Temporary", "308 Permanent"] {
        let answer = format!("HTTP/1.1 {status}\r\n{location}Content-Length: 0\r\n\r\n");
        let receiving = Receiving::answering(answer.leak());
        let expected = status[..3].parse().unwrap();
        assert_eq!(send(&receiving, LONG).result, DeliveryResult::Answered { status: expected });
    }
    assert!(elsewhere.is_untouched());
}

#[test]
fn retry_after_is_read_with_429_and_503() {
    for (status, value, expected) in [
        ("429 Too Many", "7", Some(7)),
        ("503 Unavailable", "7", Some(7)),
        ("503 Unavailable", "Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        ("503 Unavailable", "Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
        ("503 Unavailable", "99999999999", Some(86_400)),
        ("503 Unavailable", "soon", None),
        ("503 Unavailable", "-1", None),
        ("500 Error", "7", None),
        ("200 OK", "7", None),
    ] {
        let head =
            format!("HTTP/1.1 {status}\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n");
        let receiving = Receiving::answering(head.leak());
        let sent = send(&receiving, LONG);
        assert_eq!(sent.retry_after, expected.map(Duration::from_secs), "{status} {value}");
    }
}

#[test]
fn an_endless_body_is_an_answer_that_is_read_in_part() {
    let (told, written) = std::sync::mpsc::channel();
    let receiving = Receiving::start(move |stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        let mut bytes = 0_usize;
        while let Ok(more) = stream.write(&[b'x'; 1_024]) {
            bytes += more;
        }
        told.send(bytes).unwrap();
    });
    let started = Instant::now();
    assert_eq!(send(&receiving, LONG).result, DeliveryResult::Answered { status: 200 });
    assert!(started.elapsed() < LONG);
    // Besides what is read there is what the buffers of two sockets and of the client hold.
    assert!(written.recv_timeout(LONG).unwrap() < 32 << 20);
}

#[test]
fn what_is_slow_times_out_before_its_status_and_counts_after_it() {
    let short = Duration::from_millis(300);
    for head in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"] {
        let receiving = Receiving::start(move |stream| {
            let _ = stream.write_all(head.as_bytes());
            std::thread::sleep(Duration::from_secs(5));
        });
        let started = Instant::now();
        let sent = send(&receiving, short);
        if head.contains("\r\n\r\n") {
            assert_eq!(sent.result, DeliveryResult::Answered { status: 200 }, "{head:?} {sent:?}");
        } else {
            assert_eq!(failure(&sent), DeliveryFailure::Timeout, "{head:?} {sent:?}");
        }
        assert!(started.elapsed() < Duration::from_secs(4), "{head:?}");
    }
    // Byte by byte does not prolong it.
    let receiving = Receiving::start(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let started = Instant::now();
    assert_eq!(send(&receiving, short).result, DeliveryResult::Answered { status: 200 });
    assert!(started.elapsed() < Duration::from_secs(4));
}

#[test]
fn what_is_no_answer() {
    for answer in ["", "220 mail.example ESMTP\r\n", "HTTP/1.1 9999 X\r\n\r\n", "\0\0\0"] {
        let sent = send(&Receiving::answering(answer), LONG);
        assert_eq!(failure(&sent), DeliveryFailure::Protocol, "{answer:?} {sent:?}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let sent = send(&Receiving::answering(long.leak()), LONG);
    assert_eq!(failure(&sent), DeliveryFailure::Protocol);
}

#[test]
fn nobody_there_and_no_tls_there() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let sent = send_with(&Transport::default(), &format!("http://{gone}/"), &[LOOPBACK], LONG);
    assert_eq!(failure(&sent), DeliveryFailure::Connect, "{sent:?}");
    assert!(sent.detail.unwrap().contains("see that the receiver runs"));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        std::thread::sleep(Duration::from_secs(1));
    });
    let sent = send_with(&Transport::default(), &format!("https://{address}/"), &[LOOPBACK], LONG);
    assert_eq!(failure(&sent), DeliveryFailure::Tls, "{sent:?}");
}

#[test]
fn a_refused_address_is_not_connected_to() {
    let receiving = Receiving::answering(NO_CONTENT);
    let url = format!("http://{}/", receiving.address);
    let sent = send_with(&Transport::default(), &url, &["10.0.0.0/8"], LONG);
    assert_eq!(failure(&sent), DeliveryFailure::AddressRefused);
    assert!(
        sent.detail.unwrap().contains("127.0.0.1 is this machine itself (127.0.0.0/8, RFC 1122)")
    );
    assert!(receiving.is_untouched());
}

#[test]
fn one_refused_address_refuses_all_of_a_name() {
    let receiving = Receiving::answering(NO_CONTENT);
    let good = receiving.address;
    let mut many = vec![good; 20];
    many.push("10.0.0.1:80".parse().unwrap());
    let script = Script::new(&[&many]);
    let transport = Transport::with_lookup(script.clone());
    let sent = send_with(&transport, "http://hooks.example/", &[LOOPBACK], LONG);
    assert_eq!(failure(&sent), DeliveryFailure::AddressRefused);
    assert!(receiving.is_untouched());
    assert_eq!(script.asked(), 1);
}

#[test]
fn a_name_is_asked_for_once_and_what_was_checked_is_used() {
    let checked = Receiving::answering(NO_CONTENT);
    let second = Receiving::answering(NO_CONTENT);
    let script = Script::new(&[&[checked.address], &[second.address]]);
    let transport = Transport::with_lookup(script.clone());
    let url = format!("http://hooks.example:{}/", second.address.port());
    let sent = send_with(&transport, &url, &[LOOPBACK], LONG);
    assert_eq!(sent.result, DeliveryResult::Answered { status: 204 });
    assert_eq!(script.asked(), 1, "once for a delivery");
    let host = format!("hooks.example:{}", second.address.port());
    assert_eq!(checked.next().header("host"), Some(host.as_str()));
    assert!(second.is_untouched());
}

/// A name server that says a public address to the check, and this machine's after it.
#[test]
fn rebinding_finds_no_second_question() {
    let inside = Receiving::answering(NO_CONTENT);
    // TEST-NET-1 stands for a public address: it is allowed here, and nobody is there.
    let public: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let script = Script::new(&[&[public], &[inside.address]]);
    let transport = Transport::with_lookup(script.clone());
    let url = format!("http://hooks.example:{}/", inside.address.port());
    let sent = send_with(&transport, &url, &["192.0.2.0/24"], Duration::from_millis(500));
    assert!(
        matches!(failure(&sent), DeliveryFailure::Timeout | DeliveryFailure::Connect),
        "{sent:?}"
    );
    assert_eq!(script.asked(), 1);
    // The next delivery asks anew, and what it is told now is refused.
    let sent = send_with(&transport, &url, &["192.0.2.0/24"], LONG);
    assert_eq!(failure(&sent), DeliveryFailure::AddressRefused);
    assert_eq!(script.asked(), 2);
    assert!(inside.is_untouched());
}

#[test]
fn names_without_addresses_and_slow_name_servers() {
    struct Slow;
    impl Lookup for Slow {
        fn addresses(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
            std::thread::sleep(Duration::from_secs(5));
            Ok(Vec::new())
        }
    }
    let nothing = Transport::with_lookup(Script::new(&[]));
    let sent = send_with(&nothing, "http://hooks.example/", &[], LONG);
    assert_eq!(failure(&sent), DeliveryFailure::Resolve);
    assert!(sent.detail.unwrap().contains("hooks.example has no address: it resolves to nothing"));
    let started = Instant::now();
    let slow = Transport::with_lookup(Arc::new(Slow));
    let sent = send_with(&slow, "http://hooks.example/", &[], Duration::from_millis(200));
    assert_eq!(failure(&sent), DeliveryFailure::Resolve);
    assert!(started.elapsed() < Duration::from_secs(4));
    let system = send_with(&Transport::default(), "http://a.invalid/", &[], LONG);
    assert_eq!(failure(&system), DeliveryFailure::Resolve, "{system:?}");
}

#[test]
fn the_agent_is_as_the_module_says() {
    let config = config(LONG);
    assert!(config.proxy().is_none());
    assert_eq!((config.max_redirects(), config.max_idle_connections()), (0, 0));
}

/// Runs itself in a process whose environment names a proxy that is not there.
#[test]
fn proxies_of_the_environment_are_not_used() {
    const CHILD: &str = "SEMAPHORED_TEST_CALLBACK_URL";
    if let Ok(url) = std::env::var(CHILD) {
        let sent = send_with(&Transport::default(), &url, &[LOOPBACK], LONG);
        assert_eq!(sent.result, DeliveryResult::Answered { status: 204 }, "{sent:?}");
        return;
    }
    let receiving = Receiving::answering(NO_CONTENT);
    let name = "callbacks::transport::tests::proxies_of_the_environment_are_not_used";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", name]).env(CHILD, format!("http://{}/", receiving.address));
    for variable in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
        child.env(variable, "http://127.0.0.1:1");
    }
    let output = child.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(receiving.next().line, "POST / HTTP/1.1");
}

#[test]
fn many_calls_to_one_slow_name_are_all_delivered() {
    struct Slow(SocketAddr);
    impl Lookup for Slow {
        fn addresses(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
            std::thread::sleep(Duration::from_millis(300));
            Ok(vec![self.0])
        }
    }
    let receiving = Receiving::answering(NO_CONTENT);
    let transport = Transport::with_lookup(Arc::new(Slow(receiving.address)));
    let send = || send_with(&transport, "http://ci.example/", &[LOOPBACK], LONG);
    let sent: Vec<Sent> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(send)).collect();
        // Who may not go there shares the lookup too, and is refused for itself.
        let refused = send_with(&transport, "http://ci.example/", &[], LONG);
        assert_eq!(failure(&refused), DeliveryFailure::AddressRefused);
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    for sent in sent {
        assert_eq!(sent.result, DeliveryResult::Answered { status: 204 }, "{sent:?}");
    }
}

#[test]
fn what_may_not_begin_is_not_sent() {
    let receiving = Receiving::answering(NO_CONTENT);
    let outgoing = outgoing(&format!("http://{}/", receiving.address));
    let allow = [LOOPBACK.parse().unwrap()];
    let sent = Transport::default().send(&outgoing, &allow, LONG, WallTime(0), &|| false);
    assert_eq!(sent.result, DeliveryResult::Unfinished);
    assert!(receiving.is_untouched());
    let unasked = std::cell::Cell::new(true);
    let refused =
        Transport::default().send(&outgoing, &[], LONG, WallTime(0), &|| unasked.replace(false));
    assert_eq!((failure(&refused), unasked.get()), (DeliveryFailure::AddressRefused, true));
}
