//! The real `semaphorectl` in a test: how it is started, waited for, and given a terminal.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use super::daemon::{DEADLINE, Daemon};

/// A `semaphorectl` with nothing of this process's environment that matters to it.
pub(crate) fn semaphorectl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semaphorectl"));
    for name in [
        "SEMAPHORE_URL",
        "SEMAPHORE_TOKEN",
        "SEMAPHORE_CLAIM_ID",
        "CI_JOB_URL",
        "BUILD_URL",
        "GITHUB_RUN_ID",
    ] {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn start(command: &mut Command) -> Child {
    command.spawn().unwrap()
}

pub(crate) fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for the end, and kills it when it does not come.
pub(crate) fn finish(child: Child) -> Output {
    let id = Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output().unwrap()));
    ended.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        // The thread has not reaped it, so the id is still its own.
        kill_process(id, Signal::KILL).unwrap();
        panic!("did not end in time: {:?}", ended.recv());
    })
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs to the end, checks the exit code, and returns what was written to standard error.
pub(crate) fn check(command: &mut Command, code: i32) -> String {
    let output = finish(start(command));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

/// A child that says on standard output that it runs, and then waits for its end.
pub(crate) const READY_THEN_WAIT: &[&str] =
    &["sh", "-c", "trap 'kill $!; exit 7' TERM; sleep 60 >&- 2>&- & echo ready; wait"];

/// A port that refuses connections and that nobody else is given; and its URL.
pub(crate) fn closed_port() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, format!("http://{address}"))
}

/// Reads lines until one has this in it.
pub(crate) fn await_line(lines: &mut impl BufRead, expected: &str) {
    let mut seen = String::new();
    while !seen.contains(expected) {
        assert_ne!(lines.read_line(&mut seen).unwrap(), 0, "no {expected:?} in {seen:?}");
    }
}

/// Reads the line that says that the child runs.
pub(crate) fn await_ready(child: &mut Child) {
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
}

/// A `semaphorectl` that talks to this daemon.
pub(crate) fn ctl(daemon: &Daemon, arguments: &[&str]) -> Command {
    let mut command = semaphorectl(arguments);
    command.env("SEMAPHORE_URL", daemon.url());
    command
}

/// Runs to the end, checks the exit code, and returns standard output and standard error.
pub(crate) fn outcome(command: &mut Command, code: i32) -> (String, String) {
    let output = finish(start(command));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}{stderr}");
    (stdout, stderr)
}

/// Runs on a daemon, checks the exit code, and returns standard output.
pub(crate) fn told(daemon: &Daemon, arguments: &[&str], code: i32) -> String {
    outcome(&mut ctl(daemon, arguments), code).0
}

/// Gives a command a terminal: argv is columns, rows, a text to wait for (perhaps none), what is typed when
/// it is there, and the command. What the terminal shows is written to standard output.
const PTY: &str = r#"
import fcntl, os, pty, struct, sys, termios
columns, rows, expected, keys = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(sys.argv[5], sys.argv[5:])
shown, typed = b"", not expected
while True:
    try:
        data = os.read(terminal, 65536)
    except OSError:
        break
    if not data:
        break
    shown += data
    if not typed and expected.encode() in shown:
        os.write(terminal, keys.encode())
        typed = True
sys.stdout.buffer.write(shown.replace(b"\r\n", b"\n"))
sys.stdout.flush()
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
"#;

/// The same command on a terminal of so many columns; when it shows `expected`, `keys` are typed.
pub(crate) fn on_terminal(command: &Command, columns: u16, expected: &str, keys: &str) -> Command {
    let mut on_terminal = Command::new("python3");
    on_terminal.args(["-c", PTY, &columns.to_string(), "24", expected, keys]);
    on_terminal.arg(command.get_program()).args(command.get_args());
    on_terminal.env("TERM", "xterm").env_remove("NO_COLOR");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => on_terminal.env(name, value),
            None => on_terminal.env_remove(name),
        };
    }
    on_terminal.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    on_terminal
}

/// What a terminal shows of this: without the sequences for colours and movements.
pub(crate) fn plain(shown: &str) -> String {
    regex_lite::Regex::new("\x1b\\[[0-9;]*[A-Za-z]").unwrap().replace_all(shown, "").into_owned()
}
