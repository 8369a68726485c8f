//! `semaphorectl acquire`: permits for a script. The claim outlives this process for its ttl, or this process
//! stays and holds it for as long as another one lives.

use std::{ffi::OsString, time::Instant};

use argh::{ArgsInfo, FromArgs};

use crate::{
    cli::{Program, exit},
    client::{
        Failure,
        args::{self, ClaimArgs, CommandLine},
        callback,
        environment::Environment,
        event::Event,
        lease::{LeaseEvent, Loss},
        options::{self, ClaimOptions},
        order::Order,
        output,
        release::RELEASE_TIME_MAX,
        replies::Grant,
        session::{Obtained, Session},
        unix,
    },
    model::{Callback, EndReason},
};

/// Waits for permits, and writes the id of the claim that holds them. With --callback it does not wait: the
/// service calls when the claim's turn comes.
#[derive(Debug, Default, PartialEq, FromArgs, ArgsInfo)]
#[argh(
    example = "id=$(semaphorectl acquire FlexLM-Riviera --ttl 2h) || exit",
    example = "vsim -do run.do; semaphorectl release \"$id\"",
    example = "semaphorectl acquire FlexLM-Riviera --callback gitlab-fpga --var job_id=412",
    note = "With --ttl it ends when it has the permits. They come back by `release`, or when\n\
            the ttl is over; `renew` prolongs it.\n\
            With --while-pid it stays, renews, and gives them back when that process has\n\
            ended, however it ended. In bash, for as long as the script runs:\n  \
            exec 3< <(semaphorectl acquire FlexLM-Riviera --while-pid $$)\n  \
            read -r id <&3 || exit\n\
            A signal while it waits leaves the queue; while it stays, it gives the permits\n\
            back. `run` does all of this for a single command, and better.\n\
            With --callback it ends at once, and leaves the claim waiting. The job that the\n\
            call starts takes it over: semaphorectl run --claim ID -- command. A step that\n\
            may be repeated should choose the --id, and then makes no second claim. The id\n\
            of a claim that is over is used up: take one with the number of the job's run,\n\
            as $CI_JOB_ID is, so that a job that is started again has a new one. Where there\n\
            is no room for the claim it ends with 75 after --unreachable-timeout. What came\n\
            of the calls: semaphorectl deliveries ID.",
    note = "Exit codes: 0; 128 + signal; 64, 65, 69, 70, 74, 75, 77, 78, 79 and 80 as in\n\
            `semaphorectl help exit-codes`."
)]
pub(super) struct AcquireArgs {
    /// how long the permits stay taken without a renewal
    #[argh(option, arg_name = "DURATION")]
    ttl: Option<String>,
    /// stay, and hold the permits until this process has ended
    #[argh(option, arg_name = "PID")]
    while_pid: Option<String>,
    /// the id of the claim; the same one again, with the same request, is the same claim (a new id)
    #[argh(option, arg_name = "ID")]
    id: Option<String>,
    /// do not wait: this target of the service's configuration is called when the claim's turn comes
    #[argh(option, arg_name = "TARGET")]
    callback: Option<String>,
    /// the same with a URL that the configuration permits
    #[argh(option, arg_name = "URL")]
    callback_url: Option<String>,
    /// a var for the target, such as the project or the job to start; may be repeated
    #[argh(option, arg_name = "NAME=VALUE")]
    var: Vec<String>,
    /// with a callback: how long the job may take to start before the permits go to the next (10m)
    #[argh(option, arg_name = "DURATION")]
    offer_ttl: Option<String>,
    /// write the claim as the service's JSON, not its id alone
    #[argh(switch)]
    json: bool,
    /// the semaphore of which to take one permit
    #[argh(positional, arg_name = "NAME")]
    names: Vec<String>,
}

impl CommandLine for AcquireArgs {
    type Shared = ClaimArgs;
    const PROGRAM: Program<'static> = Program { name: "semaphorectl acquire", rest: None };
}

/// `semaphorectl acquire` with its arguments.
///
/// # Errors
/// When there are no permits. The claim is given back, or the release was tried, also then.
pub(super) fn main(arguments: &[OsString]) -> Result<u8, Failure> {
    args::invoke(arguments, |own: AcquireArgs, claim, service, _| {
        let environment = Environment::of_process();
        let ttl = own.ttl.as_deref();
        let claim = ClaimOptions::new(&own.names, &claim, ttl, service, &environment)?;
        let id = own.id.as_deref().map(options::claim_id).transpose()?;
        let callback = callback(&own, &claim)?;
        let offer_ttl = options::duration("--offer-ttl", own.offer_ttl.as_deref())?;
        let watched = if callback.is_some() { None } else { watched(&own)? };
        let claim = ClaimOptions { id, callback, offer_ttl, ..claim };
        let mut session = Session::begin(Order::make(&claim)?, "an acquire")?;
        let stays = watched.is_some();
        if let Some(process) = watched {
            unix::watch_process(process, &session.sender)?;
        }
        match session.obtain()? {
            Obtained::Held { grant, received } => {
                hand_over(&mut session, &own, &grant)?;
                if stays { stay(&mut session, &grant, received) } else { leave(&mut session) }
            }
            Obtained::Cancelled(code) => Ok(code),
        }
    })
}

