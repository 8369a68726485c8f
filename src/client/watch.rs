//! `--watch`: a look that goes on. One thread asks, and blocks in the service until there is something new;
//! the main thread shows it and waits for signals.
//!
//! On a terminal the picture is drawn over the one before, in place and without the alternate screen, so
//! that the last one stays when it ends. Elsewhere each change is a block of its own, or a line of JSON.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{
    Failure,
    args::ViewArgs,
    ask,
    event::{self, EVENTS_MAX, Event},
    http::{Answer, Connection, WAIT_MAX},
    moment::Moment,
    options::ServiceOptions,
    output,
    progress::Reporter,
    replies::unreadable,
    table::{shorten, width_on_screen},
    terminal::{Terminal, Tone},
    unix,
    view::{Look, View, text},
};
use crate::cli::exit;

/// How long a look blocks where somebody looks on, for whom the ages have to go on.
const WAIT_ON_TERMINAL: Duration = Duration::from_secs(2);
/// An answer that came sooner and says nothing new is followed by a pause: the service is stopping, or
/// cannot block any more requests.
const BLOCKED_MIN: Duration = Duration::from_millis(400);
/// That pause.
const PAUSE: Duration = Duration::from_secs(1);

/// What the asking thread reports.
#[derive(Debug)]
pub(super) enum WatchEvent {
    /// What is seen now, and when.
    Seen(View, Moment),
    /// Something is in the way; it goes on trying.
    Trouble(String),
    /// It is over.
    Failed(Failure),
}

/// Shows each change until a signal comes; returns its exit code.
///
/// # Errors
/// When the service is out of reach for too long or refuses, or output cannot be written.
pub(super) fn watch(
    look: impl Look,
    args: &ViewArgs,
    options: &ServiceOptions,
) -> Result<u8, Failure> {
    let (sender, events) = crossbeam_channel::bounded(EVENTS_MAX);
    unix::watch_signals(&sender)?;
    let mut reporter = Reporter::new(false);
    reporter.warn_of_exposed_token(&options.address);
    let screen = Terminal::of_output();
    let redraws = screen.size.is_some() && !args.json;
    let asker = Asker {
        connection: Connection::new(&options.address),
        patience: options.unreachable_timeout,
        wait: if redraws { WAIT_ON_TERMINAL } else { WAIT_MAX },
    };
    event::spawn("watch", &sender, move |events| {
        let report = |event| events.send(Event::Watch(event)).is_ok();
        if let Err(failure) = asker.go_on(&look, &report) {
            report(WatchEvent::Failed(failure));
        }
    })?;
    let mut picture =
        Picture { redraws, header: !args.no_header, json: args.json, ..Picture::default() };
    while let Ok(event) = events.recv() {
        match event {
            Event::Signal(signal) if !signal.user_defined => {
                if redraws {
                    // After the ^C that the terminal shows.
                    output::write("\n")?;
                }
                return Ok(exit::by_signal(signal.number));
            }
            Event::Watch(WatchEvent::Seen(view, now)) => picture.show(&view, now)?,
            Event::Watch(WatchEvent::Trouble(why)) if redraws => picture.add_trouble(&why)?,
            Event::Watch(WatchEvent::Trouble(why)) => {
                reporter.warn(&format!("{why}; trying again"));
            }
            Event::Watch(WatchEvent::Failed(failure)) => return Err(failure),
            _ => {}
        }
    }
    Ok(exit::OK)
}

/// The asking thread.
struct Asker {
    connection: Connection,
    patience: Duration,
    wait: Duration,
}

