//! Callbacks on the command line: whom to call, and with which vars.

use super::{
    Failure,
    options::{checked, pairs},
};
use crate::model::{Callback, CallbackUrl, TargetName, Vars};

/// Whom to call, if anybody: a target with its vars, or a URL.
///
/// # Errors
/// Both, vars without a target, and what breaks a grammar.
pub(super) fn callback(
    target: Option<&str>,
    url: Option<&str>,
    given_vars: &[String],
) -> Result<Option<Callback>, Failure> {
    match (target, url) {
        (Some(_), Some(_)) => Err(Failure::usage(
            "--callback and --callback-url are two ways to be called: choose one",
        )),
        (Some(url), None) if url.contains("://") => Err(Failure::usage(format!(
            "--callback names a target of the service's configuration; a URL goes with --callback-url {url}"
        ))),
        (Some(name), None) => {
            let (name, vars) = (target_name(name)?, vars(given_vars)?);
            Ok(Some(Callback::Target { name, vars }))
        }
        (None, _) if !given_vars.is_empty() => {
            Err(Failure::usage("--var is for a target, which --callback TARGET names"))
        }
        (None, Some(url)) => {
            let url = checked("--callback-url", url, CallbackUrl::new(url))?;
            Ok(Some(Callback::Url(url)))
        }
        (None, None) => Ok(None),
    }
}

/// The name of a target.
///
/// # Errors
/// What is none.
pub(super) fn target_name(text: &str) -> Result<TargetName, Failure> {
    checked("the name of a target", text, TargetName::new(text))
}

/// Vars, each as `NAME=VALUE`.
///
/// # Errors
/// A word without `=`, a name twice, and what breaks the bounds.
pub(super) fn vars(given: &[String]) -> Result<Vars, Failure> {
    let vars = pairs("--var must be NAME=VALUE", given)?;
    let is_repeated = |at: usize| vars[..at].iter().any(|(earlier, _)| *earlier == vars[at].0);
    if let Some(at) = (0..vars.len()).find(|at| is_repeated(*at)) {
        return Err(Failure::usage(format!("--var {} is given twice", vars[at].0)));
    }
    checked("--var", &given.join(" "), Vars::new(vars))
}

/// `name` with its vars, for people: `gitlab-fpga (project=42, job=sim)`.
pub(super) fn describe<'a>(
    name: &str,
    vars: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> String {
    let vars: Vec<_> = vars.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    match vars.is_empty() {
        true => name.to_owned(),
        false => format!("{name} ({})", vars.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(target: Option<&str>, url: Option<&str>, vars: &[&str]) -> Result<String, String> {
        let vars: Vec<_> = vars.iter().map(|text| (*text).to_owned()).collect();
        match callback(target, url, &vars).map_err(|failure| failure.message)? {
            Some(Callback::Target { name, vars }) => Ok(describe(name.as_str(), vars.iter())),
            Some(Callback::Url(url)) => Ok(url.to_string()),
            None => Ok(String::new()),
        }
    }

    #[test]
    fn a_target_has_vars_and_a_url_has_none() {
        let vars = ["project=42", "ref=a=b", "empty="];
        let expected = "ci (empty=, project=42, ref=a=b)";
        assert_eq!(read(Some("ci"), None, &vars).as_deref(), Ok(expected));
        assert_eq!(read(None, Some("https://h/x"), &[]).as_deref(), Ok("https://h/x"));
        assert_eq!(read(None, None, &[]).as_deref(), Ok(""));
        for (target, url, vars, expected) in [
            (Some("ci"), Some("https://h"), &[][..], "choose one"),
            (None, Some("https://h"), &["a=1"], "--var is for a target"),
            (None, None, &["a=1"], "--var is for a target"),
            (Some("ci"), None, &["a"], "must be NAME=VALUE"),
            (Some("ci"), None, &["a=1", "a=2"], "--var a is given twice"),
            (Some("ci"), None, &["1=1"], "--var must be"),
            (Some("https://h"), None, &[], "goes with --callback-url https://h"),
            (Some("c i"), None, &[], "the name of a target must be"),
            (None, Some("a b"), &[], "--callback-url must be"),
        ] {
            let message = read(target, url, vars).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
