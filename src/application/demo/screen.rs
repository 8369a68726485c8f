//! What the demo shows while it goes on: a table that is drawn again and again on a terminal that has room
//! for it, a line for each thing that happens elsewhere.

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

/// Lines of the table: a title, an empty one, the jobs; and one for the cursor.
const TABLE_ROWS: usize = JOBS.len() + 3;
/// Columns of the title, where the terminal has them.
const TITLE_COLUMNS: usize = 72;
/// Columns of a terminal that does not say.
const COLUMNS_DEFAULT: usize = 80;

/// Shows the jobs on standard output.
pub(super) struct Screen {
    /// Whether the table is drawn.
    draws: bool,
    colours: bool,
    drawn_lines: usize,
    /// What was told of each job, for plain lines.
    told: Vec<String>,
}

impl Screen {
    pub(super) fn new() -> Screen {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let draws = io::stdout().is_terminal() && !dumb && has_room();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let told = vec![String::new(); JOBS.len()];
        Screen { draws, colours: draws && !no_colour, drawn_lines: 0, told }
    }

    /// Shows how the jobs stand, `elapsed` after the start.
    pub(super) fn show(&mut self, records: &[Record], elapsed: Duration) -> io::Result<()> {
        let text = if self.draws {
            let columns = window().map_or(COLUMNS_DEFAULT, |(columns, _)| columns);
            self.table(records, elapsed, columns)
        } else {
            self.news(records, elapsed)
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// The table, in place of the one before. A line that the terminal would break would end up in two, and
    /// the next table in the wrong place: so each is cut at its edge.
    fn table(&mut self, records: &[Record], elapsed: Duration, columns: usize) -> String {
        let mut lines = vec![title(records, elapsed, columns), String::new()];
        for (index, record) in records.iter().enumerate() {
            let (colour, words) = words(index, record);
            let job = format!("  job {:>2}   ", index + 1);
            let words: String = words.chars().take(columns.saturating_sub(job.len())).collect();
            let words = if self.colours { format!("\x1b[{colour}m{words}\x1b[0m") } else { words };
            lines.push(format!("{job}{words}"));
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

/// How the permits stand, and the time at the right edge.
fn title(records: &[Record], elapsed: Duration, columns: usize) -> String {
    let is = |wanted: fn(&Stage) -> bool| records.iter().filter(|r| wanted(&r.stage)).count();
    let held = is(|stage| matches!(stage, Stage::Held { .. }));
    let waiting = match is(|stage| matches!(stage, Stage::Waiting { .. })) {
        1 => "1 job waits".to_owned(),
        jobs => format!("{jobs} jobs wait"),
    };
    let title = format!("{}  {held} of {} permits in use, {waiting}", RIVIERA.0, RIVIERA.1);
    let room = columns.min(TITLE_COLUMNS).saturating_sub(title.len());
    let time = format!("  {} s", elapsed.as_secs());
    format!("{title}{time:>room$}").chars().take(columns).collect()
}

/// Whether the table fits on the terminal from top to bottom.
fn has_room() -> bool {
    window().is_none_or(|(_, rows)| rows >= TABLE_ROWS)
}

/// Columns and rows of the terminal, if it says.
fn window() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && rows > 0).then_some((columns, rows))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_the_table_is_broken_by_the_terminal() {
        let held = Stage::Held { queued_at: WallTime(0), granted_at: WallTime(0), fence: 8 };
        let record = Record { stage: held, ..Record::default() };
        let records = vec![record; JOBS.len()];
        for columns in [20, 40, 60, 80, 200] {
            let told = Vec::new();
            let mut screen = Screen { draws: true, colours: false, drawn_lines: 0, told };
            let table = screen.table(&records, Duration::from_secs(10), columns);
            let lines = table.lines().map(|line| line.trim_start_matches("\r\x1b[2K"));
            assert_eq!(lines.clone().count() + 1, TABLE_ROWS);
            for line in lines {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
            assert_eq!(screen.drawn_lines + 1, TABLE_ROWS);
        }
        let wide = title(&records, Duration::from_secs(10), 60);
        assert_eq!(wide.chars().count(), 60, "{wide}");
        assert!(wide.ends_with("  10 s"), "{wide}");
    }
}
