//! Options, checked: from the command line, the environment and the defaults.

use std::{str::FromStr, time::Duration};

use super::{
    Failure,
    args::{ClaimArgs, ServiceArgs},
    environment::Environment,
    service::ServiceAddress,
    token::{TOKEN_VARIABLE, Token},
};
use crate::{
    cli::exit,
    model::{
        Callback, ClaimId, Holder, Invalid, Labels, Permits, Priority, SemaphoreName, bounds,
        parse_duration,
    },
};

/// How long the service may be out of reach for what takes long: a job, or a look that goes on.
pub(super) const PATIENCE_LONG: Duration = Duration::from_secs(5 * 60);
/// The same for what a job depends on, and is over at once.
pub(super) const PATIENCE_SHORT: Duration = Duration::from_secs(30);
/// The same for what a person asks.
pub(super) const PATIENCE_NONE: Duration = Duration::ZERO;
/// The variable that names the claim around this process.
const OUTER_CLAIM: &str = "SEMAPHORE_CLAIM_ID";

/// How to reach the service.
#[derive(Clone, Debug)]
pub(super) struct ServiceOptions {
    /// Where it is, and how it knows us.
    pub(super) address: ServiceAddress,
    /// How long it may be out of reach before a command gives up.
    pub(super) unreachable_timeout: Duration,
}

/// A claim to be made.
#[derive(Debug)]
pub(super) struct ClaimOptions {
    /// Which permits.
    pub(super) permits: Permits,
    /// The claim's id, where it was chosen on the command line.
    pub(super) id: Option<ClaimId>,
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
    /// How long its offer stands.
    pub(super) offer_ttl: Option<Duration>,
    /// Whom the service calls when its turn comes, instead of a wait.
    pub(super) callback: Option<Callback>,
    /// Whether to wait when the permits are not free.
    pub(super) queue: bool,
    /// Where the service is.
    pub(super) service: ServiceOptions,
    /// Whether to write warnings and errors only.
    pub(super) quiet: bool,
    /// The claim that is held around this process.
    pub(super) outer_claim: Option<String>,
}

/// A claim to be taken over.
#[derive(Debug)]
pub(super) struct AdoptOptions {
    /// Which.
    pub(super) id: ClaimId,
    /// Where the service is.
    pub(super) service: ServiceOptions,
    /// Whether to write warnings and errors only.
    pub(super) quiet: bool,
    /// The claim that is named around this process; may be the same.
    pub(super) outer_claim: Option<String>,
}

impl ServiceOptions {
    /// Checks what was given; `patience` is how long the service may be out of reach where nothing is
    /// said.
    ///
    /// # Errors
    /// [`exit::USAGE`] where the command line is wrong, [`exit::CONFIGURATION`] where the environment or
    /// the token's file is.
    pub(super) fn new(
        args: &ServiceArgs,
        patience: Duration,
        environment: &Environment,
    ) -> Result<ServiceOptions, Failure> {
        let timeout = duration("--unreachable-timeout", args.unreachable_timeout.as_deref())?;
        Ok(ServiceOptions {
            address: address(args, environment)?,
            unreachable_timeout: timeout.unwrap_or(patience),
        })
    }
}

impl ClaimOptions {
    /// Checks what was given and fills in the rest. `names` are semaphores of which to take one permit.
    ///
    /// # Errors
    /// As [`ServiceOptions::new`].
    pub(super) fn new(
        names: &[String],
        args: &ClaimArgs,
        ttl: Option<&str>,
        service: &ServiceArgs,
        environment: &Environment,
    ) -> Result<ClaimOptions, Failure> {
        let holder = match &args.holder {
            Some(text) => Some(checked("--holder", text, Holder::new(text))?),
            None => environment.holder(),
        };
        let priority = args.priority.as_deref().map(|text| {
            // What is no number is out of the range of every priority, too.
            let number = text.parse().unwrap_or(i64::MAX);
            checked("--priority", text, Priority::new(number))
        });
        Ok(ClaimOptions {
            permits: permits(names.iter().chain(&args.permits))?,
            id: None,
            wait_timeout: duration("--wait-timeout", args.wait_timeout.as_deref())?,
            ttl: duration("--ttl", ttl)?,
            priority: priority.transpose()?,
            holder,
            labels: labels(&args.label)?,
            offer_ttl: None,
            callback: None,
            queue: !args.no_queue,
            service: ServiceOptions::new(service, PATIENCE_LONG, environment)?,
            quiet: args.quiet,
            outer_claim: environment.variable(OUTER_CLAIM),
        })
    }
}

