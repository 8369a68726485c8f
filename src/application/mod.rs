//! The daemon: reads its configuration, starts the parts in order, waits for a signal, stops them in
//! the other order.
//!
//! Start: socket bound (a port that is taken shows at once), data directory locked, state recovered,
//! declarations applied, socket opened. Stop on SIGTERM or SIGINT: blocked requests are answered 503, what
//! was begun is answered, all is written, exit 0. A second signal ends the process at once, which loses
//! nothing that was answered.
//!
//! Exit codes are those of [`crate::cli::exit`]. A storage that fails ends the process with
//! [`exit::IO`] from the thread that saw it: whatever is not on disk by then was not answered.

mod args;
mod clock;
mod config;
mod declarations;
mod limits;
mod logging;
mod panics;

use std::{ffi::OsString, io::Write, net::SocketAddr, sync::Arc};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use self::{args::Args, clock::MachineClock, config::Config};
use crate::{
    api::{self, Api},
    cli::{self, Invocation, Program, exit},
    http_interface::{self, Interface},
    semaphore::{self, FatalHandler, Service, StartError, core},
    storage::{self, sqlite},
    web_server::{self, Bound, WebServer},
};

const PROGRAM: Program<'static> = Program { name: "semaphored", rest: None };

/// Why the daemon did not start, and the exit code.
#[derive(Debug)]
struct Failure {
    exit: u8,
    message: String,
}

impl Failure {
    fn new(exit: u8, message: &impl ToString) -> Failure {
        Failure { exit, message: message.to_string() }
    }
}

/// Runs the daemon with its arguments (without the program's name) and returns its exit code.
#[must_use]
pub fn main(arguments: &[OsString]) -> u8 {
    match dispatch(arguments) {
        Ok(()) => exit::OK,
        Err(failure) => {
            // Standard error may be closed; there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "semaphored: {}", failure.message);
            failure.exit
        }
    }
}

fn dispatch(arguments: &[OsString]) -> Result<(), Failure> {
    let invocation = cli::parse::<Args>(PROGRAM, arguments);
    let args = match invocation.map_err(|error| Failure::new(exit::USAGE, &error))? {
        Invocation::Help(text) => return say(&text),
        Invocation::Version => return say(concat!("semaphored ", env!("CARGO_PKG_VERSION"), "\n")),
        Invocation::Do { options, .. } => options,
    };
    let config = Config::load(&args);
    let config = config.map_err(|error| Failure::new(exit::CONFIGURATION, &error))?;
    if args.check_config {
        return say("the configuration is right\n");
    }
    run(&config)
}

fn say(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(exit::IO, &format!("cannot write the output: {error}")))
}

fn run(config: &Config) -> Result<(), Failure> {
    logging::start();
    panics::abort_on_panic();
    // Files of the database are for this user alone, whatever the umask was.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let signals = Signals::new([SIGTERM, SIGINT])
        .map_err(|error| Failure::new(exit::INTERNAL, &format!("cannot take signals: {error}")))?;
    let waiting_requests_max = config
        .limits
        .waiting_requests_max
        .unwrap_or_else(|| limits::waiting_requests(limits::raise_descriptors()));

    let bound = bind(config, waiting_requests_max)?;
    let service = Arc::new(start_service(config, waiting_requests_max)?);
    declarations::apply(&service, &config.semaphores);
    let server = start_server(bound, config, &service)?;
    log::info!("listening on {}", server.local_addr());
    if let Some(line) = next_line(config, server.local_addr()) {
        log::info!("to try it, in another terminal: {line}");
    }

    wait_for_stop(signals);
    service.stop();
    if !server.stop() {
        log::warn!("some requests were not answered in time; their claims keep their places");
    }
    service.close();
    log::info!("stopped");
    Ok(())
}

/// For whoever starts the daemon by hand: the next line to type.
fn next_line(config: &Config, address: SocketAddr) -> Option<String> {
    if logging::is_journal() {
        return None;
    }
    let name = config.semaphores.keys().next_back()?;
    let client = std::env::current_exe().ok()?.with_file_name("semaphorectl");
    let directory = std::env::current_dir().ok()?;
    let shown = client.strip_prefix(directory).unwrap_or(&client);
    let program = if client.exists() { shown.display().to_string() } else { "semaphorectl".into() };
    Some(format!("{program} run --url http://{address} {name} -- sleep 10"))
}

