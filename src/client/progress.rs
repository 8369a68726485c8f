//! What the client says while it works: to standard error, each line with its name before it.
//!
//! On a terminal the wait is one line that is rewritten; elsewhere, as in a CI log, it is a line at the
//! start, one a minute, and one when the position has changed to something worth a line.
//!
//! Only the main thread writes. That a line cannot be written is nobody's failure: the command matters
//! more than what is said about it.

use std::{io::Write, time::Duration};

use super::{
    Failure,
    service::ServiceAddress,
    terminal::{Terminal, Tone},
    token::Token,
};

/// How often the wait is reported where there is no terminal.
const REPORT_EVERY: Duration = Duration::from_secs(60);
/// When the wait is reported first, if the service does not tell the position sooner.
const FIRST_REPORT_AFTER: Duration = Duration::from_secs(5);
/// Positions up to this one are each worth a line.
const NOTABLE_POSITION_MAX: u64 = 3;

/// The terminal or log.
#[derive(Debug)]
pub(super) struct Reporter {
    quiet: bool,
    terminal: Terminal,
    status_shown: bool,
}

impl Reporter {
    /// A reporter to standard error; a quiet one gives warnings only.
    pub(super) fn new(quiet: bool) -> Reporter {
        Reporter { quiet, terminal: Terminal::of_errors(), status_shown: false }
    }

    /// Whether a status line can be rewritten.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal.size.is_some()
    }

    /// Something to know.
    pub(super) fn note(&mut self, text: &str) {
        if !self.quiet {
            self.line(text);
        }
    }

    /// Something to do something about, or that explains what happens next.
    pub(super) fn warn(&mut self, text: &str) {
        let word = self.terminal.paint("warning:", Tone::Warn);
        self.line(&format!("{word} {text}"));
    }

    /// Warns where others can read the token: on the network, or in its file.
    pub(super) fn warn_of_exposed_token(&mut self, address: &ServiceAddress) {
        if address.exposes_token() {
            let host = address.host();
            self.warn(&format!("the token goes to {host} unencrypted: use https://"));
        }
        if let Some(path) = address.token().and_then(Token::open_file) {
            self.warn(&format!("others can read the token in {path}: chmod 600 {path}"));
        }
    }

    /// Rewrites the status line.
    pub(super) fn status(&mut self, text: &str) {
        let Some(width) = self.terminal.width().filter(|_| !self.quiet) else { return };
        // A longer line would wrap, and the next would not cover it.
        let letters = width.saturating_sub(1);
        let line: String = format!("semaphorectl: {text}").chars().take(letters).collect();
        write_raw(&format!("\r{line}\x1b[K"));
        self.status_shown = true;
    }

    /// Takes the status line away, before something else is written.
    pub(super) fn clear_status(&mut self) {
        if self.status_shown {
            write_raw("\r\x1b[K");
            self.status_shown = false;
        }
    }

    fn line(&mut self, text: &str) {
        self.clear_status();
        write_lines(text);
    }
}

/// Writes why the client ends. The last thing that is written.
pub(super) fn write_failure(failure: &Failure) {
    write_lines(&failure.message);
}

fn write_lines(text: &str) {
    let text = crate::model::without_secrets(text);
    write_raw(&text.lines().map(|line| format!("semaphorectl: {line}\n")).collect::<String>());
}

fn write_raw(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Which moments of a wait get a line in a log.
#[derive(Debug, Default)]
pub(super) struct WaitLog {
    last_at: Option<Duration>,
    last_position: Option<u64>,
}

impl WaitLog {
    /// Whether nothing was told yet.
    pub(super) fn is_empty(&self) -> bool {
        self.last_at.is_none()
    }

    /// Whether the wait is worth a line, `waited` after its start; remembers that it got one.
    pub(super) fn is_due(&mut self, waited: Duration, position: Option<u64>) -> bool {
        let due = match self.last_at {
            None => position.is_some() || waited >= FIRST_REPORT_AFTER,
            Some(last_at) => {
                waited.saturating_sub(last_at) >= REPORT_EVERY || self.is_notable(position)
            }
        };
        if due {
            self.last_at = Some(waited);
            self.last_position = position.or(self.last_position);
        }
        due
    }

    /// Another position that is nearly the first one, or at most half of the last that was told.
    fn is_notable(&self, position: Option<u64>) -> bool {
        match (position, self.last_position) {
            (Some(now), Some(last)) => {
                now != last && (now <= NOTABLE_POSITION_MAX || now <= last / 2)
            }
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

/// A length of time for people: `45s`, `2m 05s`, `1h 02m`.
pub(super) fn human(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 3_600 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        seconds if seconds >= 60 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_few_lines() {
        let mut log = WaitLog::default();
        let mut check = |seconds, position, due| {
            let waited = Duration::from_secs(seconds);
            assert_eq!(log.is_due(waited, position), due, "{seconds} {position:?}");
        };
        check(0, None, false);
        check(1, Some(20), true);
        check(2, Some(20), false);
        check(3, Some(19), false);
        check(4, Some(10), true);
        check(63, Some(9), false);
        check(64, Some(9), true);
        check(65, Some(3), true);
        check(66, Some(3), false);
        check(67, Some(2), true);
        check(68, None, false);
        check(127, None, true);
    }

    #[test]
    fn a_log_says_that_it_waits_also_without_a_position() {
        let mut log = WaitLog::default();
        assert!(!log.is_due(Duration::from_secs(4), None));
        assert!(log.is_due(Duration::from_secs(5), None));
        assert!(log.is_due(Duration::from_secs(6), Some(8)));
    }

    #[test]
    fn durations_for_people() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (125, "2m 05s"), (3_725, "1h 02m")] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }
}
