//! Exit codes. Where `sysexits.h` (BSD, sysexits(3)) has a name for the case, its number is used; 126,
//! 127 and 128 + signal are the shell's (POSIX.1-2024, XCU 2.8.2); the rest are free numbers near them.

/// It went well.
pub const OK: u8 = 0;
/// The command line is wrong (`EX_USAGE`).
pub const USAGE: u8 = 64;
/// The service refused the request as wrong, and would refuse it again (`EX_DATAERR`). Of the daemon: the database is of a
/// newer version or not its own, a backup is no good.
pub const REFUSED: u8 = 65;
/// The service could not be reached in time (`EX_UNAVAILABLE`).
pub const UNREACHABLE: u8 = 69;
/// A bug, or an answer that makes no sense (`EX_SOFTWARE`).
pub const INTERNAL: u8 = 70;
/// Storage failed, or output could not be written (`EX_IOERR`).
pub const IO: u8 = 74;
/// No permit in time; a later try may have more luck (`EX_TEMPFAIL`). Of the daemon: another one has the
/// data directory.
pub const NO_PERMIT: u8 = 75;
/// The token is missing, unknown, or does not allow this (`EX_NOPERM`).
pub const NOT_ALLOWED: u8 = 77;
/// A setting is wrong that does not come from the command line (`EX_CONFIG`).
pub const CONFIGURATION: u8 = 78;
/// An admin revoked the claim.
pub const REVOKED: u8 = 79;
/// The lease was lost while the command ran, and the command was stopped for it.
pub const LEASE_LOST: u8 = 80;
/// The command was found but could not be started.
pub const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub const NOT_FOUND: u8 = 127;

/// What a shell reports for a command that a signal ended: 128 + its number.
#[must_use]
pub fn by_signal(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |signal| signal.saturating_add(128))
}
