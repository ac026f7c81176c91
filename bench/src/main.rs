//! `adit-bench`: measures a server or a tunnel from outside, together with the CPU time of its processes.
//!
//! `load` offers requests at a fixed rate and counts latency from the moment each one was due, so a
//! stalled server cannot hide its stall (no coordinated omission). `bulk` moves bytes each way. `origin`
//! is a plain origin for both. Everything is bounded in time and count by its arguments.
#![forbid(unsafe_code)]

mod args;
mod target;
mod sender;
mod filler;
mod pace;
mod load;
mod bulk;
mod origin;
mod process;
mod report;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Load(load) => load::run(&load),
        Command::Bulk(bulk) => bulk::run(&bulk),
        Command::Origin(origin) => origin::run(&origin),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}
