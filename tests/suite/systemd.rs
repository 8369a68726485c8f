//! What the daemon tells a service manager, whose part a test plays: sd_notify(3).

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{
    daemon::{DEADLINE, Daemon},
    http::{self, Request},
};

const CONFIG: &str = "[semaphores]\nA = 1\n";

/// A service manager's socket, and a directory for what else a test needs.
struct Manager {
    directory: TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Manager {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        Manager { directory, socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the daemon with the manager's socket, and with this in its environment; `$$` is its process.
    fn start(&self, environment: &str) -> Daemon {
        let socket = self.path("notify").display().to_string();
        let script = format!("export NOTIFY_SOCKET={socket} {environment}; exec \"$0\" \"$@\"");
        Daemon::start_by(&["sh", "-c", &script], CONFIG)
    }

    /// The next message, if there is one in time: its assignments.
    fn hear_within(&self, time_max: Duration) -> Option<Vec<String>> {
        self.socket.set_read_timeout(Some(time_max)).unwrap();
        let mut message = [0; 4_096];
        match self.socket.recv(&mut message) {
            Ok(length) => {
                let text = std::str::from_utf8(&message[..length]).unwrap();
                Some(text.lines().map(str::to_owned).collect())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message.
    fn hear(&self) -> Vec<String> {
        self.hear_within(DEADLINE).expect("no message in time")
    }

    /// Waits for a message that the watchdog is fed.
    fn hear_watchdog(&self) {
        while self.hear() != ["WATCHDOG=1"] {}
    }

    /// Checks that the watchdog starves for so long.
    fn starves(&self, time: Duration) {
        // What was sent before.
        while self.hear_within(Duration::from_millis(1)).is_some() {}
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            let heard = self.hear_within(left);
            assert_eq!(heard, None, "while it hangs");
        }
    }
}

#[test]
fn a_start_a_reload_and_a_stop_are_told() {
    let manager = Manager::new();
    let mut daemon = manager.start("LOUD=no");
    let starts = manager.hear();
    assert!(starts[0].starts_with("STATUS=recovering from "), "{starts:?}");
    let ready = manager.hear();
    assert_eq!(ready[0], "READY=1");
    let address = ready[1].strip_prefix("STATUS=listening on ").unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let answer = http::send(address, &Request::json("GET", "/api/v1/semaphores/A", ""));
    assert_eq!(answer.status, 200, "it is ready once it answers");

    for (config, expected, line) in [
        ("[semaphores]\nA = 7", "Z: the configuration was read again", "was read again"),
        (
            "[semaphores]\nA = \n",
            "Z: the configuration was not read again, all stays as it is: ",
            "was not read again",
        ),
    ] {
        daemon.configure(config);
        daemon.signal(Signal::HUP);
        let reloading = manager.hear();
        assert_eq!(reloading[0], "RELOADING=1");
        let time = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(time.parse::<u64>().unwrap() > 0);
        let ready = manager.hear();
        assert_eq!(ready[0], "READY=1");
        let status = format!("STATUS=listening on {address}; ");
        assert!(ready[1].starts_with(&status) && ready[1].contains(expected), "{ready:?}");
        assert_eq!(ready.len(), 2, "{ready:?}");
        daemon.log().wait_for(line);
    }
    assert_eq!(daemon.look("/api/v1/semaphores/A")["capacity"], 7);

    daemon.stop();
    assert_eq!(manager.hear(), ["STOPPING=1", "STATUS=stopping"]);
    assert_eq!(manager.hear_within(Duration::from_millis(1)), None, "no watchdog was asked for");
}

/// A file that does not answer: whoever asked for the reload goes on, and the daemon is stopped as ever.
#[test]
fn a_configuration_that_does_not_answer_ends_no_reload_for_ever() {
    let manager = Manager::new();
    let mut daemon = manager.start("LOUD=no");
    while manager.hear()[0] != "READY=1" {}
    fs::remove_file(daemon.config_file()).unwrap();
    let made = Command::new("mkfifo").arg(daemon.config_file()).status().unwrap();
    assert!(made.success());
    daemon.signal(Signal::HUP);
    assert_eq!(manager.hear()[0], "RELOADING=1");
    let ready = manager.hear();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].ends_with("the configuration is still being read"), "{ready:?}");
    daemon.stop();
    assert_eq!(manager.hear()[0], "STOPPING=1");
}

#[test]
fn the_watchdog_is_fed_while_requests_are_answered() {
    let manager = Manager::new();
    let daemon = manager.start("WATCHDOG_USEC=30000000 WATCHDOG_PID=$$");
    for _ in 0..3 {
        manager.hear_watchdog();
    }
    assert!(!daemon.log().text().contains("WatchdogSec"), "{}", daemon.log().text());

    let other = Manager::new();
    let _daemon = other.start("WATCHDOG_USEC=30000000 WATCHDOG_PID=1");
    while other.hear()[0] != "READY=1" {}
    other.starves(Duration::from_secs(2));
}

/// A disk that hangs: a library that is loaded before the system's holds up each sync while a file is there.
#[test]
fn the_watchdog_starves_while_the_disk_hangs() {
    let manager = Manager::new();
    let (source, library, hangs) =
        (manager.path("sync.c"), manager.path("sync.so"), manager.path("hangs"));
    fs::write(&source, include_str!("slow_sync.c")).unwrap();
    let compiled =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.unwrap().success());
    let daemon = manager.start(&format!(
        "WATCHDOG_USEC=3000000 WATCHDOG_PID=$$ LD_PRELOAD={} SYNC_HANGS_WHILE={}",
        library.display(),
        hangs.display()
    ));
    daemon.log().wait_for("WatchdogSec= is 3s: a machine or disk that is busy for so long");
    manager.hear_watchdog();

    fs::write(&hangs, "").unwrap();
    let claim = daemon.call_later("PUT", "/api/v1/claims/a", r#"{"permits": {"A": 1}}"#);
    daemon.log().wait_for("the disk has not taken a change for 1 s: if that goes on");
    manager.starves(Duration::from_secs(3));
    assert_eq!(daemon.call("HEAD", "/api", "").status, 200, "it is the disk alone");

    fs::remove_file(&hangs).unwrap();
    assert_eq!(claim.join().unwrap().status, 201);
    manager.hear_watchdog();
    daemon.log().wait_for("changes are taken again");
}
