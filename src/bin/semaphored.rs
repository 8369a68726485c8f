//! The daemon of the semaphore service: see [`semaphored::application`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    ExitCode::from(semaphored::application::main(&arguments))
}
