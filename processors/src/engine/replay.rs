//! The same again: what a journal implies, and whether that is what was recorded.
