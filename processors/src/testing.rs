//! Facts for tests, and tables of given, when, then.
