//! What the README tells people to type works as it stands there.

use std::{path::Path, process::Command};

use super::{daemon::Daemon, http::Request};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const README: &str = include_str!("../../README.md");
const EXAMPLE: &str = include_str!("../../packaging/example.toml");
/// Where the README says that the service is.
const ADDRESS: &str = "127.0.0.1:7420";
/// Where the example keeps its data.
const DATA_DIR: &str = "target/quickstart";

/// The commands of the README's shell blocks, with their continuation lines.
fn commands() -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for block in README.split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap();
        commands.extend(block.replace("\\\n", " ").lines().map(str::to_owned));
    }
    commands
}

#[test]
fn every_curl_is_answered_well() {
    let daemon = Daemon::start(EXAMPLE);
    let mut ran = 0;
    let directory = tempfile::tempdir().unwrap();
    let run = |shell: &str| {
        let shell = shell.replace(ADDRESS, &daemon.address().to_string());
        let shell = shell.replace(DATA_DIR, daemon.data_dir().to_str().unwrap());
        Command::new("sh").args(["-c", &shell]).current_dir(&directory).output().unwrap()
    };
    for command in commands() {
        if command.starts_with("(umask 077; printf ") {
            let output = run(&command);
            assert!(output.status.success(), "{command}: {output:?}");
            continue;
        }
        assert!(command.starts_with("curl "), "{command}");
        let output = run(&format!("{command} -w '\\n%{{http_code}}'"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let status = text.lines().last().unwrap_or_default();
        assert!(["200", "201", "204"].contains(&status), "{command}: {text} {output:?}");
        ran += 1;
    }
    assert!(ran >= 8, "the README has {ran} commands");
}

#[test]
fn the_first_command_is_about_files_and_options_that_exist() {
    let command = "cargo build --release && \
                   target/release/semaphored --config packaging/example.toml";
    assert!(README.contains(command));
    assert!(README.contains("\n    tests/run\n"));
    assert!(README.contains("cargo run --release --bin semaphored -- --demo"));
    let mut links = 0;
    for link in README.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert!(root().join(link).exists(), "the README links to {link}");
        links += 1;
    }
    assert!(links >= 8, "the README has {links} links");
    let daemon = Daemon::start(EXAMPLE);
    daemon.log().wait_for("to try it, in another terminal: ");
    let token = std::fs::read_to_string(daemon.data_dir().join("admin-token")).unwrap();
    let bearer = format!("Bearer {}", token.trim_end());
    let request = Request::new("GET", "/api/v1/semaphores/FlexLM-Riviera");
    let answer = daemon.send(&request.with("Authorization", &bearer));
    assert_eq!(answer.json()["capacity"], 5);
}
