//! Callbacks.
mod schedule;
pub use schedule::LaneStatus;
