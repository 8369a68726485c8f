//! The integration tests, as one crate: it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod client_run;
mod core_model;
mod core_rules;
mod daemon;
mod fake_service;
mod http;
mod layers;
mod lifecycle;
mod schema;
mod web_server;