impl AdoptOptions {
    /// Checks what was given; `id` is that of the claim.
    ///
    /// # Errors
    /// As [`ServiceOptions::new`].
    pub(super) fn new(
        id: &str,
        args: &ClaimArgs,
        service: &ServiceArgs,
        environment: &Environment,
    ) -> Result<AdoptOptions, Failure> {
        if id.is_empty() {
            return Err(Failure::usage(
                "--claim has no id; does this job get SEMAPHORE_CLAIM_ID from the callback that starts it?",
            ));
        }
        Ok(AdoptOptions {
            id: claim_id(id)?,
            service: ServiceOptions::new(service, PATIENCE_LONG, environment)?,
            quiet: args.quiet,
            outer_claim: environment.variable(OUTER_CLAIM),
        })
    }
}

/// The value, or what was wrong with what was given for `option`.
pub(super) fn checked<T>(
    option: &str,
    given: &str,
    value: Result<T, Invalid>,
) -> Result<T, Failure> {
    value.map_err(|error| Failure::usage(format!("{option} must be {error}; it is {given:?}")))
}

/// The name of a semaphore.
pub(super) fn semaphore_name(text: &str) -> Result<SemaphoreName, Failure> {
    checked("the name of a semaphore", text, SemaphoreName::new(text))
}

/// The id of a claim.
pub(super) fn claim_id(text: &str) -> Result<ClaimId, Failure> {
    checked("the id of a claim", text, ClaimId::new(text))
}

/// A whole number of permits.
pub(super) fn capacity(text: &str) -> Result<u32, Failure> {
    let number = u32::from_str(text).ok();
    number.filter(|n| (1..=bounds::CAPACITY_MAX).contains(n)).ok_or_else(|| {
        Failure::usage(format!(
            "CAPACITY must be a whole number from 1 to {}; it is {text:?} (to grant nothing: \
             semaphorectl drain)",
            bounds::CAPACITY_MAX
        ))
    })
}

/// A duration of at least a second, if one is given: `90`, `90s`, `5m`, `2h`.
pub(super) fn duration(option: &str, given: Option<&str>) -> Result<Option<Duration>, Failure> {
    let Some(text) = given else { return Ok(None) };
    let bare_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let with_unit = if bare_number { format!("{text}s") } else { text.to_owned() };
    let duration = checked(option, text, parse_duration(&with_unit))?;
    if duration.is_zero() {
        return Err(Failure::usage(format!("{option} must be at least 1s")));
    }
    Ok(Some(duration))
}

/// `NAME` (one permit) or `NAME=N`, each name once.
fn permits<'a>(given: impl Iterator<Item = &'a String>) -> Result<Permits, Failure> {
    let mut weights: Vec<(SemaphoreName, u32)> = Vec::new();
    for text in given {
        let (name, weight) = text.split_once('=').unwrap_or((text, "1"));
        let weight = weight.parse().map_err(|_| {
            Failure::usage(format!("the number of permits in {text:?} must be a whole number"))
        })?;
        let name = semaphore_name(name)?;
        if weights.iter().any(|(other, _)| *other == name) {
            return Err(Failure::usage(format!("{name} is named twice; once is -p {name}=N")));
        }
        weights.push((name, weight));
    }
    if weights.is_empty() {
        return Err(Failure::usage("name a semaphore: NAME, or -p NAME=N"));
    }
    Permits::new(weights).map_err(|error| Failure::usage(format!("a claim asks for {error}")))
}

fn labels(given: &[String]) -> Result<Labels, Failure> {
    let labels = pairs("--label must be KEY=VALUE", given)?;
    checked("--label", &given.join(" "), Labels::new(labels))
}

/// Words of the form `a=b`; `form` says of which option, and what it must be.
///
/// # Errors
/// [`exit::USAGE`] where there is no `=`.
pub(super) fn pairs(form: &str, given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(Failure::usage(format!("{form}; it is {text:?}"))),
    };
    given.iter().map(pair).collect()
}

fn address(args: &ServiceArgs, environment: &Environment) -> Result<ServiceAddress, Failure> {
    let token = match (&args.token_file, environment.variable(TOKEN_VARIABLE)) {
        (Some(path), _) => Some(Token::from_file(path)?),
        (None, Some(text)) => Some(Token::from_variable(&text)?),
        (None, None) => None,
    };
    match (&args.url, environment.variable("SEMAPHORE_URL")) {
        (Some(url), _) => checked("--url", url, ServiceAddress::new(url, token)),
        (None, Some(url)) => ServiceAddress::new(&url, token).map_err(|error| {
            let message = format!("SEMAPHORE_URL must be {error}; it is {url:?}");
            Failure::new(exit::CONFIGURATION, message)
        }),
        (None, None) => Ok(ServiceAddress::local(token)),
    }
}
