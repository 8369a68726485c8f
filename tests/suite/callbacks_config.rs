//! `[callbacks]` as an admin meets it: `--check-config`, the log at the start and at SIGHUP.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use rustix::{
    fs::{Mode, OFlags},
    process::Signal,
};

use super::daemon::{Daemon, poll};

/// Exit code and standard error of `--check-config`.
fn check(config: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_semaphored"))
        .args(["--check-config", "--config", config.to_str().unwrap()])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn target(url: &str, token: &Path) -> String {
    let token = token.display();
    format!(
        "[callbacks.targets.farm]\npreset = \"gitlab-play\"\nurl = \"{url}\"\nsecret_file = \"{token}\"\n"
    )
}

#[test]
fn check_config_finds_missing_secrets_and_bad_urls() {
    let directory = tempfile::tempdir().unwrap();
    let (config, token) = (directory.path().join("x.toml"), directory.path().join("token"));
    write(&config, &target("https://gitlab.example/api/v4", &token), 0o600);
    let (code, error) = check(&config);
    assert_eq!(code, Some(78), "{error}");
    let expected = "line 1: callback target farm: `secret`: cannot read the secret in /";
    assert!(error.contains(expected), "{error}");

    write(&token, "glpat-1\n", 0o600);
    assert_eq!(check(&config), (Some(0), String::new()));

    write(&token, "glpat-1\n", 0o644);
    let (code, error) = check(&config);
    assert_eq!(code, Some(0), "{error}");
    assert!(error.starts_with("semaphored: warning: /"), "{error}");
    assert!(error.contains("every user can read it: chmod o= /"), "{error}");
    assert!(!error.contains("glpat"), "{error}");

    write(&config, &target("https://gitlab.example@10.0.0.1/", &token), 0o600);
    let (code, error) = check(&config);
    assert_eq!(code, Some(78), "{error}");
    assert!(error.contains("a user or password in the URL is not allowed"), "{error}");
}

#[test]
fn a_reload_with_a_wrong_target_is_refused_whole() {
    let daemon = Daemon::start("[semaphores]\nA = 1");
    let token = daemon.config_file().with_file_name("no-such-token");
    let wrong = format!("[semaphores]\nA = 1\nB = 1\n{}", target("https://gitlab.example", &token));
    daemon.configure(&wrong);
    daemon.signal(Signal::HUP);
    daemon.log().wait_for("the configuration was not read again, all stays as it is");
    assert_eq!(daemon.call("GET", "/api/v1/semaphores/B", "").status, 404);
}

#[test]
fn a_configuration_that_does_not_answer_holds_up_no_stop() {
    let mut daemon = Daemon::start("[semaphores]\nA = 1");
    let config = daemon.config_file();
    std::fs::remove_file(&config).unwrap();
    assert!(Command::new("mkfifo").arg(&config).status().unwrap().success());
    daemon.signal(Signal::HUP);
    // Opening a FIFO for writing without waiting succeeds when somebody has it open for reading.
    let writer = poll("the reader of the configuration", || {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        rustix::fs::open(&config, flags, Mode::empty()).ok()
    });
    // A reload that hangs, and the next one behind it.
    daemon.signal(Signal::HUP);
    daemon.stop();
    drop(writer);
}

#[test]
fn a_reload_that_comes_during_another_one_is_not_forgotten() {
    let daemon = Daemon::start("[semaphores]\nA = 1");
    let config = daemon.config_file();
    std::fs::remove_file(&config).unwrap();
    assert!(Command::new("mkfifo").arg(&config).status().unwrap().success());
    daemon.signal(Signal::HUP);
    let writer = poll("the reader of the configuration", || {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK;
        rustix::fs::open(&config, flags, Mode::empty()).ok()
    });
    std::fs::remove_file(&config).unwrap();
    std::fs::write(&config, "[semaphores]\nA = 1\nC = 1").unwrap();
    daemon.signal(Signal::HUP);
    rustix::io::write(&writer, b"[semaphores]\nA = 1\nB = 1").unwrap();
    drop(writer);
    daemon.log().wait_for("the configuration was read again");
    poll("the second configuration", || {
        (daemon.call("GET", "/api/v1/semaphores/C", "").status == 200).then_some(())
    });
}

/// A key of each target that a text declares, by the target's name; a comment behind it does not count.
fn of_targets(text: &str, key: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for section in text.split("[callbacks.targets.").skip(1) {
        let (name, rest) = section.split_once("]\n").unwrap();
        let lines = rest.lines().take_while(|line| !line.is_empty() && !line.starts_with("```"));
        let lines = lines.map(|line| line.strip_prefix('#').unwrap_or(line));
        let value = lines.filter_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).next();
        let value = value.map_or("", |value| value.split(" #").next().unwrap().trim());
        found.insert(name.to_owned(), value.to_owned());
    }
    found
}

/// The recipes name the targets of the page, and give the vars that these leave open.
#[test]
fn the_shipped_example_has_the_targets_of_the_page() {
    let example = include_str!("../../packaging/example.toml");
    let page = include_str!("../../docs/callbacks.md");
    let mut same = 0;
    for key in ["preset", "vars", "url", "user"] {
        let (shipped, said) = (of_targets(example, key), of_targets(page, key));
        for (name, value) in shipped.iter().filter(|(name, _)| said.contains_key(*name)) {
            assert_eq!(*value, said[name], "{key} of {name}");
            same += 1;
        }
    }
    assert_eq!(same, 4 * 4, "gitlab-fpga, gitlab-sim, jenkins, github");
}
