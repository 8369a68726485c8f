//! What the configuration says of callbacks, before it is checked, and what can be wrong with it.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use super::{
    address::Refused,
    allowed::AllowedProblem,
    secret::{SecretProblem, SecretSource},
    template::TemplateProblem,
    url::UrlProblem,
};
use crate::model::{Invalid, TargetName};

/// Most targets.
pub const TARGETS_MAX: usize = 64;
/// Most entries of what clients' own URLs may be.
pub const ALLOW_MAX: usize = 64;
/// Most headers that a target sets.
pub const HEADERS_MAX: usize = 32;
/// Most ranges that a target or entry allows.
pub const CIDRS_MAX: usize = 16;
/// How long a delivery may take, if nothing else is said.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Longest time that a delivery may take.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// `[callbacks]`, as it stands in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long a delivery may take, from 1 s to 60 s.
    pub timeout: Duration,
    /// `[callbacks.targets.NAME]`.
    pub targets: BTreeMap<TargetName, TargetSettings>,
    /// `[[callbacks.allow]]`.
    pub allow: Vec<AllowSettings>,
    /// The file, to see who can read the secrets in it.
    pub config_file: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`.
    pub credentials: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timeout: TIMEOUT_DEFAULT,
            targets: BTreeMap::new(),
            allow: Vec::new(),
            config_file: None,
            credentials: None,
        }
    }
}

/// A declared target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetSettings {
    /// Where it stands in the file.
    pub line: Option<usize>,
    /// How to call it.
    pub preset: String,
    /// Where it is.
    pub url: String,
    /// The secret, and the one before it.
    pub secrets: SecretSettings,
    /// The user of the token.
    pub user: Option<String>,
    /// `POST` or `PUT`.
    pub method: Option<String>,
    /// Further headers; their values may be secrets.
    pub headers: Vec<(String, SecretSource)>,
    /// The body, a JSON document with placeholders.
    pub template: Option<String>,
    /// Vars that are the same for all claims.
    pub vars: Vec<(String, String)>,
    /// Further vars that a claim may give: names, or beginnings with a `*` behind.
    pub allow_vars: Option<Vec<String>>,
    /// Ranges that its name may resolve to besides public ones.
    pub allow_cidrs: Vec<String>,
}

/// What clients' own URLs may be: one of `url` and `host`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AllowSettings {
    /// Where it stands in the file.
    pub line: Option<usize>,
    /// A URL; what is below it if it ends with `/`.
    pub url: Option<String>,
    /// A host, or host and port, with https.
    pub host: Option<String>,
    /// The secret, and the one before it.
    pub secrets: SecretSettings,
    /// Ranges that its name may resolve to besides public ones.
    pub allow_cidrs: Vec<String>,
}

/// The secrets of a target or an entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SecretSettings {
    /// The present one.
    pub present: Option<SecretSource>,
    /// The one before it, while receivers change over.
    pub previous: Option<SecretSource>,
}

/// What is wrong with the configuration of callbacks, and where.
#[derive(Debug)]
pub struct ConfigError {
    /// The line in the file, where it is known.
    pub line: Option<usize>,
    /// Which part.
    pub place: Place,
    /// What is wrong with it.
    pub problem: ConfigProblem,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// A part of the configuration of callbacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// All of it.
    Callbacks,
    /// A target.
    Target(TargetName),
    /// An entry, counted from 1.
    Allow(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Callbacks => f.write_str("[callbacks]"),
            Place::Target(name) => write!(f, "callback target {name}"),
            Place::Allow(number) => write!(f, "[[callbacks.allow]] number {number}"),
        }
    }
}

/// What is wrong. The texts follow the name of the place.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    /// More than there may be.
    #[error("there may be at most {max} {of}")]
    TooMany {
        /// Of what.
        of: &'static str,
        /// The bound.
        max: usize,
    },
    /// Out of range.
    #[error("`timeout` must be from 1s to 60s")]
    Timeout,
    /// No such preset.
    #[error("there is no preset {given:?}{}; there are {known}", suggest(.nearest))]
    Preset {
        /// What stands there.
        given: String,
        /// The one that is spelt nearly so.
        nearest: Option<&'static str>,
        /// All of them.
        known: String,
    },
    /// The URL is none.
    #[error("`url = {url:?}`: {problem}")]
    Url {
        /// What stands there.
        url: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// A preset adds its path to the URL.
    #[error("`url = {url:?}` must not have a query: preset {preset} adds its own path; see {docs}")]
    UrlQuery {
        /// What stands there.
        url: String,
        /// The preset.
        preset: &'static str,
        /// Its documentation.
        docs: &'static str,
    },
    /// The URL's host is an address that is not sent to.
    #[error("{0}")]
    Address(Refused),
    /// There is no secret.
    #[error(
        "a secret is missing: set one of `secret_file`, `secret_credential` and `secret` to {what}"
    )]
    SecretMissing {
        /// What it has to be.
        what: &'static str,
    },
    /// The secret cannot be used.
    #[error("`{key}`: {problem}")]
    Secret {
        /// `secret` or `previous_secret`.
        key: &'static str,
        /// What is wrong with it.
        problem: SecretProblem,
    },
    /// A header cannot carry it.
    #[error("`secret`: a token is sent in a header, so it must be visible ASCII without blanks")]
    SecretNotVisible,
    /// A key that the preset has no use for.
    #[error("preset {preset} has no use for `{key}`: leave it out; see {docs}")]
    Unused {
        /// The key.
        key: &'static str,
        /// The preset.
        preset: &'static str,
        /// Its documentation.
        docs: &'static str,
    },
    /// Basic authentication needs a user.
    #[error(
        "`user` is missing or wrong: the user of the API token, visible ASCII without `:`; see {docs}"
    )]
    User {
        /// The preset's documentation.
        docs: &'static str,
    },
    /// Not POST or PUT.
    #[error("`method` must be \"POST\" or \"PUT\", not {0:?}")]
    Method(String),
    /// Not a token (RFC 9110).
    #[error(
        "`headers`: a header's name must be letters, digits and `-`; it stands before the `=`, its value behind"
    )]
    HeaderName,
    /// One that is ours to set.
    #[error("the header {0} is set by the service itself: leave it out")]
    HeaderForbidden(String),
    /// The value of a header cannot be read.
    #[error("`headers.{name}`: {problem}")]
    Header {
        /// The header.
        name: String,
        /// What is wrong with it.
        problem: SecretProblem,
    },
    /// A control character, or beyond ASCII.
    #[error("the value of the header {0} must be visible ASCII and blanks")]
    HeaderValue(String),
    /// One name in two spellings.
    #[error("the header {0} is there twice")]
    HeaderTwice(String),
    /// The template is none.
    #[error("{0}")]
    Template(TemplateProblem),
    /// The vars break their grammar.
    #[error("`vars` must be {0}")]
    Vars(Invalid),
    /// Not the name of a var.
    #[error(
        "`allow_vars`: {0:?} is no name of a var: write letters, digits and `_` (no digit first), with a `*` at the end \
         for all that begin so"
    )]
    AllowVar(String),
    /// Two keys that say the same.
    #[error(
        "`allow_vars` has no use beside `template`, which names the vars of a claim: leave it out"
    )]
    AllowVarsAndTemplate,
    /// A var that the preset does not take.
    #[error(
        "`vars.{name}` is not for you to set: preset {preset} uses the name itself; see {docs}"
    )]
    VarReserved {
        /// The var.
        name: String,
        /// The preset.
        preset: &'static str,
        /// Its documentation.
        docs: &'static str,
    },
    /// A var whose value does not fit.
    #[error("`vars.{name}` must be {allowed}; see {docs}")]
    Var {
        /// The var.
        name: &'static str,
        /// What it has to be.
        allowed: &'static str,
        /// The preset's documentation.
        docs: &'static str,
    },
    /// Not a range.
    #[error("`allow_cidrs`: {0:?} is no range of addresses; write one such as \"10.0.0.0/8\"")]
    Cidr(String),
    /// A range with bits behind its prefix.
    #[error("`allow_cidrs`: {given:?} is not the first address of its range: write \"{meant}\"")]
    CidrHost {
        /// What stands there.
        given: String,
        /// The range that it is in.
        meant: String,
    },
    /// The entry permits nothing.
    #[error("{0}")]
    Allowed(AllowedProblem),
    /// Two entries, of which the second would never count.
    #[error("this permits what number {0} permits already: leave one of them out")]
    AllowTwice(usize),
    /// Neither or both of two keys.
    #[error("set one of `url` and `host`")]
    UrlOrHost,
}

fn suggest(nearest: &Option<&'static str>) -> String {
    nearest.map_or(String::new(), |name| format!(", did you mean {name:?}?"))
}
