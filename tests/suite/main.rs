//! x
mod web_server;
