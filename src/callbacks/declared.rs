//! The parts of a target or entry as the configuration declares them, each checked by itself. Reads secrets; else
//! pure.

use std::path::Path;

use ipnet::IpNet;

use super::{
    address,
    presets::{Method, PRESETS, Preset, SecretUse, preset},
    secret::{Secret, SecretSource, WebhookKey},
    settings::{CIDRS_MAX, ConfigProblem, SecretSettings, TargetSettings},
    signature::Keys,
    url::{Destination, Host, shown},
};
use crate::model::{Vars, nearest};

/// What a target signs or shows itself with.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Secrets {
    Keys(Keys),
    Token(Secret),
}

pub(super) fn find_preset(given: &str) -> Result<&'static Preset, ConfigProblem> {
    preset(given).ok_or_else(|| {
        let names = PRESETS.map(|preset| preset.name);
        let near = nearest(given, names);
        let nearest = names.into_iter().find(|name| near == Some(*name));
        ConfigProblem::Preset { given: given.to_owned(), nearest, known: names.join(", ") }
    })
}

pub(super) fn only_what_is_used(
    preset: &'static Preset,
    given: &TargetSettings,
) -> Result<(), ConfigProblem> {
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

pub(super) fn target_url(
    preset: &'static Preset,
    text: &str,
    allow: &[IpNet],
) -> Result<Destination, ConfigProblem> {
    let parsed = Destination::parse(text);
    let url = parsed.map_err(|problem| ConfigProblem::Url { url: shown(text), problem })?;
    if url.has_query() && !preset.is_generic {
        let url = shown(text);
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

pub(super) fn secrets_of(
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
        key_of.map_err(|problem| ConfigProblem::Secret { key, problem })
    };
    let what = "the key that signs, made with: echo \"whsec_$(openssl rand -base64 32)\"";
    let present = given.present.as_ref().ok_or(ConfigProblem::SecretMissing { what })?;
    let previous = given.previous.as_ref();
    Ok(Keys {
        present: key("secret", present, warnings)?,
        previous: previous.map(|source| key("previous_secret", source, warnings)).transpose()?,
    })
}

pub(super) fn user_of(
    preset: &Preset,
    user: Option<&str>,
) -> Result<Option<String>, ConfigProblem> {
    let fits = |user: &str| {
        (1..=256).contains(&user.len()) && user.bytes().all(|b| b.is_ascii_graphic() && b != b':')
    };
    match user {
        Some(user) if fits(user) => Ok(Some(user.to_owned())),
        None if !preset.has_user => Ok(None),
        _ => Err(ConfigProblem::User { docs: preset.docs }),
    }
}

pub(super) fn method_of(given: Option<&str>) -> Result<Method, ConfigProblem> {
    match given {
        None | Some("POST") => Ok(Method::Post),
        Some("PUT") => Ok(Method::Put),
        Some(other) => Err(ConfigProblem::Method(other.to_owned())),
    }
}

pub(super) fn check_fixed(preset: &'static Preset, fixed: &Vars) -> Result<(), ConfigProblem> {
    let docs = preset.docs;
    for (name, value) in fixed.iter() {
        if preset.is_reserved(name) {
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
