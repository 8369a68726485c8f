//! Which further vars a claim may give to a target: `allow_vars`. Pure.
//!
//! A CI system makes them variables of a job that runs with the rights of the target's token, and some names of variables
//! decide what such a job runs. So nothing is allowed that the configuration does not name; and what a system, its shell
//! or its linker reads is allowed by its whole name alone, not by a `*`.

use super::settings::ConfigProblem;
use crate::model::Vars;

/// Most names that a target allows.
const ALLOWED_MAX: usize = 64;

/// Names that mean something to a CI system, to git, or to whatever starts programs. With `*` at the end all that begin
/// so. They count in whatever case: some systems know no other.
const RISKY: &[&str] = &[
    "CI",
    "CI_*",
    "GITLAB_*",
    "FF_*",
    "RUNNER_*",
    "GITHUB_*",
    "ACTIONS_*",
    "JENKINS_*",
    "KUBERNETES_*",
    "DOCKER_*",
    "GIT_*",
    "SSH_*",
    "LD_*",
    "DYLD_*",
    "BASH_*",
    "SHELLOPTS",
    "PROMPT_COMMAND",
    "PS4",
    "ENV",
    "IFS",
    "PATH",
    "HOME",
    "PYTHON*",
    "PERL5*",
    "NODE_*",
    "NPM_CONFIG_*",
    "PIP_*",
    "RUBY*",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "MAVEN_OPTS",
    "GRADLE_OPTS",
    "CARGO_*",
    "RUSTC_WRAPPER",
    "MAKEFLAGS",
    "GCONV_PATH",
    "CDPATH",
    "TMPDIR",
    "XDG_*",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "WORKSPACE",
    "JOB_*",
    "BUILD_*",
    "SEMAPHORE_*",
];

/// The names that a claim may use.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum AllowVars {
    /// Whatever it likes: they are data.
    All,
    /// These, checked.
    Named(Vec<String>),
}

impl AllowVars {
    /// Checks what the configuration says. Without it nothing is allowed where the vars become a job's variables.
    ///
    /// # Errors
    /// Too many, or one that is no name of a var, with or without a `*` at its end.
    pub(super) fn new(
        given: Option<&[String]>,
        are_variables: bool,
    ) -> Result<AllowVars, ConfigProblem> {
        let Some(given) = given else {
            return Ok(if are_variables { AllowVars::Named(Vec::new()) } else { AllowVars::All });
        };
        if given.len() > ALLOWED_MAX {
            return Err(ConfigProblem::TooMany { of: "`allow_vars`", max: ALLOWED_MAX });
        }
        match given.iter().find(|pattern| !is_pattern(pattern)) {
            Some(wrong) => Err(ConfigProblem::AllowVar(wrong.clone())),
            None => Ok(AllowVars::Named(given.to_vec())),
        }
    }

    /// Whether a claim may give the var. Where vars `are_variables`, risky names have to be allowed as they are.
    pub(super) fn allow(&self, name: &str, are_variables: bool) -> bool {
        let AllowVars::Named(patterns) = self else { return true };
        if are_variables && RISKY.iter().any(|risky| matches(risky, &name.to_ascii_uppercase())) {
            return patterns.iter().any(|pattern| pattern == name);
        }
        patterns.iter().any(|pattern| matches(pattern, name))
    }
}

fn is_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    text == "*" || Vars::new(vec![(name.to_owned(), String::new())]).is_ok()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(patterns: &[&str]) -> AllowVars {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        AllowVars::new(Some(&patterns), true).unwrap()
    }

    #[test]
    fn names_and_beginnings_are_allowed() {
        let allowed = named(&["BRANCH", "SIM_*"]);
        for (name, expected) in [
            ("BRANCH", true),
            ("SIM_SEED", true),
            ("SIM_", true),
            ("BRANCHES", false),
            ("branch", false),
            ("SIM", false),
        ] {
            assert_eq!(allowed.allow(name, true), expected, "{name}");
        }
        assert!(named(&["*"]).allow("ANY", true));
        assert!(!named(&[]).allow("ANY", true));
    }

    #[test]
    fn risky_names_are_allowed_by_their_whole_name_alone() {
        for name in [
            "BASH_ENV",
            "ENV",
            "PATH",
            "Path",
            "IFS",
            "LD_PRELOAD",
            "ld_preload",
            "GIT_SSH_COMMAND",
            "CI_DEBUG_TRACE",
            "CI",
            "GITLAB_USER_LOGIN",
            "DOCKER_HOST",
            "DOCKER_AUTH_CONFIG",
            "SEMAPHORE_URL",
            "PYTHONSTARTUP",
        ] {
            assert!(!named(&["*"]).allow(name, true), "{name}");
            let beginning = format!("{}*", &name[..2]);
            assert!(!named(&[&beginning]).allow(name, true), "{name} by {beginning}");
            assert!(named(&[name]).allow(name, true), "{name}");
            // A body of one's own has no variables.
            assert!(named(&["*"]).allow(name, false), "{name}");
        }
        assert!(named(&["*"]).allow("CITY", true));
        assert!(named(&["*"]).allow("ENVIRONMENT", true));
    }

    #[test]
    fn without_configuration_only_data_is_free() {
        assert!(!AllowVars::new(None, true).unwrap().allow("BRANCH", true));
        assert!(AllowVars::new(None, false).unwrap().allow("BRANCH", false));
    }

    #[test]
    fn patterns_are_names_of_vars() {
        for wrong in ["", "a-b", "1a", "a*b", "**", "*a", "a**"] {
            let error = AllowVars::new(Some(&[wrong.to_owned()]), true).unwrap_err();
            assert!(error.to_string().contains("`allow_vars`"), "{wrong}: {error}");
        }
        let many = vec!["A".to_owned(); ALLOWED_MAX + 1];
        assert!(AllowVars::new(Some(&many), true).is_err());
    }
}
