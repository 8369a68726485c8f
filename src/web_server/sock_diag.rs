//! Asks the kernel for the states of TCP connections: netlink's `NETLINK_SOCK_DIAG` (sock_diag(7),
//! netlink(7); `linux/inet_diag.h`, `linux/sock_diag.h`).
//!
//! tiny_http does not hand its sockets out, but an address and its peer's name a connection. The kernel
//! works on a request while it is sent, so the answer is there when the call returns: nothing here sleeps.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// Of a message's header and of the request (`struct nlmsghdr`, `struct inet_diag_req_v2`), and of an
/// answer (`struct inet_diag_msg`).
const HEADER_BYTES: usize = 16;
const REQUEST_BYTES: usize = HEADER_BYTES + 56;
const ANSWER_BYTES: usize = HEADER_BYTES + 72;
/// The kernel fills as much with one part of a dump.
const BUFFER_BYTES: usize = 32 * 1_024;

/// Types and flags of messages.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const IPPROTO_TCP: u8 = 6;
/// "Whatever socket it is" (`INET_DIAG_NOCOOKIE`).
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// States of a connection (`net/tcp_states.h`).
pub(super) const ESTABLISHED: u8 = 1;
pub(super) const LISTEN: u8 = 10;

/// A connection as the kernel shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: u8,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A netlink socket for questions. One at a time.
pub(super) struct SockDiag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl SockDiag {
    pub(super) fn open() -> io::Result<SockDiag> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )?;
        Ok(SockDiag { socket, sequence: 0, buffer: vec![0; BUFFER_BYTES] })
    }

    /// The state of the connection between two addresses of the same family; that of the socket that listens
    /// on `local` where there is none, and `None` where nothing listens either.
    pub(super) fn state(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> io::Result<Option<u8>> {
        let mut state = None;
        let result = self.ask(NLM_F_REQUEST, u32::MAX, local, remote, |seen| {
            state = Some(seen.state);
        });
        match result {
            Ok(()) => Ok(state),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Shows all connections in a state of which our end has the port (and the family) of `local`, and the
    /// far end that of `remote` unless it is 0. One that was there all the time may be missing where others
    /// came or went meanwhile.
    pub(super) fn list(
        &mut self,
        state: u8,
        local: SocketAddr,
        remote_port: u16,
        show: impl FnMut(Seen),
    ) -> io::Result<()> {
        let any = |port| match local {
            SocketAddr::V4(_) => SocketAddr::from(([0; 4], port)),
            SocketAddr::V6(_) => SocketAddr::from(([0_u16; 8], port)),
        };
        let (local, remote) = (any(local.port()), any(remote_port));
        self.ask(NLM_F_REQUEST | NLM_F_DUMP, 1 << state, local, remote, show)
    }

    fn ask(
        &mut self,
        flags: u16,
        states: u32,
        local: SocketAddr,
        remote: SocketAddr,
        mut show: impl FnMut(Seen),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let request = request(flags, self.sequence, states, local, remote);
        send(&self.socket, &request, SendFlags::empty())?;
        loop {
            let (bytes, whole) = recv(&self.socket, &mut self.buffer[..], RecvFlags::DONTWAIT)?;
            if bytes < whole {
                return Err(io::Error::other("an answer is longer than the buffer"));
            }
            let mut rest = &self.buffer[..bytes];
            while let Some((kind, sequence, message)) = next_message(&mut rest) {
                // What is left of an answer that was not read to its end.
                if sequence != self.sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return Err(error_of(message)),
                    SOCK_DIAG_BY_FAMILY => {
                        if let Some(seen) = seen_of(message) {
                            show(seen);
                        }
                        if flags & NLM_F_DUMP == 0 {
                            return Ok(());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

fn request(
    flags: u16,
    sequence: u32,
    states: u32,
    local: SocketAddr,
    remote: SocketAddr,
) -> Vec<u8> {
    let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let family = u8::try_from(family.as_raw()).unwrap_or_default();
    let length = u32::try_from(REQUEST_BYTES).unwrap_or_default();
    let mut bytes = Vec::with_capacity(REQUEST_BYTES);
    // The header: length, type, flags, sequence number, port of the sender.
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&[0; 4]);
    // The request: family, protocol, no extensions, padding, states.
    bytes.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    // The pair (`struct inet_diag_sockid`): ports, addresses, any interface, any cookie.
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        match address {
            IpAddr::V4(ip) => {
                bytes.extend_from_slice(&ip.octets());
                bytes.extend_from_slice(&[0; 12]);
            }
            IpAddr::V6(ip) => bytes.extend_from_slice(&ip.octets()),
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&NO_COOKIE);
    bytes
}

/// Takes the next message from what came: its type, its sequence number, and all of it.
fn next_message<'a>(rest: &mut &'a [u8]) -> Option<(u16, u32, &'a [u8])> {
    let bytes = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
    if bytes < HEADER_BYTES || bytes > rest.len() {
        return None;
    }
    let (message, _) = rest.split_at(bytes);
    // Each begins at a multiple of four bytes.
    *rest = rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let sequence = u32::from_ne_bytes(*message.get(8..)?.first_chunk()?);
    Some((kind, sequence, message))
}

/// The number of an error is negative in a message, and 0 says that there was none.
fn error_of(message: &[u8]) -> io::Error {
    let number = message.get(HEADER_BYTES..).and_then(|rest| rest.first_chunk());
    match number.map(|number| i32::from_ne_bytes(*number)) {
        Some(number) if number < 0 => io::Error::from_raw_os_error(number.saturating_neg()),
        _ => io::Error::other("an answer without a connection"),
    }
}

fn seen_of(message: &[u8]) -> Option<Seen> {
    let answer = message.get(HEADER_BYTES..ANSWER_BYTES)?;
    let [family, state] = *answer.first_chunk()?;
    let port = |at: usize| Some(u16::from_be_bytes(*answer.get(at..)?.first_chunk()?));
    let is_v4 = u16::from(family) == AddressFamily::INET.as_raw();
    let ip = |at: usize| {
        let bytes = answer.get(at..)?;
        Some(if is_v4 {
            IpAddr::from(*bytes.first_chunk::<4>()?)
        } else {
            IpAddr::from(*bytes.first_chunk::<16>()?)
        })
    };
    let local = SocketAddr::new(ip(8)?, port(4)?);
    let remote = SocketAddr::new(ip(24)?, port(6)?);
    Some(Seen { state, local, remote })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const CLOSE_WAIT: u8 = 8;

    /// A connection to a listener on `listen`, made to `ip`, through all that can become of it.
    fn follow(listen: &str, ip: &str) {
        let listener = TcpListener::bind(listen).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((ip.parse::<IpAddr>().unwrap(), port)).unwrap();
        let (server, remote) = listener.accept().unwrap();
        let local = server.local_addr().unwrap();
        let mut diag = SockDiag::open().unwrap();
        assert_eq!(diag.state(local, remote).unwrap(), Some(ESTABLISHED));
        let mut listed = Vec::new();
        diag.list(ESTABLISHED, local, 0, |seen| listed.push(seen)).unwrap();
        assert_eq!(listed, [Seen { state: ESTABLISHED, local, remote }]);
        let other = remote.port().wrapping_add(1);
        diag.list(ESTABLISHED, local, other, |seen| panic!("{seen:?}")).unwrap();
        drop(client);
        assert_eq!(diag.state(local, remote).unwrap(), Some(CLOSE_WAIT));
        diag.list(ESTABLISHED, local, 0, |seen| panic!("{seen:?}")).unwrap();
        drop(server);
        assert_eq!(diag.state(local, remote).unwrap(), Some(LISTEN));
        drop(listener);
        assert_eq!(diag.state(local, remote).unwrap(), None);
    }

    #[test]
    fn a_connection_of_each_family_is_followed_to_its_end() {
        follow("127.0.0.1:0", "127.0.0.1");
        follow("0.0.0.0:0", "127.0.0.2");
        if TcpListener::bind("[::1]:0").is_ok() {
            follow("[::1]:0", "::1");
            follow("[::]:0", "127.0.0.1");
        }
    }

    #[test]
    fn a_long_list_comes_in_parts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let connect = || (TcpStream::connect(local).unwrap(), listener.accept().unwrap());
        let clients: Vec<_> = (0..400).map(|_| connect()).collect();
        let mut diag = SockDiag::open().unwrap();
        let mut listed = 0;
        diag.list(ESTABLISHED, local, 0, |_| listed += 1).unwrap();
        assert_eq!(listed, clients.len());
    }

    /// The answers are right with many connections too; and what the questions cost. To measure, run it
    /// alone: `CONNECTIONS=8000 cargo test --release --lib many_connections -- --nocapture`.
    #[test]
    fn many_connections() {
        let connections_max: usize =
            std::env::var("CONNECTIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let mut diag = SockDiag::open().unwrap();
        let mut ends = Vec::new();
        for connections in [1, 100, 1_000, 8_000].into_iter().filter(|n| *n <= connections_max) {
            while ends.len() < connections {
                let client = TcpStream::connect(local).unwrap();
                ends.push((listener.accept().unwrap(), client));
            }
            let remote = ends[0].0.1;
            let started = std::time::Instant::now();
            for _ in 0..1_000 {
                assert_eq!(diag.state(local, remote).unwrap(), Some(ESTABLISHED));
            }
            let one = started.elapsed() / 1_000;
            let started = std::time::Instant::now();
            for _ in 0..20 {
                let mut listed = 0;
                diag.list(ESTABLISHED, local, 0, |_| listed += 1).unwrap();
                assert_eq!(listed, connections);
            }
            let all = started.elapsed() / 20;
            let started = std::time::Instant::now();
            for _ in 0..20 {
                diag.list(CLOSE_WAIT, local, 0, |_| {}).unwrap();
            }
            let closed = started.elapsed() / 20;
            println!(
                "{connections} connections: a look-up {one:?}, all {all:?}, closed {closed:?}"
            );
        }
    }
}
