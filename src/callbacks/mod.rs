//! Callbacks: how the service calls somebody when a claim gets its permits.
//!
//! An admin declares *targets* (a preset, a URL, a secret), and permits URLs that clients may bring. From a claim's
//! [`Callback`](crate::model::Callback) and an [`Event`] a preset makes a request; the
//! [`transport`] sends it once and says what came of it. When to send, and again, is for the `outbox`, by its
//! `schedule`.
//!
//! What keeps a client from using the service as its arm into the network (docs/decisions/0011-callback-destinations.md):
//! URLs have one spelling ([`url`]); only permitted ones are called ([`allowed`]); the addresses of a name are
//! checked and then used, without asking again ([`address`], [`transport`]); redirects are not followed; of the
//! answer only the status is kept.
//!
//! Secrets are read when the configuration is and shown nowhere ([`secret`]).

pub mod address;
mod allow_vars;
pub mod allowed;
mod caller;
mod declared;
mod event;
mod headers;
mod lookup;
mod lookups;
mod outbox;
mod presets;
mod refusal;
mod registry;
mod schedule;
pub mod secret;
mod settings;
pub mod signature;
mod target;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tls_tests;
pub mod transport;
pub mod url;
mod waiting;

pub use self::caller::{Callbacks, TESTS_MAX, TargetStatus, Test, Tested};
pub use self::event::{CLAIM_ID_VAR, Event, FENCES_VAR};
pub use self::outbox::Render;
pub use self::presets::{Method, Need, Outgoing, PRESETS, Preset, SecretUse, Unfit};
pub use self::refusal::Refusal;
pub use self::registry::{LaneKey, Listed, Registry};
pub use self::schedule::{Delay, LaneStatus};
pub use self::settings::{
    ALLOW_MAX, AllowSettings, CIDRS_MAX, ConfigError, ConfigProblem, HEADERS_MAX, Place,
    SecretSettings, Settings, TARGETS_MAX, TIMEOUT_DEFAULT, TIMEOUT_MAX, TargetSettings,
};
pub use self::target::Target;
pub use self::template::{Template, TemplateProblem};
pub use self::transport::{MayBegin, Sent};
