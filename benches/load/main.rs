//! The load generator: a closed loop over HTTP/1.1 on kept connections, against this service and its peers.
//!
//! ```text
//! cargo bench --bench load -- cycle --connections 128 --seconds 10
//! cargo bench --bench load -- --help
//! ```
//!
//! It starts the daemon of the release build on a directory of its own, unless `--url` names one that runs.
//! All clients share one thread and one epoll instance, so that the processors are the server's. What each
//! scenario does, and how to read the numbers: docs/performance.md.

mod closed_loop;
mod constant;
mod dialect;
mod engine;
mod histogram;
mod http;
mod options;
mod queue;
mod report;
mod scenarios;
mod server;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use argh::FromArgs;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::{engine::Failure, options::Options};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(io::stderr(), "load: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    // Cargo says to every benchmark that it is one.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if words.first().is_some_and(|word| word == "serve-constant") {
        return constant::serve();
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let options = match Options::from_args(&["load"], &words) {
        Ok(options) => options,
        Err(exit) => {
            io::stdout().write_all(exit.output.as_bytes())?;
            return exit.status.map_err(|()| "the command line is wrong".into());
        }
    };
    raise_descriptors()?;
    let report = scenarios::run(&options)?;
    io::stdout().write_all(report.text(options.json).as_bytes())?;
    Ok(())
}

/// Thousands of connections need as many descriptors as the system allows.
fn raise_descriptors() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}
