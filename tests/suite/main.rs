//! The integration tests, as one crate: it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod api_doc;
mod bad_input;
mod bad_request;
mod bounds;
mod client;
mod client_commands;
mod client_doctor;
mod client_help;
mod client_life;
mod client_look;
mod client_run;
mod contract;
mod core_model;
mod core_rules;
mod daemon;
mod declarations;
mod demo;
mod descriptors;
mod fake_service;
mod farm;
mod http;
mod layers;
mod lifecycle;
mod nginx;
mod openapi;
mod presence;
mod proxy;
mod readme;
mod repetition;
mod schema;
mod service;
mod storage_failures;
mod waiting;
mod web_server;
mod wire;
