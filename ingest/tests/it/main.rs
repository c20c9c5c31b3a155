//! The doors as senders see them.
#![allow(clippy::unwrap_used, reason = "a test may")]

mod access;
mod attribution;
mod bad_messages;
mod good_messages;
mod http_native;
mod intake;
mod log;
mod properties;
mod raw;
mod rest_proxy;
mod routes_of;
mod ticker;
