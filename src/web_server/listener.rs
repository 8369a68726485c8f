//! The listening socket. Options set on it are inherited by the sockets that it accepts (Linux), which is
//! the only way to set them: tiny_http does not hand its sockets out.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use super::Config;

const KEEPALIVE_PROBES: u32 = 3;

/// A socket that is bound and does not listen yet: a port that is taken shows before anything else was
/// started, and nobody can connect before the service has recovered.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: Socket,
    pub(super) config: Config,
    address: SocketAddr,
}

impl Bound {
    /// Binds the address of the configuration.
    ///
    /// # Errors
    /// When the address is taken or not ours, or an option is refused.
    pub fn new(config: Config) -> io::Result<Bound> {
        let domain = Domain::for_address(config.listen);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        set_options(&socket, &config)?;
        socket.bind(&config.listen.into())?;
        Bound::of(socket, config)
    }

    /// Takes a socket over that listens already: connections that came before it was taken over are there. The
    /// configuration's address does not count.
    ///
    /// # Errors
    /// When it does not listen, or an option is refused.
    pub fn inherited(config: Config, socket: TcpListener) -> io::Result<Bound> {
        let socket = Socket::from(socket);
        if !socket.is_listener()? {
            return Err(io::Error::other("it does not listen"));
        }
        // Whoever made it may have set what would end tiny_http's accept thread.
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(None)?;
        set_options(&socket, &config)?;
        Bound::of(socket, config)
    }

    fn of(socket: Socket, config: Config) -> io::Result<Bound> {
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("the socket has no internet address"))?;
        Ok(Bound { socket, config, address })
    }

    /// The address, with the port that was chosen where the configuration says 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Starts to listen.
    pub(super) fn listen(self) -> io::Result<(TcpListener, Config)> {
        self.socket.listen(self.config.backlog_connections)?;
        Ok((self.socket.into(), self.config))
    }
}

/// What accepted sockets inherit.
fn set_options(socket: &Socket, config: &Config) -> io::Result<()> {
    // Without it an answer above 1,024 bytes, which tiny_http writes in two pieces, takes 44 ms.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(config.keepalive_idle)
        .with_interval(config.keepalive_interval)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(config.unacknowledged_time_max))?;
    // A send time-out only. With a receive time-out accept() would time out too, and tiny_http ends
    // its accept thread at the first error.
    socket.set_write_timeout(Some(config.send_time_max))
}

/// An address at which a socket that listens on `address` is reached from this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

/// A connection to the server that listens on `address`, for it to try itself. Closing it leaves no socket in
/// TIME_WAIT behind: at some hundred a second those would take all ports.
pub(super) fn connect_to_self(address: SocketAddr, time_max: Duration) -> io::Result<TcpStream> {
    let address = reachable(address);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_linger(Some(Duration::ZERO))?;
    socket.connect_timeout(&address.into(), time_max)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_addresses_are_reached_on_loopback() {
        for (listens_on, expected) in [
            ("0.0.0.0:7420", "127.0.0.1:7420"),
            ("[::]:7420", "[::1]:7420"),
            ("10.0.0.1:7420", "10.0.0.1:7420"),
        ] {
            assert_eq!(reachable(listens_on.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
