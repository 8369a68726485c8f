//! Presets: how to start a job on each system that is known here.
//!
//! A preset is one file and its line in [`PRESETS`]. It says which vars it needs and makes a request of a target,
//! an event and the vars; it does no IO. Each carries the claim's id and its fences to the job that it starts,
//! as `SEMAPHORE_CLAIM_ID` and `SEMAPHORE_FENCES` or in the place that the system has for such things.

mod generic;
mod github_dispatch;
mod gitlab_play;
mod gitlab_trigger;
mod jenkins_build;

use std::fmt;

use super::{
    event::{CLAIM_ID_VAR, Event, FENCES_VAR},
    target::Target,
    url::{Destination, RESERVED, UrlProblem, check_part},
};
use crate::model::{VARS_MAX, WallTime};

/// All of them, in the order of the documentation.
pub static PRESETS: [&Preset; 5] = [
    &generic::PRESET,
    &gitlab_trigger::PRESET,
    &gitlab_play::PRESET,
    &jenkins_build::PRESET,
    &github_dispatch::PRESET,
];

/// How to call one kind of system.
pub struct Preset {
    /// Its name in the configuration.
    pub name: &'static str,
    /// The page that describes the request; errors show it.
    pub docs: &'static str,
    /// What the target's secret is.
    pub secret: SecretUse,
    /// Whether a target names a `user`.
    pub has_user: bool,
    /// Whether a target may set `method`, `headers` and `template`, and its URL is called as it stands.
    pub is_generic: bool,
    /// The vars that a request needs.
    pub needs: &'static [Need],
    /// Names that no further var may have, for they mean something to the system.
    pub reserved: &'static [&'static str],
    /// Most vars besides those that it needs.
    pub further_vars_max: usize,
    /// Makes the request.
    pub(crate) request: fn(&Call<'_>) -> Result<Outgoing, Unfit>,
}

impl Preset {
    /// Whether a name means something to the service or to the system, so that no var may have it.
    pub(super) fn is_reserved(&self, name: &str) -> bool {
        [CLAIM_ID_VAR, FENCES_VAR].contains(&name) || self.reserved.contains(&name)
    }
}

impl fmt::Debug for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Preset {
    fn eq(&self, other: &Preset) -> bool {
        self.name == other.name
    }
}

/// What a target's secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretUse {
    /// A key that signs.
    WebhookKey,
    /// A token that is sent.
    Token,
}

/// A var that a request needs.
pub struct Need {
    /// Its name.
    pub name: &'static str,
    /// What it has to be, as a phrase that follows "must be".
    pub allowed: &'static str,
    /// Whether a value is that.
    pub fits: fn(&str) -> bool,
}

/// The preset of that name.
#[must_use]
pub(super) fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.into_iter().find(|preset| preset.name == name)
}

/// What a request is made of.
pub(crate) struct Call<'c> {
    pub(crate) target: &'c Target,
    pub(crate) event: &'c Event,
    /// The target's own and the claim's, in the order of their names.
    pub(crate) vars: &'c [(&'c str, &'c str)],
    pub(crate) now: WallTime,
}

/// Why no request can be made: the configuration has changed since the claim was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A var that is needed now is not there.
    #[error("the var `{0}` is missing")]
    VarMissing(&'static str),
    /// The vars make no URL.
    #[error("the vars make no URL: {0}")]
    Url(#[from] UrlProblem),
    /// The template, filled in, is too long.
    #[error("the template, filled in, has more than 262144 bytes")]
    TooLong,
    /// The secret is of the wrong kind.
    #[error("the secret does not fit the preset")]
    Secret,
}

impl<'c> Call<'c> {
    /// A var that the preset needs.
    fn var(&self, name: &'static str) -> Result<&'c str, Unfit> {
        let found = self.vars.iter().find(|(given, _)| *given == name);
        found.map(|(_, value)| *value).ok_or(Unfit::VarMissing(name))
    }

    /// The vars that the preset does not need itself: they are for the job.
    fn further(&self) -> impl Iterator<Item = (&'c str, &'c str)> {
        let needs = self.target.preset().needs;
        let vars = self.vars.iter().copied();
        vars.filter(move |(name, _)| needs.iter().all(|need| need.name != *name))
    }

    /// What a job gets: claim id, fences, and the further vars.
    fn for_the_job(&self) -> impl Iterator<Item = (&'c str, &'c str)> {
        self.event.job_vars().into_iter().chain(self.further())
    }

    fn token(&self) -> Result<&'c str, Unfit> {
        self.target.token().ok_or(Unfit::Secret)
    }

    /// A POST to the target's URL with `parts` after it.
    fn post(
        &self,
        parts: &[&str],
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Outgoing, Unfit> {
        let url = self.target.url().join(parts)?;
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Ok(Outgoing { method: Method::Post, url, headers: headers.collect(), body })
    }
}

/// A request that is ready to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// POST or PUT.
    pub method: Method,
    /// Where to.
    pub url: Destination,
    /// With their secrets.
    pub headers: Vec<(String, String)>,
    /// May have a secret in it.
    pub body: String,
}

/// Without headers and body, for they have secrets.
impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.url.as_str())
    }
}

/// How a receiver is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The usual one.
    #[default]
    Post,
    /// For receivers that want it.
    Put,
}

impl Method {
    /// In capitals.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Post => "POST",
            Method::Put => "PUT",
        }
    }
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

/// The body of a form: names and values, percent-encoded.
fn form<'a>(fields: impl Iterator<Item = (String, &'a str)>) -> String {
    let encode = |text: &str| percent_encoding::utf8_percent_encode(text, RESERVED).to_string();
    let fields = fields.map(|(name, value)| format!("{}={}", encode(&name), encode(value)));
    fields.collect::<Vec<_>>().join("&")
}

/// Parts between `/` that [`Destination::join`] takes, of these bytes.
fn is_path(text: &str, is_allowed: fn(u8) -> bool) -> bool {
    check_part(text).is_ok() && text.bytes().all(|b| b == b'/' || is_allowed(b))
}

#[cfg(test)]
mod tests;
