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

mod described;
pub mod exit;
mod help;

use std::ffi::OsString;

use argh::{
    ArgsInfo, CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgs, Optionality, PositionalInfo,
};

pub use self::{
    described::Described,
    help::{help_text, wrapped},
};
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

/// No options: where [`parse_groups`] has fewer groups than it could have.
#[derive(Debug, PartialEq, FromArgs, ArgsInfo)]
/// nothing
pub struct NoOptions {}

/// Reads the arguments of `program` (without its own name) as the options `T`.
///
/// # Errors
/// An unknown option (with a suggestion), a missing or superfluous value or argument, an argument before
/// `--` that is not UTF-8, and whatever the types of `T` refuse.
pub fn parse<T: FromArgs + ArgsInfo>(
    program: Program<'_>,
    arguments: &[OsString],
) -> Result<Invocation<T>, UsageError> {
    Ok(match parse_groups::<T, NoOptions, NoOptions>(program, arguments)? {
        Invocation::Do { options: (options, ..), rest } => Invocation::Do { options, rest },
        Invocation::Help(text) => Invocation::Help(text),
        Invocation::Version => Invocation::Version,
    })
}

/// As [`parse`], with options in three groups, so that commands can share some: argh itself has no way
/// for that. Arguments that are no options belong to the first group. In the help text each further group
/// is a list of its own, under its type's description.
///
/// # Errors
/// As [`parse`].
pub fn parse_groups<A, B, C>(
    program: Program<'_>,
    arguments: &[OsString],
) -> Result<Invocation<(A, B, C)>, UsageError>
where
    A: FromArgs + ArgsInfo,
    B: FromArgs + ArgsInfo,
    C: FromArgs + ArgsInfo,
{
    let usage = |message: String| UsageError { message, program: program.name.to_owned() };
    let infos = [A::get_args_info(), B::get_args_info(), C::get_args_info()];
    let (own, rest) = split_at_separator(arguments);
    let mut plain = Plain::default();
    match plain.read(own, &infos).map_err(usage)? {
        Some(Asked::Help) => return Ok(Invocation::Help(help_text(program, &infos))),
        Some(Asked::Version) => return Ok(Invocation::Version),
        None => {}
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
    check_positionals(program, infos[0].positionals, &plain.positionals).map_err(usage)?;
    let [a, b, c] = plain.groups();
    let options = (
        from_words::<A>(program, &a).map_err(usage)?,
        from_words::<B>(program, &b).map_err(usage)?,
        from_words::<C>(program, &c).map_err(usage)?,
    );
    Ok(Invocation::Do { options, rest })
}

fn from_words<T: FromArgs>(program: Program<'_>, words: &[&str]) -> Result<T, String> {
    T::from_args(&[program.name], words).map_err(|early| first_lower(early.output.trim()))
}

/// What comes before everything else on a command line.
enum Asked {
    Help,
    Version,
}

/// A command line in the one form that argh reads rightly: options first, then `--`, then the rest.
#[derive(Default)]
struct Plain<'a> {
    flags: [Vec<&'a str>; 3],
    positionals: Vec<&'a str>,
}

impl<'a> Plain<'a> {
    /// Sorts the words into their groups.
    fn read(
        &mut self,
        words: &'a [OsString],
        infos: &[CommandInfoWithArgs; 3],
    ) -> Result<Option<Asked>, String> {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let word = text(word)?;
            match word {
                "-h" | "--help" => return Ok(Some(Asked::Help)),
                "-V" | "--version" => return Ok(Some(Asked::Version)),
                _ if word.len() < 2 || !word.starts_with('-') => self.positionals.push(word),
                _ => {
                    let (group, flag, attached) = find_flag(word, infos)?;
                    let value = match (&flag.kind, attached) {
                        (FlagInfoKind::Switch, None) => None,
                        (FlagInfoKind::Switch, Some(_)) => {
                            return Err(format!("{} takes no value", flag.long));
                        }
                        (FlagInfoKind::Option { .. }, Some(value)) => Some(value),
                        (FlagInfoKind::Option { .. }, None) => match words.next() {
                            Some(value) => Some(text(value)?),
                            None => return Err(format!("{} needs a value", flag.long)),
                        },
                    };
                    self.flags[group].push(flag.long);
                    self.flags[group].extend(value);
                }
            }
        }
        Ok(None)
    }

    fn groups(self) -> [Vec<&'a str>; 3] {
        let [mut first, second, third] = self.flags;
        first.push("--");
        first.extend(self.positionals);
        [first, second, third]
    }
}

/// Whether there are as many arguments as the command wants. argh would say so as well, but not on one
/// line.
fn check_positionals(
    program: Program<'_>,
    known: &[PositionalInfo<'_>],
    given: &[&str],
) -> Result<(), String> {
    let mut needed = known.iter().filter(|p| matches!(p.optionality, Optionality::Required));
    if let Some(missing) = needed.nth(given.len()) {
        return Err(format!("{} is missing: {}", missing.name, help::usage_line(program, known)));
    }
    let takes_all =
        known.iter().any(|p| matches!(p.optionality, Optionality::Repeating | Optionality::Greedy));
    match given.get(known.len()) {
        Some(superfluous) if !takes_all => Err(format!("`{superfluous}` is one argument too many")),
        _ => Ok(()),
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

/// The option that `word` names with its group, and the value that is attached to it: `--name=value` or
/// `-nvalue`.
fn find_flag<'a, 'i>(
    word: &'a str,
    infos: &'i [CommandInfoWithArgs; 3],
) -> Result<(usize, &'i FlagInfo<'static>, Option<&'a str>), String> {
    let known = || {
        infos
            .iter()
            .enumerate()
            .flat_map(|(group, info)| info.flags.iter().map(move |f| (group, f)))
    };
    if word.starts_with("--") {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        return match known().find(|(_, flag)| flag.long == name) {
            Some((group, flag)) => Ok((group, flag, value)),
            None => Err(unknown_flag(name, known().map(|(_, flag)| flag))),
        };
    }
    let mut letters = word[1..].chars();
    let letter = letters.next();
    match known().find(|(_, flag)| flag.short.is_some() && flag.short == letter) {
        Some((group, flag)) => {
            let attached = letters.as_str();
            let value = (!attached.is_empty()).then(|| attached.trim_start_matches('='));
            Ok((group, flag, value))
        }
        None => Err(unknown_flag(word, known().map(|(_, flag)| flag))),
    }
}

fn unknown_flag<'i>(name: &str, known: impl Iterator<Item = &'i FlagInfo<'static>>) -> String {
    let known = known.filter(|flag| !flag.hidden).map(|flag| flag.long);
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
