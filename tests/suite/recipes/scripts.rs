//! The shell scripts in the recipes, wherever they stand: shells and shellcheck have nothing to say against them, and each
//! command line of `semaphorectl` is one that the client takes.

use std::{
    fs,
    process::{Command, Stdio},
    thread,
};

use regex_lite::Regex;
use yaml_rust2::Yaml;

use super::{blocks, lines, members, recipe, root, yaml};
use crate::client::{closed_port, finish, semaphorectl, start, text};

/// A script of a recipe.
struct Script {
    /// Where it stands.
    origin: String,
    /// The shell that runs it.
    shell: &'static str,
    text: String,
}

/// The scripts of a document of YAML. Scripts of one job that share a shell are one.
fn of_yaml(origin: &str, document: &Yaml, found: &mut Vec<Script>) {
    let mut add = |shell, text: String| {
        if !text.is_empty() {
            found.push(Script { origin: origin.to_owned(), shell, text });
        }
    };
    if origin.starts_with("gitlab") {
        for (_, job) in members(document) {
            add(
                "sh",
                [lines(&job["before_script"]), lines(&job["script"])].join("\n").trim().to_owned(),
            );
            add("sh", lines(&job["after_script"]));
        }
    } else if origin.starts_with("buildkite") {
        for step in document["steps"].as_vec().into_iter().flatten() {
            // The upload of the pipeline makes one dollar of two.
            add(
                "bash",
                [lines(&step["command"]), lines(&step["commands"])].concat().replace("$$", "$"),
            );
        }
    } else {
        let jobs = members(&document["jobs"]);
        let jobs = jobs.values().chain([&document["runs"]]);
        for step in jobs.flat_map(|job| job["steps"].as_vec().cloned().unwrap_or_default()) {
            add("bash", lines(&step["run"]));
            add("bash", lines(&step["with"]["run"]));
        }
    }
}

/// The scripts in Groovy: of `sh '…'`, `sh '''…'''` and `script: '…'`.
fn of_groovy(origin: &str, groovy: &str, found: &mut Vec<Script>) {
    let script = Regex::new(r"(?s)(?:\bsh |script: )(?:'''(.*?)'''|'([^'\n]*)')").unwrap();
    for captures in script.captures_iter(groovy) {
        let text = captures.get(1).or(captures.get(2)).unwrap().as_str();
        // Jenkins runs it with `sh -xe`.
        found.push(Script { origin: origin.to_owned(), shell: "sh", text: text.to_owned() });
    }
}

fn scripts() -> Vec<Script> {
    let mut found = Vec::new();
    for path in ["gitlab/semaphore.yml", "github/action.yml", "buildkite/pipeline.yml"] {
        of_yaml(path, &yaml(&recipe(path)), &mut found);
    }
    of_groovy("jenkins/withPermit.groovy", &recipe("jenkins/withPermit.groovy"), &mut found);
    for entry in fs::read_dir(root()).unwrap() {
        let page = entry.unwrap().file_name().into_string().unwrap();
        if !page.ends_with(".md") {
            continue;
        }
        for block in blocks(&page, "yaml") {
            of_yaml(&page, &yaml(&block), &mut found);
        }
        for block in blocks(&page, "groovy") {
            of_groovy(&page, &block, &mut found);
        }
        for text in blocks(&page, "sh") {
            found.push(Script { origin: page.clone(), shell: "sh", text });
        }
    }
    for path in ["buildkite/pre-exit", "shell/with-permit.sh"] {
        found.push(Script { origin: path.to_owned(), shell: "sh", text: recipe(path) });
    }
    found
}

/// What a program that reads a script has against it.
fn faults(program: &[&str], script: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), script).unwrap();
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).arg(file.path()).stdin(Stdio::null());
    let output = finish(start(command.stdout(Stdio::piped()).stderr(Stdio::piped())));
    (!output.status.success()).then(|| text(&output.stdout) + &text(&output.stderr))
}

fn check(script: &Script) -> Option<String> {
    let shells: &[&[&str]] = match script.shell {
        "bash" => &[&["bash", "-n"]],
        _ => &[&["dash", "-n"], &["bash", "--posix", "-n"], &["busybox", "sh", "-n"]],
    };
    let found = shells.iter().find_map(|shell| faults(shell, &script.text));
    found.or_else(|| faults(&["shellcheck", "--shell", script.shell], &script.text))
}

