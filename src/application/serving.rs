//! What the daemon does between its start and its stop: takes signals, and reads the configuration again at SIGHUP.
//!
//! A thread takes the signals and another one reads, so that a file which does not answer (a dead mount, a FIFO) holds up
//! neither a stop nor the next signal. Applied is what was read by the thread that waits here, one after the other.

use std::{thread, time::Duration};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};

use super::{
    Failure,
    args::Args,
    callbacks,
    config::{Config, Error},
    daemon::Daemon,
    declarations, systemd, tokens,
};
use crate::{callbacks::Registry, cli::exit, model::Token};

/// How long reading the configuration may take before the log tells of it.
const READING_TIME_MAX: Duration = Duration::from_secs(10);

enum Message {
    Signal(i32),
    Read(Box<Result<Found, Error>>),
}

/// What the configuration says now.
struct Found {
    config: Config,
    registry: Registry,
    tokens: Vec<Token>,
    warnings: Vec<String>,
}

/// The signals that the daemon takes.
pub(super) struct Inbox {
    sender: Sender<Message>,
    messages: Receiver<Message>,
}

/// Takes signals from here on. The second of those that end the process ends it at once.
pub(super) fn take_signals() -> Result<Inbox, Failure> {
    let failed = |error| Failure::new(exit::INTERNAL, &format!("cannot take signals: {error}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(failed)?;
    let (sender, messages) = unbounded();
    let told = sender.clone();
    let take = move || {
        let mut is_stopping = false;
        for signal in signals.forever() {
            if signal != SIGHUP && std::mem::replace(&mut is_stopping, true) {
                std::process::exit(exit::by_signal(signal).into());
            }
            // Without a receiver the process is stopping.
            let _ = told.send(Message::Signal(signal));
        }
    };
    thread::Builder::new().name("signals".into()).spawn(take).map_err(failed)?;
    Ok(Inbox { sender, messages })
}

/// Reads the configuration again at each SIGHUP. Returns at the first other signal.
pub(super) fn serve_until_stopped(inbox: &Inbox, args: &Args, config: Config, daemon: &Daemon) {
    let mut serving =
        Serving { args, config, daemon, sender: &inbox.sender, is_reading: false, again: false };
    loop {
        let message = if serving.is_reading {
            inbox.messages.recv_timeout(READING_TIME_MAX)
        } else {
            inbox.messages.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match message {
            Ok(Message::Signal(SIGHUP)) => serving.read(),
            Ok(Message::Signal(signal)) => {
                let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
                log::info!("stopping on {name}");
                return;
            }
            Ok(Message::Read(found)) => serving.apply(*found),
            Err(RecvTimeoutError::Timeout) => {
                let seconds = READING_TIME_MAX.as_secs();
                log::warn!(
                    "the configuration is being read for {seconds} s already: does the disk or mount of its file, or of \
                     a secret's, answer?"
                );
                // Whoever asked for it does not wait for ever; what is read is applied all the same.
                serving.reloaded("the configuration is still being read");
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

struct Serving<'d> {
    args: &'d Args,
    config: Config,
    daemon: &'d Daemon,
    sender: &'d Sender<Message>,
    is_reading: bool,
    /// Once more when what is under way is over.
    again: bool,
}

impl Serving<'_> {
    fn read(&mut self) {
        if self.is_reading {
            self.again = true;
            return;
        }
        systemd::reloading();
        let (args, sender) = (self.args.clone(), self.sender.clone());
        let read = move || {
            let found = Config::load(&args).and_then(|config| {
                let (registry, warnings) = callbacks::registry(&config)?;
                let tokens = config.auth.tokens(&config.path)?;
                Ok(Found { config, registry, tokens, warnings })
            });
            // Without a receiver the process is stopping.
            let _ = sender.send(Message::Read(Box::new(found)));
        };
        match thread::Builder::new().name("configuration".into()).spawn(read) {
            Ok(_) => self.is_reading = true,
            Err(error) => {
                log::error!(
                    "the configuration was not read again, a thread cannot be had: {error}"
                );
                self.reloaded("the configuration was not read again, a thread cannot be had");
            }
        }
    }

    /// Applies semaphores, tokens and callbacks. A wrong configuration is refused whole.
    fn apply(&mut self, found: Result<Found, Error>) {
        self.is_reading = false;
        let outcome = match found {
            Ok(found) => {
                for warning in found.warnings {
                    log::warn!("{warning}");
                }
                for key in self.config.needs_restart(&found.config) {
                    log::warn!(
                        "`{key}` has changed in the configuration and counts from the next start on"
                    );
                }
                // Tokens first: a permit that comes free now is for those who may have it from now on.
                tokens::apply(self.daemon.service(), &found.tokens);
                declarations::apply(self.daemon.service(), &found.config.semaphores);
                self.daemon.replace_callbacks(found.registry);
                // What counts from the next start on is told again at the next reload.
                self.config.semaphores = found.config.semaphores;
                log::info!("the configuration was read again");
                "the configuration was read again".to_owned()
            }
            Err(error) => {
                let outcome =
                    format!("the configuration was not read again, all stays as it is: {error}");
                log::error!("{outcome}");
                outcome
            }
        };
        self.reloaded(&outcome);
        if std::mem::take(&mut self.again) {
            self.read();
        }
    }

    fn reloaded(&self, outcome: &str) {
        systemd::reloaded(self.daemon.address(), outcome);
    }
}
