//! The token by which the service knows us: where it comes from, and that it is never shown.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
};

use super::{Failure, unix};
use crate::{cli::exit, model::id_in_token};

/// The variable with the token itself.
pub(super) const TOKEN_VARIABLE: &str = "SEMAPHORE_TOKEN";
/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 4_096;
/// How long the id after that may be, in bytes, and what is at least behind it.
const ID_BYTES: std::ops::RangeInclusive<usize> = 4..=32;
/// Why there is no such option, and what there is instead.
pub(super) const NO_TOKEN_OPTION: &str = "there is no option --token, for everybody on this machine can read the command \
     lines of its processes: set SEMAPHORE_TOKEN, or give --token-file FILE";

/// A token. It is sent as it was given, and shows nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token {
    text: String,
    source: TokenSource,
}

/// Where a token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenSource {
    /// `SEMAPHORE_TOKEN`.
    Variable,
    /// `--token-file`.
    File {
        /// Its path.
        path: String,
        /// Whether others than its owner can read it.
        open_to_others: bool,
    },
}

impl Token {
    /// The token in this text, which is that of the variable.
    ///
    /// # Errors
    /// [`exit::CONFIGURATION`] where no header could carry it.
    pub(super) fn from_variable(text: &str) -> Result<Token, Failure> {
        Token::new(text, TokenSource::Variable)
    }

    /// The token in this file.
    ///
    /// # Errors
    /// [`exit::CONFIGURATION`] where the file cannot be read, or no header could carry what is in it.
    pub(super) fn from_file(path: &str) -> Result<Token, Failure> {
        let (text, open_to_others) = read(path).map_err(|error| {
            let message = format!(
                "cannot read the token from {path}: {error}; --token-file wants the path of a file that this user may \
                 read, with the token in it"
            );
            Failure::new(exit::CONFIGURATION, message)
        })?;
        Token::new(&text, TokenSource::File { path: path.to_owned(), open_to_others })
    }

    fn new(text: &str, source: TokenSource) -> Result<Token, Failure> {
        let text = text.trim();
        let place = match &source {
            TokenSource::Variable => TOKEN_VARIABLE.to_owned(),
            TokenSource::File { path, .. } => path.clone(),
        };
        let wrong = |what: &str| {
            Err(Failure::new(exit::CONFIGURATION, format!("{place} must hold a token: {what}")))
        };
        match text.len() {
            0 => wrong("it is empty"),
            length if length > TOKEN_BYTES_MAX => {
                wrong("it has more than 4096 bytes; is it the right one?")
            }
            _ if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                wrong("one line of visible ASCII characters without spaces")
            }
            _ => Ok(Token { text: text.to_owned(), source }),
        }
    }

    /// The token itself, for the `Authorization` header.
    pub(super) fn reveal(&self) -> &str {
        &self.text
    }

    /// Where it comes from.
    pub(super) fn source(&self) -> &TokenSource {
        &self.source
    }

    /// The file with it, where others can read that.
    pub(super) fn open_file(&self) -> Option<&str> {
        match &self.source {
            TokenSource::File { path, open_to_others: true } => Some(path),
            _ => None,
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("source", &self.source).finish_non_exhaustive()
    }
}

/// What is in a file, as far as it may be a token, and whether others can read it.
fn read(path: &str) -> io::Result<(String, bool)> {
    let file = File::open(path)?;
    let open_to_others = unix::is_open_to_others(&file)?;
    let mut text = String::new();
    // With room for what is trimmed; a device would have no end.
    file.take(2 * TOKEN_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok((text, open_to_others))
}

/// Whether these are arguments of somebody who expects `--token`. What follows it is not looked at, and must not be
/// shown.
pub(super) fn is_token_option(word: &str) -> bool {
    matches!(word.split('=').next(), Some("--token" | "-token"))
}

/// The id of a token, as it was given on the command line. No message shows what was given where it is a whole token.
///
/// # Errors
/// [`exit::USAGE`] where it is none.
pub(super) fn token_id(text: &str) -> Result<&str, Failure> {
    if let Some(id) = id_in_token(text) {
        return Err(Failure::usage(format!(
            "that is a whole token, which nobody should see on a command line; its id is {id}"
        )));
    }
    if ID_BYTES.contains(&text.len()) && text.bytes().all(is_token_byte) {
        return Ok(text);
    }
    Err(Failure::usage(format!("the id of a token must be 4 to 32 of a-z 0-9; it is {text:?}")))
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_as_it_is_but_for_what_is_around_it() {
        let token = Token::from_variable(" t0ken\r\n").unwrap();
        assert_eq!(token.reveal(), "t0ken");
        assert!(!format!("{token:?}").contains("t0ken"));
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for (text, expected) in [
            (" \n", "it is empty"),
            ("t0 ken", "without spaces"),
            ("t0\x1bken", "without spaces"),
            ("t0\nken", "without spaces"),
            ("t0kän", "without spaces"),
            (&long, "more than 4096 bytes"),
        ] {
            let failure = Token::from_variable(text).unwrap_err();
            assert_eq!(failure.exit, exit::CONFIGURATION);
            assert!(failure.message.starts_with("SEMAPHORE_TOKEN must hold a token: "));
            assert!(failure.message.contains(expected), "{}", failure.message);
            assert!(!failure.message.contains("t0"), "{}", failure.message);
        }
    }
}
