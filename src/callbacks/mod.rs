//! Callbacks: how the service calls somebody when a claim gets its permits.

pub mod address;
pub mod allowed;
mod event;
pub mod secret;
pub mod signature;
mod template;
pub mod url;

pub use self::event::{CLAIM_ID_VAR, Event, FENCES_VAR};
pub use self::template::{Template, TemplateProblem};
