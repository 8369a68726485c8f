//! The options of `run`, checked: from the command line, the environment and the defaults.

use std::{ffi::OsString, time::Duration};

use super::{
    Failure,
    args::{RunArgs, usage},
    service::ServiceAddress,
    unix,
};
use crate::{
    cli::{UsageError, exit},
    model::{Holder, Labels, Permits, Priority, SemaphoreName, parse_duration},
};

/// How long the service may be out of reach where nothing is said.
const UNREACHABLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 4_096;

/// What to do when the lease is lost while the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLost {
    /// Say so; the command runs on.
    Warn,
    /// Stop the command: SIGTERM, and SIGKILL when that does not help.
    Terminate,
}

/// What `run` has to do.
#[derive(Debug)]
pub(super) struct RunOptions {
    /// Which permits.
    pub(super) permits: Permits,
    /// The command and its arguments; not empty.
    pub(super) command: Vec<OsString>,
    /// Longest wait in the queue, as the service shall keep it.
    pub(super) wait_timeout: Option<Duration>,
    /// Lease between two renewals.
    pub(super) ttl: Option<Duration>,
    /// Place in the queue.
    pub(super) priority: Option<Priority>,
    /// Who claims.
    pub(super) holder: Option<Holder>,
    /// Labels of the claim.
    pub(super) labels: Labels,
    /// Whether to wait when the permits are not free.
    pub(super) queue: bool,
    /// What to do when the lease is lost.
    pub(super) on_lost: OnLost,
    /// Where the service is, and how it knows us.
    pub(super) service: ServiceAddress,
    /// How long the service may be out of reach before the wait is given up.
    pub(super) unreachable_timeout: Duration,
    /// Whether to write warnings and errors only.
    pub(super) quiet: bool,
    /// The claim of a `run` around this one.
    pub(super) outer_claim: Option<String>,
}

/// Looks a variable up.
type Variables = Box<dyn Fn(&str) -> Option<String>>;

/// The process's environment as far as it matters here, so that tests can have their own.
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

    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name)
    }

    /// Who claims where nothing is said: the CI job's page if there is one (GitLab, Jenkins, GitHub and
    /// Gitea set these variables), else this process.
    fn holder(&self) -> Option<Holder> {
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

impl RunOptions {
    /// Checks what was given and fills in the rest.
    ///
    /// # Errors
    /// [`exit::USAGE`] where the command line is wrong, [`exit::CONFIGURATION`] where the environment or
    /// the token's file is.
    pub(super) fn new(
        args: &RunArgs,
        command: Vec<OsString>,
        environment: &Environment,
    ) -> Result<RunOptions, Failure> {
        let permits = permits(args.names.iter().chain(&args.permits))?;
        if command.is_empty() {
            return Err(usage(format!(
                "no command to run; put it after `--`: semaphorectl run {} -- command",
                args.names.first().map_or("NAME", String::as_str)
            ))
            .into());
        }
        let holder = match &args.holder {
            Some(text) => Some(checked("--holder", text, Holder::new(text))?),
            None => environment.holder(),
        };
        let priority =
            args.priority.map(|n| checked("--priority", &n.to_string(), Priority::new(n)));
        Ok(RunOptions {
            permits,
            command,
            wait_timeout: duration("--wait-timeout", args.wait_timeout.as_deref())?,
            ttl: duration("--ttl", args.ttl.as_deref())?,
            priority: priority.transpose()?,
            holder,
            labels: labels(&args.label)?,
            queue: !args.no_queue,
            on_lost: on_lost(args.on_lost.as_deref())?,
            service: service(args, environment)?,
            unreachable_timeout: duration(
                "--unreachable-timeout",
                args.unreachable_timeout.as_deref(),
            )?
            .unwrap_or(UNREACHABLE_TIMEOUT_DEFAULT),
            quiet: args.quiet,
            outer_claim: environment.variable("SEMAPHORE_CLAIM_ID"),
        })
    }
}

fn checked<T>(
    option: &str,
    given: &str,
    value: Result<T, crate::model::Invalid>,
) -> Result<T, UsageError> {
    value.map_err(|error| usage(format!("{option} must be {error}; it is {given:?}")))
}

/// `NAME` (one permit) or `NAME=N`, each name once.
fn permits<'a>(given: impl Iterator<Item = &'a String>) -> Result<Permits, UsageError> {
    let mut weights = Vec::new();
    for text in given {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let name = checked("the name of a semaphore", name, SemaphoreName::new(name))?;
        let weight = weight.parse().map_err(|_| {
            usage(format!("the number of permits in {text:?} must be a whole number"))
        })?;
        weights.push((name, weight));
    }
    if weights.is_empty() {
        return Err(usage("name a semaphore: semaphorectl run NAME -- command".to_owned()));
    }
    Permits::new(weights).map_err(|error| usage(format!("a claim asks for {error}")))
}

fn labels(given: &[String]) -> Result<Labels, UsageError> {
    let mut labels = Vec::new();
    for text in given {
        let Some((key, value)) = text.split_once('=') else {
            return Err(usage(format!("--label must be KEY=VALUE; it is {text:?}")));
        };
        labels.push((key.to_owned(), value.to_owned()));
    }
    checked("--label", &given.join(" "), Labels::new(labels))
}

fn duration(option: &str, given: Option<&str>) -> Result<Option<Duration>, UsageError> {
    let Some(text) = given else { return Ok(None) };
    let bare_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let with_unit = if bare_number { format!("{text}s") } else { text.to_owned() };
    let duration = checked(option, text, parse_duration(&with_unit))?;
    if duration.is_zero() {
        return Err(usage(format!("{option} must be at least 1s")));
    }
    Ok(Some(duration))
}

fn on_lost(given: Option<&str>) -> Result<OnLost, UsageError> {
    match given {
        None | Some("warn") => Ok(OnLost::Warn),
        Some("terminate") => Ok(OnLost::Terminate),
        Some(other) => Err(usage(format!("--on-lost must be warn or terminate; it is {other:?}"))),
    }
}

fn service(args: &RunArgs, environment: &Environment) -> Result<ServiceAddress, Failure> {
    let token = match &args.token_file {
        Some(path) => Some(std::fs::read_to_string(path).map_err(|error| {
            Failure::new(exit::CONFIGURATION, format!("cannot read the token from {path}: {error}"))
        })?),
        None => environment.variable("SEMAPHORE_TOKEN"),
    };
    let token = token.map(|token| token.trim().to_owned());
    if let Some(token) = &token {
        let fits = (1..=TOKEN_BYTES_MAX).contains(&token.len());
        if !fits || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let message = "the token must be one line of visible ASCII characters without spaces";
            return Err(Failure::new(exit::CONFIGURATION, message));
        }
    }
    match (&args.url, environment.variable("SEMAPHORE_URL")) {
        (Some(url), _) => ServiceAddress::new(url, token)
            .map_err(|error| usage(format!("--url must be {error}; it is {url:?}")).into()),
        (None, Some(url)) => ServiceAddress::new(&url, token).map_err(|error| {
            let message = format!("SEMAPHORE_URL must be {error}; it is {url:?}");
            Failure::new(exit::CONFIGURATION, message)
        }),
        (None, None) => Ok(ServiceAddress::local(token)),
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
