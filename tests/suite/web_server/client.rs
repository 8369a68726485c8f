//! A client with a hand on every byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
};

use super::PATIENCE;

/// A connection that speaks as much HTTP as the tests need.
pub(super) struct Client {
    pub(super) stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Client {
    pub(super) fn new(address: SocketAddr) -> Client {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, unread: Vec::new() }
    }

    pub(super) fn send(&mut self, method: &str, path: &str, more: &str) {
        let text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n");
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    pub(super) fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends a JSON body with its length.
    pub(super) fn send_body(&mut self, method: &str, path: &str, body: &[u8]) {
        let bytes = body.len();
        let more = format!("Content-Type: application/json\r\nContent-Length: {bytes}\r\n");
        self.send(method, path, &more);
        self.send_raw(body);
    }

    /// Reads one response; interim ones are skipped.
    pub(super) fn receive(&mut self) -> Response {
        loop {
            let response = self.receive_any();
            if response.status >= 200 {
                return response;
            }
        }
    }

    pub(super) fn receive_any(&mut self) -> Response {
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

    pub(super) fn read_more(&mut self) {
        let mut buffer = [0; 4_096];
        let count = self.stream.read(&mut buffer).expect("an answer in time");
        assert!(count > 0, "the connection was closed");
        self.unread.extend_from_slice(&buffer[..count]);
    }

    pub(super) fn has_received_nothing(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        self.unread.is_empty() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    pub(super) fn get(&mut self, path: &str) -> Response {
        self.send("GET", path, "");
        self.receive()
    }
}
