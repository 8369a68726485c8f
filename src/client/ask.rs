//! Asking the service once, with patience: the calls of the commands that hold nothing.

use std::time::{Duration, Instant};

use super::{
    Failure,
    backoff::Backoff,
    http::{Answer, Connection, Unreachable},
    options::ServiceOptions,
    outage::Outage,
    progress::Reporter,
    replies::{Problem, may_pass},
};
use crate::{cli::exit, model::format_duration};

/// The status of a service that could answer, and is asked too much (RFC 6585).
const TOO_MANY: u16 = 429;
/// What to do when nobody answers, or not the right one.
pub(super) const SEE_DOCTOR: &str = "`semaphorectl doctor` looks at what is wrong";

/// A service to ask.
pub(super) struct Service {
    connection: Connection,
    patience: Duration,
    reporter: Reporter,
}

impl Service {
    /// Prepares calls, which warn on standard error of what they have to wait for.
    pub(super) fn new(options: &ServiceOptions) -> Service {
        let mut reporter = Reporter::new(false);
        reporter.warn_of_exposed_token(&options.address);
        Service {
            connection: Connection::new(&options.address),
            patience: options.unreachable_timeout,
            reporter,
        }
    }

    /// Makes a call, again and again while the service is out of reach.
    ///
    /// # Errors
    /// When it is out of reach for too long, and when it refuses.
    pub(super) fn ask(
        &mut self,
        call: impl Fn(&Connection) -> Result<Answer, Unreachable>,
    ) -> Result<Answer, Failure> {
        let reporter = &mut self.reporter;
        let mut trouble = |why: &str| reporter.warn(&format!("{why}; trying again"));
        ask(&self.connection, self.patience, &mut trouble, call)
    }

    /// Makes a call that starts something each time that it arrives: once, whatever the patience.
    ///
    /// # Errors
    /// As [`Service::ask`].
    pub(super) fn ask_once(
        &mut self,
        call: impl Fn(&Connection) -> Result<Answer, Unreachable>,
    ) -> Result<Answer, Failure> {
        ask(&self.connection, Duration::ZERO, &mut |_| {}, call)
    }

    /// Looks at a path below the service's URL.
    ///
    /// # Errors
    /// As [`Service::ask`].
    pub(super) fn look(&mut self, path: &str) -> Result<Answer, Failure> {
        self.ask(|connection| connection.look(path, Duration::ZERO))
    }
}

/// Makes a call until there is an answer that is none of a service out of reach, for as long as `patience`
/// lasts. `trouble` hears when it has to be tried again for another reason than before.
///
/// # Errors
/// When the service is out of reach for too long, and when it refuses.
pub(super) fn ask(
    connection: &Connection,
    patience: Duration,
    trouble: &mut dyn FnMut(&str),
    call: impl Fn(&Connection) -> Result<Answer, Unreachable>,
) -> Result<Answer, Failure> {
    let mut backoff = Backoff::new();
    let mut outage = Outage::new(patience);
    let mut told = None;
    loop {
        let sent = Instant::now();
        let (why, busy, retry_after) = match call(connection) {
            Ok(answer) => match answer.status {
                200..=299 => return Ok(answer),
                status if may_pass(status) && !Problem::read(&answer).needs_somebody() => {
                    let why = Problem::read(&answer).describe(&answer);
                    (why, status == TOO_MANY, answer.retry_after.unwrap_or_default())
                }
                _ => return Err(Problem::read(&answer).failure(&answer)),
            },
            Err(unreachable) => (unreachable.reason, false, Duration::ZERO),
        };
        if outage.is_over_after_failure(sent) {
            return Err(if busy {
                too_many(retry_after, &why)
            } else {
                out_of_reach(patience, &why)
            });
        }
        if told.as_ref() != Some(&why) {
            trouble(&why);
            told = Some(why);
        }
        std::thread::sleep(backoff.pause().max(retry_after).min(outage.left()));
    }
}

fn too_many(retry_after: Duration, why: &str) -> Failure {
    let later = match retry_after {
        Duration::ZERO => "later".to_owned(),
        pause => format!("in {}", format_duration(pause)),
    };
    let message = format!("the service takes no more requests just now; try again {later}: {why}");
    Failure::new(exit::UNREACHABLE, message)
}

fn out_of_reach(patience: Duration, why: &str) -> Failure {
    let time = match patience {
        Duration::ZERO => String::new(),
        _ => format!(" for {}", format_duration(patience)),
    };
    let message = format!("the service is out of reach{time}: {why}\n{SEE_DOCTOR}");
    Failure::new(exit::UNREACHABLE, message)
}
