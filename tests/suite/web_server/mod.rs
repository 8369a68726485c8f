//! The web server over real sockets.

mod bodies;
mod calls;
mod client;
mod connections;
mod probe;
mod script;

use std::time::Duration;

/// Longer than anything here takes; a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(20);