/// Whom to call, if the claim is to be left with a callback.
fn callback(own: &AcquireArgs, claim: &ClaimOptions) -> Result<Option<Callback>, Failure> {
    let target = own.callback.as_deref();
    let callback = callback::callback(target, own.callback_url.as_deref(), &own.var)?;
    let message = match callback {
        Some(_) if own.while_pid.is_some() => {
            "--while-pid stays, and a callback is there so that nobody has to: choose one of them"
        }
        Some(_) if !claim.queue => {
            "--no-queue does not wait, and a callback is for a claim that does: choose one of them"
        }
        None if own.offer_ttl.is_some() => "--offer-ttl is for claims with a --callback",
        _ => return Ok(callback),
    };
    Err(Failure::usage(message))
}

/// The process for which the permits are to be held, if there is to be one.
fn watched(own: &AcquireArgs) -> Result<Option<unix::Other>, Failure> {
    let Some(text) = &own.while_pid else {
        return match own.ttl {
            Some(_) => Ok(None),
            None => Err(Failure::usage(
                "say how long: --ttl 2h keeps the permits for two hours, --while-pid PID for as \
                 long as that process lives; or --callback TARGET to be called instead of waiting",
            )),
        };
    };
    let Ok(id) = text.parse() else {
        let message = format!("--while-pid must be the id of a process; it is {text:?}");
        return Err(Failure::usage(message));
    };
    match unix::find_process(id) {
        Ok(process) => Ok(Some(process)),
        Err(_) => Err(Failure::usage(format!("--while-pid: there is no process {id}"))),
    }
}

/// Tells who asked that the permits are there. If that cannot be told they are given back, for nobody
/// would.
fn hand_over(session: &mut Session, own: &AcquireArgs, grant: &Grant) -> Result<(), Failure> {
    let written = if own.json {
        output::write_json(&grant.body)
    } else {
        output::write(&format!("{}\n", session.order.id))
    };
    if let Err(failure) = written {
        session.reporter.warn("nobody hears of the claim; giving the permits back");
        session.release(RELEASE_TIME_MAX)?;
        return Err(failure);
    }
    Ok(())
}

/// Leaves the claim to its ttl, unless a signal came in the last moment.
fn leave(session: &mut Session) -> Result<u8, Failure> {
    match session.signal_so_far() {
        Some(signal) => give_back(session, exit::by_signal(signal)),
        None => Ok(exit::OK),
    }
}

fn give_back(session: &mut Session, code: u8) -> Result<u8, Failure> {
    session.release(RELEASE_TIME_MAX)?;
    Ok(code)
}

/// Holds the permits until the process has ended or a signal comes.
fn stay(session: &mut Session, grant: &Grant, received: Instant) -> Result<u8, Failure> {
    // The thread ends when this handle is dropped, at the end of this function.
    let _renewals = session.start_renewals(grant, received)?;
    loop {
        match session.events.recv() {
            Ok(Event::WatchedEnded) => return give_back(session, exit::OK),
            Ok(Event::Signal(signal)) if !signal.user_defined => {
                session.told_to_end = true;
                return give_back(session, exit::by_signal(signal.number));
            }
            Ok(Event::Lease(LeaseEvent::Lost(loss))) if loss.ended => return over(session, &loss),
            Ok(Event::Lease(LeaseEvent::Lost(loss))) => session
                .reporter
                .warn(&format!("the lease is lost, others may get its permits: {}", loss.why)),
            Ok(Event::Lease(event)) => session.tell_renewals(&event),
            // A session has a sender of its own, so it is never closed.
            Ok(_) | Err(_) => {}
        }
    }
}

/// The claim is over before the process is: by `release`, which is well, or by somebody else.
fn over(session: &mut Session, loss: &Loss) -> Result<u8, Failure> {
    let code = match loss.reason {
        Some(EndReason::Released) => {
            session.reporter.note("the claim was released");
            return Ok(exit::OK);
        }
        Some(EndReason::Revoked) => exit::REVOKED,
        _ => exit::LEASE_LOST,
    };
    let message = format!("the permits are gone before the process has ended: {}", loss.why);
    Err(Failure::new(code, message))
}
