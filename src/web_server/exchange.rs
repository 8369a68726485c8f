//! One request of tiny_http with its answer: reading the head and the body, and the ways to answer.
//!
//! What has to be known of tiny_http 0.12 here. A request that is dropped with part of its body unread
//! allocates `Content-Length` bytes to read the rest into, and so does a body whose client hangs up in the
//! middle of it: a length beyond the machine's memory aborts the process. Reading blocks without a
//! time-out. Answering a request blocks until the earlier requests of its connection are answered. A
//! connection cannot be closed by us.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use tiny_http::{Header, StatusCode};

use super::{connections::Ticket, gate::Pass};
use crate::{
    api::{self, Download},
    http_interface::{Error, Framing, Head, Interface, Response},
};

/// tiny_http reads a body up to this length together with the head, so reading it cannot block.
const BUFFERED_BODY_BYTES_MAX: u64 = 1_024;

/// A request that is not answered yet. When it is dropped, tiny_http answers 500: nothing here may drop one
/// that has a long body unread.
pub(super) struct Exchange {
    request: tiny_http::Request,
    ticket: Ticket<tiny_http::Request>,
    pass: Option<Pass>,
    /// Whether the answer says `Connection: close`.
    asks_to_close: bool,
}

impl Exchange {
    pub(super) fn new(request: tiny_http::Request, ticket: Ticket<tiny_http::Request>) -> Exchange {
        Exchange { request, ticket, pass: None, asks_to_close: false }
    }

    /// Counts the request as one that the API has seen.
    pub(super) fn admit(&mut self, pass: Pass) {
        self.pass = Some(pass);
    }

    /// Lets the answer ask the client to close the connection. One that does not is served on.
    pub(super) fn ask_to_close(&mut self) {
        self.asks_to_close = true;
    }

    /// The client's address.
    pub(super) fn address(&self) -> SocketAddr {
        self.ticket.address()
    }

    pub(super) fn head(&self) -> Head {
        head_of(&self.request)
    }

    /// Whether reading the body may block.
    pub(super) fn has_slow_body(&self, framing: Framing) -> bool {
        match framing {
            Framing::Empty => false,
            Framing::Length(bytes) => {
                bytes > BUFFERED_BODY_BYTES_MAX || self.has("Expect") || self.wants_upgrade()
            }
            Framing::Chunked => true,
        }
    }

    fn has(&self, name: &'static str) -> bool {
        has(&self.request, name)
    }

    fn wants_upgrade(&self) -> bool {
        wants_upgrade(&self.request)
    }

    /// Reads the body, at most `bytes_max` and one of it. Blocks if [`Exchange::has_slow_body`].
    ///
    /// # Errors
    /// When it is too long or ends early. What is unread then is for [`Exchange::refuse_unread`].
    pub(super) fn read_body(
        &mut self,
        framing: Framing,
        bytes_max: usize,
    ) -> Result<Vec<u8>, Error> {
        let (bytes_wanted, expected) = match framing {
            Framing::Empty => return Ok(Vec::new()),
            Framing::Length(bytes) => (bytes, usize::try_from(bytes).ok()),
            Framing::Chunked if self.wants_upgrade() => return Err(Error::AmbiguousFraming),
            Framing::Chunked => (bytes_max as u64 + 1, None),
        };
        let mut body = Vec::with_capacity(expected.unwrap_or(0).min(bytes_max));
        let reader = self.request.as_reader();
        match reader.take(bytes_wanted).read_to_end(&mut body) {
            Err(_) => Err(Error::UnreadableBody),
            Ok(_) if expected.is_some_and(|expected| body.len() < expected) => {
                Err(Error::UnreadableBody)
            }
            Ok(_) if body.len() > bytes_max => Err(Error::BodyTooLarge { bytes_max }),
            Ok(_) => Ok(body),
        }
    }

    /// Answers. Blocks while the socket takes nothing, up to the send time-out. A client that is gone is
    /// not an error.
    pub(super) fn respond(self, response: Response) {
        let Exchange { request, mut ticket, pass, asks_to_close } = self;
        // The client's next request may be there before the writing call returns, and is not to be kept then.
        ticket.begin_answer();
        let level = match response.download {
            Some(_) => log::Level::Warn,
            None => log::Level::Debug,
        };
        let sent = if asks_to_close {
            // tiny_http drops the header from its own responses.
            write_last(&mut request.into_writer(), response)
        } else {
            request.respond(into_tiny_http(response))
        };
        if let Err(error) = sent {
            // A client that was promised more waits for it, and sends nothing else on this connection.
            log::log!(level, "response not sent: {error}");
        }
        drop((ticket, pass));
    }

    /// Answers a request whose body is not read to its end, and reads the rest of up to
    /// `discard_bytes_max`, so that the client sees the answer and can go on using the connection. Blocks
    /// like a slow body.
    pub(super) fn refuse_unread(
        mut self,
        response: Response,
        framing: Option<Framing>,
        discard_bytes_max: u64,
    ) {
        // It would read on before the answer, which the client may be waiting for.
        self.asks_to_close = false;
        match framing {
            Some(Framing::Empty) => self.respond(response),
            // tiny_http reads the rest itself when the request is dropped, and the length is one that can
            // be allocated; no page of it is touched.
            Some(Framing::Length(bytes)) if bytes <= discard_bytes_max => self.respond(response),
            Some(Framing::Chunked) if !self.wants_upgrade() => {
                let mut rest = self.request.as_reader().take(discard_bytes_max);
                match io::copy(&mut rest, &mut io::sink()) {
                    Ok(_) if rest.limit() > 0 => self.respond(response),
                    _ => self.abandon(&response),
                }
            }
            _ => self.abandon(&response),
        }
    }