impl Asker {
    /// Asks until nobody listens any more.
    fn go_on(&self, look: &impl Look, report: &dyn Fn(WatchEvent) -> bool) -> Result<(), Failure> {
        let path = look.path();
        let mut since = None;
        loop {
            let begun = Instant::now();
            let seen = match since {
                None => self.ask(&path, Duration::ZERO, report)?,
                Some(revision) => {
                    let path = format!("{path}?since={revision}&wait={}s", self.wait.as_secs());
                    self.ask(&path, self.wait, report)?
                }
            };
            let revision = revision(&seen)?;
            if since == Some(revision) && begun.elapsed() < BLOCKED_MIN {
                std::thread::sleep(PAUSE);
            }
            since = Some(revision);
            let view = look.see(&seen, &mut |path| self.ask(path, Duration::ZERO, report))?;
            if !report(WatchEvent::Seen(view, Moment::of_answer(&seen))) {
                return Ok(());
            }
        }
    }

    fn ask(
        &self,
        path: &str,
        wait: Duration,
        report: &dyn Fn(WatchEvent) -> bool,
    ) -> Result<Answer, Failure> {
        let mut trouble = |why: &str| {
            report(WatchEvent::Trouble(why.to_owned()));
        };
        ask::ask(&self.connection, self.patience, &mut trouble, |connection| {
            connection.look(path, wait)
        })
    }
}

fn revision(answer: &Answer) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Revision {
        revision: u64,
    }
    let revision: Revision =
        serde_json::from_slice(&answer.body).map_err(|_| unreadable(answer))?;
    Ok(revision.revision)
}

/// What was shown last.
#[derive(Default)]
struct Picture {
    redraws: bool,
    header: bool,
    json: bool,
    /// What it said, without the ages.
    fingerprint: Option<String>,
    lines: Vec<String>,
    /// What is in the way since then.
    trouble: Option<String>,
    /// How many lines of the terminal it takes.
    drawn: usize,
}

impl Picture {
    fn show(&mut self, view: &View, now: Moment) -> Result<(), Failure> {
        let fingerprint = view.fingerprint();
        let is_new = self.fingerprint.as_ref() != Some(&fingerprint);
        let is_first = self.fingerprint.is_none();
        if is_new {
            self.fingerprint = Some(fingerprint);
        } else if !self.redraws {
            return Ok(());
        }
        if self.json {
            output::write_json(&view.json)?;
            return Ok(());
        }
        let screen = Terminal::of_output();
        let title = format!("{} (Ctrl-C ends)", now.human());
        let mut lines = vec![if self.redraws { title } else { now.human() }];
        lines.extend(view.lines(screen, self.header));
        lines.extend(view.emptiness().map(|words| format!("({words})")));
        if self.redraws {
            self.lines = lines;
            self.trouble = None;
            return self.draw(screen);
        }
        let gap = if is_first { "" } else { "\n" };
        output::write(&format!("{gap}{}", text(&lines)))?;
        Ok(())
    }

    fn add_trouble(&mut self, why: &str) -> Result<(), Failure> {
        let screen = Terminal::of_output();
        let room = screen.width().unwrap_or(usize::MAX);
        let words = shorten(&format!("{why}; trying again"), room);
        self.trouble = Some(screen.paint(&words, Tone::Warn));
        self.draw(screen)
    }

    /// Draws over what was drawn before, within the height of the terminal.
    fn draw(&mut self, screen: Terminal) -> Result<(), Failure> {
        let rows = screen.size.map_or(usize::MAX, |(_, height)| height.saturating_sub(1).max(2));
        let rows = rows - self.trouble.iter().count();
        let mut lines = self.lines.clone();
        if lines.len() > rows {
            let hidden = lines.len() - rows + 1;
            lines.truncate(rows - 1);
            lines.push(format!("… {hidden} more lines"));
        }
        lines.extend(self.trouble.clone());
        let back = match self.drawn {
            0 => String::new(),
            drawn => format!("\x1b[{drawn}A\r\x1b[J"),
        };
        // A line that is too long after all takes several rows.
        let width = screen.width().unwrap_or(usize::MAX);
        self.drawn = lines.iter().map(|line| width_on_screen(line).div_ceil(width).max(1)).sum();
        output::write(&format!("{back}{}", text(&lines)))?;
        Ok(())
    }
}
