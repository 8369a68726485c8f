//! The daemon where the kernel does not say who has hung up: everything works, and a permit that goes to a dead
//! client costs its ttl.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use super::{daemon::Daemon, http};

/// Makes `socket(AF_NETLINK, …)` fail with EAFNOSUPPORT, as systemd's `RestrictAddressFamilies` does, and
/// becomes the daemon (seccomp(2), `linux/filter.h`; a number that is not this machine's refuses nothing).
const WITHOUT_NETLINK: &str = r#"
import ctypes, os, platform, struct, sys

SOCKET_CALL = {"x86_64": 41, "aarch64": 198}[platform.machine()]
AF_NETLINK, EAFNOSUPPORT = 16, 97
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | EAFNOSUPPORT
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
STEPS = [
    (LOAD, 0, 0, 0),                         # the call's number
    (JUMP_IF_EQUAL, 0, 3, SOCKET_CALL),
    (LOAD, 0, 0, 16),                        # its first argument
    (JUMP_IF_EQUAL, 0, 1, AF_NETLINK),
    (RETURN, 0, 0, REFUSE),
    (RETURN, 0, 0, ALLOW),
]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in STEPS))
program = struct.pack("HxxxxxxP", len(STEPS), ctypes.addressof(code))
prctl = ctypes.CDLL(None, use_errno=True).prctl
for call in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)]:
    if prctl(*call) != 0:
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

const WARNING: &str = "the kernel does not say which clients have hung up";
const TTL: Duration = Duration::from_secs(2);
const BODY: &str = r#"{"permits": {"A": 1}, "ttl": 2}"#;

/// Sends a PUT that blocks, and leaves its connection open.
fn block(daemon: &Daemon, id: &str) -> TcpStream {
    let mut stream = http::connect(daemon.address());
    let length = BODY.len();
    let request = format!(
        "PUT /api/v1/claims/{id}?wait=50 HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{BODY}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn a_dead_waiter_costs_one_ttl_and_everything_else_works() {
    let launcher = ["python3", "-c", WITHOUT_NETLINK];
    let daemon = Daemon::start_by(&launcher, "[semaphores]\nA = 1\n");
    daemon.log().wait_for(WARNING);

    // Waiting and granting work.
    assert_eq!(daemon.call("PUT", "/api/v1/claims/first", BODY).status, 201);
    let second = block(&daemon, "second");
    daemon.wait_for_blocked(1);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/first", "").status, 204);
    let granted = http::read_response(second, false);
    assert_eq!((granted.status, &granted.json()["state"]), (201, &"held".into()));

    // The dead one has the permit until its lease is over.
    let dead = block(&daemon, "dead");
    daemon.wait_for_blocked(1);
    let alive = block(&daemon, "alive");
    daemon.wait_for_blocked(2);
    drop(dead);
    let released = Instant::now();
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/second", "").status, 204);
    let granted = http::read_response(alive, false);
    let took = released.elapsed();
    assert_eq!((granted.status, &granted.json()["id"]), (201, &"alive".into()));
    let lost = daemon.look("/api/v1/claims/dead");
    assert_eq!((&lost["state"], &lost["reason"]), (&"ended".into(), &"expired".into()));
    // Deadlines are looked at once a second.
    assert!(took >= TTL - Duration::from_millis(100), "netlink answers: {took:?}");
    assert!(took < TTL + Duration::from_secs(3), "{took:?}");

    let log = daemon.log().text();
    assert_eq!(log.matches(WARNING).count(), 1, "{log}");
}