    /// Answers a request of which the rest must not be read, and never touches its connection again.
    ///
    /// tiny_http has no way to close a connection, and dropping the request would read on: allocate the
    /// length that it claims, or take what follows for a new request. What it has is an upgrade, which
    /// hands the connection out. So it gets an interim response (RFC 9110, section 15.2: any number may
    /// come before the final one), then the answer with `Connection: close`, and is left. What remains
    /// until the process ends is a thread, two descriptors and the handle; behind NGINX, which refuses all
    /// such requests itself, none.
    pub(super) fn abandon(self, response: &Response) {
        let Exchange { request, ticket, .. } = self;
        log::warn!("leaving a connection whose request cannot be read to its end");
        ticket.abandon();
        let interim = tiny_http::Response::empty(StatusCode(102));
        let mut stream = request.upgrade("HTTP/1.1", interim);
        if let Err(error) = write_last(&mut stream, response.clone()) {
            log::debug!("response not sent: {error}");
        }
        std::mem::forget(stream);
    }

    /// Gives up a request without an answer, and its connection: where even [`Exchange::abandon`] would
    /// block.
    pub(super) fn forget(self) {
        let Exchange { request, ticket, .. } = self;
        log::warn!("leaving a connection whose requests come faster than they can be served");
        ticket.abandon();
        std::mem::forget(request);
    }
}

fn head_of(request: &tiny_http::Request) -> Head {
    let headers = request.headers().iter();
    Head {
        method: request.method().as_str().to_owned(),
        target: request.url().to_owned(),
        headers: headers
            .map(|header| (header.field.to_string(), header.value.to_string()))
            .collect(),
    }
}

fn has(request: &tiny_http::Request, name: &'static str) -> bool {
    request.headers().iter().any(|header| header.field.equiv(name))
}

/// For a connection with this word tiny_http does not decode the body but hands out all that comes.
fn wants_upgrade(request: &tiny_http::Request) -> bool {
    request.headers().iter().any(|header| {
        header.field.equiv("Connection")
            && header.value.as_str().to_ascii_lowercase().contains("upgrade")
    })
}

/// Answers 503 to all that comes, until the process ends. A request whose body would have to be read from its client first
/// is left as it is: the end closes its connection.
///
/// # Errors
/// When tiny_http gives up.
pub(super) fn turn_all_away(server: &tiny_http::Server) -> io::Result<()> {
    const LOOK_INTERVAL: Duration = Duration::from_secs(60);
    loop {
        // Without a time tiny_http takes the end of a wait for an error.
        let Some(request) = server.recv_timeout(LOOK_INTERVAL)? else { continue };
        let is_short =
            request.body_length().is_none_or(|bytes| bytes as u64 <= BUFFERED_BODY_BYTES_MAX);
        if !is_short
            || has(&request, "Transfer-Encoding")
            || has(&request, "Expect")
            || wants_upgrade(&request)
        {
            std::mem::forget(request);
            continue;
        }
        let response = Interface::refuse(&head_of(&request), &api::Error::Stopping);
        if let Err(error) = request.respond(into_tiny_http(response)) {
            log::debug!("response not sent: {error}");
        }
    }
}

/// Writes a response the way tiny_http does, and that it is the last one.
fn write_last(stream: &mut dyn Write, response: Response) -> io::Result<()> {
    let mut bytes = Vec::with_capacity(1_024 + response.body.len());
    let phrase = StatusCode(response.status).default_reason_phrase();
    write!(bytes, "HTTP/1.1 {} {phrase}\r\nServer: {SERVER}\r\n", response.status)?;
    for (name, value) in response.headers.iter().filter(|(_, value)| is_plain(value)) {
        write!(bytes, "{name}: {value}\r\n")?;
    }
    write!(bytes, "Content-Length: {}\r\nConnection: close\r\n\r\n", response.content_bytes)?;
    bytes.extend_from_slice(&response.body);
    stream.write_all(&bytes)?;
    if let Some(download) = response.download {
        io::copy(&mut Reader { download, offset: 0 }, stream)?;
    }
    stream.flush()
}

const SERVER: &str = "semaphored";

fn into_tiny_http(response: Response) -> tiny_http::Response<Box<dyn Read>> {
    let named = response.headers.iter().map(|(name, value)| (*name, value.as_ref()));
    let headers = named
        .chain([("Server", SERVER)])
        .filter(|(_, value)| is_plain(value))
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .collect();
    // A length that is known is sent as such: the default turns long bodies into chunks.
    let body: Box<dyn Read> = match response.download {
        Some(download) => Box::new(Reader { download, offset: 0 }),
        None => Box::new(io::Cursor::new(response.body)),
    };
    tiny_http::Response::new(
        StatusCode(response.status),
        headers,
        body,
        Some(usize::try_from(response.content_bytes).unwrap_or(usize::MAX)),
        None,
    )
    .with_chunked_threshold(usize::MAX)
}

/// Reads a download from its begin to its end.
struct Reader {
    download: Download,
    offset: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.download.bytes - self.offset).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.download.content.read_at(&mut buffer[..wanted], self.offset)?;
        if read == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += read as u64;
        Ok(read)
    }
}

/// No header of ours holds anything else; tiny_http would send a line break as it is (CVE-2026-66753).
fn is_plain(value: &str) -> bool {
    let plain = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    debug_assert!(plain, "a response header with {value:?}");
    plain
}
