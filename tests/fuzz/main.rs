//! Fuzzes every decoder over a stored corpus, for a bounded number of rounds, on stable Rust.
//!
//! Each target has a folder `tests/fuzz/corpus/<target>/` of inputs worth starting from: captures,
//! small valid values, and inputs that once failed. A run tries each of them as it is, then mutates
//! them by a seeded generator (`mutate`). A target must not panic, must give back what it wrote, and
//! must stay within its bounds of memory and time (`engine`).
//!
//! `ADIT_FUZZ_ROUNDS` and `ADIT_FUZZ_SEED` set how long and where from; a failure prints the two that
//! replay it alone. To keep a failing input, save its bytes into the target's corpus.
//!
//! A crate with a decoder adds a module here and a test per decoder.
#![forbid(unsafe_code)]

mod engine;
mod mutate;
mod wire;
mod first_bytes;
mod request_head;
mod framed_body;
mod proxies;
mod config;
mod ingress;
mod rest;
mod snapshot;
mod management;