fn bind(config: &Config, waiting_requests_max: usize) -> Result<Bound, Failure> {
    let defaults = web_server::Config::new(config.listen);
    let bound = Bound::new(web_server::Config {
        worker_threads: config.limits.worker_threads.unwrap_or(defaults.worker_threads),
        responder_threads: config.limits.responder_threads.unwrap_or(defaults.responder_threads),
        waiting_threads_max: waiting_requests_max + WAITING_THREADS_SPARE,
        ..defaults
    });
    bound.map_err(|error| {
        let message = format!(
            "cannot listen on {}: {error}; another program has the port, or the address is not this \
             machine's; choose with --listen",
            config.listen
        );
        Failure::new(exit::UNREACHABLE, &message)
    })
}

/// A waiting thread may still be sending its answer when the API counts it as free again.
const WAITING_THREADS_SPARE: usize = 64;

fn start_service(config: &Config, waiting_requests_max: usize) -> Result<Service, Failure> {
    let durability = match config.durability {
        config::Durability::Full => sqlite::Durability::Full,
        config::Durability::Os => sqlite::Durability::Os,
    };
    let storage = sqlite::SqliteStorage::open(&config.data_dir, durability)
        .map_err(|error| storage_failure(&error))?;
    let fatal: FatalHandler = Box::new(|_| std::process::exit(exit::IO.into()));
    let clock = Arc::new(MachineClock::new());
    let options = service_options(&config.limits, waiting_requests_max);
    let service = Service::start(Box::new(storage), clock, options, fatal);
    let service = service.map_err(|error| match error {
        StartError::Storage(error) => storage_failure(&error),
        other => Failure::new(exit::IO, &other),
    })?;
    let status = service.status().what;
    log::info!(
        "recovered {} semaphores and {} live claims from {}",
        status.semaphores,
        status.claims,
        config.data_dir.display()
    );
    Ok(service)
}

fn storage_failure(error: &storage::Error) -> Failure {
    let code = match error {
        storage::Error::InUse { .. } => exit::NO_PERMIT,
        _ => exit::IO,
    };
    Failure::new(code, &error)
}

fn service_options(limits: &config::Limits, waiting_requests_max: usize) -> semaphore::Options {
    let defaults = semaphore::Options::default();
    let core = defaults.limits;
    semaphore::Options {
        limits: core::Limits {
            semaphores_max: limits.semaphores_max.unwrap_or(core.semaphores_max),
            claims_max: limits.claims_max.unwrap_or(core.claims_max),
            queue_claims_max: limits.queue_claims_max.unwrap_or(core.queue_claims_max),
            waiting_sets_max: limits.waiting_sets_max.unwrap_or(core.waiting_sets_max),
            ended_ids_max: limits.ended_ids_max.unwrap_or(core.ended_ids_max),
        },
        waiting_requests_max,
        history_kept: limits
            .history_days
            .map_or(defaults.history_kept, |days| std::time::Duration::from_hours(24) * days),
        free_bytes_min: limits.free_bytes_min.unwrap_or(defaults.free_bytes_min),
    }
}

fn start_server(
    bound: Bound,
    config: &Config,
    service: &Arc<Service>,
) -> Result<WebServer, Failure> {
    let mut options = api::Options::default();
    if let Some(wait_max) = config.limits.wait_max {
        options.wait_max = wait_max.0;
    }
    let api = Arc::new(Api::new(Arc::clone(service), options));
    let interface = Interface::new(api, http_interface::Limits::default())
        .map_err(|error| Failure::new(exit::INTERNAL, &error))?;
    let fatal: web_server::Fatal = Arc::new(|error| {
        log::error!("the web server has failed and ends the process: {error}");
        std::process::exit(exit::INTERNAL.into());
    });
    bound.start(Arc::new(interface), fatal).map_err(|error| {
        Failure::new(exit::INTERNAL, &format!("cannot start the web server: {error}"))
    })
}

/// Returns at the first signal; a second one ends the process wherever it is.
fn wait_for_stop(mut signals: Signals) {
    let Some(signal) = signals.forever().next() else { return };
    let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
    log::info!("stopping on {name}");
    let spawned = std::thread::Builder::new().name("second-signal".into()).spawn(move || {
        if signals.forever().next().is_some() {
            std::process::exit(exit::by_signal(signal).into());
        }
    });
    if let Err(error) = spawned {
        log::warn!("a second signal will not end the process at once: {error}");
    }
}
