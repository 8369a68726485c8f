//! The real daemon in a test: its own process, directory and port.
//!
//! ```ignore
//! let mut daemon = Daemon::start("[semaphores]\nA = 2");
//! let claim = daemon.call("PUT", "/api/v1/claims/a?wait=5", r#"{"permits": {"A": 1}}"#);
//! daemon.kill();                     // kill -9
//! daemon.start_again(Port::Same);    // recovers from the same directory
//! daemon.stop();                     // SIGTERM; fails the test unless it exits with 0
//! ```
//!
//! Nothing sleeps for a fixed time: starting waits for the line that tells the address, stopping for the
//! end of the log, everything else for a condition ([`poll`]), all within [`DEADLINE`]. A daemon that is
//! dropped is killed, and no other process is.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::http::{self, Request, Response};

/// How long a test waits for something before it fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition that cannot be waited on.
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// What the daemon logs when it listens, before its address.
const READY: &str = "listening on ";

/// A launcher that passes its standard input on as systemd passes a socket: sd_listen_fds(3).
pub(crate) const PASSES_A_SOCKET: [&str; 3] =
    ["sh", "-c", r#"exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@""#];

/// Which port to listen on after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// The one that it had.
    Same,
    /// A free one.
    New,
}

/// A daemon with a directory of its own. Runs, or is stopped and can be started again.
pub(crate) struct Daemon {
    directory: TempDir,
    address: SocketAddr,
    /// A command that becomes the daemon: `exec`, so that the process is the same.
    launcher: Vec<String>,
    /// A socket that it inherits.
    socket: Option<TcpListener>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    log: Arc<Log>,
}

/// Most tests are not about tokens: where the configuration says nothing of them, nobody needs one.
fn without_tokens(config: &str) -> String {
    if config.contains("[auth]") {
        return config.to_owned();
    }
    format!("{config}\n[auth]\nmode = \"off\"\n")
}

impl Daemon {
    /// Starts a daemon with this configuration (TOML) on a free port, and returns when it listens.
    pub(crate) fn start(config: &str) -> Daemon {
        Daemon::start_by(&[], config)
    }

    /// The same under `ulimit -n`, soft and hard.
    pub(crate) fn start_limited(config: &str, descriptors_max: u32) -> Daemon {
        // The shell gives its process to the daemon.
        let script = format!("ulimit -n {descriptors_max} && exec \"$0\" \"$@\"");
        Daemon::start_by(&["sh", "-c", &script], config)
    }

