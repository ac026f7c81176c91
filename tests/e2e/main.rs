//! The real binaries, end to end.
