//! What the process may use of the machine, and what follows from that: how many connections it carries,
//! and how many of them may wait.
//!
//! A connection takes two descriptors and a thread of tiny_http's, and a request that waits on it a second
//! thread. What the machine gives is read once, at the start; the smallest limit decides.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};

/// Most requests that wait at the same time where nothing is configured, whatever the machine carries.
pub(crate) const WAITING_REQUESTS_DEFAULT_MAX: usize = 10_000;
/// Descriptors for everything that is not a connection, and for connections that come faster than they are
/// counted.
const DESCRIPTORS_KEPT: usize = 256;
const DESCRIPTORS_PER_CONNECTION: usize = 2;
/// Threads for everything that is not a connection; most of them for slow bodies and for stand-ins.
const THREADS_KEPT: usize = 512;
/// A stack and a signal stack, each with a page before it that guards it.
const MAPPINGS_PER_THREAD: usize = 4;
/// Of so many connections all but one may wait; the others are there for releases, renewals and looks.
const WAITING_SHARE: usize = 8;
/// Threads for so many connections of which all but one wait.
const THREADS_PER_SHARE: usize = 2 * WAITING_SHARE - 1;

/// What to do when they have run out.
pub(crate) const DESCRIPTORS_ADVICE: &str =
    "; raise LimitNOFILE= of its unit, or lower max_conns of NGINX";

/// What to do when the system gives no thread. Its error is the same for all of these.
pub(crate) const THREADS_ADVICE: &str = "; raise TasksMax= of its unit, sysctl vm.max_map_count or \
     sysctl kernel.threads-max, or lower max_conns of NGINX";

/// A limit of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// Open files of the process (`RLIMIT_NOFILE`).
    Descriptors,
    /// Threads of the user (`RLIMIT_NPROC`).
    UserThreads,
    /// Threads of the control group.
    Tasks,
    /// Threads of the machine.
    MachineThreads,
    /// Process and thread ids of the machine.
    Ids,
    /// Memory mappings of the process.
    Mappings,
}

/// How much a limit leaves to this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) limit: Limit,
    /// Descriptors, threads or mappings.
    pub(crate) left: usize,
}

/// What the machine carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) connections: usize,
    /// Requests that wait at the same time, however many those are.
    pub(crate) waiting_requests: usize,
    /// What would have to be raised for more; `None` when nothing bounds it.
    pub(crate) tightest: Option<Room>,
}

impl Room {
    /// What is left where so many more threads have a connection each to somebody else.
    pub(crate) fn without(self, threads: usize) -> Room {
        let each = if self.limit == Limit::Mappings { MAPPINGS_PER_THREAD } else { 1 };
        Room { left: self.left.saturating_sub(threads * each), ..self }
    }

    /// Connections that it carries when as many of them wait as may.
    fn connections(self) -> usize {
        match self.limit {
            Limit::Descriptors => {
                self.left.saturating_sub(DESCRIPTORS_KEPT) / DESCRIPTORS_PER_CONNECTION
            }
            Limit::Mappings => connections_of_threads(self.left / MAPPINGS_PER_THREAD),
            Limit::UserThreads | Limit::Tasks | Limit::MachineThreads | Limit::Ids => {
                connections_of_threads(self.left)
            }
        }
    }

    /// Whether it is enough for so many connections, of which so many wait.
    pub(crate) fn carries(self, connections: usize, waiting: usize) -> bool {
        let threads = connections.saturating_add(waiting).saturating_add(THREADS_KEPT);
        let needed = match self.limit {
            Limit::Descriptors => connections
                .saturating_mul(DESCRIPTORS_PER_CONNECTION)
                .saturating_add(DESCRIPTORS_KEPT),
            Limit::Mappings => threads.saturating_mul(MAPPINGS_PER_THREAD),
            Limit::UserThreads | Limit::Tasks | Limit::MachineThreads | Limit::Ids => threads,
        };
        needed <= self.left
    }
}

fn connections_of_threads(threads: usize) -> usize {
    threads.saturating_sub(THREADS_KEPT) / THREADS_PER_SHARE * WAITING_SHARE
}

impl Carried {
    /// What follows from the limits.
    pub(crate) fn by(rooms: &[Room]) -> Carried {
        let tightest = rooms.iter().copied().min_by_key(|room| room.connections());
        let connections = tightest.map_or(usize::MAX, Room::connections);
        let waiting_requests = connections - connections.div_ceil(WAITING_SHARE);
        Carried { connections, waiting_requests, tightest }
    }

    /// How many requests may wait where nothing is configured.
    pub(crate) fn waiting_requests_default(&self) -> usize {
        self.waiting_requests.min(WAITING_REQUESTS_DEFAULT_MAX)
    }

    /// Says what to raise, where fewer requests may wait than are `wanted`.
    pub(crate) fn advice(&self, wanted: usize) -> Option<String> {
        let Room { limit, left } = self.tightest.filter(|_| wanted > self.waiting_requests)?;
        Some(format!(
            "this machine carries {} requests that wait, on {} connections: {limit} leaves {left} to the \
             service; for more, raise {}",
            self.waiting_requests,
            self.connections,
            limit.how_to_raise()
        ))
    }
}

