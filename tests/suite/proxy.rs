//! A real NGINX in front of a daemon in a test: Debian's package, its own processes, the file that we ship.
//!
//! Of the files in `nginx/` only addresses and paths are replaced in copies, and what a test says. The site is
//! included by an `nginx.conf` like Debian's. As with the daemon nothing sleeps for a fixed time, and only
//! the processes that were started here are ended: the master, which ends its workers.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::{
    daemon::{DEADLINE, Daemon, poll},
    http::{self, Request, Response},
};

/// The site as it is installed, with the two files that it includes.
pub(crate) const SITE: &str = concat!(
    include_str!("../../nginx/semaphored.conf"),
    include_str!("../../nginx/semaphored-http.conf"),
    include_str!("../../nginx/semaphored-server.conf"),
);
/// The names of these files.
const FILES: [&str; 3] = ["semaphored.conf", "semaphored-http.conf", "semaphored-server.conf"];
/// How often a port that was free is taken by somebody else before NGINX has it.
const PORT_TRIES: usize = 5;
const END_PAUSE: Duration = Duration::from_millis(5);

/// How many worker processes NGINX has, and how many connections each takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    processes: usize,
    connections: usize,
}

/// Two processes, also on a machine with one core, and room for the tests.
const USUAL: Size = Size { processes: 2, connections: 1_024 };
/// Debian's `nginx.conf` on a machine with one core.
pub(crate) const SMALLEST: Size = Size { processes: 1, connections: 768 };

/// A running NGINX.
pub(crate) struct Proxy {
    directory: TempDir,
    address: SocketAddr,
    master: Child,
}

impl Proxy {
    /// Starts NGINX in front of a daemon, which may be restarted on the same port.
    pub(crate) fn start(daemon: &Daemon) -> Proxy {
        Proxy::start_with(daemon.address(), &[])
    }

    /// The same in front of anything, with pieces of the site replaced, each of which has to be there.
    pub(crate) fn start_with(upstream: SocketAddr, replace: &[(&str, &str)]) -> Proxy {
        Proxy::start_sized(USUAL, upstream, replace)
    }

