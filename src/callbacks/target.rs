//! A declared target: everything about a receiver that the configuration knows, checked.
//!
//! Invariants: the secret is of the kind that the preset uses; fixed vars fit; what the preset has no use for is
//! not there. Pure but for reading the secrets when it is made.

use std::path::Path;

use ipnet::IpNet;

use super::{
    address,
    event::{CLAIM_ID_VAR, Event, FENCES_VAR},
    headers,
    presets::{Call, Method, Need, Outgoing, PRESETS, Preset, SecretUse, Unfit, preset},
    refusal::Refusal,
    secret::{Secret, SecretProblem, SecretSource, WebhookKey},
    settings::{CIDRS_MAX, ConfigProblem, SecretSettings, TargetSettings},
    signature::Keys,
    template::Template,
    url::{Destination, Host, Scheme},
};
use crate::model::{TargetName, VARS_MAX, Vars, WallTime, nearest};

const ANY_TEXT: &str = "any text";

/// Somebody to call.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    name: TargetName,
    preset: &'static Preset,
    url: Destination,
    secrets: Secrets,
    user: Option<String>,
    method: Method,
    headers: Vec<(String, Secret)>,
    template: Option<Template>,
    fixed: Vars,
    allow: Vec<IpNet>,
}

#[derive(Clone, Debug, PartialEq)]
enum Secrets {
    Keys(Keys),
    Token(Secret),
}

impl Target {
    /// Checks a declaration and reads its secrets. Adds to the warnings what an admin should know.
    ///
    /// # Errors
    /// The declaration is wrong, or a secret cannot be read.
    pub fn new(
        name: &TargetName,
        given: &TargetSettings,
        credentials: Option<&Path>,
        warnings: &mut Vec<String>,
    ) -> Result<Target, ConfigProblem> {
        let preset = find_preset(&given.preset)?;
        only_what_is_used(preset, given)?;
        let allow = cidrs(&given.allow_cidrs)?;
        let url = target_url(preset, &given.url, &allow)?;
        let secrets = secrets_of(preset, &given.secrets, credentials, warnings)?;
        if url.scheme() == Scheme::Http && preset.secret == SecretUse::Token {
            warnings.push(format!(
                "callback target {name} sends its token without encryption: use https:// if the \
                 receiver has it"
            ));
        }
        let template = given.template.as_deref().map(Template::parse).transpose();
        let fixed = Vars::new(given.vars.clone()).map_err(ConfigProblem::Vars)?;
        check_fixed(preset, &fixed)?;
        Ok(Target {
            name: name.clone(),
            preset,
            url,
            secrets,
            user: user_of(preset, given.user.as_deref())?,
            method: method_of(given.method.as_deref())?,
            headers: headers::check(&given.headers)?,
            template: template.map_err(ConfigProblem::Template)?,
            fixed,
            allow,
        })
    }

    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &TargetName {
        &self.name
    }

