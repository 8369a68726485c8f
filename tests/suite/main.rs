//! The integration tests, one crate: it links once.

mod core_model;
