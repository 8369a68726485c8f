//! The integration tests, as one crate: it links once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod access;
mod api_doc;
mod backup;
mod bad_input;
mod bad_request;
mod bounds;
mod bursts;
mod callbacks;
mod callbacks_config;
mod client;
mod client_adopt;
mod client_audit;
mod client_callbacks;
mod client_commands;
mod client_doctor;
mod client_help;
mod client_life;
mod client_look;
mod client_run;
mod client_token_commands;
mod client_token_doctor;
mod client_tokens;
mod contract;
mod core_model;
mod core_rules;
mod daemon;
mod declarations;
mod demo;
mod descriptors;
mod direct;
mod fake_service;
mod farm;
mod generated;
mod http;
mod layers;
mod lifecycle;
mod nginx;
mod no_netlink;
mod openapi;
mod packages;
mod pipelines;
mod plain_request;
mod presence;
mod proxy;
mod readme;
mod recipes;
mod repetition;
mod schema;
mod service;
mod slow_reader;
mod socket_activation;
mod storage_failures;
mod systemd;
mod threat_model;
mod waiting;
mod web_server;
mod wire;

/// Manual pages and completions, as the example `generate` writes them.
#[path = "../../packaging/generate/files.rs"]
mod files;
