//! As much of HTTP/1.1 as a client on a kept connection needs: requests written in one piece, answers with
//! a length or in chunks.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::OnceLock,
    time::Duration,
};

/// How long a call outside the measured loop may take.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    /// Bytes that it took on the connection.
    length: usize,
}

impl Answer {
    /// The first answer in what was received; `None` while it is not complete.
    pub(crate) fn parse(received: &[u8]) -> io::Result<Option<Answer>> {
        let Some(head_end) = find(received, b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&received[..head_end]).map_err(|_| malformed())?;
        let status: u16 =
            head.get(9..12).and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
        let rest = &received[head_end + 4..];
        let header = |name: &str| {
            head.split("\r\n").skip(1).find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        let body = if status == 204 || status < 200 {
            Some((Vec::new(), 0))
        } else if header("transfer-encoding").is_some() {
            chunks(rest)?
        } else {
            let length = header("content-length").and_then(|text| text.parse().ok());
            let length: usize = length.ok_or_else(malformed)?;
            rest.get(..length).map(|body| (body.to_vec(), length))
        };
        Ok(body.map(|(body, length)| Answer { status, body, length: head_end + 4 + length }))
    }

    /// Bytes that it took on the connection.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// The body as text, for messages and for [`Answer::member`].
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or("(not UTF-8)")
    }

    /// The value of the first member of this name, without quotes: enough for the answers of known servers,
    /// and cheaper than reading JSON.
    pub(crate) fn member(&self, name: &str) -> Option<&str> {
        let text = self.text();
        let at = text.find(&format!("\"{name}\":"))? + name.len() + 3;
        let value = text[at..].trim_start();
        match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next(),
            None => value.split([',', '}', ']']).next().map(str::trim),
        }
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the server's answer is not HTTP/1.1")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// A body in chunks and its length on the connection; `None` while it is not complete.
fn chunks(mut rest: &[u8]) -> io::Result<Option<(Vec<u8>, usize)>> {
    let whole = rest.len();
    let mut body = Vec::new();
    loop {
        let Some(line_end) = find(rest, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&rest[..line_end]).map_err(|_| malformed())?;
        let size = usize::from_str_radix(size.trim(), 16).map_err(|_| malformed())?;
        let Some(chunk) = rest.get(line_end + 2..line_end + 4 + size) else { return Ok(None) };
        body.extend_from_slice(&chunk[..size]);
        rest = &rest[line_end + 4 + size..];
        if size == 0 {
            return Ok(Some((body, whole - rest.len())));
        }
    }
}

/// The token that every request carries, if one was set.
static TOKEN: OnceLock<String> = OnceLock::new();

/// Has every request carry a token from now on.
pub(crate) fn use_token(token: String) {
    // The first one counts; there is one server in a run.
    let _ = TOKEN.set(token);
}

/// Appends a request; an empty `body` is none.
pub(crate) fn write_request(out: &mut Vec<u8>, method: &str, path: &str, body: &str) {
    for part in [method, " ", path, " HTTP/1.1\r\nHost: bench\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    if let Some(token) = TOKEN.get() {
        for part in ["Authorization: Bearer ", token, "\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    if !body.is_empty() {
        out.extend_from_slice(b"Content-Type: application/json\r\n");
    }
    if !body.is_empty() || method == "POST" || method == "PUT" {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.as_bytes());
}

/// Sends one request on a blocking stream and reads its answer.
pub(crate) fn exchange(
    stream: &mut TcpStream,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<Answer> {
    let mut request = Vec::new();
    write_request(&mut request, method, path, body);
    stream.write_all(&request)?;
    let (mut received, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        if let Some(answer) = Answer::parse(&received)? {
            return Ok(answer);
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => received.extend_from_slice(&buffer[..length]),
        }
    }
}

/// One call on a connection of its own.
pub(crate) fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(CALL_TIME_MAX))?;
    exchange(&mut stream, method, path, body)
}