#[test]
fn every_script_is_good_shell() {
    let scripts = scripts();
    assert!(scripts.len() >= 25, "{} scripts", scripts.len());
    for origin in ["gitlab", "github", "jenkins", "buildkite", "shell"] {
        assert!(scripts.iter().any(|script| script.origin.starts_with(origin)), "none of {origin}");
    }
    for script in &scripts {
        let found = check(script);
        assert!(found.is_none(), "{}:\n{}\n{}", script.origin, script.text, found.unwrap());
    }
}

#[test]
fn bad_shell_is_found() {
    for (shell, text) in [
        ("sh", "if true; then echo"),
        ("bash", "echo 'a"),
        // Good syntax, and wrong: shellcheck knows.
        ("sh", "rm $1/*"),
        ("sh", "read -r a < <(date)\necho \"$a\""),
        ("bash", "exec semaphorectl run $SEMAPHORE"),
    ] {
        let script = Script { origin: String::new(), shell, text: text.to_owned() };
        assert!(check(&script).is_some(), "{text}");
    }
}

/// The command lines of the client in a script, as words after it, with something for each variable.
fn command_lines(script: &str) -> Vec<Vec<String>> {
    let script = script.replace("\\\n", " ");
    // What is there if a variable is set.
    let script = Regex::new(r"\$\{[A-Z_]+:\+([^}]*)\}").unwrap().replace_all(&script, "$1");
    let line =
        Regex::new(r"(?m)^(?:[^#\n]*[ (])?semaphorectl ((?:run|acquire|release|renew) [^\n]*)")
            .unwrap();
    let variable = Regex::new(r#"\$(?:\$|!|\{?([A-Za-z_]+)\}?)"#).unwrap();
    let found = line.captures_iter(&script).map(|found| {
        let (arguments, _) = found[1].split_once(" || ").unwrap_or((&found[1], ""));
        let (arguments, _) = arguments.split_once(" </dev/null").unwrap_or((arguments, ""));
        let filled = variable.replace_all(arguments, |name: &regex_lite::Captures<'_>| match name
            .get(1)
            .map_or("", |name| name.as_str())
        {
            "SEMAPHORE_TTL" | "PERMIT_TTL" | "PERMIT_WAIT" => "5m",
            "" => "1",
            _ => "value",
        });
        let mut shell = Command::new("sh");
        let output = shell.args(["-c", &format!("printf '%s\\n' {filled}")]).output().unwrap();
        text(&output.stdout).lines().map(str::to_owned).collect()
    });
    found.collect()
}

/// Has the client parse a command line, and look in vain for the service that it needs then.
fn parse(mut words: Vec<String>) -> (Option<i32>, String) {
    let (_socket, url) = closed_port();
    words.splice(1..1, ["--unreachable-timeout=1s".into(), format!("--url={url}")]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = finish(start(&mut semaphorectl(&words)));
    (output.status.code(), format!("{words:?}: {}", text(&output.stderr)))
}

#[test]
fn the_client_takes_every_command_line() {
    let lines: Vec<_> = scripts().iter().flat_map(|script| command_lines(&script.text)).collect();
    assert!(lines.len() >= 20, "{lines:?}");
    for command in ["run", "acquire", "release"] {
        assert!(lines.iter().any(|words| words[0] == command), "no {command}");
    }
    let parsed: Vec<_> =
        lines.into_iter().map(|words| thread::spawn(move || parse(words))).collect();
    for parsed in parsed {
        let (code, told) = parsed.join().unwrap();
        assert_eq!(code, Some(69), "{told}");
    }
    let wrong = command_lines("exec semaphorectl acquire \"$A\" --tll 5m || exit");
    assert_eq!(wrong, [["acquire", "value", "--tll", "5m"]]);
    assert_eq!(parse(wrong[0].clone()).0, Some(64));
}

/// No recipe has a place where a token could be in a command line or in a file that is kept.
#[test]
fn tokens_come_from_the_environment() {
    for script in scripts() {
        // What goes to curl by standard input, and not in its arguments; a builtin is no process.
        let without = script
            .text
            .replace("printf 'header = \"Authorization: Bearer %s\"\\n' \"$SEMAPHORE_TOKEN\"", "");
        let without =
            without.replace("printf 'header = \"Authorization: Bearer %s\"\\n' \"$token\"", "");
        let script_of_its_own = script.origin == "shell/with-permit.sh";
        assert!(!without.contains("Bearer"), "{}:\n{}", script.origin, script.text);
        assert!(script_of_its_own || !without.contains("$SEMAPHORE_TOKEN"), "{}", script.text);
    }
}
