//! docs/api.md: every call in it is made, and its answer stands below it. With `UPDATE_DOCS=1` the answers
//! are written anew. Its table of scopes is held against the code.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::PathBuf, process::Command};

use regex_lite::Regex;
use semaphored::{api::Access, router::Routes};
use tempfile::TempDir;

use super::access::Guarded;

const EXAMPLE: &str = include_str!("../../packaging/example.toml");
/// Where the document says that the service is.
const ADDRESS: &str = "127.0.0.1:7420";
const SHOWN_HEADERS: [&str; 5] =
    ["Location", "Retry-After", "Semaphore-Revision", "Allow", "WWW-Authenticate"];
/// What the document shows for the ids of tokens, which are others each time: the first admin's, and those that are made.
const SHOWN_IDS: [&str; 2] = ["a5d2m7i4n3xq", "k3v9q2m7x5ta"];
/// What it shows for a token with its secret.
const SHOWN_TOKEN: &str = "sem_…";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/api.md")
}

/// Where the calls are made: a service, and a directory with the headers of tokens, each in a file.
struct Desk {
    guarded: Guarded,
    directory: TempDir,
    /// Ids of tokens, each with what is shown for it.
    ids: Vec<(String, &'static str)>,
}

impl Desk {
    fn new() -> Desk {
        let guarded = Guarded::start(EXAMPLE);
        let directory = tempfile::tempdir().unwrap();
        let admin = guarded.admin.clone();
        let mut desk = Desk { guarded, directory, ids: Vec::new() };
        let id = admin.split('_').nth(1).unwrap();
        desk.keep("auth", id, &admin);
        desk
    }

    /// Keeps a token's header in a file, and has its id shown as another.
    fn keep(&mut self, file: &str, id: &str, token: &str) {
        let header = format!("Authorization: Bearer {token}\n");
        fs::write(self.directory.path().join(file), header).unwrap();
        if !self.ids.iter().any(|(known, _)| known == id) {
            let shown = SHOWN_IDS.get(self.ids.len()).expect("an id to show for it");
            self.ids.push((id.to_owned(), shown));
        }
    }

    /// The document with the answers that the service gives, and how many calls it has.
    fn answered(&mut self, document: &str) -> (String, usize) {
        let mut written = String::new();
        let mut calls = 0;
        let mut rest = document;
        while let Some((before, block)) = rest.split_once("```sh\n") {
            let (command, after) = block.split_once("```\n").expect("a block ends");
            let answer = self.ask(command);
            write!(written, "{before}```sh\n{command}```\n\n```http\n{answer}```\n").unwrap();
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
    fn ask(&mut self, command: &str) -> String {
        let address = self.guarded.daemon.address().to_string();
        let mut command = command.trim().replace(ADDRESS, &address);
        for (id, shown) in &self.ids {
            command = command.replace(shown, id);
        }
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{command} -sS -i")]).current_dir(self.directory.path());
        let output = shell.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (head, body) =
            text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{command}: {text}"));
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
            self.keep_what_was_made(body);
        }
        self.shown(&answer)
    }

    /// Keeps the token that an answer hands out under its name.
    fn keep_what_was_made(&mut self, body: &str) {
        let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else { return };
        let text = |member: &str| body[member].as_str().map(str::to_owned);
        if let (Some(name), Some(id), Some(token)) = (text("name"), text("id"), text("token")) {
            self.keep(&name, &id, &token);
        }
    }

    /// An answer without secrets, and with the ids that are shown.
    fn shown(&self, answer: &str) -> String {
        let secrets = Regex::new("sem_[a-z0-9]+_[a-z0-9]+").unwrap();
        let mut answer = secrets.replace_all(answer, SHOWN_TOKEN).into_owned();
        for (id, shown) in &self.ids {
            answer = answer.replace(id, shown);
        }
        answer
    }
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
        // When a token was used last is written down by the service's own clock, a change among those of the calls.
        (r#""revision": [0-9]+"#, "\"revision\": NUMBER"),
        (r"Semaphore-Revision: [0-9]+", "Semaphore-Revision: NUMBER"),
        (r#""waiting_requests_max": [0-9]+"#, "\"waiting_requests_max\": NUMBER"),
    ];
    masks.iter().fold(text.to_owned(), |text, (pattern, mask)| {
        Regex::new(pattern).unwrap().replace_all(&text, *mask).into_owned()
    })
}

#[test]
fn every_answer_is_the_real_one() {
    let document = fs::read_to_string(path()).unwrap();
    let (written, calls) = Desk::new().answered(&document);
    assert!(calls >= 25, "the document has {calls} calls");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path(), &written).unwrap();
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

#[test]
fn the_table_of_scopes_is_what_the_code_asks_for() {
    let document = fs::read_to_string(path()).unwrap();
    let (_, table) = document.split_once("| needs | calls |\n|---|---|\n").unwrap();
    let call = Regex::new("`([A-Z]+) (/[^`]*)`").unwrap();
    let mut found = BTreeSet::new();
    for row in table.lines().take_while(|line| line.starts_with('|')) {
        let (needs, calls) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        let calls = call.captures_iter(calls);
        found.extend(calls.map(|call| (needs.to_owned(), call[1].to_owned(), call[2].to_owned())));
    }
    let routes = Routes::new().unwrap();
    let expected = Routes::endpoints().map(|(method, path)| {
        let needs = match routes.find(method, path).unwrap().access() {
            Access::Open => "nothing".to_owned(),
            Access::Token => "any token".to_owned(),
            Access::Scope(scope) => format!("`{}`", scope.as_str()),
            Access::ReadOrClaim => "`read` or `claim`".to_owned(),
            Access::WholeAdmin => "`admin`, for all semaphores".to_owned(),
        };
        (needs, method.to_owned(), path.to_owned())
    });
    assert_eq!(found, expected.collect());
}
