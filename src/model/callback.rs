//! Callbacks: whom the service calls when a claim gets its permits, and what came of calling.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CallbackUrl, Claim, Invalid, TargetName, WallTime};

/// Most vars of a callback.
pub const VARS_MAX: usize = 32;
/// Longest name of a var, in bytes.
const VAR_NAME_BYTES_MAX: usize = 64;
/// Longest value of a var, in bytes of UTF-8.
const VAR_VALUE_BYTES_MAX: usize = 1_024;

/// Most bytes of all names and values of a callback's vars together.
const VARS_BYTES_MAX: usize = 8_192;

/// Most deliveries that are tried for one claim, those included that an admin asks for. With a retry a minute
/// an hour has 64.
pub const DELIVERIES_MAX: usize = 100;

/// Whom to call. What a target's name or a URL stands for is the configuration's to say; here they are names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Callback {
    /// A target that the configuration declares.
    Target {
        /// Its name there.
        name: TargetName,
        /// What the client gives it for this claim: the project, the job.
        vars: Vars,
    },
    /// A URL that the configuration permits.
    Url(CallbackUrl),
}

impl Callback {
    /// Bytes of the texts that the client chose.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match self {
            Callback::Target { name, vars } => {
                name.as_str().len()
                    + vars.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            }
            Callback::Url(url) => url.as_str().len(),
        }
    }
}

/// Names and values that a client gives to a target, in the order of their names: at most 32; names are a
/// letter or `_`, then up to 63 of `A-Z a-z 0-9 _`, as environment variables are; values have up to 1,024 bytes
/// without control characters; all of it together at most 8,192.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(String, String)>")]
pub struct Vars(Box<[(String, String)]>);

impl Vars {
    /// Checks the bounds and sorts by name.
    ///
    /// # Errors
    /// Too many vars, a name that breaks the grammar, a value too long or with a control character, or one name
    /// twice.
    pub fn new(mut vars: Vec<(String, String)>) -> Result<Vars, Invalid> {
        vars.sort();
        let is_name = |name: &str| {
            (1..=VAR_NAME_BYTES_MAX).contains(&name.len())
                && !name.as_bytes()[0].is_ascii_digit()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let fits = |(name, value): &(String, String)| {
            is_name(name)
                && value.len() <= VAR_VALUE_BYTES_MAX
                && !value.chars().any(char::is_control)
        };
        let unique = vars.windows(2).all(|pair| pair[0].0 != pair[1].0);
        let bytes: usize = vars.iter().map(|(name, value)| name.len() + value.len()).sum();
        let is_small = vars.len() <= VARS_MAX && bytes <= VARS_BYTES_MAX;
        if is_small && unique && vars.iter().all(fits) {
            Ok(Vars(vars.into()))
        } else {
            Err(Invalid::new(
                "an object of at most 32 names of 1 to 64 of A-Z a-z 0-9 _ (no digit first) and values \
                 of up to 1024 bytes without control characters, 8192 bytes together",
            ))
        }
    }

    /// Name and value of each, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(other, _)| other.as_str().cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<(String, String)>> for Vars {
    type Error = Invalid;

    fn try_from(vars: Vec<(String, String)>) -> Result<Vars, Invalid> {
        Vars::new(vars)
    }
}

/// A claim's callback, and what came of it: the record that people look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRecord {
    /// Whom to call.
    pub callback: Arc<Callback>,
    /// What was tried, in order; at most [`DELIVERIES_MAX`].
    pub deliveries: Vec<Delivery>,
}

impl CallbackRecord {
    /// Notes a try: the end of the one that began at that time, or else a new one. `false` when there is no room.
    pub(super) fn note(&mut self, delivery: Delivery) -> bool {
        match self.open_at(&delivery) {
            Some(at) => self.deliveries[at] = delivery,
            None if self.deliveries.len() < DELIVERIES_MAX => self.deliveries.push(delivery),
            None => return false,
        }
        true
    }

    /// Whether there is room to note a try.
    #[must_use]
    pub fn takes(&self, delivery: &Delivery) -> bool {
        self.deliveries.len() < DELIVERIES_MAX || self.open_at(delivery).is_some()
    }

