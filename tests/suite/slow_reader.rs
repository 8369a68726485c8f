//! Clients that ask for a large answer and take a few bytes of it at a time.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use socket2::{Domain, SockRef, Socket, Type};

use super::{
    daemon::{DEADLINE, Daemon},
    http::{self, Response},
};

/// The answer of a full page: above what the sockets of both ends take on their own.
const CLAIMS: usize = 1_000;
const PAGE_BYTES_MIN: usize = 5_000_000;
const REQUEST: &[u8] = b"GET /api/v1/claims?limit=1000 HTTP/1.1\r\nHost: x\r\n\r\n";
/// As little as the system gives.
const RECEIVE_BUFFER_BYTES: usize = 1;

/// Makes so many claims on `semaphore`, with all that a claim can carry, that a page of them is large.
pub(crate) fn fill(daemon: &Daemon, semaphore: &str) {
    let label = |number| format!("\"{number:064}\": \"{}\"", "v".repeat(256));
    let labels = (0..16).map(label).collect::<Vec<_>>().join(", ");
    let holder = "h".repeat(512);
    let body = format!(
        r#"{{"permits": {{"{semaphore}": 1}}, "holder": "{holder}", "labels": {{{labels}}}}}"#
    );
    for number in 0..CLAIMS {
        let answer = daemon.call("PUT", &format!("/api/v1/claims/large-{number}"), &body);
        assert!([201, 202].contains(&answer.status), "{answer:?}");
    }
}

/// A client whose answer has begun. What it does not take fills the buffers between it and who sends.
pub(crate) struct SlowReader {
    stream: TcpStream,
    taken: Vec<u8>,
}

impl SlowReader {
    /// Clients that have asked; none has taken anything.
    pub(crate) fn start(address: SocketAddr, count: usize) -> Vec<SlowReader> {
        (0..count).map(|_| SlowReader::ask(address)).collect()
    }

    fn ask(address: SocketAddr) -> SlowReader {
        let mut stream = SlowReader::connect(address);
        stream.write_all(REQUEST).unwrap();
        SlowReader { stream, taken: Vec::new() }
    }

    /// A connection whose client's end takes as little as possible.
    pub(crate) fn connect(address: SocketAddr) -> TcpStream {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        // Before it connects: the window is agreed on then.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.into()
    }

    /// Takes a few bytes, when they are there.
    pub(crate) fn take(&mut self) {
        let mut bytes = [0; 16];
        self.stream.read_exact(&mut bytes).unwrap();
        self.taken.extend_from_slice(&bytes);
    }

    /// Takes the rest; the answer has to be whole.
    pub(crate) fn finish(self) {
        SockRef::from(&self.stream).set_recv_buffer_size(PAGE_BYTES_MIN).unwrap();
        let answer: Response =
            http::read_response(self.taken.as_slice().chain(&self.stream), false);
        assert_eq!(answer.status, 200);
        assert!(answer.body.len() > PAGE_BYTES_MIN, "{} bytes", answer.body.len());
        assert_eq!(answer.json()["claims"].as_array().unwrap().len(), CLAIMS);
    }
}
