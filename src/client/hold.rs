//! The time in which the permits are held: the child, its signals, its lease, its end.
//!
//! The child gets standard input, output and error as they are, no shell in between, and
//! `SEMAPHORE_CLAIM_ID` and `SEMAPHORE_FENCES` in its environment. It stays in this process's group, so
//! the terminal's keys reach it directly. Only the child itself is signalled, not what it started.

use std::{
    ffi::OsString,
    io::ErrorKind,
    process::{Child, Command},
    time::{Duration, Instant},
};

use super::{
    Failure,
    event::{Event, Signal},
    lease::{LeaseEvent, Loss},
    release::RELEASE_TIME_MAX,
    replies::Grant,
    session::Session,
    unix,
};
use crate::{cli::exit, model::EndReason};

/// How long the main thread sleeps when it waits for nothing in particular.
const IDLE: Duration = Duration::from_secs(3_600);

/// What to do when the lease is lost while the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLost {
    /// Say so; the command runs on.
    Warn,
    /// Stop the command: SIGTERM, and SIGKILL when that does not help.
    Terminate,
}

/// What to do with the permits.
#[derive(Debug)]
pub(super) struct Job {
    /// The command and its arguments; not empty.
    pub(super) command: Vec<OsString>,
    /// What to do when the lease is lost.
    pub(super) on_lost: OnLost,
    /// How long the command has to end, when it is stopped.
    pub(super) kill_after: Duration,
}

/// What is known while the child runs.
struct Holding<'j> {
    job: &'j Job,
    /// How the lease was lost, if it is.
    loss: Option<Loss>,
    /// When the child is killed that was asked to end.
    kill_at: Option<Instant>,
}

impl Session {
    /// Runs the child while the lease is kept, and gives the permits back when it has ended. Returns its
    /// exit code.
    ///
    /// # Errors
    /// When the child could not be started, when its lease was lost and it was stopped for it, and when
    /// the system gives no more threads. The permits are given back, or the release was tried, also then.
    pub(super) fn hold(
        &mut self,
        job: &Job,
        grant: &Grant,
        received: Instant,
    ) -> Result<u8, Failure> {
        let mut holding = Holding { job, loss: None, kill_at: None };
        let result = self.run_child(grant, received, &mut holding);
        if !holding.loss.as_ref().is_some_and(|loss| loss.ended) {
            self.release(RELEASE_TIME_MAX)?;
        }
        result
    }

    fn run_child(
        &mut self,
        grant: &Grant,
        received: Instant,
        holding: &mut Holding<'_>,
    ) -> Result<u8, Failure> {
        if let Some(signal) = self.signal_so_far() {
            return Ok(exit::by_signal(signal));
        }
        // The thread ends when this handle is dropped, at the end of this function.
        let _renewals = self.start_renewals(grant, received)?;
        let mut child = self.start_child(&holding.job.command, grant)?;
        if let Err(failure) = unix::watch_child(&child, &self.sender) {
            let _ = child.kill().and_then(|()| child.wait());
            return Err(failure);
        }
        self.attend_child(&mut child, holding);
        let code = match child.wait() {
            Ok(status) => unix::exit_code(status),
            Err(error) => {
                let message = format!("how the command ended is not known: {error}");
                return Err(Failure::new(exit::INTERNAL, message));
            }
        };
        match &holding.loss {
            Some(loss) if holding.job.on_lost == OnLost::Terminate => {
                let exit = if loss.reason == Some(EndReason::Revoked) {
                    exit::REVOKED
                } else {
                    exit::LEASE_LOST
                };
                let message = format!("the command was stopped: the lease is lost: {}", loss.why);
                Err(Failure::new(exit, message))
            }
            _ => Ok(code),
        }
    }

    fn start_child(&self, command: &[OsString], grant: &Grant) -> Result<Child, Failure> {
        let [program, arguments @ ..] = command else {
            return Err(Failure::new(exit::USAGE, "no command to run"));
        };
        let fences = serde_json::to_string(&grant.fences).map_err(|error| {
            Failure::new(exit::INTERNAL, format!("cannot write SEMAPHORE_FENCES: {error}"))
        })?;
        let started = Command::new(program)
            .args(arguments)
            .env("SEMAPHORE_CLAIM_ID", self.order.id.as_str())
            .env("SEMAPHORE_FENCES", fences)
            .spawn();
        started.map_err(|error| {
            let program = program.display();
            match error.kind() {
                ErrorKind::NotFound => {
                    Failure::new(exit::NOT_FOUND, format!("{program}: command not found"))
                }
                _ => Failure::new(exit::NOT_EXECUTABLE, format!("{program}: {error}")),
            }
        })
    }

    /// Handles events until the child has ended.
    fn attend_child(&mut self, child: &mut Child, holding: &mut Holding<'_>) {
        loop {
            let timeout =
                holding.kill_at.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            match self.next_event(timeout) {
                Some(Event::ChildEnded) => return,
                Some(Event::Signal(signal)) => self.pass_on(signal, child),
                Some(Event::Lease(event)) => self.handle_lease(event, child, holding),
                Some(_) => {}
                None if holding.kill_at.is_some() => {
                    holding.kill_at = None;
                    self.reporter.warn("the command did not end; killing it");
                    if let Err(error) = child.kill() {
                        self.reporter.warn(&format!("cannot kill the command: {error}"));
                    }
                }
                None => {}
            }
        }
    }

    fn pass_on(&mut self, signal: Signal, child: &Child) {
        if !signal.user_defined {
            self.told_to_end = true;
        }
        if signal.reached_child {
            return;
        }
        if let Err(error) = unix::send_signal(child, signal.number) {
            let name = unix::name_of_signal(signal.number);
            self.reporter.warn(&format!("cannot pass {name} on to the command: {error}"));
        }
    }

    fn handle_lease(&mut self, event: LeaseEvent, child: &Child, holding: &mut Holding<'_>) {
        let terminate = holding.job.on_lost == OnLost::Terminate;
        match event {
            LeaseEvent::Renewed if holding.loss.is_some() => {
                self.reporter.note("the lease is alive after all");
                // A child that was asked to end ends for it, also if it would not have had to.
                if !terminate {
                    holding.loss = None;
                }
            }
            LeaseEvent::Trouble(_) | LeaseEvent::Renewed | LeaseEvent::Refused { .. } => {
                self.tell_renewals(&event);
            }
            LeaseEvent::Lost(loss) => {
                // That a lease which was over by our own clock has ended for the service, too, is no news.
                if let Some(known) = &mut holding.loss
                    && loss.reason == Some(EndReason::Expired)
                {
                    known.ended |= loss.ended;
                    return;
                }
                let next = if terminate { "stopping the command" } else { "the command runs on" };
                self.reporter.warn(&format!(
                    "the lease is lost, others may get its permits; {next}: {}",
                    loss.why
                ));
                if terminate && holding.loss.is_none() {
                    holding.kill_at = Some(Instant::now() + holding.job.kill_after);
                    if let Err(error) = unix::ask_to_end(child) {
                        self.reporter.warn(&format!("cannot stop the command: {error}"));
                    }
                }
                holding.loss = Some(loss);
            }
        }
    }
}
