//! A service that hands out limited resources over HTTP with semaphore semantics: floating licences,
//! boards, slots. A job acquires a permit here before it starts the licensed tool; if none is free it waits
//! in a fair queue.
//!
//! # Layers
//!
//! ```text
//! bin → application → web_server → http_interface → router → api → callbacks → semaphore → storage → model
//! semaphore::core → model only            client → http client, model
//! application, client → cli → model
//! ```
//!
//! A module names only modules to its right; a test reads the imports and keeps the rule. To read the
//! code, begin at [`model`] for the words, then [`semaphore::core`] for the rules; `docs/ARCHITECTURE.md`
//! follows one acquire through all of it.

pub mod model;

pub mod storage;

pub mod semaphore;

pub mod callbacks;

pub mod api;
pub mod router;

pub mod http_interface;

pub mod web_server;

pub mod application;

pub mod cli;
pub mod client;
