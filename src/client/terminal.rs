//! What standard output and standard error lead to: a terminal, with a size and perhaps colours, or a file
//! or pipe, which gets plain and whole lines.
//!
//! Colours are the terminal's own sixteen, so that they fit a light and a dark background alike, and never
//! say what the words do not. None where `NO_COLOR` is set (<https://no-color.org>), none and no rewriting
//! where `TERM` is `dumb` or not set.

use std::io::{IsTerminal, stderr, stdout};

use super::unix;

/// Columns of a terminal that does not say.
const WIDTH_DEFAULT: usize = 80;
/// Rows of a terminal that does not say.
const HEIGHT_DEFAULT: usize = 24;

/// Where output goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Terminal {
    /// Columns and rows; none where it is no terminal.
    pub(super) size: Option<(usize, usize)>,
    /// Whether colours are wanted.
    pub(super) colour: bool,
}

/// How a text is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    /// As any other.
    #[default]
    Plain,
    /// As a title.
    Strong,
    /// All is well.
    Good,
    /// Worth a look.
    Warn,
    /// Something is wrong.
    Bad,
}

impl Terminal {
    /// Where standard output goes.
    pub(super) fn of_output() -> Terminal {
        Terminal::of(stdout().is_terminal(), || unix::window_size(stdout()))
    }

    /// Where standard error goes.
    pub(super) fn of_errors() -> Terminal {
        Terminal::of(stderr().is_terminal(), || unix::window_size(stderr()))
    }

    fn of(is_terminal: bool, size: impl FnOnce() -> Option<(usize, usize)>) -> Terminal {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if !is_terminal || set("TERM").is_none_or(|term| term == "dumb") {
            return Terminal::default();
        }
        Terminal {
            size: Some(size().unwrap_or((WIDTH_DEFAULT, HEIGHT_DEFAULT))),
            colour: set("NO_COLOR").is_none(),
        }
    }

    /// Columns, where lines have to fit.
    pub(super) fn width(self) -> Option<usize> {
        self.size.map(|(width, _)| width)
    }

    /// The text in the colour of its tone.
    pub(super) fn paint(self, text: &str, tone: Tone) -> String {
        let code = match tone {
            _ if !self.colour || text.is_empty() => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
