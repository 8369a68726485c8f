//! x
pub mod cli;
pub mod client;
pub mod model;
pub mod storage;
