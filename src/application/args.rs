//! The daemon's command line.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

/// Hands out limited resources over HTTP with semaphore semantics.
///
/// Jobs acquire a permit here before they start a licensed tool, wait in a fair queue when none is free,
/// and give it back at the end.
#[derive(Clone, Debug, FromArgs, ArgsInfo)]
#[argh(
    example = "semaphored --demo",
    example = "semaphored --config /etc/semaphored/semaphored.toml",
    example = "semaphored --listen 127.0.0.1:0 --data-dir ./data",
    example = "semaphored --check-config --config ./semaphored.toml",
    example = "semaphored --restore /backup/semaphored-90121.db",
    example = "semaphored --new-admin-token",
    note = "Environment: RUST_LOG sets what is logged (error, warn, info, debug); info is the default.",
    error_code(64, "the command line is wrong"),
    error_code(
        65,
        "the database or backup is of a newer version or another program, or the backup is damaged; nothing was changed"
    ),
    error_code(66, "the backup cannot be read"),
    error_code(70, "a thread could not be started"),
    error_code(74, "storage failed"),
    error_code(75, "another semaphored uses the data directory"),
    error_code(78, "the configuration is wrong")
)]
pub(crate) struct Args {
    /// configuration file; without it /etc/semaphored/semaphored.toml is read if it exists
    #[argh(option, arg_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// address and port to listen on, 127.0.0.1:7420 by default; port 0 takes a free one
    #[argh(option, arg_name = "ADDR:PORT")]
    pub(crate) listen: Option<std::net::SocketAddr>,
    /// directory for the database, /var/lib/semaphored by default
    #[argh(option, arg_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// read the configuration, say what is wrong with it, and end
    #[argh(switch)]
    pub(crate) check_config: bool,
    /// put a backup in the place of the database, and end; the daemon must be stopped, the database that was there
    /// is kept beside it
    #[argh(option, arg_name = "FILE")]
    pub(crate) restore: Option<PathBuf>,
    /// make another admin token, with no daemon running, and say where it is: for when all were lost
    #[argh(switch)]
    pub(crate) new_admin_token: bool,
    /// show the service at work: twelve jobs on five licences, on a temporary database; takes some
    /// ten seconds and leaves nothing behind
    #[argh(switch)]
    pub(crate) demo: bool,
}
