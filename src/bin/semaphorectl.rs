//! The client of the semaphore service: see [`semaphored::client`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    ExitCode::from(semaphored::client::main(&arguments))
}
