//! What the demo shows while it goes on: a table that is drawn again and again on a terminal, a line for
//! each thing that happens elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use super::{
    RIVIERA,
    jobs::{JOBS, KILLED_TTL},
    stage::{Record, Stage},
};
use crate::model::WallTime;

/// Shows the jobs on standard output.
pub(super) struct Screen {
    terminal: bool,
    colours: bool,
    drawn_lines: usize,
    /// What was told of each job, for plain lines.
    told: Vec<String>,
}

impl Screen {
    pub(super) fn new() -> Screen {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let terminal = io::stdout().is_terminal() && !dumb;
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let told = vec![String::new(); JOBS.len()];
        Screen { terminal, colours: terminal && !no_colour, drawn_lines: 0, told }
    }

    /// Shows how the jobs stand, `elapsed` after the start.
    pub(super) fn show(&mut self, records: &[Record], elapsed: Duration) -> io::Result<()> {
        let text =
            if self.terminal { self.table(records, elapsed) } else { self.news(records, elapsed) };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    fn table(&mut self, records: &[Record], elapsed: Duration) -> String {
        let is = |wanted: fn(&Stage) -> bool| records.iter().filter(|r| wanted(&r.stage)).count();
        let held = is(|stage| matches!(stage, Stage::Held { .. }));
        let waiting = is(|stage| matches!(stage, Stage::Waiting { .. }));
        let mut lines = vec![
            format!(
                "{}  {held} of {} permits in use, {waiting} jobs wait {:>21}",
                RIVIERA.0,
                RIVIERA.1,
                format!("{} s", elapsed.as_secs())
            ),
            String::new(),
        ];
        for (index, record) in records.iter().enumerate() {
            let (colour, words) = words(index, record);
            let words = if self.colours { format!("\x1b[{colour}m{words}\x1b[0m") } else { words };
            lines.push(format!("  job {:>2}   {words}", index + 1));
        }
        // Back to the first line, each line cleared before it is written, the cursor below the last.
        let up = if self.drawn_lines > 0 {
            format!("\x1b[{}A", self.drawn_lines)
        } else {
            String::new()
        };
        self.drawn_lines = lines.len();
        let body: String = lines.iter().map(|line| format!("\r\x1b[2K{line}\n")).collect();
        format!("{up}{body}")
    }

    fn news(&mut self, records: &[Record], elapsed: Duration) -> String {
        let mut news = String::new();
        for (index, record) in records.iter().enumerate() {
            let (_, words) = words(index, record);
            // A position or a time that has changed is no news.
            let kind: String = words.chars().take_while(|c| !c.is_ascii_digit()).collect();
            if kind != self.told[index]
                && !matches!(record.stage, Stage::Unstarted | Stage::Started)
            {
                let seconds = elapsed.as_secs_f32();
                news.push_str(&format!("{seconds:5.1} s  job {:>2} {words}\n", index + 1));
                self.told[index] = kind;
            }
        }
        news
    }
}

/// How a job stands, in words, and the colour for that (SGR: 32 green, 33 yellow, 31 red, 2 faint).
fn words(index: usize, record: &Record) -> (&'static str, String) {
    let coverage = JOBS[index].with_coverage;
    match &record.stage {
        Stage::Unstarted | Stage::Started => ("2", "–".to_owned()),
        Stage::Waiting { position, .. } => {
            let too = if coverage { ", for one of FlexLM-Coverage too" } else { "" };
            ("33", format!("waits at position {position}{too}"))
        }
        Stage::Held { .. } if record.killed => {
            ("31", format!("was killed; its lease of {KILLED_TTL} runs out"))
        }
        Stage::Held { fence, .. } => {
            let too = if coverage { " and one of FlexLM-Coverage" } else { "" };
            ("32", format!("holds a permit{too}, fence {fence}"))
        }
        Stage::Ended { queued_at, granted_at, ended_at, .. } => {
            let granted_at = granted_at.unwrap_or(*ended_at);
            let ended = if record.killed { "lost its permit" } else { "gave it back" };
            let waited = seconds(granted_at, *queued_at);
            let held = seconds(*ended_at, granted_at);
            ("2", format!("{ended}; waited {waited}, held it {held}"))
        }
    }
}

fn seconds(later: WallTime, earlier: WallTime) -> String {
    format!("{:.1} s", later.since(earlier).as_secs_f32())
}
