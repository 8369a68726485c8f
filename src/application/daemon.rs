//! The daemon's parts: started in order, stopped in the other order.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use super::{
    Failure,
    clock::MachineClock,
    config::{self, Config},
    declarations, futexes,
    limits::{self, Carried},
    systemd::{self, Watchdog},
    tokens,
};
use crate::{
    api::{self, Api},
    callbacks::{Callbacks, Registry},
    cli::exit,
    http_interface::{self, Interface, Proxies},
    model::Token,
    semaphore::{self, FatalHandler, Service, StartError, core},
    storage::{self, sqlite},
    web_server::{self, Answered, Bound, WebServer},
};

/// A daemon that serves.
pub(super) struct Daemon {
    service: Arc<Service>,
    callbacks: Arc<Callbacks>,
    server: WebServer,
    machine: Vec<limits::Room>,
    room: Room,
}

impl Daemon {
    /// Binds the address (or takes the socket over that listens already), recovers the state, applies the declarations, and listens.
    pub(super) fn start(
        config: &Config,
        registry: Registry,
        declared: &[Token],
        inherited: Option<TcpListener>,
    ) -> Result<Daemon, Failure> {
        // Files of the database are for this user alone, whatever the umask was.
        rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
        let machine = limits::rooms(limits::raise_descriptors());
        let room = Room::of(&config.limits, &machine, registry.threads_max());
        futexes::make_room(room.waiting_requests_max);
        let bound = bind(config, room, inherited)?;
        systemd::starts(&format!("recovering from {}", config.data_dir.display()));
        let service = Arc::new(start_service(config, room.waiting_requests_max)?);
        declarations::apply(&service, &config.semaphores);
        tokens::apply(&service, declared);
        if config.auth.needs() != api::Auth::Off {
            tokens::ensure_admin(&service, &config.data_dir)?;
        }
        let callbacks = Arc::new(start_callbacks(&service, registry)?);
        let server = start_server(bound, config, &service, &callbacks)?;
        Ok(Daemon { service, callbacks, server, machine, room })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// From now on other callbacks are configured. What was made room for at the start stays.
    pub(super) fn replace_callbacks(&self, registry: Registry) {
        let threads = registry.threads_max();
        if !self.room.is_carried(&self.machine, threads) {
            log::warn!(
                "callbacks may take {threads} threads now, and the machine does not carry those beside {} connections \
                 of which {} wait: restart the service, so that it makes room for them",
                self.room.connections_max,
                self.room.waiting_requests_max
            );
        }
        self.callbacks.replace(registry);
    }

    /// Answers what was begun, writes all, ends the threads.
    pub(super) fn stop(self) {
        self.server.expect_stop();
        // Calls that are under way get their time while requests are answered, so that nobody waits for a CI system.
        self.callbacks.begin_stop();
        self.service.stop();
        if !self.server.stop() {
            log::warn!("some requests were not answered in time; their claims keep their places");
        }
        self.callbacks.stop();
        self.service.close();
    }
}

/// How many connections there may be, and how many of them may wait.
#[derive(Clone, Copy)]
struct Room {
    connections_max: usize,
    waiting_requests_max: usize,
}

impl Room {
    /// What the configuration says, else what the machine carries beside so many threads for callbacks.
    fn of(limits: &config::Limits, machine: &[limits::Room], callback_threads: usize) -> Room {
        let rooms: Vec<_> = machine.iter().map(|room| room.without(callback_threads)).collect();
        let carried = Carried::by(&rooms);
        let &config::Limits { waiting_requests_max, connections_max, .. } = limits;
        for warning in limits::warnings(&rooms, waiting_requests_max, connections_max) {
            log::warn!("{warning}");
        }
        if waiting_requests_max.is_none()
            && let Some(advice) = carried.advice(limits::WAITING_REQUESTS_DEFAULT_MAX)
        {
            log::info!("{advice}");
        }
        Room {
            connections_max: connections_max.unwrap_or(carried.connections),
            waiting_requests_max: waiting_requests_max
                .unwrap_or_else(|| carried.waiting_requests_default()),
        }
    }

    /// Whether the machine carries that beside so many threads for callbacks.
    fn is_carried(self, machine: &[limits::Room], callback_threads: usize) -> bool {
        let waiting = self.waiting_requests_max.min(self.connections_max);
        machine
            .iter()
            .all(|room| room.without(callback_threads).carries(self.connections_max, waiting))
    }
}

fn bind(config: &Config, room: Room, inherited: Option<TcpListener>) -> Result<Bound, Failure> {
    let defaults = web_server::Config::new(config.listen);
    let server = web_server::Config {
        worker_threads: config.limits.worker_threads.unwrap_or(defaults.worker_threads),
        responder_threads: config.limits.responder_threads.unwrap_or(defaults.responder_threads),
        waiting_threads_max: room.waiting_requests_max + WAITING_THREADS_SPARE,
        connections_max: room.connections_max,
        ..defaults
    };
    if let Some(socket) = inherited {
        return take_over(config, server, socket);
    }
    Bound::new(server).map_err(|error| {
        let message = format!(
            "cannot listen on {}: {error}; another program has the port, or the address is not this \
             machine's; choose with --listen",
            config.listen
        );
        Failure::new(exit::UNREACHABLE, &message)
    })
}

/// Listens on a socket that was passed on. Its own address is what counts, also for what it may be.
fn take_over(
    config: &Config,
    server: web_server::Config,
    socket: TcpListener,
) -> Result<Bound, Failure> {
    let bound = Bound::inherited(server, socket).map_err(|error| {
        let message = format!(
            "the socket that was passed to this process cannot be used: {error}; a socket unit has one \
             ListenStream=ADDR:PORT, and no Accept=yes"
        );
        Failure::new(exit::CONFIGURATION, &message)
    })?;
    let address = bound.local_addr();
    config.check_reach(address).map_err(|error| Failure::new(exit::CONFIGURATION, &error))?;
    let listen = config.listen;
    if address == listen {
        log::info!("the socket was passed on by the service manager");
    } else {
        log::warn!(
            "the socket of the service manager counts, {address} (ListenStream= of its unit), and not `listen`, {listen}"
        );
    }
    Ok(bound)
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
        storage::Error::Exposed { .. } => exit::CONFIGURATION,
        // No start will make it another one.
        storage::Error::Newer { .. } | storage::Error::Foreign { .. } => exit::REFUSED,
        _ => exit::IO,
    };
    Failure::new(code, &error)
}

