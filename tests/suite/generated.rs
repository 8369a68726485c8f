//! The manual pages and completions that packages have: nothing that a help text or the configuration knows is missing in
//! them, and what reads them takes them.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use regex_lite::Regex;
use semaphored::{application, cli, client};
use tempfile::TempDir;

use super::{
    client::{outcome, semaphorectl},
    files,
};

const DATE: &str = "2026-11-24";

fn generated(name: &str) -> String {
    let found = files::all(DATE).into_iter().find(|(path, _)| path.ends_with(name));
    found.unwrap_or_else(|| panic!("{name} is not made")).1
}

/// As troff has it.
fn in_troff(option: &str) -> String {
    option.replace('-', "\\-")
}

/// All of them, in a directory.
fn written() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files::all(DATE) {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

/// What a program writes with these arguments; fails unless it ends with 0. `tests/run` installs those that are asked for.
fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && errors.is_empty(), "{program}: {text}{errors}");
    text
}

/// What all of this is made of is what the help texts are made of.
#[test]
fn what_is_described_is_what_the_help_texts_say() {
    let commands = client::described();
    assert_eq!(commands.len(), 21);
    for command in commands {
        let words: Vec<_> = command.program.name.split(' ').skip(1).chain(["--help"]).collect();
        let (help, _) = outcome(&mut semaphorectl(&words), 0);
        assert_eq!(help, cli::help_text(command.program, &command.groups));
        let overview = if words[0] == "token" { &["token", "--help"][..] } else { &["--help"] };
        let (overview, _) = outcome(&mut semaphorectl(overview), 0);
        assert!(overview.contains(command.summary), "{overview}");
    }
    let daemon = application::described();
    let help = output(env!("CARGO_BIN_EXE_semaphored"), &["--help"]);
    assert_eq!(help, cli::help_text(daemon.program, &daemon.groups));
}

#[test]
fn every_command_and_option_is_in_the_manual() {
    let page = generated("semaphorectl.1");
    let mut all = BTreeSet::new();
    for command in client::described() {
        let words = command.program.name.strip_prefix("semaphorectl ").unwrap();
        let heading = format!("\n.SS \"{}\"\n", in_troff(words));
        let (_, own) = page.split_once(&heading).unwrap_or_else(|| panic!("{words} is missing"));
        let (own, _) = own.split_once("\n.S").unwrap();
        let (service, groups) = command.groups.split_last().unwrap();
        let flags = groups.iter().flat_map(|group| group.flags);
        for flag in flags.filter(|flag| flag.long != "--help") {
            assert!(
                own.contains(&format!("\\fB{}\\fR", in_troff(flag.long))),
                "{words}: {}",
                flag.long
            );
        }
        all.extend(service.flags.iter().map(|flag| flag.long));
    }
    let (_, options) = page.split_once("\n.SH \"OPTIONS\"\n").unwrap();
    for option in all.into_iter().chain(["-h", "--help", "--version"]) {
        assert!(options.contains(&format!("\\fB{}\\fR", in_troff(option))), "{option}");
    }
    // A term is one line, or the rest of it would be what is said of it.
    let words = "\\fBCI_JOB_URL\\fR, \\fBBUILD_URL\\fR, \\fBGITHUB_SERVER_URL\\fR with";
    let term = format!(".TP\n{words} \\fBGITHUB_REPOSITORY\\fR and \\fBGITHUB_RUN_ID\\fR\n");
    assert!(page.contains(&term), "{page}");
    let page = generated("semaphored.8");
    let flags = application::described().groups[0].flags;
    for flag in flags.iter().filter(|flag| flag.long != "--help") {
        assert!(page.contains(&format!("\n\\fB{}\\fR", in_troff(flag.long))), "{}", flag.long);
    }
    for code in application::described().groups[0].error_codes {
        assert!(page.contains(&format!(".TP\n{}\n", code.code)), "exit code {}", code.code);
    }
}

#[test]
fn the_pages_have_what_people_look_for() {
    for (name, sections) in [
        (
            "semaphored.8",
            "SYNOPSIS OPTIONS SIGNALS EXIT_STATUS ENVIRONMENT FILES EXAMPLES SEE_ALSO",
        ),
        ("semaphored.toml.5", "SYNOPSIS OPTIONS FILES EXAMPLES SEE_ALSO"),
        (
            "semaphorectl.1",
            "SYNOPSIS COMMANDS OPTIONS EXIT_STATUS ENVIRONMENT FILES EXAMPLES SEE_ALSO",
        ),
    ] {
        let page = generated(name);
        assert!(
            page.contains(&format!(" \"{DATE}\" \"semaphored {}\" ", env!("CARGO_PKG_VERSION")))
        );
        for section in ["NAME", "DESCRIPTION"].into_iter().chain(sections.split(' ')) {
            let section = section.replace('_', " ");
            assert!(page.contains(&format!("\n.SH \"{section}\"\n")), "{name}: {section}");
        }
        // What was meant as Markdown, and is printed as it is.
        let left = Regex::new(r"\]\(|\*\*|\n\|").unwrap();
        assert!(left.find(&page).is_none(), "{name}: {:?}", left.find(&page));
    }
}

