//! Logging: one line an event, to standard error.
//!
//! Under systemd (`JOURNAL_STREAM` is set, see systemd.exec(5)) a line begins with its priority as
//! sd-daemon(3) wants it, and the journal adds the time. Elsewhere it begins with the time.

use std::io::Write;

use env_logger::{Env, fmt::Formatter};
use log::{Level, Record};

use super::clock;
use crate::model::without_secrets;

/// Starts logging. What is logged: `RUST_LOG`, or `default` where that is not set. Never the bytes of requests, for
/// callbacks have tokens in them.
pub(crate) fn start(default: &str) {
    let journal = is_journal();
    let mut builder = env_logger::Builder::from_env(Env::default().default_filter_or(default));
    builder.format(move |out, record| {
        if shows_bytes_of_requests(record) {
            return Ok(());
        }
        if journal { for_journal(out, record) } else { for_people(out, record) }
    });
    // A second start (in a test, in a program that has a logger of its own) changes nothing.
    let _ = builder.try_init();
}

/// The HTTP client logs what it writes and reads at its lowest levels, through this package.
fn shows_bytes_of_requests(record: &Record<'_>) -> bool {
    record.target().starts_with("ureq_proto") && record.level() > Level::Info
}

/// Whether standard error goes to the systemd journal.
pub(crate) fn is_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some()
}

fn for_journal(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let priority = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    writeln!(out, "<{priority}>{}", one_line(record))
}

fn for_people(out: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let time = clock::wall().to_rfc3339();
    let style = out.default_level_style(record.level());
    writeln!(out, "{time} {style}{:5}{style:#} {}", record.level(), one_line(record))
}

/// The message, with line breaks and other control characters escaped: what another program or a peer wrote could pass
/// for a line of our own, in the journal with a priority of its own. And without the secrets of tokens: some are pasted
/// where they do not belong.
fn one_line(record: &Record<'_>) -> String {
    let mut line = String::new();
    for character in without_secrets(&record.args().to_string()).chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        for (message, expected) in [
            ("all is well: \u{fc} \\ \"x\"", "all is well: \u{fc} \\ \"x\""),
            ("a\n<0>b\r\nc", "a\\n<0>b\\r\\nc"),
            ("\u{1b}[2J\0\u{85}", "\\u{1b}[2J\\u{0}\\u{85}"),
        ] {
            let found = one_line(&Record::builder().args(format_args!("{message}")).build());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn bytes_of_requests_are_not_logged() {
        let is_hidden = |target: &str, level| {
            shows_bytes_of_requests(&Record::builder().target(target).level(level).build())
        };
        assert!(is_hidden("ureq_proto::util", Level::Trace));
        assert!(is_hidden("ureq_proto::client", Level::Debug));
        assert!(!is_hidden("ureq_proto::client", Level::Warn));
        assert!(!is_hidden("semaphored::callbacks", Level::Debug));
    }
}