    /// How it is called.
    #[must_use]
    pub fn preset(&self) -> &'static Preset {
        self.preset
    }

    /// Its URL; presets other than `generic` add their path.
    #[must_use]
    pub fn url(&self) -> &Destination {
        &self.url
    }

    /// Addresses that it may have besides public ones.
    #[must_use]
    pub fn allow(&self) -> &[IpNet] {
        &self.allow
    }

    pub(super) fn token(&self) -> Option<&str> {
        match &self.secrets {
            Secrets::Token(token) => Some(token.expose()),
            Secrets::Keys(_) => None,
        }
    }

    pub(super) fn keys(&self) -> Option<&Keys> {
        match &self.secrets {
            Secrets::Keys(keys) => Some(keys),
            Secrets::Token(_) => None,
        }
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    pub(super) fn method(&self) -> Method {
        self.method
    }

    pub(super) fn headers(&self) -> &[(String, Secret)] {
        &self.headers
    }

    pub(super) fn template(&self) -> Option<&Template> {
        self.template.as_ref()
    }

    /// Whether a claim's vars make a request.
    ///
    /// # Errors
    /// One is missing, wrong, fixed, reserved or not used, or there are too many.
    pub fn check(&self, vars: &Vars) -> Result<(), Refusal> {
        let target = || self.name.clone();
        for (name, _) in vars.iter() {
            let name = || name.to_owned();
            if self.fixed.get(&name()).is_some() {
                return Err(Refusal::VarFixed { target: target(), name: name() });
            }
            if is_reserved(self.preset, &name()) {
                return Err(Refusal::VarReserved { name: name() });
            }
            let used = |template: &Template| template.vars().any(|used| used == name());
            if !self.template.as_ref().is_none_or(used) {
                return Err(Refusal::VarUnused { target: target(), name: name() });
            }
        }
        let merged = self.merged(vars);
        let value = |name: &str| merged.iter().find(|(given, _)| *given == name);
        let docs = self.preset.docs;
        for Need { name, allowed, fits } in self.preset.needs {
            let name = || (*name).to_owned();
            match value(&name()) {
                None => {
                    return Err(Refusal::VarMissing {
                        target: target(),
                        name: name(),
                        allowed,
                        docs,
                    });
                }
                Some((_, value)) if !fits(value) => {
                    return Err(Refusal::VarWrong {
                        target: target(),
                        name: name(),
                        allowed,
                        docs,
                    });
                }
                Some(_) => {}
            }
        }
        let mut named = self.template.iter().flat_map(Template::vars);
        if let Some(name) = named.find(|name| value(name).is_none()) {
            let name = name.to_owned();
            return Err(Refusal::VarMissing {
                target: target(),
                name,
                allowed: ANY_TEXT,
                docs: "",
            });
        }
        let max = self.preset.further_vars_max.min(VARS_MAX - self.preset.needs.len());
        if merged.len() > self.preset.needs.len() + max {
            return Err(Refusal::too_many(&self.name, max));
        }
        Ok(())
    }

    /// The request for an event. Call [`Target::check`] first: the configuration may have changed since the
    /// claim was made.
    ///
    /// # Errors
    /// The vars make none.
    pub fn request(&self, event: &Event, vars: &Vars, now: WallTime) -> Result<Outgoing, Unfit> {
        let vars = self.merged(vars);
        (self.preset.request)(&Call { target: self, event, vars: &vars, now })
    }

    /// The fixed vars and those of a claim, in the order of their names.
    fn merged<'a>(&'a self, vars: &'a Vars) -> Vec<(&'a str, &'a str)> {
        let mut merged: Vec<_> = self.fixed.iter().chain(vars.iter()).collect();
        merged.sort_unstable();
        merged
    }
}

fn find_preset(given: &str) -> Result<&'static Preset, ConfigProblem> {
    preset(given).ok_or_else(|| {
        let names = PRESETS.map(|preset| preset.name);
        let near = nearest(given, names);
        let nearest = names.into_iter().find(|name| near == Some(*name));
        ConfigProblem::Preset { given: given.to_owned(), nearest, known: names.join(", ") }
    })
}

fn only_what_is_used(preset: &'static Preset, given: &TargetSettings) -> Result<(), ConfigProblem> {
    let keys_only = preset.secret == SecretUse::WebhookKey;
    for (key, is_there, is_used) in [
        ("method", given.method.is_some(), preset.is_generic),
        ("headers", !given.headers.is_empty(), preset.is_generic),
        ("template", given.template.is_some(), preset.is_generic),
        ("user", given.user.is_some(), preset.has_user),
        ("previous_secret", given.secrets.previous.is_some(), keys_only),
    ] {
        if is_there && !is_used {
            return Err(ConfigProblem::Unused { key, preset: preset.name, docs: preset.docs });
        }
    }
    Ok(())
}

fn target_url(
    preset: &'static Preset,
    text: &str,
    allow: &[IpNet],
) -> Result<Destination, ConfigProblem> {
    let parsed = Destination::parse(text);
    let url = parsed.map_err(|problem| ConfigProblem::Url { url: text.to_owned(), problem })?;
    if url.has_query() && !preset.is_generic {
        let url = text.to_owned();
        return Err(ConfigProblem::UrlQuery { url, preset: preset.name, docs: preset.docs });
    }
    if let Host::Address(address) = url.host() {
        address::check(*address, allow).map_err(ConfigProblem::Address)?;
    }
    Ok(url)
}

