//! A small HTTP/1.1 client for tests: one connection a request, every byte as the test wants it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use super::daemon::DEADLINE;

const JSON: &str = "application/json";

/// A request. `Host`, `Connection` and, unless there is a `Transfer-Encoding` or another, `Content-Length`
/// are added when it is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, target: &str) -> Request {
        Request { method: method.into(), target: target.into(), ..Request::default() }
    }

    /// A request with a JSON body, or with none if it is empty.
    pub(crate) fn json(method: &str, target: &str, body: &str) -> Request {
        let request = Request::new(method, target);
        if body.is_empty() { request } else { request.with_body(JSON, body) }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn with_body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self.with("Content-Type", content_type)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        head.push_str("Host: semaphored\r\nConnection: close\r\n");
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = ["Transfer-Encoding", "Content-Length"].map(|name| self.header(name));
        if framed == [None, None] && !self.body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The stable code of a problem document.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("Content-Type"), Some("application/problem+json"), "{self:?}");
        self.json()["code"].as_str().unwrap().to_owned()
    }
}

fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    let found = headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

/// Sends a request and reads the answer.
pub(crate) fn send(address: SocketAddr, request: &Request) -> Response {
    exchange(address, &request.bytes(), request.method == "HEAD")
}

/// The same over a connection that the test has made.
pub(crate) fn send_over(mut stream: TcpStream, request: &Request) -> Response {
    stream.write_all(&request.bytes()).unwrap();
    read_response(stream, request.method == "HEAD")
}

/// Sends a request to a daemon that may be ending; the status, if one came.
pub(crate) fn try_send(address: SocketAddr, request: &Request) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.write_all(&request.bytes()).ok()?;
    let mut status_line = String::new();
    BufReader::new(stream).read_line(&mut status_line).ok()?;
    status_line.split(' ').nth(1)?.parse().ok()
}

/// Sends bytes and reads an answer.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8], head_only: bool) -> Response {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    read_response(stream, head_only)
}

/// A connection on which nothing blocks longer than [`DEADLINE`].
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads an answer, over interim ones (RFC 9110, section 15.2).
pub(crate) fn read_response(stream: impl Read, head_only: bool) -> Response {
    let mut reader = BufReader::new(stream);
    let (status, headers) = loop {
        let (status, headers) = read_head(&mut reader);
        if status >= 200 {
            break (status, headers);
        }
    };
    let length: usize =
        header(&headers, "Content-Length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if head_only { 0 } else { length }];
    reader.read_exact(&mut body).unwrap();
    Response { status, headers, body }
}

fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).expect("no answer in time");
        line.trim_end().to_owned()
    };
    let status_line = line();
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {status_line:?}"));
    let mut headers = Vec::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(':') else { return (status, headers) };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}
