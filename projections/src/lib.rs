//! Facts to rows. A view can be thrown away and rebuilt from the log.
//!
//! [`view`] says what a view is made of, [`store`] is the port of the store, [`views`] turns facts into rows, one file
//! per view, [`runner`] keeps the
//! rows up with the log, and [`query`] reads them back as plain structs.

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod key;
pub mod metrics;
pub mod query;
pub mod runner;
#[cfg(feature = "scylla")]
pub mod scylla;
pub mod store;
pub mod view;
pub mod views;
