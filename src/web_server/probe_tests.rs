//! The probe beside listeners that answer always, never, and now and then.

use std::{
    net::TcpListener,
    sync::mpsc::{self, Receiver, RecvTimeoutError, Sender},
};

use socket2::{Domain, Socket, Type};

use super::*;

const INTERVAL: Duration = Duration::from_millis(1);
/// For those that never answer, so that it is soon over.
const SHORT: Duration = Duration::from_millis(20);
/// A test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

fn error() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// The first probe that makes the server deaf, counted from 1: `a`nswered, `r`efused, `n`ot asked,
/// `u`nanswered, or unanswered while others came: `o`.
fn deaf_at(outcomes: &str) -> Option<usize> {
    let mut hearing = Hearing::default();
    let deaf = |outcome: char| match outcome {
        'a' => hearing.note(&Outcome::Answered, false),
        'r' => hearing.note(&Outcome::Refused(error()), true),
        'n' => hearing.note(&Outcome::NotAsked(error()), false),
        'u' => hearing.note(&Outcome::Unanswered(error()), false),
        _ => hearing.note(&Outcome::Unanswered(error()), true),
    };
    outcomes.chars().position(deaf).map(|at| at + 1)
}

#[test]
fn three_in_a_row_are_needed() {
    assert_eq!(deaf_at("auuu"), Some(4));
    assert_eq!(deaf_at("uua".repeat(20).as_str()), None, "it recovers");
    assert_eq!(deaf_at("rrr"), Some(3));
    assert_eq!(deaf_at("rur"), Some(3));
    assert_eq!(deaf_at("uarra"), None);
}

#[test]
fn a_probe_that_was_not_made_says_nothing() {
    assert_eq!(deaf_at(&"n".repeat(1_000)), None);
    assert_eq!(deaf_at("unnnnnunnu"), Some(10));
}

#[test]
fn a_server_that_serves_others_is_slow_and_not_deaf() {
    assert_eq!(deaf_at(&"o".repeat(29)), None);
    assert_eq!(deaf_at(&"o".repeat(30)), Some(30));
    assert_eq!(deaf_at("oouuouuu"), Some(8));
    assert_eq!(deaf_at("rro"), None, "who is taken is not refused");
}

/// A probe of a listener, and what it says at the end.
struct Watching {
    probe: Arc<Probe>,
    thread: JoinHandle<()>,
    taken_requests: Arc<AtomicU64>,
    answers: Arc<AtomicU64>,
    told: Receiver<String>,
}

fn watch(listens_on: SocketAddr, time_max: Duration) -> Watching {
    let (tell, told): (Sender<String>, _) = mpsc::channel();
    let taken_requests = Arc::new(AtomicU64::new(0));
    let answers = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&answers);
    let watched = Watched {
        listens_on,
        taken_requests: Arc::clone(&taken_requests),
        headroom: Arc::new(Headroom::new(usize::MAX)),
        fatal: Arc::new(move |error| tell.send(error.to_string()).unwrap()),
        answered: Arc::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        }),
    };
    let (probe, thread) = Probe::start(watched, INTERVAL, time_max).unwrap();
    Watching { probe, thread, taken_requests, answers, told }
}

impl Watching {
    /// Ends it, and says that it has told nothing.
    fn stop(self) {
        self.probe.stop();
        self.thread.join().unwrap();
        drop(self.probe);
        assert_eq!(self.told.recv(), Err(mpsc::RecvError));
    }
}

fn answer(stream: &mut TcpStream) {
    let mut request = [0; 512];
    let count = stream.read(&mut request).unwrap();
    assert!(request[..count].starts_with(b"HEAD /api HTTP/1.1\r\n"));
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
}

