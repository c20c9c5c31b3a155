//! Tests of the whole house, in one binary.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod docker;
mod e2e;
mod tidy;
