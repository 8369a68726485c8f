//! x
pub mod web_server;
pub mod http_interface;
pub mod router;
pub mod api;
pub mod model;
pub mod storage;