    /// The same by a launcher, which gets the daemon's command line as its last arguments.
    pub(crate) fn start_by(launcher: &[&str], config: &str) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let launcher = launcher.iter().map(|&argument| argument.to_owned()).collect();
        let mut daemon = Daemon { directory, address, launcher, socket: None, running: None };
        daemon.configure(config);
        daemon.start_again(Port::New);
        daemon
    }

    /// The same with a socket that listens already, as a service manager passes one on; it stays open over restarts.
    pub(crate) fn start_on(socket: TcpListener, config: &str) -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let launcher = PASSES_A_SOCKET.map(str::to_owned).into();
        let socket = Some(socket);
        let mut daemon = Daemon { directory, address, launcher, socket, running: None };
        daemon.configure(config);
        daemon.start_again(Port::New);
        daemon
    }

    /// Starts it again on the same data directory, with the configuration as it is in the file now.
    pub(crate) fn start_again(&mut self, port: Port) {
        assert!(self.running.is_none(), "it still runs");
        if port == Port::New {
            self.address.set_port(0);
        }
        let running = Running::start(self.command());
        self.address = running.address();
        self.running = Some(running);
    }

    fn command(&self) -> Command {
        let words = self.launcher.iter().map(String::as_str);
        let mut words = words.chain([env!("CARGO_BIN_EXE_semaphored")]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).args(["--listen", &self.address.to_string(), "--data-dir"]);
        command.arg(self.data_dir()).arg("--config").arg(self.config_file());
        command.stdin(match &self.socket {
            Some(socket) => Stdio::from(OwnedFd::from(socket.try_clone().unwrap())),
            None => Stdio::null(),
        });
        command
    }

    /// Kills it at once (SIGKILL), as a crash would.
    pub(crate) fn kill(&mut self) {
        let mut running = self.running.take().expect("it does not run");
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// Asks it to end (SIGTERM) and waits until it has; fails unless it exits with 0.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let log = Arc::clone(self.log());
        let status = self.wait_for_exit();
        assert!(status.success(), "{status}; its log:\n{}", log.text());
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("it does not run");
        kill_process(Pid::from_child(&running.child), signal).unwrap();
    }

    /// How it has ended, if it has.
    pub(crate) fn has_exited(&mut self) -> Option<ExitStatus> {
        let running = self.running.as_mut().expect("it does not run");
        let status = running.child.try_wait().unwrap();
        if status.is_some() {
            self.running = None;
        }
        status
    }

    /// Waits until it has ended by itself or after a signal.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("it does not run");
        running.log.wait_for_end();
        running.child.wait().unwrap()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.as_ref().expect("it does not run").child.id()
    }

    /// `http://127.0.0.1:PORT`, for clients that want a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it keeps its database.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Its configuration.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.directory.path().join("semaphored.toml")
    }

    /// Changes its configuration, for the next start or SIGHUP.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.config_file(), without_tokens(config)).unwrap();
    }

    /// Has it read its configuration again, this one, for the first time.
    pub(crate) fn read_again(&self, config: &str) {
        self.configure(config);
        self.signal(Signal::HUP);
        self.log().wait_for("the configuration was read again");
    }

    /// What it logs.
    pub(crate) fn log(&self) -> &Arc<Log> {
        &self.running.as_ref().expect("it does not run").log
    }

    /// Sends a request, with `Content-Type: application/json` if it has a body.
    pub(crate) fn call(&self, method: &str, target: &str, body: &str) -> Response {
        self.send(&Request::json(method, target, body))
    }

    /// Sends a request as it is.
    pub(crate) fn send(&self, request: &Request) -> Response {
        http::send(self.address, request)
    }

    /// Sends a request from a thread of its own: for those that block.
    pub(crate) fn call_later(
        &self,
        method: &str,
        target: &str,
        body: &str,
    ) -> thread::JoinHandle<Response> {
        let (address, request) = (self.address, Request::json(method, target, body));
        thread::spawn(move || http::send(address, &request))
    }

    /// The JSON at a path that has to answer 200.
    pub(crate) fn look(&self, target: &str) -> Value {
        let response = self.call("GET", target, "");
        assert_eq!(response.status, 200, "{target}: {response:?}");
        response.json()
    }

    /// Waits until so many requests block.
    pub(crate) fn wait_for_blocked(&self, requests: u64) {
        poll(&format!("{requests} blocked requests"), || {
            let service = self.look("/api/v1/service");
            (service["waiting_requests"].as_u64() == Some(requests)).then_some(())
        });
    }
}

/// Asks again and again until there is an answer; fails after [`DEADLINE`].
pub(crate) fn poll<T>(wanted: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {wanted}");
        thread::sleep(POLL_PAUSE);
    }
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child = command
            .env_remove("RUST_LOG")
            .env_remove("JOURNAL_STREAM")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        // Reads to the end: a full pipe would stop the daemon.
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.add(line);
            }
            writer.end();
        });
        Running { child, log }
    }

    /// Waits until it listens.
    fn address(&self) -> SocketAddr {
        let line = self.log.wait_for(READY);
        let (_, address) = line.rsplit_once(READY).unwrap();
        address.trim().parse().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After a wait these do nothing: the child is known to be gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines that a daemon has logged.
#[derive(Default)]
pub(crate) struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Log {
    fn add(&self, line: String) {
        self.lines.lock().unwrap().lines.push(line);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.lines.lock().unwrap().ended = true;
        self.changed.notify_all();
    }

    /// Waits for a line that contains `text`, and returns the first; fails if the log ends without it.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait(text, |lines| {
            let found = lines.lines.iter().find(|line| line.contains(text)).cloned();
            assert!(found.is_some() || !lines.ended, "no {text:?} in:\n{}", lines.lines.join("\n"));
            found
        })
    }

    fn wait_for_end(&self) {
        self.wait("the end of the process", |lines| lines.ended.then_some(()));
    }

    fn wait<T>(&self, wanted: &str, found: impl Fn(&Lines) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        let mut lines = self.lines.lock().unwrap();
        loop {
            if let Some(found) = found(&lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {wanted:?}:\n{}", lines.lines.join("\n"));
            lines = self.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// All lines until now.
    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().lines.join("\n")
    }
}
