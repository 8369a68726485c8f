//! The command line.

use argh::FromArgs;

use super::dialect::Dialect;

/// Puts load on a server, one request a connection at a time, and prints rates and times.
///
/// Scenarios: cycle (acquire and release without contention), job (all that a client does from nothing to
/// nothing), hand-off (one permit, each waiter releases at once), renew, queue (claims that wait without a
/// connection, then are drained), mixed (cycles, without and with blocked waiters beside them), restart,
/// idle.
#[derive(Clone, Debug, FromArgs)]
pub(crate) struct Options {
    /// cycle, job, hand-off, renew, queue, mixed, restart or idle
    #[argh(positional)]
    pub(crate) scenario: String,

    /// what the server is: semaphored, throttle, etcd or constant (default semaphored)
    #[argh(option, default = "Dialect::Semaphored")]
    pub(crate) target: Dialect,

    /// a server that runs already: http://ADDRESS:PORT; without it one is started
    #[argh(option)]
    pub(crate) url: Option<String>,

    /// the process of that server, for its memory, threads and processor time
    #[argh(option)]
    pub(crate) pid: Option<u32>,

    /// durability of a semaphored that is started: full or os (default full)
    #[argh(option, default = "String::from(\"full\")")]
    pub(crate) durability: String,

    /// switches tokens off in a semaphored that is started; for one that runs already SEMAPHORE_TOKEN is used, if it is set
    #[argh(switch)]
    pub(crate) no_tokens: bool,

    /// where the directory of a server that is started is made (default: in the build directory)
    #[argh(option)]
    pub(crate) directory: Option<String>,

    /// connections of cycle, job, renew, queue, mixed and restart (default 128)
    #[argh(option, default = "128")]
    pub(crate) connections: usize,

    /// length of a round (default 5)
    #[argh(option, default = "5")]
    pub(crate) seconds: u64,

    /// rounds, of which the median rate is shown (default 3)
    #[argh(option, default = "3")]
    pub(crate) rounds: usize,

    /// waiters of hand-off and mixed (default 1000)
    #[argh(option, default = "1_000")]
    pub(crate) waiters: usize,

    /// claims of queue and restart (default 100000)
    #[argh(option, default = "100_000")]
    pub(crate) claims: usize,

    /// in queue, how many of the claims are drained (default all)
    #[argh(option, default = "usize::MAX")]
    pub(crate) drain: usize,

    /// in job, each one on a new connection
    #[argh(switch)]
    pub(crate) connect: bool,

    /// one line of JSON instead of text
    #[argh(switch)]
    pub(crate) json: bool,
}
