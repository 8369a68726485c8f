//! Callbacks: how the service calls somebody when a claim gets its permits.

pub mod address;
pub mod allowed;
pub mod url;
