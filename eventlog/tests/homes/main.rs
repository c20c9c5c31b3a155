//! Every home keeps what the port promises, and fails as it should.
#![cfg(all(feature = "embedded", feature = "conformance"))]

mod disk;
mod harness;
mod home;
mod journal;
mod simulation;
