//! docs/api.md: every call in it is made, and its answer stands below it. With `UPDATE_DOCS=1` the answers
//! are written anew.

use std::{fmt::Write as _, path::PathBuf, process::Command};

use regex_lite::Regex;

use super::daemon::Daemon;

const EXAMPLE: &str = include_str!("../../packaging/example.toml");
/// Where the document says that the service is.
const ADDRESS: &str = "127.0.0.1:7420";
const SHOWN_HEADERS: [&str; 4] = ["Location", "Retry-After", "Semaphore-Revision", "Allow"];

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")
}

/// The document with the answers that the service gives, and how many calls it has.
fn answered(document: &str, daemon: &Daemon) -> (String, usize) {
    let mut written = String::new();
    let mut calls = 0;
    let mut rest = document;
    while let Some((before, block)) = rest.split_once("```sh\n") {
        let (command, after) = block.split_once("```\n").expect("a block ends");
        write!(written, "{before}```sh\n{command}```\n\n```http\n{}```\n", ask(command, daemon))
            .unwrap();
        calls += 1;
        // The old answer goes.
        rest = match after.strip_prefix("\n```http\n") {
            Some(answer) => answer.split_once("```\n").expect("an answer ends").1,
            None => after,
        };
    }
    written.push_str(rest);
    (written, calls)
}

/// Runs a `curl` and writes its answer down: status, some headers, the body a member a line.
fn ask(command: &str, daemon: &Daemon) -> String {
    let command = command.trim().replace(ADDRESS, &daemon.address().to_string());
    let output = Command::new("sh").args(["-c", &format!("{command} -sS -i")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{command}: {text}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().trim_start_matches("HTTP/1.1 ").to_owned();
    let mut answer = format!("{status}\n");
    for line in lines {
        let name = line.split(':').next().unwrap();
        if SHOWN_HEADERS.iter().any(|shown| shown.eq_ignore_ascii_case(name)) {
            writeln!(answer, "{}", line.trim_end()).unwrap();
        }
    }
    if !body.is_empty() {
        write!(answer, "\n{}\n", a_member_a_line(body)).unwrap();
    }
    answer
}

/// Breaks a JSON text after the commas between members of its two outer levels.
fn a_member_a_line(json: &str) -> String {
    let mut out = String::new();
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for letter in json.chars() {
        match letter {
            '"' if !escaped => in_text = !in_text,
            '{' | '[' if !in_text => depth += 1,
            '}' | ']' if !in_text => depth -= 1,
            _ => {}
        }
        escaped = letter == '\\' && !escaped;
        out.push(letter);
        if in_text {
            continue;
        }
        match letter {
            ',' if depth == 1 => out.push_str("\n "),
            ',' | ':' => out.push(' '),
            _ => {}
        }
    }
    out
}

/// What differs each time: times, what was measured, ids that the server made.
fn masked(text: &str) -> String {
    let masks = [
        (r#""\d{4}-\d\d-\d\dT[0-9:.]+Z""#, "TIME"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
        (r#"_seconds": [0-9.]+"#, "_seconds\": NUMBER"),
        (r#""waiting_requests_max": [0-9]+"#, "\"waiting_requests_max\": NUMBER"),
    ];
    masks.iter().fold(text.to_owned(), |text, (pattern, mask)| {
        Regex::new(pattern).unwrap().replace_all(&text, *mask).into_owned()
    })
}

#[test]
fn every_answer_is_the_real_one() {
    let daemon = Daemon::start(EXAMPLE);
    let document = std::fs::read_to_string(path()).unwrap();
    let (written, calls) = answered(&document, &daemon);
    assert!(calls >= 15, "the document has {calls} calls");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path(), &written).unwrap();
        return;
    }
    let (found, expected) = (masked(&document), masked(&written));
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(
            found, expected,
            "docs/api.md is not true any more: UPDATE_DOCS=1 writes it anew"
        );
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}
