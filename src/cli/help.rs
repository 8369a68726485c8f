//! Help texts from what argh knows of the options: purpose, examples, then every option.

use std::fmt::Write as _;

use super::Program;
use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

/// Column at which descriptions start.
const DESCRIPTION_COLUMN: usize = 30;
/// Longest line.
const LINE_CHARS_MAX: usize = 96;

/// The help text of `program` with these options, ready to be written.
#[must_use]
pub fn help_text(program: Program<'_>, info: &CommandInfoWithArgs) -> String {
    let mut out = format!("{}\n", info.description);
    if !info.examples.is_empty() {
        out.push_str("\nExamples\n");
        for example in info.examples {
            push(&mut out, format_args!("  {example}\n"));
        }
    }
    let positionals: String = info
        .positionals
        .iter()
        .filter(|positional| !positional.hidden)
        .map(|positional| match positional.optionality {
            Optionality::Required => format!(" {}", positional.name),
            _ => format!(" [{}]", positional.name),
        })
        .collect();
    let rest = program.rest.map(|rest| format!(" -- {rest}")).unwrap_or_default();
    push(&mut out, format_args!("\nUsage: {} [options]{positionals}{rest}\n", program.name));
    if !info.positionals.is_empty() {
        out.push_str("\nArguments\n");
        for positional in info.positionals.iter().filter(|positional| !positional.hidden) {
            push_described(&mut out, positional.name, positional.description);
        }
    }
    out.push_str("\nOptions\n");
    for flag in info.flags.iter().filter(|flag| !flag.hidden && flag.long != "--help") {
        push_described(&mut out, &spelling(flag), flag.description);
    }
    push_described(&mut out, "-h, --help", "this text");
    push_described(&mut out, "    --version", "the version");
    if !info.commands.is_empty() {
        out.push_str("\nCommands\n");
        for command in &info.commands {
            push_described(&mut out, command.name, command.command.description);
        }
    }
    for note in info.notes {
        push(&mut out, format_args!("\n{note}\n"));
    }
    out
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
    let mut line = format!("  {term}");
    let mut room = line.chars().count() + 2 <= DESCRIPTION_COLUMN;
    for word in description.split_whitespace() {
        if !room || line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            push(out, format_args!("{}\n", line.trim_end()));
            line.clear();
            room = true;
        }
        let width = line.chars().count();
        if width < DESCRIPTION_COLUMN {
            line.extend(std::iter::repeat_n(' ', DESCRIPTION_COLUMN - width));
        } else {
            line.push(' ');
        }
        line.push_str(word);
    }
    push(out, format_args!("{}\n", line.trim_end()));
}

fn push(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = out.write_fmt(text);
}
