//! The only module that is for Unix alone: signals, how a process ends, how large a terminal is.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    os::unix::{
        fs::{OpenOptionsExt, PermissionsExt},
        process::ExitStatusExt,
    },
    path::Path,
    process::{Child, ExitStatus},
    time::Duration,
};

use crossbeam_channel::Sender;
#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, poll};
use rustix::{
    fd::AsFd,
    process::{
        Pid, Signal as Number, WaitId, WaitIdOptions, kill_process, test_kill_process, waitid,
    },
    termios::tcgetwinsize,
};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2},
    iterator::{SignalsInfo, exfiltrator::WithOrigin},
    low_level::{
        siginfo::{Cause, Origin},
        signal_name,
    },
};

use super::{
    Failure,
    event::{self, Event, Signal},
};
use crate::cli::exit;

/// Signals that are caught unless they were ignored: those that end the wait, and those that are only
/// passed on.
const CAUGHT: [i32; 5] = [SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
/// Signals that are caught in any case. SIGCHLD means nothing here, but where it is ignored the system
/// throws away how a child ended (wait(2), NOTES).
const CAUGHT_ALWAYS: [i32; 2] = [SIGTERM, SIGCHLD];

/// Catches signals from now on and reports each as an event.
///
/// A signal that was ignored when this process started stays ignored, for it and its child: that is what
/// `nohup` and a shell's `&` ask for. SIGTERM is caught in any case.
///
/// # Errors
/// When a handler cannot be installed.
pub(super) fn watch_signals(events: &Sender<Event>) -> Result<(), Failure> {
    let ignored = ignored_signals();
    let caught = CAUGHT.iter().filter(|&&number| (ignored >> (number - 1)) & 1 == 0);
    let mut signals = SignalsInfo::<WithOrigin>::new(caught.chain(&CAUGHT_ALWAYS))
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot catch signals: {error}")))?;
    event::spawn("signals", events, move |events| {
        for origin in signals.forever() {
            if origin.signal != SIGCHLD && events.send(Event::Signal(describe(&origin))).is_err() {
                return;
            }
        }
    })
}

/// The kernel sends SIGINT and SIGQUIT only for keys at the terminal, and then to every process of the
/// foreground group: the child has got it already.
fn describe(origin: &Origin) -> Signal {
    let number = origin.signal;
    let by_key = matches!(number, SIGINT | SIGQUIT) && matches!(origin.cause, Cause::Kernel);
    let user_defined = matches!(number, SIGUSR1 | SIGUSR2);
    Signal { number, user_defined, reached_child: by_key }
}

/// The mask of the signals that this process ignores, bit n − 1 for signal n; none where the system does
/// not say (proc(5), `SigIgn`).
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// The name of a signal: `SIGTERM`.
pub(super) fn name_of_signal(number: i32) -> &'static str {
    signal_name(number).unwrap_or("a signal")
}

/// Reports when the child has ended, without reaping it: until the main thread does, its process id
/// cannot become another's, and so no signal can reach the wrong process.
///
/// # Errors
/// When the system gives no more threads.
pub(super) fn watch_child(child: &Child, events: &Sender<Event>) -> Result<(), Failure> {
    let id = Pid::from_child(child);
    event::spawn("child", events, move |events| {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while matches!(waitid(WaitId::Pid(id), options), Err(rustix::io::Errno::INTR)) {}
        let _ = events.send(Event::ChildEnded);
    })
}

/// Sends a signal to the child, which must not have been reaped.
///
/// # Errors
/// When the system refuses, as for a child that changed its user.
pub(super) fn send_signal(child: &Child, number: i32) -> io::Result<()> {
    let Some(signal) = Number::from_named_raw(number) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    Ok(kill_process(Pid::from_child(child), signal)?)
}

/// Asks the child to end: SIGTERM.
///
/// # Errors
/// As [`send_signal`].
pub(super) fn ask_to_end(child: &Child) -> io::Result<()> {
    send_signal(child, SIGTERM)
}

/// The exit code that stands for how a child ended: its own, or 128 + the signal that ended it.
pub(super) fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(exit::INTERNAL),
        (None, Some(signal)) => exit::by_signal(signal),
        (None, None) => exit::INTERNAL,
    }
}

/// What a shell reports for a program that wrote where nobody reads any more.
pub(super) fn exit_code_of_broken_pipe() -> u8 {
    exit::by_signal(SIGPIPE)
}

/// A process that is not this one's child.
pub(super) enum Other {
    /// As a descriptor that becomes readable when it has ended (pidfd_open(2)).
    #[cfg(target_os = "linux")]
    Descriptor(rustix::fd::OwnedFd),
    /// Where there is no such descriptor: to be looked for again and again.
    Id(Pid),
}

/// How often a process is looked for that has no descriptor.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Finds a process that is to be watched. With a descriptor it cannot be mistaken for a later one of the
/// same id.
///
/// # Errors
/// When there is none of this id.
pub(super) fn find_process(id: i32) -> io::Result<Other> {
    let Some(id) = Pid::from_raw(id).filter(|_| id > 0) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    if !is_there(id) {
        return Err(io::ErrorKind::NotFound.into());
    }
    #[cfg(target_os = "linux")]
    if let Ok(descriptor) = rustix::process::pidfd_open(id, rustix::process::PidfdFlags::empty()) {
        return Ok(Other::Descriptor(descriptor));
    }
    Ok(Other::Id(id))
}

/// Reports when the process has ended.
///
/// # Errors
/// When the system gives no more threads.
pub(super) fn watch_process(process: Other, events: &Sender<Event>) -> Result<(), Failure> {
    event::spawn("watched", events, move |events| {
        match process {
            #[cfg(target_os = "linux")]
            Other::Descriptor(descriptor) => {
                let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
                while matches!(poll(&mut polled, None), Err(rustix::io::Errno::INTR)) {}
            }
            Other::Id(id) => {
                while is_there(id) {
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
        let _ = events.send(Event::WatchedEnded);
    })
}

/// Whether there is such a process; also if it belongs to somebody else.
fn is_there(id: Pid) -> bool {
    test_kill_process(id) != Err(rustix::io::Errno::SRCH)
}

/// Columns and rows of a terminal, if it says.
pub(super) fn window_size(terminal: impl AsFd) -> Option<(usize, usize)> {
    let size = tcgetwinsize(terminal).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
}

/// Makes a file, or empties one that is there, for this user alone.
///
/// # Errors
/// When the system refuses.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Makes a file that is not there yet, for this user alone.
///
/// # Errors
/// When it is there, and when the system refuses.
pub(super) fn create_new_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Whether others than its owner can read a file. Nobody else can open a pipe by its name.
///
/// # Errors
/// When the system does not say.
pub(super) fn is_open_to_others(file: &File) -> io::Result<bool> {
    let metadata = file.metadata()?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o044 != 0)
}

/// Has it on the disk which files are in the directory of `path`.
///
/// # Errors
/// When the system refuses.
pub(super) fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// The name of this machine.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_shells() {
        assert_eq!(exit_code(ExitStatus::from_raw(3 << 8)), 3);
        assert_eq!(exit_code(ExitStatus::from_raw(SIGTERM)), 143);
    }
}
