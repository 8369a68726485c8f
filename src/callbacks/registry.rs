//! All targets and permitted URLs: what the rest of the service asks about callbacks.
//!
//! Made anew when the configuration is read again; it never changes. A claim's callback is checked when the claim
//! is made and again before each try, for the configuration may have changed between. No locks; [`Registry::deliver`]
//! blocks for at most the timeout.

use std::{collections::BTreeMap, fmt, time::Duration};

use ipnet::IpNet;

use super::{
    address,
    allowed::Allowed,
    declared,
    event::Event,
    lookups::LOOKUPS_OF_NAME_MAX,
    presets::{Method, Outgoing},
    refusal::Refusal,
    schedule::LANE_RUNNING_MAX,
    secret::{SecretSource, readable_by_others},
    settings::{
        ALLOW_MAX, AllowSettings, ConfigError, ConfigProblem, Place, Settings, TARGETS_MAX,
        TIMEOUT_MAX,
    },
    signature::{self, Keys},
    target::Target,
    transport::{MayBegin, Sent, Transport},
    url::{Destination, Host},
};
use crate::model::{Callback, CallbackUrl, TargetName, WallTime, nearest};

/// The targets and what clients' own URLs may be.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    targets: BTreeMap<TargetName, Target>,
    allow: Vec<Entry>,
    timeout: Duration,
    transport: Transport,
}

#[derive(Clone, Debug)]
struct Entry {
    allowed: Allowed,
    keys: Keys,
    allow: Vec<IpNet>,
}

/// Callbacks with the same key go to the same receiver and wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LaneKey {
    /// A target.
    Target(TargetName),
    /// An entry of `[[callbacks.allow]]`, by its URL.
    Allow(String),
}

impl fmt::Display for LaneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LaneKey::Target(name) => write!(f, "{name}"),
            LaneKey::Allow(url) => f.write_str(url),
        }
    }
}

/// A target as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<'r> {
    /// Its name.
    pub name: &'r TargetName,
    /// How it is called.
    pub preset: &'static str,
    /// Scheme, host and port of its URL.
    pub origin: String,
}

impl Registry {
    /// Checks the configuration and reads the secrets. With the registry come warnings, one line each.
    ///
    /// # Errors
    /// Something in the configuration is wrong, or a secret cannot be read.
    pub fn new(settings: &Settings) -> Result<(Registry, Vec<String>), ConfigError> {
        let whole = |problem| ConfigError { line: None, place: Place::Callbacks, problem };
        if !(Duration::from_secs(1)..=TIMEOUT_MAX).contains(&settings.timeout) {
            return Err(whole(ConfigProblem::Timeout));
        }
        for (of, count, max) in [
            ("targets", settings.targets.len(), TARGETS_MAX),
            ("entries of `allow`", settings.allow.len(), ALLOW_MAX),
        ] {
            if count > max {
                return Err(whole(ConfigProblem::TooMany { of, max }));
            }
        }
        let mut warnings: Vec<String> = inline_secrets_warning(settings).into_iter().collect();
        let credentials = settings.credentials.as_deref();
        let mut targets = BTreeMap::new();
        for (name, given) in &settings.targets {
            let target = Target::new(name, given, credentials, &mut warnings);
            let place = || Place::Target(name.clone());
            let wrong = |problem| ConfigError { line: given.line, place: place(), problem };
            targets.insert(name.clone(), target.map_err(wrong)?);
        }
        let mut allow = Vec::new();
        for (index, given) in settings.allow.iter().enumerate() {
            let entry = Entry::new(given, settings, &mut warnings);
            let entry = entry.and_then(|entry| entry.unless_among(&allow));
            let place = Place::Allow(index + 1);
            let wrong = |problem| ConfigError { line: given.line, place, problem };
            allow.push(entry.map_err(wrong)?);
        }
        let transport = Transport::default();
        Ok((Registry { targets, allow, timeout: settings.timeout, transport }, warnings))
    }

