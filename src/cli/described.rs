//! What a help text is made of, for others who make something of it: manual pages and completions of shells
//! (`packaging/generate`).

use argh::CommandInfoWithArgs;

use super::Program;

/// A program, or one of its commands.
#[derive(Debug)]
pub struct Described {
    /// Its name, and what comes after `--`.
    pub program: Program<'static>,
    /// What it is for, in a few words.
    pub summary: &'static str,
    /// Its options in groups, as in [`super::help_text`]; the first has the description, the examples and the arguments.
    pub groups: Vec<CommandInfoWithArgs>,
}
