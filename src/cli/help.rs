//! Help texts from what argh knows of the options: purpose, examples, then every option.

use std::fmt::Write as _;

use super::Program;
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

/// Column at which descriptions start.
const DESCRIPTION_COLUMN: usize = 30;
/// Longest line.
const LINE_CHARS_MAX: usize = 80;

/// The help text of `program` with these groups of options, ready to be written. The first group's type
/// describes the program, the others' types their group.
#[must_use]
pub fn help_text(program: Program<'_>, groups: &[CommandInfoWithArgs]) -> String {
    let Some((info, shared)) = groups.split_first() else { return String::new() };
    let mut out = wrapped(info.description, 0, LINE_CHARS_MAX);
    if !info.examples.is_empty() {
        out.push_str("\nExamples\n");
        for example in info.examples {
            push(&mut out, format_args!("  {example}\n"));
        }
    }
    push(&mut out, format_args!("\nUsage: {}\n", usage_line(program, info.positionals)));
    if !info.positionals.is_empty() {
        out.push_str("\nArguments\n");
        for positional in info.positionals.iter().filter(|positional| !positional.hidden) {
            push_described(&mut out, positional.name, positional.description);
        }
    }
    out.push_str("\nOptions\n");
    push_flags(&mut out, info);
    push_described(&mut out, "-h, --help", "this text");
    push_described(&mut out, "    --version", "the version");
    for group in shared.iter().filter(|group| !group.flags.iter().all(is_help)) {
        push(&mut out, format_args!("\n{}\n", group.description));
        push_flags(&mut out, group);
    }
    for note in info.notes {
        push(&mut out, format_args!("\n{note}\n"));
    }
    out
}

/// How `program` is used, on one line.
pub(super) fn usage_line(program: Program<'_>, positionals: &[PositionalInfo<'_>]) -> String {
    let positionals: String = positionals
        .iter()
        .filter(|positional| !positional.hidden)
        .map(|positional| match positional.optionality {
            Optionality::Required => format!(" {}", positional.name),
            _ => format!(" [{}]", positional.name),
        })
        .collect();
    let rest = program.rest.map(|rest| format!(" -- {rest}")).unwrap_or_default();
    format!("{} [options]{positionals}{rest}", program.name)
}

fn is_help(flag: &FlagInfo<'_>) -> bool {
    flag.long == "--help"
}

fn push_flags(out: &mut String, group: &CommandInfoWithArgs) {
    for flag in group.flags.iter().filter(|flag| !flag.hidden && !is_help(flag)) {
        push_described(out, &spelling(flag), flag.description);
    }
}

fn spelling(flag: &FlagInfo<'_>) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |letter| format!("-{letter}, "));
    match flag.kind {
        FlagInfoKind::Switch => format!("{short}{}", flag.long),
        FlagInfoKind::Option { arg_name } => format!("{short}{} <{arg_name}>", flag.long),
    }
}

/// One entry: the term, then its description, wrapped and indented.
fn push_described(out: &mut String, term: &str, description: &str) {
    let term = format!("  {term}");
    let text = wrapped(description, DESCRIPTION_COLUMN, LINE_CHARS_MAX);
    if term.chars().count() + 2 <= DESCRIPTION_COLUMN {
        push(out, format_args!("{term:DESCRIPTION_COLUMN$}{}", text.trim_start()));
    } else {
        push(out, format_args!("{term}\n{text}"));
    }
}

/// The text as lines of at most so many letters, each with this indent.
#[must_use]
pub fn wrapped(text: &str, indent: usize, letters: usize) -> String {
    let mut out = String::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let width = line.chars().count();
        if !line.is_empty() && indent + width + 1 + word.chars().count() > letters {
            push(&mut out, format_args!("{:indent$}{line}\n", ""));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    push(&mut out, format_args!("{:indent$}{line}\n", ""));
    out
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = out.write_fmt(text);
}