    /// The try that began at the same time and has no end yet.
    fn open_at(&self, delivery: &Delivery) -> Option<usize> {
        self.deliveries.iter().rposition(|known| {
            known.started_at == delivery.started_at && known.result == DeliveryResult::Unfinished
        })
    }

    /// Whether a delivery came through.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.deliveries.iter().any(Delivery::is_success)
    }
}

impl Claim {
    /// The id under which the claim's callback is called: the same over retries, restarts and retries by hand, so
    /// that a receiver knows a repetition (Standard Webhooks, `webhook-id`). Made of what never changes about the
    /// claim, because a claim is offered once at most.
    #[must_use]
    pub fn webhook_id(&self) -> String {
        let Claim { id, sequence, queued_at, .. } = self;
        let digest = Sha256::digest(format!("{id} {sequence} {}", queued_at.0).as_bytes());
        let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("msg_{hex}")
    }
}

/// One try to call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// When it began.
    pub started_at: WallTime,
    /// How long it took.
    pub duration: Duration,
    /// What came of it.
    pub result: DeliveryResult,
}

impl Delivery {
    /// Whether the receiver took it: a status of 200 to 299.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self.result, DeliveryResult::Answered { status: 200..=299 })
    }
}

/// What came of a delivery. Of the answer nothing but the status is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryResult {
    /// There was an answer.
    Answered {
        /// The HTTP status.
        status: u16,
    },
    /// There was none.
    Failed(DeliveryFailure),
    /// Nobody knows yet: it is under way; or its end came after that of the claim, or after that of the process. Then
    /// only the log may know.
    Unfinished,
}

/// Why a delivery got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryFailure {
    /// The configuration has no such target or does not permit the URL any more, its secret cannot be read, or a
    /// var is missing.
    Configuration,
    /// The name does not resolve.
    Resolve,
    /// The name resolves to an address that the configuration does not permit.
    AddressRefused,
    /// Nobody takes connections there.
    Connect,
    /// The connection is not secure: a certificate that is not trusted, or another name's.
    Tls,
    /// No answer in time.
    Timeout,
    /// What came is not an HTTP answer, or is too long.
    Protocol,
}

impl DeliveryFailure {
    /// All of them, in the order of their documentation.
    pub const ALL: [DeliveryFailure; 7] = [
        DeliveryFailure::Configuration,
        DeliveryFailure::Resolve,
        DeliveryFailure::AddressRefused,
        DeliveryFailure::Connect,
        DeliveryFailure::Tls,
        DeliveryFailure::Timeout,
        DeliveryFailure::Protocol,
    ];

    /// The failure in the words of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryFailure::Configuration => "configuration",
            DeliveryFailure::Resolve => "resolve",
            DeliveryFailure::AddressRefused => "address-refused",
            DeliveryFailure::Connect => "connect",
            DeliveryFailure::Tls => "tls",
            DeliveryFailure::Timeout => "timeout",
            DeliveryFailure::Protocol => "protocol",
        }
    }

    /// The failure that [`DeliveryFailure::as_str`] writes as `text`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<DeliveryFailure> {
        DeliveryFailure::ALL.into_iter().find(|failure| failure.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vars_are_bounded_and_sorted() {
        let var = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let vars = Vars::new(vec![var("b", "2"), var("A_1", "")]).unwrap();
        assert_eq!(vars.iter().collect::<Vec<_>>(), [("A_1", ""), ("b", "2")]);
        assert_eq!((vars.get("b"), vars.get("c")), (Some("2"), None));
        for (name, value) in [("", "1"), ("1a", "1"), ("a-b", "1"), ("a", "x\ny"), ("a", "\u{7f}")]
        {
            assert!(Vars::new(vec![var(name, value)]).is_err(), "{name:?} {value:?}");
        }
        assert!(Vars::new(vec![var("a", "1"), var("a", "2")]).is_err());
        assert!(Vars::new(vec![var("a", &"x".repeat(1_025))]).is_err());
        assert!(Vars::new((0..33).map(|n| var(&format!("a{n}"), "")).collect()).is_err());
        let long = |n: usize| var(&format!("a{n}"), &"x".repeat(1_022));
        assert!(Vars::new((0..8).map(long).collect()).is_ok());
        assert!(Vars::new((0..9).map(long).collect()).is_err());
    }
}
