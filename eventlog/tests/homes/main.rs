//! Every home keeps what the port promises, and fails as it should.
#![cfg(all(feature = "embedded", feature = "conformance"))]
#![allow(clippy::expect_used, reason = "what fails here fails the test")]

mod disk;
#[cfg(feature = "engine-tests")]
mod engines;
mod harness;
mod home;
mod journal;
mod moving;
mod simulation;
mod tables;
