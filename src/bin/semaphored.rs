//! The daemon of the semaphore service: see [`semaphored::application`].
//!
//! Started under the name `semaphorectl` it is the client, so that `semaphored --demo` can run real jobs
//! where the client is not installed.

use std::{path::Path, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<_> = arguments.collect();
    ExitCode::from(if Path::new(&name).ends_with("semaphorectl") {
        semaphored::client::main(&arguments)
    } else {
        semaphored::application::main(&arguments)
    })
}