    /// Whether nobody can be called.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.allow.is_empty()
    }

    /// Most threads that calling takes: those of all lanes, and of the names that they look up.
    #[must_use]
    pub fn threads_max(&self) -> usize {
        let lanes = self.targets.len() + self.allow.len();
        lanes * (LANE_RUNNING_MAX + LOOKUPS_OF_NAME_MAX)
    }

    /// The targets, in the order of their names.
    pub fn targets(&self) -> impl Iterator<Item = Listed<'_>> {
        self.targets.values().map(|target| Listed {
            name: target.name(),
            preset: target.preset().name,
            origin: target.url().origin(),
        })
    }

    /// Whether a callback can be taken: there is such a target and the vars fit, or the URL is permitted.
    ///
    /// # Errors
    /// It cannot; the error says what to change.
    pub fn check(&self, callback: &Callback) -> Result<(), Refusal> {
        match callback {
            Callback::Target { name, vars } => self.target(name)?.check(vars),
            Callback::Url(url) => self.permitted(url).map(|_| ()),
        }
    }

    /// Which queue a callback belongs to; `None` when the configuration does not permit it any more.
    #[must_use]
    pub fn lane(&self, callback: &Callback) -> Option<LaneKey> {
        match callback {
            Callback::Target { name, .. } => {
                self.targets.contains_key(name).then(|| LaneKey::Target(name.clone()))
            }
            Callback::Url(url) => {
                let (_, entry) = self.permitted(url).ok()?;
                Some(LaneKey::Allow(entry.allowed.to_string()))
            }
        }
    }

    /// Calls once if it `may_begin`, and waits for what comes of it.
    #[must_use]
    pub fn deliver(
        &self,
        callback: &Callback,
        event: &Event,
        now: WallTime,
        may_begin: MayBegin<'_>,
    ) -> Sent {
        match self.request(callback, event, now) {
            Ok((outgoing, allow)) => {
                self.transport.send(&outgoing, allow, self.timeout, now, may_begin)
            }
            Err(why) => Sent::configuration(why),
        }
    }

    fn request(
        &self,
        callback: &Callback,
        event: &Event,
        now: WallTime,
    ) -> Result<(Outgoing, &[IpNet]), String> {
        match callback {
            Callback::Target { name, vars } => {
                let target = self.target(name).map_err(|refusal| refusal.to_string())?;
                target.check(vars).map_err(|refusal| refusal.to_string())?;
                let request = target.request(event, vars, now);
                Ok((request.map_err(|unfit| unfit.to_string())?, target.allow()))
            }
            Callback::Url(url) => {
                let permitted = self.permitted(url);
                let (url, entry) = permitted.map_err(|refusal| refusal.to_string())?;
                let request = entry.request(url, event, now);
                Ok((request.map_err(|problem| problem.to_string())?, &entry.allow))
            }
        }
    }

    fn target(&self, name: &TargetName) -> Result<&Target, Refusal> {
        self.targets.get(name).ok_or_else(|| Refusal::UnknownTarget {
            name: name.clone(),
            nearest: nearest(name.as_str(), self.targets.keys().map(TargetName::as_str))
                .map(str::to_owned),
            targets: self.targets.len(),
        })
    }

    fn permitted(&self, url: &CallbackUrl) -> Result<(Destination, &Entry), Refusal> {
        let text = || url.as_str().to_owned();
        let parsed = Destination::parse(url.as_str());
        let parsed = parsed.map_err(|problem| Refusal::Url { url: text(), problem })?;
        let Some(entry) = self.allow.iter().find(|entry| entry.allowed.permits(&parsed)) else {
            // Paths may be secrets, as those of some receivers are.
            let origins = self.allow.iter().map(|entry| entry.allowed.destination().origin());
            let mut origins: Vec<String> = origins.collect();
            origins.sort_unstable();
            origins.dedup();
            return Err(Refusal::UrlNotPermitted { url: text(), origins });
        };
        Ok((parsed, entry))
    }

    /// What it sends with.
    pub(super) fn transport(&self) -> Transport {
        self.transport.clone()
    }

    /// The same with another transport: that of the registry before it, so that what is under way stays counted, or a
    /// test's.
    #[must_use]
    pub(super) fn with_transport(self, transport: Transport) -> Registry {
        Registry { transport, ..self }
    }
}

impl Entry {
    fn new(
        given: &AllowSettings,
        settings: &Settings,
        warnings: &mut Vec<String>,
    ) -> Result<Entry, ConfigProblem> {
        let allowed = match (&given.url, &given.host) {
            (Some(url), None) => Allowed::url(url),
            (None, Some(host)) => Allowed::host(host),
            _ => return Err(ConfigProblem::UrlOrHost),
        };
        let allowed = allowed.map_err(ConfigProblem::Allowed)?;
        let allow = declared::cidrs(&given.allow_cidrs)?;
        if let Host::Address(address) = allowed.destination().host() {
            address::check(*address, &allow).map_err(ConfigProblem::Address)?;
        }
        let keys = declared::keys(&given.secrets, settings.credentials.as_deref(), warnings)?;
        Ok(Entry { allowed, keys, allow })
    }

    /// Of two with the same URL the first would count, and both would be one lane.
    fn unless_among(self, others: &[Entry]) -> Result<Entry, ConfigProblem> {
        match others.iter().position(|other| other.allowed == self.allowed) {
            Some(index) => Err(ConfigProblem::AllowTwice(index + 1)),
            None => Ok(self),
        }
    }

    fn request(
        &self,
        url: Destination,
        event: &Event,
        now: WallTime,
    ) -> Result<Outgoing, super::secret::SecretProblem> {
        let body = event.body(&event.vars.iter().collect::<Vec<_>>());
        let signed = signature::headers(&self.keys, &event.webhook_id, now, &body)?;
        let mut headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        headers.extend(signed.map(|(name, value)| (name.to_owned(), value)));
        Ok(Outgoing { method: Method::Post, url, headers, body })
    }
}

fn inline_secrets_warning(settings: &Settings) -> Option<String> {
    let targets = settings.targets.values().map(|target| &target.secrets);
    let entries = settings.allow.iter().map(|entry| &entry.secrets);
    let secrets = targets.chain(entries).flat_map(|s| [&s.present, &s.previous]).flatten();
    // Of a header nobody knows here whether it is one.
    let headers = settings.targets.values().flat_map(|target| &target.headers);
    let mut sources = secrets.chain(headers.map(|(_, source)| source));
    let has_inline = sources.any(|source| matches!(source, SecretSource::Inline(_)));
    let path =
        settings.config_file.as_deref().filter(|path| has_inline && readable_by_others(path))?;
    let path = path.display();
    Some(format!(
        "{path} has secrets or headers and every user can read it: chmod o= {path}, or use `secret_file` \
         and, for a header, {{ file = \"/a/path\" }}"
    ))
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