/// The keys that the daemon knows where it finds one that it does not know.
fn keys(table: &str, inner: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("semaphored.toml");
    fs::write(&file, format!("{table}\n{inner}\nunknown_key = 1\n")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_semaphored"))
        .args(["--check-config", "--config"])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let (_, known) = said.split_once("expected ").unwrap_or_else(|| panic!("{table}: {said}"));
    let key = Regex::new("`([a-z_0-9]+)`").unwrap();
    key.captures_iter(known).map(|found| found[1].to_owned()).collect()
}

#[test]
fn every_key_of_the_configuration_is_in_the_manual() {
    let page = generated("semaphored.toml.5");
    let terms: String =
        page.split(".TP\n").skip(1).map(|item| item.lines().next().unwrap()).collect();
    let mut checked = 0;
    for (table, inner) in [
        ("", ""),
        ("[limits]", ""),
        ("[semaphores.A]", "capacity = 1"),
        ("[auth]", ""),
        ("[[auth.tokens]]", ""),
        ("[callbacks]", ""),
        ("[callbacks.targets.t]", ""),
        ("[[callbacks.allow]]", ""),
    ] {
        for key in keys(table, inner) {
            // Of three keys for the secret before there is one term.
            let key = if key.starts_with("previous_") { "previous_secret_file" } else { &key };
            let spelling = in_troff(key);
            let is_term = [
                format!("\\fB{spelling}\\fR"),
                format!("\\fB[{spelling}]\\fR"),
                format!(".{spelling}\\fR"),
                format!("\\fB[[auth.{spelling}]]\\fR"),
            ];
            let is_table = page.contains(&format!("[[callbacks.{key}]]"))
                || page.contains(&format!("[callbacks.{key}."));
            assert!(is_table || is_term.iter().any(|term| terms.contains(term)), "{table} {key}");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked} keys");
}

/// What the document says of the ranges is what the daemon says when it refuses a value.
#[test]
fn the_ranges_of_the_limits_are_those_of_the_code() {
    let document =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md"));
    let document = document.unwrap();
    let row =
        Regex::new(r"(?m)^\| `([a-z_]+)` \| [^|]+ \| ([0-9][^|]*) to ([0-9][^|]*) \|").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("semaphored.toml");
    let mut checked = 0;
    let limits = keys("[limits]", "");
    for row in row.captures_iter(&document).filter(|row| limits.contains(&row[1].to_owned())) {
        let (key, plain) = (&row[1], |text: &str| text.replace([',', ' '], ""));
        let (min, max) = (plain(&row[2]), plain(&row[3]));
        // Durations are no plain numbers.
        let more = max.parse().map_or(99_999_999, |max: u64| max + 1);
        fs::write(&file, format!("[limits]\n{key} = {more}")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_semaphored"));
        let output = command.args(["--check-config", "--config"]).arg(&file).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&format!("`limits.{key}` must be from {min} to {max}")), "{said}");
        checked += 1;
    }
    assert!(checked >= 13, "{checked} limits");
}

#[test]
fn the_pages_are_valid() {
    let directory = written();
    for page in ["semaphored.8", "semaphored.toml.5", "semaphorectl.1"] {
        let path = directory.path().join("man").join(page);
        let path = path.to_str().unwrap();
        assert_eq!(output("mandoc", &["-T", "lint", "-W", "warning", path]), "", "{page}");
        let text = output("mandoc", &["-T", "utf8", path]);
        assert!(text.lines().count() > 100, "{page}");
    }
}

#[test]
fn the_date_is_that_of_the_sources() {
    assert_eq!(files::date(Some("1795000000")).unwrap(), "2026-11-18");
    assert_eq!(files::date(Some("0")).unwrap(), "1970-01-01");
    assert!(files::date(Some("today")).unwrap_err().contains("SOURCE_DATE_EPOCH"));
    let of_release = files::date(None).unwrap();
    assert!(of_release.is_empty() || of_release.len() == DATE.len(), "{of_release}");
}

/// What a shell offers for the last word of a command line, by a script that prints one on a line.
fn offered(shell: &str, script: &str, line: &[&str]) -> BTreeSet<String> {
    let directory = written();
    let completions = directory.path().join("completions");
    let script = script.replace("COMPLETIONS", completions.to_str().unwrap());
    let arguments = [&["-c", &script, shell][..], line].concat();
    let text = output(shell, &arguments);
    let first = |line: &str| line.split('\t').next().unwrap_or_default().trim().to_owned();
    text.lines().map(first).filter(|word| !word.is_empty()).collect()
}

const BASH: &str = r#"
    . COMPLETIONS/semaphorectl.bash
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _semaphorectl
    printf '%s\n' "${COMPREPLY[@]}"
"#;

const FISH: &str = r#"
    source COMPLETIONS/semaphorectl.fish
    complete -C "$argv[2..]"
"#;

/// Command lines, and what is to be offered for their last word.
const LINES: [(&[&str], &[&str]); 8] = [
    (&["semaphorectl", "st"], &["status"]),
    (&["semaphorectl", "help", "exit"], &["exit-codes"]),
    (&["semaphorectl", "token", "ro"], &["rotate"]),
    (&["semaphorectl", "run", "--on-lost", ""], &["terminate", "warn"]),
    (&["semaphorectl", "token", "create", "--scope", ""], &["admin", "claim", "read"]),
    (&["semaphorectl", "revoke", "x", "--re"], &["--reason"]),
    (&["semaphorectl", "status", "--token-file", "/etc/passw"], &["/etc/passwd"]),
    (&["semaphorectl", "status", "--url", "/etc/passw"], &[]),
];

fn check_lines(shell: &str, script: &str) {
    for (line, expected) in LINES {
        let found = offered(shell, script, line);
        let found: Vec<_> = found.iter().map(String::as_str).collect();
        let expected_file = expected == ["/etc/passwd"] && found.contains(&"/etc/passwd");
        assert!(expected_file || found == expected, "{shell}: {line:?}: {found:?}");
    }
    for command in client::described() {
        let words: Vec<_> = command.program.name.split(' ').chain(["--"]).collect();
        let found = offered(shell, script, &words);
        let flags = command.groups.iter().flat_map(|group| group.flags).filter(|flag| !flag.hidden);
        let known: BTreeSet<_> = flags.map(|flag| flag.long.to_owned()).collect();
        let known = &known | &["--help", "--version"].map(str::to_owned).into();
        let missing: Vec<_> = known.difference(&found).collect();
        assert!(missing.is_empty(), "{shell}: {words:?} lacks {missing:?}");
        let long = |word: &&String| word.starts_with("--");
        let unknown: Vec<_> = found.difference(&known).filter(long).collect();
        assert!(unknown.is_empty(), "{shell}: {words:?} has {unknown:?}");
    }
    let started = offered(shell, script, &["semaphorectl", "run", "X", "--", "tr"]);
    assert!(started.contains("true") || started.contains("tr"), "{shell}: {started:?}");
}

#[test]
fn bash_completes_commands_options_and_values() {
    check_lines("bash", BASH);
    let attached = offered("bash", BASH, &["semaphorectl", "run", "--on-lost", "=", "t"]);
    assert_eq!(attached, BTreeSet::from(["terminate".to_owned()]));
}

#[test]
fn fish_completes_commands_options_and_values() {
    check_lines("fish", FISH);
}

/// zsh completes at a terminal alone; that the script is one, and has every option of every command, shows without.
#[test]
fn zsh_reads_its_script_and_every_option_is_in_it() {
    let script = generated("_semaphorectl");
    for command in client::described() {
        let words = command.program.name.strip_prefix("semaphorectl ").unwrap();
        let function = format!("\n_semaphorectl_{}() {{\n", words.replace([' ', '-'], "_"));
        let (_, own) = script.split_once(&function).unwrap_or_else(|| panic!("{words} is missing"));
        let (own, _) = own.split_once("\n}\n").unwrap();
        for flag in command.groups.iter().flat_map(|group| group.flags).filter(|flag| !flag.hidden)
        {
            let spellings = [format!("{}[", flag.long), format!("{}=[", flag.long)];
            assert!(spellings.iter().any(|text| own.contains(text)), "{words}: {}", flag.long);
        }
    }
    let directory = written();
    let path = directory.path().join("completions/_semaphorectl");
    assert_eq!(output("zsh", &["-f", "-n", path.to_str().unwrap()]), "");
}

#[test]
fn values_that_are_offered_stand_in_the_help_texts() {
    let commands = client::described();
    for (option, values) in files::commands::VALUES {
        let flags =
            commands.iter().flat_map(|command| &command.groups).flat_map(|group| group.flags);
        let texts: Vec<_> =
            flags.filter(|flag| flag.long == option).map(|flag| flag.description).collect();
        assert!(!texts.is_empty(), "{option}");
        for (text, value) in
            texts.iter().flat_map(|text| values.iter().map(move |value| (text, value)))
        {
            assert!(text.contains(value), "{option}: {value} is not in: {text}");
        }
    }
}
