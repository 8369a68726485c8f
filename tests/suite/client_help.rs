//! The help texts of `semaphorectl`, and that docs/client.md says the same as the code.

use std::{collections::BTreeSet, fs, path::Path};

use regex_lite::Regex;

use crate::client::{outcome, semaphorectl};

fn help(arguments: &[&str]) -> String {
    let (stdout, stderr) = outcome(&mut semaphorectl(arguments), 0);
    assert_eq!(stderr, "");
    stdout
}

/// The subcommands that an overview lists.
fn listed(overview: &str) -> Vec<String> {
    let line = Regex::new(r"^  ([a-z-]+) +[a-z]").unwrap();
    let found = overview.lines().filter_map(|text| line.captures(text));
    found.map(|found| found[1].to_owned()).filter(is_no_example).collect()
}

/// All subcommands; those of `token` as `token list`.
fn commands() -> Vec<String> {
    let mut commands = listed(&help(&["--help"]));
    assert_eq!(commands.len(), 17, "{commands:?}");
    commands.retain(|command| command != "token");
    let of_token = listed(&help(&["token", "--help"]));
    assert_eq!(of_token.len(), 5, "{of_token:?}");
    commands.extend(of_token.iter().map(|command| format!("token {command}")));
    commands
}

/// The help text of a command.
fn help_of(command: &str) -> String {
    help(&command.split(' ').chain(["--help"]).collect::<Vec<_>>())
}

fn is_no_example(word: &String) -> bool {
    word != "semaphorectl"
}

/// The long options in a text.
fn options(text: &str) -> BTreeSet<String> {
    let option = Regex::new(r"--[a-z][a-z-]*").unwrap();
    option.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

fn repository(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_command_explains_itself() {
    for command in commands() {
        let text = help_of(&command);
        let words = || command.split(' ');
        assert_eq!(text, help(&["help"].into_iter().chain(words()).collect::<Vec<_>>()));
        assert_eq!(text, help(&words().chain(["-h"]).collect::<Vec<_>>()));
        assert!(text.contains(&format!("\nUsage: semaphorectl {command} ")), "{text}");
        assert!(text.contains("\nExamples\n") && text.contains("\nOptions\n"), "{text}");
        assert!(text.contains("\nExit codes:"), "{text}");
        assert!(text.contains("--url <URL>") && text.contains("--token-file"), "{text}");
        assert_eq!(text.contains("--json "), command != "run", "{text}");
        let longest = text.lines().map(|line| line.chars().count()).max();
        assert!(longest <= Some(88), "{longest:?}: {text}");
        let version = help(&words().chain(["--version"]).collect::<Vec<_>>());
        assert_eq!(version, format!("semaphorectl {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn the_commands_of_token_are_explained_together() {
    let text = help(&["token", "--help"]);
    for arguments in [&["help", "token"][..], &["token", "-h"], &["token", "help"]] {
        assert_eq!(text, help(arguments), "{arguments:?}");
    }
    assert_eq!(help_of("token list"), help(&["token", "help", "list"]));
    assert!(text.contains("\nUsage: semaphorectl token COMMAND "), "{text}");
    assert!(text.contains("\nExamples\n") && text.contains("\nExit codes:"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 88), "{text}");
    assert_eq!(help(&["token", "--version"]), help(&["--version"]));
}

#[test]
fn slips_in_commands_and_options_get_a_suggestion() {
    for (arguments, expected) in [
        (&["staus"][..], "Did you mean status?"),
        (&["relaese", "x"], "Did you mean release?"),
        (&["help", "exitcodes"], "Did you mean exit-codes?"),
        (&["--verison"], "Did you mean --version?"),
        (&["status", "--wacth"], "Did you mean --watch?"),
        (&["acquire", "a", "--while-pip", "1"], "Did you mean --while-pid?"),
        (&["token", "rotaet", "ab12"], "did you mean rotate?"),
        (&["status", "a", "b"], "`b` is one argument too many"),
    ] {
        let (_, stderr) = outcome(&mut semaphorectl(arguments), 64);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
        assert!(stderr.contains("--help`."), "{stderr}");
    }
}

/// A claim that is over has used its id up, so an id that a retried job has again is refused.
#[test]
fn ids_in_the_recipes_are_new_ones_when_a_job_is_retried() {
    let id = Regex::new(r#"(?:--id "?|/claims/)(\$[^\s"]+)"#).unwrap();
    let mut found = Vec::new();
    for path in [
        "README.md",
        "docs/callbacks.md",
        "docs/client.md",
        "docs/recipes/gitlab.md",
        "docs/recipes/github.md",
        "docs/recipes/buildkite.md",
        "docs/recipes/gitlab/semaphore.yml",
        "docs/recipes/buildkite/pipeline.yml",
    ] {
        let document = repository(path);
        found.extend(id.captures_iter(&document).map(|found| found[1].to_owned()));
    }
    assert!(found.len() >= 9, "{found:?}");
    let new = ["$CI_JOB_ID-", "$$BUILDKITE_JOB_ID-", "$GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT-"];
    for id in found {
        assert!(new.iter().any(|prefix| id.starts_with(prefix)), "a retried job has {id} again");
    }
}

#[test]
fn the_document_and_the_code_say_the_same() {
    let document = repository("docs/client.md");
    let mut known = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
    for command in commands() {
        assert!(document.contains(&format!("`{command}`")), "docs/client.md lacks {command}");
        known.extend(options(&help_of(&command)));
    }
    for option in &known {
        assert!(document.contains(&format!("`{option}")), "docs/client.md lacks {option}");
    }
    let unknown: Vec<_> = options(&document).difference(&known).cloned().collect();
    assert!(unknown.is_empty(), "docs/client.md has {unknown:?}, the code has not");
    let code = Regex::new(r"pub const [A-Z_]+: u8 = (\d+);").unwrap();
    let topic = help(&["help", "exit-codes"]);
    let source = repository("src/cli/exit.rs");
    let codes: Vec<_> = code.captures_iter(&source).map(|found| found[1].to_owned()).collect();
    assert!(codes.len() >= 13, "{codes:?}");
    for code in codes {
        assert!(document.contains(&format!("\n| {code} |")), "docs/client.md lacks {code}");
        assert!(topic.contains(&format!("{code:>5}  ")), "{code} is no topic");
    }
}
