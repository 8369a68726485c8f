//! x
pub mod api;
pub mod model;
pub mod semaphore;
pub mod storage;
