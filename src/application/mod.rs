//! The daemon: reads its configuration, starts the parts in order, waits for a signal, stops them in
//! the other order.
//!
//! On SIGHUP the configuration is read again (`serving`). What a service manager is told is in `systemd`.
//!
//! Start: socket bound (a port that is taken shows at once) or taken over from systemd (`inherited`), data directory locked, state recovered,
//! declarations applied, socket opened. Stop on SIGTERM or SIGINT: blocked requests are answered 503, what
//! was begun is answered, all is written, exit 0. A second signal ends the process at once, which loses
//! nothing that was answered.
//!
//! Exit codes are those of [`crate::cli::exit`]. A storage that fails ends the process with
//! [`exit::IO`] from the thread that saw it: whatever is not on disk by then was not answered.

mod args;
mod auth;
mod callbacks;
mod clock;
mod config;
mod daemon;
mod declarations;
mod demo;
mod futexes;
mod inherited;
mod limits;
mod logging;
mod panics;
mod restore;
mod serving;
mod systemd;
mod tokens;

use std::{ffi::OsString, io::Write, net::SocketAddr};

use argh::ArgsInfo;

use self::{args::Args, config::Config, daemon::Daemon};
use crate::{
    api,
    callbacks::Registry,
    cli::{self, Described, Invocation, Program, exit},
    model::{Token, without_secrets},
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

/// Its options, as the help text has them.
#[must_use]
pub fn described() -> Described {
    let groups = vec![Args::get_args_info()];
    Described { program: PROGRAM, summary: "semaphores for build farms, over HTTP", groups }
}

/// Runs the daemon with its arguments (without the program's name) and returns its exit code.
#[must_use]
pub fn main(arguments: &[OsString]) -> u8 {
    match dispatch(arguments) {
        Ok(()) => exit::OK,
        Err(failure) => {
            // Standard error may be closed; there is nobody else to tell.
            let _ =
                writeln!(std::io::stderr(), "semaphored: {}", without_secrets(&failure.message));
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
    if args.demo {
        return demo::run();
    }
    let config = Config::load(&args);
    let config = config.map_err(|error| Failure::new(exit::CONFIGURATION, &error))?;
    if let Some(file) = &args.restore {
        return say(&restore::restore(&config.data_dir, file)?);
    }
    if args.new_admin_token {
        return say(&daemon::new_admin_token(&config)?);
    }
    let checked = callbacks::registry(&config);
    let (registry, warnings) =
        checked.map_err(|error| Failure::new(exit::CONFIGURATION, &error))?;
    let declared = config.auth.tokens(&config.path);
    let declared = declared.map_err(|error| Failure::new(exit::CONFIGURATION, &error))?;
    if args.check_config {
        for warning in warnings {
            // As in `main`: there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "semaphored: warning: {warning}");
        }
        return say("the configuration is right\n");
    }
    run(&args, config, Checked { registry, declared, warnings })
}

fn say(text: &str) -> Result<(), Failure> {
    let written = std::io::stdout().write_all(text.as_bytes());
    written.map_err(|error| Failure::new(exit::IO, &format!("cannot write the output: {error}")))
}

/// What the configuration refers to, read and checked.
struct Checked {
    registry: Registry,
    declared: Vec<Token>,
    warnings: Vec<String>,
}

fn run(args: &Args, config: Config, checked: Checked) -> Result<(), Failure> {
    let Checked { registry, declared, warnings } = checked;
    logging::start("info");
    for warning in &warnings {
        log::warn!("{warning}");
    }
    panics::abort_on_panic();
    let inherited = inherited::take()?;
    let inbox = serving::take_signals()?;
    let daemon = Daemon::start(&config, registry, &declared, inherited)?;
    if config.auth.needs() == api::Auth::Off {
        let address = daemon.address();
        log::warn!("tokens are switched off: whoever reaches {address} may do everything");
    }
    log::info!("listening on {}", daemon.address());
    if let Some(line) = next_line(&config, daemon.address()) {
        log::info!("to try it, in another terminal: {line}");
    }
    systemd::ready(daemon.address());
    serving::serve_until_stopped(&inbox, args, config, &daemon);
    systemd::stopping();
    daemon.stop();
    log::info!("stopped");
    Ok(())
}

/// For whoever starts the daemon by hand: the next line to type.
fn next_line(config: &Config, address: SocketAddr) -> Option<String> {
    if logging::is_journal() {
        return None;
    }
    let name = config.semaphores.keys().next_back()?;
    // A token on a command line would be in the list of processes; this one is not.
    let token = config.data_dir.join(tokens::ADMIN_TOKEN);
    let token = match config.auth.needs() {
        api::Auth::Off => String::new(),
        _ if !token.exists() => return None,
        _ => format!("SEMAPHORE_TOKEN=$(cat {}) ", token.display()),
    };
    let client = std::env::current_exe().ok()?.with_file_name("semaphorectl");
    if !client.exists() {
        return Some(format!("curl http://{address}/api"));
    }
    let directory = std::env::current_dir().ok()?;
    let program = client.strip_prefix(directory).unwrap_or(&client).display();
    Some(format!("{token}{program} run --url http://{address} {name} -- sleep 10"))
}
