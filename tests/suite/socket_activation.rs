//! A socket that the service manager made and passes on: sd_listen_fds(3).

use std::{
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixListener},
    process::{Command, Output, Stdio},
    time::Duration,
};

use rustix::{
    fs::{OFlags, fcntl_getfl},
    net::sockopt,
};

use super::{
    daemon::{Daemon, PASSES_A_SOCKET, Port},
    http::{self, Request},
};

const CONFIG: &str = "[semaphores]\nA = 1\n";
const CONFIGURATION: i32 = 78;

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Nobody is refused while the daemon is away: connections queue until it is there again.
#[test]
fn connections_queue_over_a_restart() {
    let socket = listener();
    let address = socket.local_addr().unwrap();
    let ask = move || http::send(address, &Request::json("GET", "/api/v1/semaphores/A", ""));
    let mut daemon = Daemon::start_on(socket, CONFIG);
    assert_eq!(daemon.address(), address);
    daemon.log().wait_for(&format!("the socket of the service manager counts, {address}"));
    assert_eq!(ask().status, 200);
    for end in [Daemon::stop, Daemon::kill] {
        end(&mut daemon);
        let waiting: Vec<_> = (0..20).map(|_| std::thread::spawn(ask)).collect();
        daemon.start_again(Port::Same);
        daemon.log().wait_for("the socket was passed on by the service manager");
        for asked in waiting {
            assert_eq!(asked.join().unwrap().status, 200);
        }
    }
}

/// Whoever made it may have set what tiny_http does not bear: accept would return at once, or after a while.
#[test]
fn a_socket_is_made_fit() {
    let socket = listener();
    socket.set_nonblocking(true).unwrap();
    let time = Some(Duration::from_secs(1));
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, time).unwrap();
    // Of one open socket there are several descriptors, with one state.
    let same = socket.try_clone().unwrap();
    let daemon = Daemon::start_on(socket, CONFIG);
    assert_eq!(daemon.call("GET", "/api/v1/semaphores/A", "").status, 200);
    assert!(!fcntl_getfl(&same).unwrap().contains(OFlags::NONBLOCK));
    assert_eq!(sockopt::socket_timeout(&same, sockopt::Timeout::Recv).unwrap(), None);
    assert!(sockopt::tcp_nodelay(&same).unwrap(), "an answer of more than 1,024 bytes is slow");
}

/// What the daemon says with this passed as its descriptors, before it ends.
fn refused(passed: OwnedFd, launcher: &[&str], config: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("semaphored.toml");
    std::fs::write(&file, config).unwrap();
    // One that is not refused would serve for ever.
    let output: Output = Command::new("timeout")
        .arg("30")
        .args(launcher)
        .args([env!("CARGO_BIN_EXE_semaphored"), "--data-dir"])
        .arg(directory.path().join("data"))
        .arg("--config")
        .arg(file)
        .stdin(Stdio::from(passed))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(CONFIGURATION), "{said}");
    said
}

#[test]
fn what_is_no_tcp_listener_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(directory.path().join("socket")).unwrap();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = listener();
    let connected = TcpStream::connect(peer.local_addr().unwrap()).unwrap();
    let cases: [(OwnedFd, &str); 3] = [
        (unix.into(), "is not a TCP socket"),
        (datagram.into(), "is not a TCP socket"),
        (connected.into(), "it does not listen"),
    ];
    for (socket, expected) in cases {
        let said = refused(socket, &PASSES_A_SOCKET, CONFIG);
        assert!(said.contains(expected) && said.contains("ListenStream=ADDR:PORT"), "{said}");
    }
}

#[test]
fn several_and_none_where_one_was_promised_are_refused() {
    for (script, expected) in [
        ("exec 3<&0 4<&0; export LISTEN_FDS=2 LISTEN_PID=$$", "2 sockets were passed"),
        ("export LISTEN_FDS=1 LISTEN_PID=$$", "name no sockets of this process"),
        ("export LISTEN_FDS=x LISTEN_PID=$$", "name no sockets of this process"),
    ] {
        let script = format!("{script}; exec \"$0\" \"$@\"");
        let said = refused(listener().into(), &["sh", "-c", &script], CONFIG);
        assert!(said.contains(expected) && said.contains("one ListenStream="), "{said}");
    }
}

/// The rules for an address are about the one that counts. This one is not loopback by its spelling; it is by its reach, so
/// the test opens nothing to others.
#[test]
fn a_socket_that_others_reach_has_to_be_meant() {
    let mapped = || TcpListener::bind("[::ffff:127.0.0.1]:0").unwrap();
    let said = refused(mapped().into(), &PASSES_A_SOCKET, CONFIG);
    assert!(said.contains("expose = true"), "{said}");
    let open = "expose = true\n[auth]\nmode = \"off\"\n";
    let said = refused(mapped().into(), &PASSES_A_SOCKET, open);
    assert!(said.contains("for a loopback address alone"), "{said}");
}

/// What was meant for another process (a shell in between) is not taken.
#[test]
fn what_was_passed_to_another_process_does_not_count() {
    let script = "export LISTEN_FDS=1 LISTEN_PID=1; exec \"$0\" \"$@\"";
    let daemon = Daemon::start_by(&["sh", "-c", script], CONFIG);
    assert_ne!(daemon.address(), SocketAddr::from(([127, 0, 0, 1], 0)));
    assert_eq!(daemon.call("GET", "/api/v1/semaphores/A", "").status, 200);
}
