//! The shared language of FAJMA: what a fact is, how it is written down, and the arithmetic that several rooms need.
//!
//! Pure: no clock, no I/O, no randomness, no `tokio`. Everything here is a value or a function of values.
//!
//! Reading order: [`ids`], [`time`], [`metric`], [`catalogue`] and [`mod@unit`] (what is measured), [`journal`] (what
//! happened in the world), [`derived`] (what processors concluded), [`policy`] and [`limits`] (what they go by),
//! [`avro`] and [`codec`] (bytes).

pub mod access;
pub mod alias;
pub mod assignment;
pub mod avro;
pub mod catalogue;
pub mod codec;
pub mod consultation;
pub mod derived;
pub mod facts;
pub mod ids;
pub mod journal;
pub mod json;
pub mod known;
pub mod limits;
pub mod metric;
pub mod partition;
pub mod policy;
pub mod refused;
pub mod registry;
pub mod time;
pub mod unit;
