//! A declared target: everything about a receiver that the configuration knows, checked.
//!
//! Invariants: the secret is of the kind that the preset uses; fixed vars fit; what the preset has no use for is
//! not there. Pure but for reading the secrets when it is made.

use std::path::Path;

use ipnet::IpNet;

use super::{
    allow_vars::AllowVars,
    declared::{self, Secrets},
    event::Event,
    headers,
    presets::{Call, Method, Need, Outgoing, Preset, SecretUse, Unfit},
    refusal::Refusal,
    secret::Secret,
    settings::{ConfigProblem, TargetSettings},
    signature::Keys,
    template::Template,
    url::{Destination, Scheme},
};
use crate::model::{TargetName, VARS_MAX, Vars, WallTime};

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
    allow_vars: AllowVars,
    allow: Vec<IpNet>,
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
        let preset = declared::find_preset(&given.preset)?;
        declared::only_what_is_used(preset, given)?;
        let allow = declared::cidrs(&given.allow_cidrs)?;
        let url = declared::target_url(preset, &given.url, &allow)?;
        let secrets = declared::secrets_of(preset, &given.secrets, credentials, warnings)?;
        let headers = headers::read(&given.headers, credentials, warnings)?;
        let sends = match preset.secret {
            SecretUse::Token => Some("token"),
            SecretUse::WebhookKey => (!headers.is_empty()).then_some("headers"),
        };
        if let (Scheme::Http, Some(what)) = (url.scheme(), sends) {
            warnings.push(format!(
                "callback target {name} sends its {what} without encryption: use https:// if the \
                 receiver has it"
            ));
        }
        let template = given.template.as_deref().map(Template::parse).transpose();
        let fixed = Vars::new(given.vars.clone()).map_err(ConfigProblem::Vars)?;
        declared::check_fixed(preset, &fixed)?;
        if given.template.is_some() && given.allow_vars.is_some() {
            return Err(ConfigProblem::AllowVarsAndTemplate);
        }
        let allow_vars = AllowVars::new(given.allow_vars.as_deref(), !preset.is_generic)?;
        Ok(Target {
            name: name.clone(),
            preset,
            url,
            secrets,
            user: declared::user_of(preset, given.user.as_deref())?,
            method: declared::method_of(given.method.as_deref())?,
            headers,
            template: template.map_err(ConfigProblem::Template)?,
            fixed,
            allow_vars,
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
    /// One is missing, wrong, fixed, reserved, not used or not allowed, or there are too many.
    pub fn check(&self, vars: &Vars) -> Result<(), Refusal> {
        vars.iter().try_for_each(|(name, _)| self.check_given(name))?;
        let merged = self.merged(vars);
        let needs = self.preset.needs;
        needs.iter().try_for_each(|need| self.check_needed(need, &merged))?;
        let missing = |name: &&str| merged.iter().all(|(given, _)| given != name);
        if let Some(name) = self.template.iter().flat_map(Template::vars).find(missing) {
            return Err(self.missing(name, "any text", ""));
        }
        let max = self.preset.further_vars_max.min(VARS_MAX - needs.len());
        if merged.len() > needs.len() + max {
            return Err(Refusal::TooManyVars { target: self.name.clone(), max });
        }
        Ok(())
    }

    /// Whether a claim may give this var.
    fn check_given(&self, name: &str) -> Result<(), Refusal> {
        let (target, owned) = (|| self.name.clone(), || name.to_owned());
        if self.fixed.get(name).is_some() {
            return Err(Refusal::VarFixed { target: target(), name: owned() });
        }
        if self.preset.is_reserved(name) {
            return Err(Refusal::VarReserved { name: owned() });
        }
        if let Some(template) = &self.template {
            let is_used = template.vars().any(|used| used == name);
            let unused = || Refusal::VarUnused { target: target(), name: owned() };
            return if is_used { Ok(()) } else { Err(unused()) };
        }
        let is_needed = self.preset.needs.iter().any(|need| need.name == name);
        if is_needed || self.allow_vars.allow(name, !self.preset.is_generic) {
            return Ok(());
        }
        Err(Refusal::VarNotAllowed { target: target(), name: owned() })
    }

    /// Whether a var that the preset needs is there and fits.
    fn check_needed(&self, need: &Need, merged: &[(&str, &str)]) -> Result<(), Refusal> {
        let docs = self.preset.docs;
        match merged.iter().find(|(given, _)| *given == need.name) {
            Some((_, value)) if (need.fits)(value) => Ok(()),
            Some(_) => {
                let (target, name) = (self.name.clone(), need.name.to_owned());
                Err(Refusal::VarWrong { target, name, allowed: need.allowed, docs })
            }
            None => Err(self.missing(need.name, need.allowed, docs)),
        }
    }

    fn missing(&self, name: &str, allowed: &'static str, docs: &'static str) -> Refusal {
        Refusal::VarMissing { target: self.name.clone(), name: name.to_owned(), allowed, docs }
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
