//! The integration tests, as one crate: it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod bad_input;
mod bad_request;
mod client_run;
mod contract;
mod daemon;
mod fake_service;
mod http;
mod lifecycle;
mod openapi;
mod schema;
mod web_server;
mod wire;