    /// The same with so many processes and connections.
    pub(crate) fn start_sized(size: Size, upstream: SocketAddr, replace: &[(&str, &str)]) -> Proxy {
        for _ in 0..PORT_TRIES {
            let directory = tempfile::tempdir().unwrap();
            let address = free_address();
            write_config(directory.path(), size, &site(address, upstream, replace));
            let mut master = command(directory.path()).stderr(Stdio::null()).spawn().unwrap();
            // The file is written when the ports are bound.
            let pid_file = directory.path().join("pid");
            let started = poll("nginx", || {
                let ended = master.try_wait().unwrap().map(Err::<(), ExitStatus>);
                ended.or_else(|| pid_file.exists().then_some(Ok(())))
            });
            let proxy = Proxy { directory, address, master };
            match started {
                Ok(()) => return proxy,
                Err(status) => {
                    let log = proxy.error_log();
                    assert!(log.contains("Address already in use"), "{status}: {log}");
                }
            }
        }
        panic!("no port stays free");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, for clients that want a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request, with `Content-Type: application/json` if it has a body.
    pub(crate) fn call(&self, method: &str, target: &str, body: &str) -> Response {
        http::send(self.address, &Request::json(method, target, body))
    }

    /// The same from a thread of its own: for requests that block.
    pub(crate) fn call_later(
        &self,
        method: &str,
        target: &str,
        body: &str,
    ) -> thread::JoinHandle<Response> {
        let (address, request) = (self.address, Request::json(method, target, body));
        thread::spawn(move || http::send(address, &request))
    }

    /// The worker processes at this moment, those included that only end what they have.
    pub(crate) fn workers(&self) -> BTreeSet<u32> {
        let pid = self.master.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }

    /// Open descriptors of all workers.
    pub(crate) fn descriptors(&self) -> usize {
        self.workers().into_iter().map(descriptors).sum()
    }

    /// Reads its configuration again (SIGHUP), and returns when the new workers are there; gives the old ones.
    pub(crate) fn reload(&self) -> BTreeSet<u32> {
        let old = self.workers();
        kill_process(Pid::from_child(&self.master), Signal::HUP).unwrap();
        poll("new workers", || (self.workers().difference(&old).count() >= 2).then_some(()));
        old
    }

    /// What the site's access log says of the request that was answered so: its line, once it is there.
    pub(crate) fn access(&self, response: &Response) -> String {
        let id = response.header("X-Request-Id").expect("no X-Request-Id");
        let field = format!(" id={id} ");
        poll(&format!("an access log line with {id}"), || {
            let log =
                fs::read_to_string(self.directory.path().join("semaphored.access.log")).ok()?;
            // A line that is there is whole: each is written at once.
            log.lines().find(|line| line.contains(&field)).map(str::to_owned)
        })
    }

    /// Everything in the error logs of nginx and of the site.
    pub(crate) fn error_log(&self) -> String {
        let read = |name| fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
        read("error.log") + &read("semaphored.error.log")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Killed, the master would leave its workers behind.
        let _ = kill_process(Pid::from_child(&self.master), Signal::TERM);
        let deadline = Instant::now() + DEADLINE;
        while matches!(self.master.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(END_PAUSE);
        }
        let _ = self.master.kill();
        let _ = self.master.wait();
    }
}

/// The open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> usize {
    // A process that has just ended has none.
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Threads that tiny_http keeps without a connection: an idle one ends after five seconds, and the daemon makes a
/// connection to itself each second, which goes to the one that has been idle longest. And some to spare.
pub(crate) const IDLE_THREADS_MAX: usize = 8;

/// The threads of a process.
pub(crate) fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// What `nginx -t` says of the site with pieces replaced.
pub(crate) fn check_site(directory: &Path, replace: &[(&str, &str)]) -> Output {
    write_config(directory, USUAL, &site(free_address(), free_address(), replace));
    command(directory).arg("-t").output().unwrap()
}

/// An address at which nothing listens now. NGINX cannot choose a port by itself.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The shipped site on other addresses: its files, in the order of [`FILES`]. Paths are replaced when they are written.
fn site(listen: SocketAddr, upstream: SocketAddr, replace: &[(&str, &str)]) -> [String; 3] {
    let listens = format!("\n    listen {listen};");
    let service = format!("server {upstream} ");
    let addresses = [
        ("\n    listen 127.0.0.1:80;", listens.as_str()),
        ("server 127.0.0.1:7420 ", service.as_str()),
    ];
    let mut files = FILES.map(|name| fs::read_to_string(Path::new("nginx").join(name)).unwrap());
    for (from, to) in addresses.iter().chain(replace) {
        assert!(files.iter().any(|file| file.contains(from)), "no {from:?} in the site");
        files = files.map(|file| file.replace(from, to));
    }
    files
}

fn write_config(directory: &Path, size: Size, files: &[String; 3]) {
    let path = directory.to_str().unwrap();
    for (name, file) in FILES.iter().zip(files) {
        let file = file.replace("/var/log/nginx", path);
        let file =
            file.replace("include /usr/share/semaphored/nginx/", &format!("include {path}/"));
        fs::write(directory.join(name), file).unwrap();
    }
    // Root may write to the test's directory, and `www-data` may not.
    let user = if geteuid().is_root() { "user root;" } else { "" };
    let temporary = ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {path}/{name};")).concat();
    // As on Debian 12, but for the places of files: what is set there must not clash with the site.
    let Size { processes, connections } = size;
    let config = format!(
        "{user} worker_processes {processes}; daemon off; pid {path}/pid; error_log {path}/error.log notice;
        events {{ worker_connections {connections}; }}
        http {{
            {temporary}
            sendfile on; tcp_nopush on; types_hash_max_size 2048;
            default_type application/octet-stream;
            ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
            access_log {path}/access.log;
            gzip on;
            include {path}/semaphored.conf;
        }}"
    );
    fs::write(directory.join("nginx.conf"), config).unwrap();
}

fn command(directory: &Path) -> Command {
    // Debian has it where only root looks.
    let debian = Path::new("/usr/sbin/nginx");
    let program = if debian.exists() { debian } else { Path::new("nginx") };
    let mut command = Command::new(program);
    command.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf"));
    command.arg("-e").arg(directory.join("error.log"));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}
