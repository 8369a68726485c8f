//! A service that a test scripts: real sockets, answers as the test wants them, and a record of what was
//! asked.
//!
//! Each connection has a thread and serves one request (`Connection: close`). Waits are on a condition
//! with a deadline, never a fixed sleep.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How long a test waits for something before it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    /// All headers, their names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// How many requests with the same method came before it.
    pub(crate) nth: usize,
}

impl Call {
    pub(crate) fn is(&self, method: &str) -> bool {
        self.method == method
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The claim id in the path.
    pub(crate) fn claim(&self) -> &str {
        let path = self.target.split('?').next().unwrap();
        path.strip_prefix("/api/v1/claims/").unwrap().split('/').next().unwrap()
    }
}

/// What to do with a request.
pub(crate) enum Reply {
    /// Answer it: status, further headers, body.
    Answer(u16, &'static str, String),
    /// Block until a DELETE comes, then go on with this.
    AfterDelete(Box<Reply>),
    /// Close the connection without an answer.
    HangUp,
}

impl Reply {
    pub(crate) fn json(status: u16, body: impl Into<String>) -> Reply {
        Reply::Answer(status, "", body.into())
    }

    /// A held claim with a lease of `ttl` seconds that is to be renewed after `renew_after`.
    pub(crate) fn held(status: u16, ttl: f64, renew_after: f64) -> Reply {
        Reply::json(
            status,
            format!(
                r#"{{"id":"x","state":"held","fences":{{"lic":7}},"ttl_seconds":{ttl},
                "expires_in_seconds":{ttl},"renew_after_seconds":{renew_after},"revision":9}}"#
            ),
        )
    }

    /// A waiting claim, answered at once.
    pub(crate) fn waiting(position: u64, retry_after: &'static str) -> Reply {
        let body = format!(
            r#"{{"state":"waiting","position":{position},"positions":{{"lic":{position}}},
            "waited_seconds":1,"queue_ttl_seconds":120}}"#
        );
        Reply::Answer(202, retry_after, body)
    }

    pub(crate) fn problem(status: u16, code: &str, detail: &str) -> Reply {
        Reply::json(status, format!(r#"{{"code":"{code}","detail":"{detail}","status":{status}}}"#))
    }

    /// An ended claim.
    pub(crate) fn ended(reason: &str) -> Reply {
        let body = format!(r#"{{"code":"claim-ended","detail":"over","reason":"{reason}"}}"#);
        Reply::json(410, body)
    }

    pub(crate) fn no_content() -> Reply {
        Reply::json(204, "")
    }
}

struct State {
    calls: Mutex<Vec<Call>>,
    changed: Condvar,
    script: Box<dyn Fn(&Call) -> Reply + Send + Sync>,
}

/// A service that runs until the test ends.
pub(crate) struct FakeService {
    address: SocketAddr,
    state: Arc<State>,
}

impl FakeService {
    /// Listens on a free port of the loopback address.
    pub(crate) fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> FakeService {
        FakeService::listen(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// Serves a listener that a test made.
    pub(crate) fn listen(
        listener: TcpListener,
        script: impl Fn(&Call) -> Reply + Send + Sync + 'static,
    ) -> FakeService {
        let state = Arc::new(State {
            calls: Mutex::default(),
            changed: Condvar::new(),
            script: Box::new(script),
        });
        let address = listener.local_addr().unwrap();
        let served = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                thread::spawn(move || serve(stream, &state));
            }
        });
        FakeService { address, state }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().unwrap().clone()
    }

    /// The calls with this method so far.
    pub(crate) fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.is(method)).collect()
    }

    /// Waits until `count` requests with this method have come.
    pub(crate) fn wait_for(&self, method: &str, count: usize) {
        self.state.wait_for(method, count);
    }
}

impl State {
    fn record(&self, mut call: Call) -> Call {
        let mut calls = self.calls.lock().unwrap();
        call.nth = calls.iter().filter(|earlier| earlier.method == call.method).count();
        calls.push(call.clone());
        self.changed.notify_all();
        call
    }

    fn wait_for(&self, method: &str, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        let mut calls = self.calls.lock().unwrap();
        while calls.iter().filter(|call| call.is(method)).count() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {count} {method} in time: {calls:?}");
            calls = self.changed.wait_timeout(calls, left).unwrap().0;
        }
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let Some(call) = read_call(&stream) else { return };
    let call = state.record(call);
    let reply = match (state.script)(&call) {
        Reply::AfterDelete(reply) => {
            state.wait_for("DELETE", 1);
            *reply
        }
        reply => reply,
    };
    let Reply::Answer(status, headers, body) = reply else { return };
    let length =
        if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    // The client may be gone, and that is the test's business.
    let _ =
        write!(stream, "HTTP/1.1 {status} X\r\nConnection: close\r\n{length}{headers}\r\n{body}");
}

fn read_call(stream: &TcpStream) -> Option<Call> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization, mut headers) = (0, None, Vec::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    Some(Call { method, target, authorization, headers, body, nth: 0 })
}
