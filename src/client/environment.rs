//! What the process's environment says, as far as it matters here.

use super::unix;
use crate::model::Holder;

/// Looks a variable up.
type Variables = Box<dyn Fn(&str) -> Option<String>>;

/// The environment of a process, so that tests can have their own.
pub(super) struct Environment {
    variable: Variables,
    /// `user@host:pid`.
    process: String,
}

impl Environment {
    /// The environment of this process. A variable that is empty or not UTF-8 counts as unset.
    pub(super) fn of_process() -> Environment {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let user = variable("USER").or_else(|| variable("LOGNAME"));
        let process = format!(
            "{}@{}:{}",
            user.as_deref().unwrap_or("unknown"),
            unix::host_name(),
            std::process::id()
        );
        Environment { variable: Box::new(variable), process }
    }

    /// An environment of these variables and this `user@host:pid`.
    #[cfg(test)]
    pub(super) fn of_test(
        variables: &'static [(&'static str, &'static str)],
        process: &str,
    ) -> Environment {
        let variable = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Environment { variable: Box::new(variable), process: process.to_owned() }
    }

    /// A variable, if it is set.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// Who claims where nothing is said: the CI job's page if there is one (GitLab, Jenkins, GitHub and
    /// Gitea set these variables), else this process.
    pub(super) fn holder(&self) -> Option<Holder> {
        let github = || {
            let [server, repository, run] =
                ["GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_RUN_ID"]
                    .map(|name| self.variable(name));
            Some(format!("{}/{}/actions/runs/{}", server?, repository?, run?))
        };
        self.variable("CI_JOB_URL")
            .or_else(|| self.variable("BUILD_URL"))
            .or_else(github)
            .and_then(|url| Holder::new(&url).ok())
            .or_else(|| Holder::new(&self.process).ok())
    }
}
