//! Tests of the whole house, in one binary.

mod e2e;
mod tidy;
