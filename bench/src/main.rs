//! `adit-bench`: measures a server or a tunnel from outside, together with the CPU time of its processes.
//!
//! `load` offers requests at a fixed rate. It counts latency from the moment each one was due, so a stalled
//! server cannot hide its stall (no coordinated omission). `bulk` moves bytes each way, `events` times a
//! stream of events, `hold` keeps idle connections open. `origin` is an origin for all of them. `suite` sets
//! up several subjects on this machine, runs the others as children against each in turn, and reports ratios.
//! Arguments bound everything in time and count.
#![forbid(unsafe_code)]

mod args;
mod target;
mod sender;
mod filler;
mod raw;
mod websocket;
mod pace;
mod tally;
mod load;
mod bulk;
mod events;
mod hold;
mod floor;
mod origin;
mod process;
mod report;
mod suite;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Load(load) => load::run(&load),
        Command::Bulk(bulk) => bulk::run(&bulk),
        Command::Events(events) => events::run(&events),
        Command::Hold(hold) => hold::run(&hold),
        Command::Floor(floor) => floor::run(&floor),
        Command::Origin(origin) => origin::run(&origin),
        Command::Suite(options) => suite::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::complain(&error);
            ExitCode::FAILURE
        }
    }
}