/// What a configuration asks for in vain: in words, with what to change.
pub(crate) fn warnings(
    rooms: &[Room],
    waiting_requests_max: Option<usize>,
    connections_max: Option<usize>,
) -> Vec<String> {
    let carried = Carried::by(rooms);
    let mut warnings = Vec::new();
    if let Some(wanted) = waiting_requests_max
        && let Some(advice) = carried.advice(wanted)
    {
        warnings.push(format!("waiting_requests_max is {wanted}, but {advice}"));
    }
    let Some(connections) = connections_max else { return warnings };
    let waiting = waiting_requests_max.unwrap_or_else(|| carried.waiting_requests_default());
    let carries = |room: &&Room| room.carries(connections, waiting.min(connections));
    if let Some(Room { limit, left }) = rooms.iter().find(|room| !carries(room)) {
        warnings.push(format!(
            "connections_max is {connections}, which is more than this machine carries: {limit} leaves {left}              to the service; raise {}, or lower connections_max: the process ends when it runs out",
            limit.how_to_raise()
        ));
    }
    if let Some(waiting) = waiting_requests_max.filter(|waiting| *waiting > connections) {
        warnings.push(format!(
            "waiting_requests_max is {waiting}, but each request that waits takes a connection, and              connections_max is {connections}"
        ));
    }
    warnings
}

impl Limit {
    fn how_to_raise(self) -> &'static str {
        match self {
            Limit::Descriptors => "LimitNOFILE= of its unit (ulimit -n)",
            Limit::UserThreads => "LimitNPROC= of its unit (ulimit -u)",
            Limit::Tasks => "TasksMax= of its unit",
            Limit::MachineThreads => "sysctl kernel.threads-max",
            Limit::Ids => "sysctl kernel.pid_max",
            Limit::Mappings => "sysctl vm.max_map_count",
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::Descriptors => "the limit of open files",
            Limit::UserThreads => "the limit of the user's threads",
            Limit::Tasks => "the limit of the control group's threads",
            Limit::MachineThreads => "the limit of the machine's threads",
            Limit::Ids => "the limit of process ids",
            Limit::Mappings => "the limit of memory mappings",
        })
    }
}

/// Raises the limit of open descriptors as far as the system allows; returns it.
pub(crate) fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            log::warn!("the limit of open files stays as it is: {error}");
            limit.current
        }
    };
    current.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// Reads what the machine leaves, with so many descriptors. What cannot be read does not count.
pub(crate) fn rooms(descriptors: usize) -> Vec<Room> {
    let others = fs::read_to_string("/proc/loadavg").ok();
    let others = others.as_deref().and_then(threads_of_all).unwrap_or(0);
    let of_machine = |path: &str| number_in(path).map(|limit| limit.saturating_sub(others));
    let left = [
        (Limit::Descriptors, Some(descriptors)),
        (Limit::UserThreads, user_threads()),
        (Limit::Tasks, tasks()),
        (Limit::MachineThreads, of_machine("/proc/sys/kernel/threads-max")),
        (Limit::Ids, of_machine("/proc/sys/kernel/pid_max")),
        (Limit::Mappings, number_in("/proc/sys/vm/max_map_count")),
    ];
    left.into_iter().filter_map(|(limit, left)| Some(Room { limit, left: left? })).collect()
}

fn number_in(path: impl AsRef<Path>) -> Option<usize> {
    // A control group without a limit says `max`.
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The second number of `1.22 1.78 1.32 3/100 26021`: threads of the whole machine (proc_loadavg(5)).
fn threads_of_all(loadavg: &str) -> Option<usize> {
    let (_, all) = loadavg.split(' ').nth(3)?.split_once('/')?;
    all.parse().ok()
}

/// The limit of the user's threads; `None` for whom the kernel does not hold to it (setrlimit(2)): root of the
/// machine, and who has `CAP_SYS_RESOURCE` or `CAP_SYS_ADMIN` there.
fn user_threads() -> Option<usize> {
    let whole_machine = fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| is_identity(&map));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if whole_machine && (getuid().is_root() || is_capable(&status)) {
        return None;
    }
    getrlimit(Resource::Nproc).current.and_then(|limit| usize::try_from(limit).ok())
}

/// Whether a user namespace is the machine's own (user_namespaces(7)).
fn is_identity(uid_map: &str) -> bool {
    uid_map.split_whitespace().eq(["0", "0", "4294967295"])
}

fn is_capable(status: &str) -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    const SYS_RESOURCE: u64 = 1 << 24;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok());
    effective.is_some_and(|bits| bits & (SYS_ADMIN | SYS_RESOURCE) != 0)
}

/// The smallest room of the control groups that the process is in.
fn tasks() -> Option<usize> {
    let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
    let left = |directory: PathBuf| {
        let limit = number_in(directory.join("pids.max"))?;
        Some(limit.saturating_sub(number_in(directory.join("pids.current"))?))
    };
    pids_groups(&memberships).into_iter().filter_map(left).min()
}

/// The directories of the control groups that may bound the number of threads, from the inner to the outer
/// ones: of version 2, and of version 1 where that has the controller (cgroups(7)).
fn pids_groups(memberships: &str) -> Vec<PathBuf> {
    let mut groups = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "pids") => {
                Path::new("/sys/fs/cgroup/pids")
            }
            _ => continue,
        };
        let inner = root.join(path.trim_start_matches('/'));
        groups.extend(inner.ancestors().take_while(|a| a.starts_with(root)).map(Path::to_owned));
    }
    groups
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
