//! The demo, as a newcomer runs it.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::daemon::poll;

/// Starts the demo with a temporary directory of its own.
fn start(directory: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_semaphored"))
        .arg("--demo")
        .env("TMPDIR", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn it_shows_what_is_promised_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let output = start(directory.path()).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for line in [
        "job  4 was killed; its lease of 3s runs out",
        "job  4 lost its permit; waited",
        "job  8 holds a permit and one of FlexLM-Coverage, fence 8",
        "12 jobs on 5 permits of FlexLM-Riviera in ",
        "never more than 5 held a permit",
        "  order        1 2 3 4 5 6 7 8 9 10 11 12",
        "export SEMAPHORE_TOKEN=$(cat target/quickstart/admin-token)",
        "target/release/semaphorectl run FlexLM-Riviera -- sleep 10",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    assert!(!text.contains('\x1b'), "a pipe gets no control sequences");
    assert!(is_empty(directory.path()));
}

#[test]
fn interrupted_it_ends_its_jobs_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let mut demo = start(directory.path());
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let first = lines.find(|line| line.as_ref().unwrap().contains("holds a permit"));
    assert!(first.is_some());
    let running = || jobs_of(directory.path());
    poll("a job", || (running() > 0).then_some(()));
    kill_process(Pid::from_child(&demo), Signal::TERM).unwrap();
    drop(lines);
    let status = demo.wait().unwrap();
    let mut stderr = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(status.code(), Some(128 + 15), "{stderr}");
    assert!(stderr.contains("semaphored: interrupted"), "{stderr}");
    assert!(is_empty(directory.path()));
    assert_eq!(running(), 0, "a job was left behind");
}

/// How many processes run the client out of the demo's directory.
fn jobs_of(directory: &Path) -> usize {
    let directory = directory.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let command_lines = processes.filter_map(|process| {
        // A process may end between the listing and the look.
        std::fs::read(process.path().join("cmdline")).ok()
    });
    command_lines.filter(|line| line.starts_with(directory)).count()
}