/// Reads the ranges that a target or entry allows.
pub(super) fn cidrs(given: &[String]) -> Result<Vec<IpNet>, ConfigProblem> {
    if given.len() > CIDRS_MAX {
        return Err(ConfigProblem::TooMany { of: "`allow_cidrs` of one target", max: CIDRS_MAX });
    }
    let range = |text: &String| match text.parse::<IpNet>() {
        Ok(range) if range.trunc() == range => Ok(range),
        Ok(range) => {
            let meant = range.trunc().to_string();
            Err(ConfigProblem::CidrHost { given: text.clone(), meant })
        }
        Err(_) => Err(ConfigProblem::Cidr(text.clone())),
    };
    given.iter().map(range).collect()
}

fn read(
    key: &'static str,
    source: &SecretSource,
    credentials: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Secret, ConfigProblem> {
    let read = source.read(credentials);
    let (secret, warning) = read.map_err(|problem| ConfigProblem::Secret { key, problem })?;
    warnings.extend(warning);
    Ok(secret)
}

fn secrets_of(
    preset: &Preset,
    given: &SecretSettings,
    credentials: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Secrets, ConfigProblem> {
    if preset.secret == SecretUse::WebhookKey {
        return keys(given, credentials, warnings).map(Secrets::Keys);
    }
    let what = "the token of the receiver";
    let source = given.present.as_ref().ok_or(ConfigProblem::SecretMissing { what })?;
    let token = read("secret", source, credentials, warnings)?;
    if token.is_visible_ascii() {
        Ok(Secrets::Token(token))
    } else {
        Err(ConfigProblem::SecretNotVisible)
    }
}

/// Reads the keys that sign for a target or entry.
pub(super) fn keys(
    given: &SecretSettings,
    credentials: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Keys, ConfigProblem> {
    let key = |key, source, warnings: &mut Vec<String>| {
        let secret = read(key, source, credentials, warnings)?;
        let key_of = WebhookKey::new(&secret);
        key_of.map_err(|problem: SecretProblem| ConfigProblem::Secret { key, problem })
    };
    let what = "the key that signs, made with: echo \"whsec_$(openssl rand -base64 32)\"";
    let present = given.present.as_ref().ok_or(ConfigProblem::SecretMissing { what })?;
    let previous = given.previous.as_ref();
    Ok(Keys {
        present: key("secret", present, warnings)?,
        previous: previous.map(|source| key("previous_secret", source, warnings)).transpose()?,
    })
}

fn user_of(preset: &Preset, user: Option<&str>) -> Result<Option<String>, ConfigProblem> {
    let fits = |user: &str| {
        (1..=256).contains(&user.len()) && user.bytes().all(|b| b.is_ascii_graphic() && b != b':')
    };
    match user {
        Some(user) if fits(user) => Ok(Some(user.to_owned())),
        None if !preset.has_user => Ok(None),
        _ => Err(ConfigProblem::User { docs: preset.docs }),
    }
}

fn method_of(given: Option<&str>) -> Result<Method, ConfigProblem> {
    match given {
        None | Some("POST") => Ok(Method::Post),
        Some("PUT") => Ok(Method::Put),
        Some(other) => Err(ConfigProblem::Method(other.to_owned())),
    }
}

fn is_reserved(preset: &Preset, name: &str) -> bool {
    [CLAIM_ID_VAR, FENCES_VAR].contains(&name) || preset.reserved.contains(&name)
}

fn check_fixed(preset: &'static Preset, fixed: &Vars) -> Result<(), ConfigProblem> {
    let docs = preset.docs;
    for (name, value) in fixed.iter() {
        if is_reserved(preset, name) {
            let name = name.to_owned();
            return Err(ConfigProblem::VarReserved { name, preset: preset.name, docs });
        }
        if let Some(need) = preset.needs.iter().find(|need| need.name == name)
            && !(need.fits)(value)
        {
            return Err(ConfigProblem::Var { name: need.name, allowed: need.allowed, docs });
        }
    }
    let further = fixed.iter().filter(|(name, _)| preset.needs.iter().all(|n| n.name != *name));
    if further.count() > preset.further_vars_max {
        let max = preset.further_vars_max;
        return Err(ConfigProblem::TooMany {
            of: "`vars` besides those that the preset needs",
            max,
        });
    }
    Ok(())
}
