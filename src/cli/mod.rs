//! Command lines of both binaries: what [`argh`] leaves out.
//!
//! argh derives the options from a struct, but knows no `-h`, no `--version` and no `--name=value`, ends
//! with 1 on a wrong command line, and cannot take arguments that are not UTF-8. So [`parse`] reads the
//! command line first, against the options that argh declares, and hands argh a plain form of it:
//!
//! - it stops at `--`; what comes after is returned as it is (the command of `semaphorectl run`);
//! - an unknown option is reported with the one that was probably meant;
//! - `-h`, `--help` and `--version` are answered here, with a help text that starts with examples
//!   (<https://clig.dev/#help>).
//!
//! Nothing here writes or exits; the caller does.

pub mod exit;
mod help;

use std::ffi::OsString;

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgs};

pub use self::help::help_text;
use crate::model::nearest;

/// A command line that is wrong. The exit code is [`exit::USAGE`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}\nTry `{program} --help`.")]
pub struct UsageError {
    /// What is wrong with it, and what would be right where that is known.
    pub message: String,
    /// The program, with the subcommand if there is one.
    pub program: String,
}

/// Whose command line it is.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Its name, with the subcommand if there is one.
    pub name: &'a str,
    /// What comes after `--`, for the help text: `command [arguments]`. Where it is `None`, the arguments
    /// after `--` are words like those before it, but no options.
    pub rest: Option<&'a str>,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation<T> {
    /// To do something.
    Do {
        /// The options.
        options: T,
        /// What came after `--`, where the program wants that apart; empty without `--`.
        rest: Vec<OsString>,
    },
    /// To say how it is used.
    Help(String),
    /// To say which version this is.
    Version,
}

/// Reads the arguments of `program` (without its own name) as the options `T`.
///
/// # Errors
/// An unknown option (with a suggestion), a missing or superfluous value, an argument before `--` that
/// is not UTF-8, and whatever the types of `T` refuse.
pub fn parse<T: FromArgs + ArgsInfo>(
    program: Program<'_>,
    arguments: &[OsString],
) -> Result<Invocation<T>, UsageError> {
    let usage = |message: String| UsageError { message, program: program.name.to_owned() };
    let info = T::get_args_info();
    let (own, rest) = split_at_separator(arguments);
    let mut plain = Plain::default();
    let mut words = own.iter();
    while let Some(word) = words.next() {
        let word = text(word).map_err(usage)?;
        match word {
            "-h" | "--help" => return Ok(Invocation::Help(help_text(program, &info))),
            "-V" | "--version" => return Ok(Invocation::Version),
            _ if word.len() < 2 || !word.starts_with('-') => plain.positionals.push(word),
            _ => {
                let (flag, attached) = find_flag(word, &info).map_err(usage)?;
                let value = match (&flag.kind, attached) {
                    (FlagInfoKind::Switch, None) => None,
                    (FlagInfoKind::Switch, Some(_)) => {
                        return Err(usage(format!("{} takes no value", flag.long)));
                    }
                    (FlagInfoKind::Option { .. }, Some(value)) => Some(value),
                    (FlagInfoKind::Option { .. }, None) => match words.next() {
                        Some(value) => Some(text(value).map_err(usage)?),
                        None => return Err(usage(format!("{} needs a value", flag.long))),
                    },
                };
                plain.flags.push(flag.long);
                plain.flags.extend(value);
            }
        }
    }
    let rest = rest.unwrap_or_default();
    let rest = if program.rest.is_some() {
        rest.to_vec()
    } else {
        for word in rest {
            plain.positionals.push(text(word).map_err(usage)?);
        }
        Vec::new()
    };
    match T::from_args(&[program.name], &plain.words()) {
        Ok(options) => Ok(Invocation::Do { options, rest }),
        Err(early) if early.status.is_ok() => Ok(Invocation::Help(help_text(program, &info))),
        Err(early) => Err(usage(first_lower(early.output.trim()))),
    }
}

/// A command line in the one form that argh reads rightly: options first, then `--`, then the rest.
#[derive(Default)]
struct Plain<'a> {
    flags: Vec<&'a str>,
    positionals: Vec<&'a str>,
}

impl<'a> Plain<'a> {
    fn words(self) -> Vec<&'a str> {
        let mut words = self.flags;
        words.push("--");
        words.extend(self.positionals);
        words
    }
}

/// The arguments before the first `--`, and those after it.
fn split_at_separator(arguments: &[OsString]) -> (&[OsString], Option<&[OsString]>) {
    match arguments.iter().position(|argument| argument == "--") {
        Some(at) => (&arguments[..at], Some(&arguments[at + 1..])),
        None => (arguments, None),
    }
}

fn text(word: &OsString) -> Result<&str, String> {
    word.to_str().ok_or_else(|| format!("{} is not UTF-8", word.display()))
}

/// The option that `word` names, and the value that is attached to it: `--name=value` or `-nvalue`.
fn find_flag<'a, 'i>(
    word: &'a str,
    info: &'i CommandInfoWithArgs,
) -> Result<(&'i FlagInfo<'static>, Option<&'a str>), String> {
    if word.starts_with("--") {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        return match info.flags.iter().find(|flag| flag.long == name) {
            Some(flag) => Ok((flag, value)),
            None => Err(unknown_flag(name, info)),
        };
    }
    let mut letters = word[1..].chars();
    let letter = letters.next();
    match info.flags.iter().find(|flag| flag.short.is_some() && flag.short == letter) {
        Some(flag) => {
            let attached = letters.as_str();
            Ok((flag, (!attached.is_empty()).then(|| attached.trim_start_matches('='))))
        }
        None => Err(unknown_flag(word, info)),
    }
}

fn unknown_flag(name: &str, info: &CommandInfoWithArgs) -> String {
    let known = info.flags.iter().filter(|flag| !flag.hidden).map(|flag| flag.long);
    // One dash too few is a slip of its own: -ttl.
    let name_long = format!("--{}", name.trim_start_matches('-'));
    match nearest(&name_long, known.chain(["--version"])) {
        Some(near) => format!("there is no option {name}. Did you mean {near}?"),
        None => format!("there is no option {name}"),
    }
}

/// argh starts its sentences in upper case; here they follow the program's name and a colon.
fn first_lower(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
