//! Units: to be filled.
