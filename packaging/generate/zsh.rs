//! The completion for zsh: `_semaphorectl`, to be found on `fpath`.

use super::commands::{
    Command, CommandOption, TOPICS, first_words, groups, is_file, second_words, values,
};

/// The script.
pub(super) fn completion(commands: &[Command]) -> String {
    let mut out =
        "#compdef semaphorectl\n# Completion of semaphorectl for zsh; made by packaging/generate.\n\n".to_owned();
    for command in commands {
        out.push_str(&function(command));
    }
    let mut firsts = first_words(commands);
    firsts.push(("help", "how it is used"));
    for group in groups(commands) {
        let arms = second_words(commands, group);
        out.push_str(&dispatcher(&format!("_semaphorectl_{group}"), &arms, |word| {
            format!("_semaphorectl_{group}_{word}")
        }));
    }
    let mut topics = first_words(commands);
    topics.extend(TOPICS);
    out.push_str(&format!(
        "_semaphorectl_help() {{\n    local -a topics=(\n{}    )\n    _describe topic topics\n}}\n\n",
        described(&topics)
    ));
    out.push_str(&dispatcher("_semaphorectl", &firsts, |word| {
        format!("_semaphorectl_{}", word.replace('-', "_"))
    }));
    out + "_semaphorectl \"$@\"\n"
}

/// A function that completes a word, and hands what comes after it to the function of that word.
fn dispatcher(name: &str, words: &[(&str, &str)], of_word: impl Fn(&str) -> String) -> String {
    let mut out = format!(
        "{name}() {{\n    local -a words_known=(\n{}    )\n    \
             if ((CURRENT == 2)); then\n        _describe command words_known\n        \
             _arguments '(- *)--help[this text]' '(- *)--version[the version]'\n        return\n    fi\n    \
             local word=${{words[2]}}\n    shift words\n    ((CURRENT--))\n    case $word in\n",
        described(words)
    );
    for (word, _) in words {
        out.push_str(&format!("        {word}) {} ;;\n", of_word(word)));
    }
    out + "    esac\n}\n\n"
}

fn described(words: &[(&str, &str)]) -> String {
    words
        .iter()
        .map(|(word, what)| format!("        {}\n", quoted(&format!("{word}:{what}"))))
        .collect()
}

/// The function of one command.
fn function(command: &Command) -> String {
    let mut out = format!(
        "_semaphorectl_{}() {{\n    _arguments -s -S",
        command.words.join("_").replace('-', "_")
    );
    for option in &command.options {
        out.push_str(&format!(" \\\n        {}", specification(option)));
    }
    for name in &command.arguments {
        out.push_str(&format!(" \\\n        {}", quoted(&format!("*:{}:{}", name, action(name)))));
    }
    if command.runs {
        // What is not an option and comes after `--` is a command line.
        out = out.replacen("    _arguments", RUNS, 1);
    }
    out + "\n}\n\n"
}

const RUNS: &str = "    local at=${words[(i)--]}\n    if ((at < CURRENT)); then\n        shift $at words\n        \
     ((CURRENT -= at))\n        _normal\n        return\n    fi\n    _arguments";

fn specification(option: &CommandOption) -> String {
    let what = option.description.replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]");
    let value = option.value.map(|name| {
        let known = values(option);
        let action = if known.is_empty() { action(name) } else { format!("({})", known.join(" ")) };
        format!(":{}:{action}", name.replace(':', "\\:"))
    });
    let value = value.unwrap_or_default();
    let attached = if option.value.is_some() { "=" } else { "" };
    let repeats = if option.repeats { "*" } else { "" };
    let Some(letter) = option.short else {
        let excluded = match (option.long, option.repeats) {
            ("--help" | "--version", _) => "(- *)",
            _ => "",
        };
        return quoted(&format!("{excluded}{repeats}{}{attached}[{what}]{value}", option.long));
    };
    let short_attached = if option.value.is_some() { "+" } else { "" };
    let spellings = [format!("-{letter}{short_attached}"), format!("{}{attached}", option.long)];
    let excluded =
        if option.repeats { String::new() } else { format!("(-{letter} {})", option.long) };
    let excluded = if option.long == "--help" { "(- *)".to_owned() } else { excluded };
    let both =
        spellings.map(|spelling| quoted(&format!("{excluded}{repeats}{spelling}[{what}]{value}")));
    both.join(" ")
}

fn action(name: &str) -> String {
    if is_file(name) { "_files".to_owned() } else { " ".to_owned() }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
