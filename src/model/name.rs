//! Names and texts that come from clients: parsed once, valid ever after.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::Invalid;

/// Longest claim id, in bytes.
pub const CLAIM_ID_BYTES_MAX: usize = 128;
/// Longest semaphore name, in bytes.
pub(super) const SEMAPHORE_NAME_BYTES_MAX: usize = 64;
/// Longest holder, in bytes of UTF-8.
pub(super) const HOLDER_BYTES_MAX: usize = 512;
/// Most labels of a claim.
pub(super) const LABELS_MAX: usize = 16;
/// Longest label key, in bytes.
pub(super) const LABEL_KEY_BYTES_MAX: usize = 64;
/// Longest label value, in bytes of UTF-8.
pub(super) const LABEL_VALUE_BYTES_MAX: usize = 256;
/// Longest note (an admin's reason, a semaphore's description), in bytes of UTF-8.
pub(super) const NOTE_BYTES_MAX: usize = 512;
/// Longest name of a token, in bytes of UTF-8.
const TOKEN_NAME_BYTES_MAX: usize = 128;
/// Longest URL of a callback, in bytes.
pub(super) const CALLBACK_URL_BYTES_MAX: usize = 2_048;

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $check:expr, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the grammar.
            ///
            /// # Errors
            /// When `text` breaks it; the error says what is allowed.
            pub fn new(text: &str) -> Result<$name, Invalid> {
                let check: fn(&str) -> bool = $check;
                if check(text) { Ok($name(text.into())) } else { Err(Invalid::new($allowed)) }
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<$name, Invalid> {
                $name::new(&text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_type! {
    /// A claim's id, chosen by the client: 1 to 128 of `A-Z a-z 0-9 . _ ~ -` (the unreserved characters
    /// of RFC 3986), and not `.` or `..`, which clients and proxies remove from paths.
    ClaimId,
    |text| {
        (1..=CLAIM_ID_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b))
            && text != "."
            && text != ".."
    },
    "1 to 128 of A-Z a-z 0-9 . _ ~ - and not \".\" or \"..\""
}

text_type! {
    /// A semaphore's name: a letter or digit, then up to 63 of `A-Z a-z 0-9 _ -`.
    SemaphoreName,
    |text| {
        (1..=SEMAPHORE_NAME_BYTES_MAX).contains(&text.len())
            && text.as_bytes()[0].is_ascii_alphanumeric()
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    },
    "1 to 64 of A-Z a-z 0-9 _ - that start with a letter or digit"
}

text_type! {
    /// Who claims: free text, by custom the job's URL or name.
    Holder,
    |text| (1..=HOLDER_BYTES_MAX).contains(&text.len()) && !has_control(text),
    "1 to 512 bytes of text without control characters"
}

text_type! {
    /// A sentence from an admin: why a claim was revoked, what a semaphore stands for.
    Note,
    |text| (1..=NOTE_BYTES_MAX).contains(&text.len()) && !has_control(text),
    "1 to 512 bytes of text without control characters"
}

text_type! {
    /// The name of a callback target in the configuration: the grammar of a semaphore's name.
    TargetName,
    |text| SemaphoreName::new(text).is_ok(),
    "1 to 64 of A-Z a-z 0-9 _ - that start with a letter or digit"
}

text_type! {
    /// The URL of a callback: 1 to 2,048 visible ASCII characters. Whether it is one, and one that the service
    /// calls, is for the callbacks' own checks.
    CallbackUrl,
    |text| {
        (1..=CALLBACK_URL_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
    },
    "a URL of 1 to 2048 visible ASCII characters"
}

text_type! {
    /// What a job calls itself when it takes a claim over: the grammar of a claim's id.
    JobId,
    |text| ClaimId::new(text).is_ok(),
    "1 to 128 of A-Z a-z 0-9 . _ ~ - and not \".\" or \"..\""
}

text_type! {
    /// The public part of a token: 4 to 32 of `a-z 0-9`.
    TokenId,
    |text| (4..=32).contains(&text.len()) && text.bytes().all(super::token::is_token_byte),
    "4 to 32 of a-z 0-9"
}

text_type! {
    /// What people call a token: the farm, machine or person that has it.
    TokenName,
    |text| (1..=TOKEN_NAME_BYTES_MAX).contains(&text.len()) && !has_control(text),
    "1 to 128 bytes of text without control characters"
}

fn has_control(text: &str) -> bool {
    text.chars().any(char::is_control)
}

/// A claim's labels, in the order of their keys: at most 16, keys of 1 to 64 bytes, values of at most
/// 256 bytes, no control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, String)>")]
pub struct Labels(Box<[(String, String)]>);

impl Labels {
    /// Checks the bounds and sorts by key.
    ///
    /// # Errors
    /// Too many labels, a key or value too long, a control character, or one key twice.
    pub fn new(mut labels: Vec<(String, String)>) -> Result<Labels, Invalid> {
        labels.sort();
        let fits = |(key, value): &(String, String)| {
            (1..=LABEL_KEY_BYTES_MAX).contains(&key.len())
                && value.len() <= LABEL_VALUE_BYTES_MAX
                && !has_control(key)
                && !has_control(value)
        };
        let unique = labels.windows(2).all(|pair| pair[0].0 != pair[1].0);
        if labels.len() <= LABELS_MAX && unique && labels.iter().all(fits) {
            Ok(Labels(labels.into()))
        } else {
            Err(Invalid::new(
                "at most 16 labels with keys of 1 to 64 and values of up to 256 bytes, \
                 without control characters",
            ))
        }
    }

    /// Key and value of each label, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<(String, String)>> for Labels {
    type Error = Invalid;

    fn try_from(labels: Vec<(String, String)>) -> Result<Labels, Invalid> {
        Labels::new(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claim_ids() {
        let longest = "a".repeat(128);
        for good in ["7f3c", "a.b", "...", "~", "-", longest.as_str()] {
            assert!(ClaimId::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a%20", &"a".repeat(129)] {
            assert!(ClaimId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn semaphore_names() {
        let longest = "a".repeat(64);
        for good in ["FlexLM-Riviera", "a", "7", "a_b-c", longest.as_str()] {
            assert!(SemaphoreName::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", "-a", "_a", "a.b", "a b", "ä", &"a".repeat(65)] {
            assert!(SemaphoreName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn labels_are_bounded_and_sorted() {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = Labels::new(vec![label("b", "2"), label("a", "")]).unwrap();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("a", ""), ("b", "2")]);
        assert!(Labels::new(vec![label("a", "1"), label("a", "2")]).is_err());
        assert!(Labels::new(vec![label("", "1")]).is_err());
        assert!(Labels::new(vec![label("a", "x\ny")]).is_err());
        assert!(Labels::new((0..17).map(|n| label(&n.to_string(), "")).collect()).is_err());
    }
}
