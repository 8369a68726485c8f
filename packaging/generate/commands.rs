//! The client's commands as completions need them.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};
use semaphored::{cli::Described, client};

/// A command with all its options.
pub(super) struct Command {
    /// `["token", "list"]`
    pub(super) words: Vec<&'static str>,
    pub(super) summary: &'static str,
    pub(super) options: Vec<CommandOption>,
    /// Names of its arguments.
    pub(super) arguments: Vec<&'static str>,
    /// Whether a command line of another program comes after `--`.
    pub(super) runs: bool,
}

/// An option.
pub(super) struct CommandOption {
    pub(super) long: &'static str,
    pub(super) short: Option<char>,
    /// What stands for its value, if it has one.
    pub(super) value: Option<&'static str>,
    pub(super) repeats: bool,
    pub(super) description: String,
}

/// Words that an option may have as its value; a test finds each in the option's description.
pub(crate) const VALUES: [(&str, &[&str]); 3] = [
    ("--on-lost", &["warn", "terminate"]),
    ("--scope", &["read", "claim", "admin"]),
    ("--state", &["waiting", "offered", "held"]),
];

/// Topics of `help` besides the commands.
pub(super) const TOPICS: [(&str, &str); 1] = [("exit-codes", "what the exit codes mean")];

/// The words that an option may have as its value.
pub(super) fn values(option: &CommandOption) -> &'static [&'static str] {
    VALUES.iter().find(|(long, _)| *long == option.long).map_or(&[], |(_, values)| values)
}

/// Whether a file is meant.
pub(super) fn is_file(name: &str) -> bool {
    name == "FILE"
}

/// All commands of the client.
pub(super) fn of_client() -> Vec<Command> {
    client::described().iter().map(command).collect()
}

/// The first words of all commands, each once, with what is to be said about them.
pub(super) fn first_words(commands: &[Command]) -> Vec<(&'static str, &'static str)> {
    let mut words: Vec<(&str, &str)> = Vec::new();
    for command in commands {
        let summary =
            if command.words.len() == 1 { command.summary } else { "make, show and end tokens" };
        if words.last().is_none_or(|(last, _)| *last != command.words[0]) {
            words.push((command.words[0], summary));
        }
    }
    words
}

/// The second words of the commands whose first word is this one.
pub(super) fn second_words(commands: &[Command], first: &str) -> Vec<(&'static str, &'static str)> {
    let of_it = commands.iter().filter(|command| command.words[0] == first);
    of_it.filter_map(|command| Some((*command.words.get(1)?, command.summary))).collect()
}

/// Those of the first words that have second ones.
pub(super) fn groups(commands: &[Command]) -> Vec<&'static str> {
    let words = first_words(commands).into_iter().map(|(word, _)| word);
    words.filter(|word| !second_words(commands, word).is_empty()).collect()
}

fn command(described: &Described) -> Command {
    let mut options: Vec<_> = described.groups.iter().flat_map(options_of).collect();
    for (long, short, description) in
        [("--help", Some('h'), "this text"), ("--version", None, "the version")]
    {
        let description = description.to_owned();
        options.push(CommandOption { long, short, value: None, repeats: false, description });
    }
    let own = &described.groups[0];
    Command {
        words: described.program.name.split(' ').skip(1).collect(),
        summary: described.summary,
        options,
        arguments: own.positionals.iter().filter(|p| !p.hidden).map(|p| p.name).collect(),
        runs: described.program.rest.is_some(),
    }
}

/// The options of a group that a help text shows.
pub(super) fn flags(
    group: &CommandInfoWithArgs,
) -> impl Iterator<Item = &'static FlagInfo<'static>> {
    group.flags.iter().filter(|flag| !flag.hidden && flag.long != "--help")
}

fn options_of(group: &CommandInfoWithArgs) -> Vec<CommandOption> {
    let option = |flag: &FlagInfo<'static>| CommandOption {
        long: flag.long,
        short: flag.short,
        value: match flag.kind {
            FlagInfoKind::Switch => None,
            FlagInfoKind::Option { arg_name } => Some(arg_name),
        },
        repeats: matches!(flag.optionality, Optionality::Repeating),
        description: flag.description.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    flags(group).map(option).collect()
}
