//! Every home keeps what the port promises, and fails as it should.
#![cfg(all(feature = "embedded", feature = "conformance"))]
#![allow(clippy::expect_used, reason = "what fails here fails the test")]

mod disk;
mod harness;
mod home;
mod journal;
#[cfg(feature = "engine-tests")]
mod kafka;
#[cfg(feature = "engine-tests")]
mod killed;
#[cfg(feature = "engine-tests")]
mod members;
mod moving;
#[cfg(feature = "engine-tests")]
mod moving_kafka;
#[cfg(feature = "engine-tests")]
mod registered;
#[cfg(feature = "engine-tests")]
mod secured;
mod simulation;
#[cfg(feature = "engine-tests")]
mod standby;
mod tables;
