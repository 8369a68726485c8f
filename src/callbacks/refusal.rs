//! Why a claim's callback is not taken: errors for whoever writes the claim.

use super::url::UrlProblem;
use crate::model::TargetName;

/// Why a callback is refused when the claim is made. Knows no HTTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The configuration declares no such target.
    #[error("there is no callback target {name}{}", known(.nearest, .targets))]
    UnknownTarget {
        /// What the claim names.
        name: TargetName,
        /// The target that is spelt nearly so.
        nearest: Option<String>,
        /// How many there are.
        targets: usize,
    },
    /// A var that the target needs is not given.
    #[error(
        "callback target {target} needs the var `{name}`: give it in `vars`, {allowed}{}",
        see(.docs)
    )]
    VarMissing {
        /// The target.
        target: TargetName,
        /// The var.
        name: String,
        /// What it has to be.
        allowed: &'static str,
        /// The preset's documentation.
        docs: &'static str,
    },
    /// A var whose value does not fit.
    #[error("the var `{name}` of callback target {target} must be {allowed}{}", see(.docs))]
    VarWrong {
        /// The target.
        target: TargetName,
        /// The var.
        name: String,
        /// What it has to be.
        allowed: &'static str,
        /// The preset's documentation.
        docs: &'static str,
    },
    /// A var that the configuration fixes.
    #[error(
        "the var `{name}` of callback target {target} is fixed in the configuration: leave it out"
    )]
    VarFixed {
        /// The target.
        target: TargetName,
        /// The var.
        name: String,
    },
    /// A name that the service or the receiver uses itself.
    #[error("the var `{name}` is used by the service itself: give it another name")]
    VarReserved {
        /// The var.
        name: String,
    },
    /// A var that the target's template does not name.
    #[error(
        "callback target {target} has a template, which does not name the var `{name}`: leave it out"
    )]
    VarUnused {
        /// The target.
        target: TargetName,
        /// The var.
        name: String,
    },
    /// A var that the configuration does not allow.
    #[error(
        "callback target {target} does not take the var `{name}`: leave it out, or an admin adds \"{name}\" to \
         `allow_vars` of [callbacks.targets.{target}] in the configuration"
    )]
    VarNotAllowed {
        /// The target.
        target: TargetName,
        /// The var.
        name: String,
    },
    /// More vars than the receiver takes.
    #[error("callback target {target} takes at most {max} vars besides those that it needs")]
    TooManyVars {
        /// The target.
        target: TargetName,
        /// The bound.
        max: usize,
    },
    /// The URL is none that is called.
    #[error("the callback URL {url:?} is not called: {problem}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        problem: UrlProblem,
    },
    /// No entry of the configuration permits it.
    #[error("the callback URL {url:?} is not permitted: {}", permitted(.origins))]
    UrlNotPermitted {
        /// The URL.
        url: String,
        /// Where some are.
        origins: Vec<String>,
    },
}

fn known(nearest: &Option<String>, targets: &usize) -> String {
    match (nearest, targets) {
        (Some(name), _) => format!(", did you mean {name}?"),
        (None, 0) => {
            ": none is declared; an admin declares it as [callbacks.targets.NAME] in the configuration"
                .into()
        }
        (None, _) => ": an admin declares it as [callbacks.targets.NAME] in the configuration".into(),
    }
}

fn see(docs: &str) -> String {
    if docs.is_empty() { String::new() } else { format!("; see {docs}") }
}

fn permitted(origins: &[String]) -> String {
    if origins.is_empty() {
        "no URLs are; name a callback target, or an admin adds the URL to [[callbacks.allow]] in the \
         configuration"
            .into()
    } else {
        format!(
            "permitted are some at {}; an admin adds others to [[callbacks.allow]] in the configuration",
            origins.join(", ")
        )
    }
}