fn service_options(limits: &config::Limits, waiting_requests_max: usize) -> semaphore::Options {
    let defaults = semaphore::Options::default();
    let core = defaults.limits;
    let days = |days: u32| Duration::from_hours(24) * days;
    semaphore::Options {
        limits: core::Limits {
            semaphores_max: limits.semaphores_max.unwrap_or(core.semaphores_max),
            claims_max: limits.claims_max.unwrap_or(core.claims_max),
            claims_text_bytes_max: limits
                .claims_text_bytes_max
                .unwrap_or(core.claims_text_bytes_max),
            queue_claims_max: limits.queue_claims_max.unwrap_or(core.queue_claims_max),
            waiting_sets_max: limits.waiting_sets_max.unwrap_or(core.waiting_sets_max),
            ended_ids_max: limits.ended_ids_max.unwrap_or(core.ended_ids_max),
            tokens_max: limits.tokens_max.unwrap_or(core.tokens_max),
        },
        waiting_requests_max,
        history_kept: limits.history_days.map_or(defaults.history_kept, days),
        audit_kept: limits.audit_days.map_or(defaults.audit_kept, days),
        token_requests_per_second_max: limits
            .token_requests_per_second_max
            .and_then(|requests| u32::try_from(requests).ok())
            .unwrap_or(defaults.token_requests_per_second_max),
        free_bytes_min: limits.free_bytes_min.unwrap_or(defaults.free_bytes_min),
    }
}

/// Makes another admin token while no daemon runs, and returns what there is to say about it.
///
/// # Errors
/// While a daemon runs, or when the database or the file cannot be written.
pub(super) fn new_admin_token(config: &Config) -> Result<String, Failure> {
    // Made here, by root perhaps, it would not be the daemon's.
    if !sqlite::is_there(&config.data_dir) {
        let message = format!(
            "there is no database in {} yet: the first start makes a token",
            config.data_dir.display()
        );
        return Err(Failure::new(exit::CONFIGURATION, &message));
    }
    // Whoever has lost the token cannot revoke others to make room.
    let limits = config::Limits { tokens_max: Some(usize::MAX), ..config.limits };
    let config = &Config { limits, ..config.clone() };
    let service = start_service(config, 0).map_err(|failure| Failure {
        message: format!("{}; the daemon must not run meanwhile", failure.message),
        ..failure
    })?;
    let path = tokens::make_admin(&service, &config.data_dir)?;
    service.close();
    Ok(format!(
        "made an admin token, it is in {}\nThe others still count: see `semaphorectl token list` once the daemon runs.\n",
        path.display()
    ))
}

fn start_callbacks(service: &Arc<Service>, registry: Registry) -> Result<Callbacks, Failure> {
    Callbacks::start(service, registry, Box::new(api::claim_json)).map_err(|error| {
        Failure::new(exit::INTERNAL, &format!("cannot start the callbacks: {error}"))
    })
}

fn start_server(
    bound: Bound,
    config: &Config,
    service: &Arc<Service>,
    callbacks: &Arc<Callbacks>,
) -> Result<WebServer, Failure> {
    let mut options = api::Options::default();
    if let Some(wait_max) = config.limits.wait_max {
        options.wait_max = wait_max.0;
    }
    options.auth = config.auth.needs();
    let api = Arc::new(Api::new(Arc::clone(service), Arc::clone(callbacks), options));
    let interface = Interface::new(api, http_interface::Limits::default())
        .map_err(|error| Failure::new(exit::INTERNAL, &error))?
        .trusting(Proxies::new(config.trusted_proxies.clone()));
    let fatal: web_server::Fatal = Arc::new(|error| {
        let is_full = error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error());
        let advice = if is_full { limits::DESCRIPTORS_ADVICE } else { "" };
        log::error!(
            "the web server has failed, the process ends and has to be started again: {error}{advice}"
        );
        std::process::exit(exit::INTERNAL.into());
    });
    let answered: Answered = match Watchdog::wanted() {
        Some(watchdog) => {
            let service = Arc::clone(service);
            Arc::new(move || watchdog.feed(&service))
        }
        None => Arc::new(|| {}),
    };
    bound.start(Arc::new(interface), fatal, answered).map_err(|error| {
        Failure::new(exit::INTERNAL, &format!("cannot start the web server: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_room_for_is_carried_until_more_threads_call() {
        let tight = |limit| limits::Room { limit, left: 4_000 };
        for limit in [limits::Limit::Tasks, limits::Limit::Descriptors, limits::Limit::Mappings] {
            let machine = [tight(limit)];
            let room = Room::of(&config::Limits::default(), &machine, 80);
            assert!(room.waiting_requests_max > 0);
            assert!(room.is_carried(&machine, 80), "{limit}");
            assert!(!room.is_carried(&machine, 1_000), "{limit}");
        }
    }
}
