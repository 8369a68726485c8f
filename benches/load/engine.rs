//! Many connections on one thread: epoll, and for each connection one request at a time.
//!
//! One thread, because the machine's cores are the server's: it costs one write, one read and a part of an
//! `epoll_wait` a request.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
};
use socket2::SockRef;

use super::http::{Answer, exchange};

/// Events taken with one system call.
const EVENTS_MAX: usize = 256;
/// How long a new connection may take to answer its first request.
const FIRST_ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Why a run ended early.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What a connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Sends the request that was written.
    Send,
    /// The same, on a new connection.
    SendAnew,
    /// Nothing more in this run.
    Rest,
}

/// Who sits behind the connections.
pub(crate) trait Clients {
    /// The connection is free: `answer` is what its last request got, or `None` at its start. Writes the
    /// next request to `out`.
    ///
    /// # Errors
    /// The answer was not the expected one.
    fn next(
        &mut self,
        connection: usize,
        answer: Option<&Answer>,
        out: &mut Vec<u8>,
    ) -> Result<Next, Failure>;
}

/// The connections.
pub(crate) struct Engine {
    epoll: OwnedFd,
    address: SocketAddr,
    first_path: &'static str,
    connections: Vec<Connection>,
    out: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    busy: bool,
}

impl Engine {
    /// No connection yet, to this server. `first_path` is what each new one gets once.
    pub(crate) fn new(address: SocketAddr, first_path: &'static str) -> io::Result<Engine> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Engine { epoll, address, first_path, connections: Vec::new(), out: Vec::new() })
    }

    /// Opens more connections, one after the other, each with one answered request: so that a server which
    /// leaves some of a burst unserved (bare tiny_http does) is measured with all of them.
    pub(crate) fn connect(&mut self, connections: usize) -> io::Result<()> {
        for _ in 0..connections {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(FIRST_ANSWER_TIME_MAX))?;
            exchange(&mut stream, "GET", self.first_path, "")?;
            stream.set_nonblocking(true)?;
            self.watch(&stream, self.connections.len())?;
            self.connections.push(Connection { stream, received: Vec::new(), busy: false });
        }
        Ok(())
    }

    fn watch(&self, stream: &TcpStream, connection: usize) -> io::Result<()> {
        let data = epoll::EventData::new_u64(connection as u64);
        Ok(epoll::add(&self.epoll, stream, data, epoll::EventFlags::IN)?)
    }

    /// Starts the connections that rest, and goes on until all rest again or the time has come.
    pub(crate) fn run(
        &mut self,
        clients: &mut impl Clients,
        until: Option<Instant>,
    ) -> Result<(), Failure> {
        let mut busy = self.connections.iter().filter(|connection| connection.busy).count();
        for index in 0..self.connections.len() {
            if !self.connections[index].busy && self.go_on(clients, index, None)? {
                busy += 1;
            }
        }
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while busy > 0 {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                break;
            }
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64())?;
                if let Some(answer) = self.connections[index].read()?
                    && !self.go_on(clients, index, Some(&answer))?
                {
                    busy -= 1;
                }
            }
        }
        Ok(())
    }

    /// Lets a free connection do its next; tells whether it is busy then.
    fn go_on(
        &mut self,
        clients: &mut impl Clients,
        index: usize,
        answer: Option<&Answer>,
    ) -> Result<bool, Failure> {
        self.out.clear();
        let next = clients.next(index, answer, &mut self.out)?;
        if next == Next::SendAnew {
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            self.watch(&stream, index)?;
            let old = std::mem::replace(&mut self.connections[index].stream, stream);
            // Reset, not TIME_WAIT: else the machine runs out of ports within seconds.
            SockRef::from(&old).set_linger(Some(Duration::ZERO))?;
        }
        let connection = &mut self.connections[index];
        connection.busy = next != Next::Rest;
        if connection.busy {
            // A request is far smaller than the socket's buffer, which is empty.
            connection.stream.write_all(&self.out)?;
        }
        Ok(connection.busy)
    }
}

impl Connection {
    /// Reads what there is; the answer, if that completes it.
    fn read(&mut self) -> io::Result<Option<Answer>> {
        let mut buffer = [0; 4_096];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                let text = "the server closed a connection in use";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Ok(length) => self.received.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let answer = Answer::parse(&self.received)?;
        if let Some(answer) = &answer {
            self.received.drain(..answer.length());
        }
        Ok(answer)
    }
}
