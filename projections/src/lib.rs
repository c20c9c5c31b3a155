//! Facts to rows. A view can be thrown away and rebuilt from the log.
//!
//! [`view`] says what a view is made of, [`store`] is the port of the store.

pub mod store;
pub mod view;
