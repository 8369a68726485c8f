//! The completion for fish.

use super::commands::{Command, TOPICS, first_words, groups, is_file, second_words, values};

const HEAD: &str = "\
# Completion of semaphorectl for fish; made by packaging/generate.

# Whether the command line is at this command: its words, and no `--` yet.
function __semaphorectl_at
    set -l words (commandline -opc)[2..]
    contains -- -- $words; and return 1
    set -l wanted (count $argv)
    test $wanted -eq 0; and return 0
    test (count $words) -ge $wanted; and test \"$words[1..$wanted]\" = \"$argv\"
end

# Whether just these words are there, and the next one is a command.
function __semaphorectl_just
    __semaphorectl_at $argv; and test (count (commandline -opc)) -eq (math (count $argv) + 1)
end

# Whether the command line of another program has begun.
function __semaphorectl_runs
    set -l words (commandline -opc)[2..]
    test \"$words[1]\" = \"$argv\"; and contains -- -- $words
end

# What may come next in that command line.
function __semaphorectl_run
    set -l words (commandline -opc) (commandline -ct)
    set -l at (math (contains -i -- -- $words) + 1)
    complete -C \"$words[$at..]\"
end

complete -c semaphorectl -f
complete -c semaphorectl -n __semaphorectl_just -l help -d 'this text'
complete -c semaphorectl -n __semaphorectl_just -l version -d 'the version'
";

/// The script.
pub(super) fn completion(commands: &[Command]) -> String {
    let mut out = HEAD.to_owned();
    for (word, what) in first_words(commands) {
        out.push_str(&word_line("__semaphorectl_just", word, what));
        out.push_str(&word_line("__semaphorectl_just help", word, what));
    }
    out.push_str(&word_line("__semaphorectl_just", "help", "how it is used"));
    for (topic, what) in TOPICS {
        out.push_str(&word_line("__semaphorectl_just help", topic, what));
    }
    for group in groups(commands) {
        for (word, what) in second_words(commands, group) {
            out.push_str(&word_line(&format!("__semaphorectl_just {group}"), word, what));
        }
    }
    for command in commands {
        out.push_str(&lines(command));
    }
    out
}

fn word_line(condition: &str, word: &str, what: &str) -> String {
    format!("complete -c semaphorectl -n {} -a {word} -d {}\n", quoted(condition), quoted(what))
}

fn lines(command: &Command) -> String {
    let words = command.words.join(" ");
    let condition = quoted(&format!("__semaphorectl_at {words}"));
    let mut out = String::new();
    for option in &command.options {
        let short = option.short.map(|letter| format!(" -s {letter}")).unwrap_or_default();
        let value = match option.value {
            None => String::new(),
            Some(name) if is_file(name) => " -r -F".to_owned(),
            Some(_) if values(option).is_empty() => " -x".to_owned(),
            Some(_) => format!(" -x -a {}", quoted(&values(option).join(" "))),
        };
        let (long, what) = (option.long.trim_start_matches('-'), quoted(&option.description));
        out.push_str(&format!(
            "complete -c semaphorectl -n {condition}{short} -l {long}{value} -d {what}\n"
        ));
    }
    if command.arguments.iter().any(|name| is_file(name)) {
        out.push_str(&format!("complete -c semaphorectl -n {condition} -F\n"));
    }
    if command.runs {
        let condition = quoted(&format!("__semaphorectl_runs {words}"));
        out.push_str(&format!(
            "complete -c semaphorectl -n {condition} -a '(__semaphorectl_run)'\n"
        ));
    }
    out
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
