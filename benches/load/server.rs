//! A server that is measured: started here on a directory of its own, or one that runs already.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{dialect::Dialect, engine::Failure, http, options::Options};

/// What a server prints when it listens, before its address.
const READY: &str = "listening on ";
/// Of `/proc/PID/stat`: ticks of processor time in a second, on every Linux.
const TICKS_A_SECOND: u32 = 100;

/// Syncs of which the median is taken.
const SYNCS: usize = 101;

/// A server that runs.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Whose memory and processor time are shown.
    pub(crate) pid: Option<u32>,
    own: Option<Own>,
}

/// What was started here; it ends with this value.
struct Own {
    child: Child,
    directory: TempDir,
}

/// What a process uses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident_bytes: u64,
    pub(crate) threads: u64,
    /// User and system, of all its threads since its start.
    pub(crate) processor: Duration,
}

impl Server {
    /// Starts the server that the options name, or takes the one that they give the address of.
    pub(crate) fn from_options(options: &Options) -> Result<Server, Failure> {
        if let Some(url) = &options.url {
            if let Ok(token) = std::env::var("SEMAPHORE_TOKEN") {
                http::use_token(token);
            }
            let address = url.trim_start_matches("http://").trim_end_matches('/');
            return Ok(Server { address: address.parse()?, pid: options.pid, own: None });
        }
        // Under the build directory: temporary directories are often in memory, where a sync costs nothing.
        let directory = match &options.directory {
            Some(directory) => TempDir::new_in(directory)?,
            None => TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?,
        };
        let mode = if options.no_tokens { "off" } else { "required" };
        let durability = &options.durability;
        let config = format!(
            "durability = \"{durability}\"\n[auth]\nmode = \"{mode}\"\n\
             [limits]\ntoken_requests_per_second_max = 1000000\n"
        );
        fs::write(directory.path().join("semaphored.toml"), config)?;
        let (child, address) = match options.target {
            Dialect::Semaphored => start_semaphored(directory.path())?,
            Dialect::Constant => {
                let mut command = Command::new(std::env::current_exe()?);
                start(command.arg("serve-constant"))?
            }
            Dialect::Throttle | Dialect::Etcd => {
                return Err("this server has to run already: give its --url".into());
            }
        };
        // The one that it made for an admin.
        if let Ok(token) = fs::read_to_string(directory.path().join("data/admin-token")) {
            http::use_token(token.trim_end().to_owned());
        }
        let pid = Some(child.id());
        Ok(Server { address, pid, own: Some(Own { child, directory }) })
    }

    /// Ends a server of ours and starts it again on its directory; the time until it listens.
    pub(crate) fn restart(&mut self, signal: Signal) -> Result<Duration, Failure> {
        let own = self.own.as_mut().ok_or("only a server that was started here is restarted")?;
        kill_process(Pid::from_child(&own.child), signal)?;
        own.child.wait()?;
        let began_at = Instant::now();
        (own.child, self.address) = start_semaphored(own.directory.path())?;
        self.pid = Some(own.child.id());
        Ok(began_at.elapsed())
    }

    /// Bytes of its database with journal and write-ahead log, of a server of ours.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        let entries = fs::read_dir(self.own.as_ref()?.directory.path().join("data")).ok()?;
        Some(entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum())
    }

    /// Changes that it has not folded yet, of a server of ours. Their revisions are consecutive.
    pub(crate) fn journal_changes(&self) -> Option<u64> {
        let data = self.own.as_ref()?.directory.path().join("data/semaphored.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(data, flags).ok()?;
        let query = "SELECT coalesce(max(revision) - min(revision) + 1, 0) FROM journal";
        connection.query_row(query, [], |row| row.get::<_, i64>(0)).ok().map(i64::cast_unsigned)
    }

    /// The median time of a sync where a server of ours keeps its database: a small write to a file that
    /// grows, then `fdatasync`, as the server's journal does.
    pub(crate) fn sync_time(&self) -> io::Result<Option<Duration>> {
        let Some(own) = &self.own else { return Ok(None) };
        let mut file = fs::File::create(own.directory.path().join("sync"))?;
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let began_at = Instant::now();
            file.write_all(&[0; 4_096])?;
            file.sync_data()?;
            times.push(began_at.elapsed());
        }
        times.sort_unstable();
        Ok(Some(times[SYNCS / 2]))
    }

    /// What it uses now; zeros where the process is not known.
    pub(crate) fn usage(&self) -> io::Result<Usage> {
        let Some(pid) = self.pid else { return Ok(Usage::default()) };
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let number = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // Behind the name in brackets; user and system ticks are the 12th and 13th from there.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u32 = fields
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|text| text.parse::<u32>().ok())
            .sum();
        Ok(Usage {
            resident_bytes: number("VmRSS:") * 1_024,
            threads: number("Threads:"),
            processor: Duration::from_secs(1) * ticks / TICKS_A_SECOND,
        })
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // It may have ended already; then these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_semaphored(directory: &Path) -> Result<(Child, SocketAddr), Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_semaphored"));
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(directory.join("data"));
    start(command.arg("--config").arg(directory.join("semaphored.toml")))
}

/// Starts a server and waits for the line with its address.
fn start(command: &mut Command) -> Result<(Child, SocketAddr), Failure> {
    let mut child = command
        .env_remove("RUST_LOG")
        .env_remove("JOURNAL_STREAM")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut log = BufReader::new(child.stderr.take().ok_or("no standard error")?);
    let (mut line, mut text) = (String::new(), String::new());
    while log.read_line(&mut line)? > 0 {
        if let Some((_, address)) = line.rsplit_once(READY) {
            let address = address.trim().parse()?;
            // Reads to the end: a full pipe would stop the server.
            std::thread::spawn(move || io::copy(&mut log, &mut io::stderr()));
            return Ok((child, address));
        }
        text.push_str(&line);
        line.clear();
    }
    child.wait()?;
    Err(format!("the server did not start:\n{text}").into())
}