#[test]
fn who_answers_is_left_in_peace_and_who_answers_now_and_then_too() {
    for answers_every in [1, 3] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let watching = watch(listener.local_addr().unwrap(), PATIENCE);
        for number in 1..=30 {
            // Closed without an answer: that is none, too.
            let (mut stream, _) = listener.accept().unwrap();
            if number % answers_every == 0 {
                answer(&mut stream);
            }
        }
        let answers = Arc::clone(&watching.answers);
        watching.stop();
        // What was answered last may not have been heard before the end.
        let heard = answers.load(Ordering::Relaxed);
        let given = 30 / answers_every;
        assert!((given - 1..=given).contains(&heard), "{heard} of {given}");
    }
}

#[test]
fn who_accepts_nothing_answers_nothing_or_does_not_listen_is_deaf() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let watching = watch(silent.local_addr().unwrap(), SHORT);
    let told = watching.told.recv_timeout(PATIENCE).unwrap();
    let address = silent.local_addr().unwrap();
    assert!(told.starts_with(&format!("it is deaf: 3 requests to itself on {address} ")), "{told}");
    assert!(told.ends_with("the last one: timed out"), "{told}");
    watching.thread.join().unwrap();
    assert_eq!(watching.answers.load(Ordering::Relaxed), 0);

    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let watching = watch(closed.local_addr().unwrap(), PATIENCE);
    for stream in closed.incoming().take(2) {
        answer(&mut stream.unwrap());
    }
    drop(closed);
    let told = watching.told.recv_timeout(PATIENCE).unwrap();
    assert!(told.contains("refused"), "{told}");

    let hangs_up = TcpListener::bind("127.0.0.1:0").unwrap();
    let watching = watch(hangs_up.local_addr().unwrap(), PATIENCE);
    for stream in hangs_up.incoming().take(3) {
        drop(stream.unwrap());
    }
    watching.told.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn a_full_backlog_is_no_answer_and_no_other_error() {
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(1).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let limit = Duration::from_millis(50);
    let fill = || TcpStream::connect_timeout(&address, limit);
    let held: Vec<_> = std::iter::from_fn(|| fill().ok()).take(100).collect();
    assert!(held.len() < 100, "the backlog is never full");
    let told = watch(address, SHORT).told.recv_timeout(PATIENCE).unwrap();
    assert!(told.starts_with("it is deaf"), "{told}");
}

#[test]
fn a_server_that_takes_requests_has_longer() {
    // More than its own, of which there are `MUTE_PROBES` at most.
    const REQUESTS: u64 = 100;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    loop {
        let mut requests_at = Instant::now();
        let mut pause_max = Duration::ZERO;
        let watching = watch(silent.local_addr().unwrap(), SHORT);
        let told = loop {
            let before = Instant::now();
            watching.taken_requests.fetch_add(REQUESTS, Ordering::Relaxed);
            pause_max = pause_max.max(requests_at.elapsed());
            requests_at = before;
            match watching.told.recv_timeout(INTERVAL) {
                Ok(told) => break told,
                Err(error) => assert_eq!(error, RecvTimeoutError::Timeout),
            }
        };
        pause_max = pause_max.max(requests_at.elapsed());
        let probes: u32 = told.split(' ').nth(3).unwrap().parse().unwrap();
        // Where this thread was held up for longer than a probe takes, some saw no request: then once more.
        if probes == MUTE_PROBES || pause_max < SHORT {
            assert_eq!(probes, MUTE_PROBES, "{told}");
            return;
        }
    }
}

#[test]
fn a_probe_that_is_stopped_calls_nothing() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let watching = watch(silent.local_addr().unwrap(), SHORT);
    drop(silent.accept().unwrap());
    watching.stop();
}

#[test]
fn a_late_answer_is_an_answer() {
    let slow = TcpListener::bind("127.0.0.1:0").unwrap();
    // Long enough for a machine that holds this thread up between two probes.
    let watching = watch(slow.local_addr().unwrap(), Duration::from_millis(400));
    let mut earlier = Vec::new();
    for stream in slow.incoming().take(8) {
        earlier.push(stream.unwrap());
        // Each second one is answered when the next has come, and so was not in time.
        if earlier.len() == 2 {
            answer(&mut earlier[0]);
            earlier.clear();
        }
    }
    watching.stop();
}
