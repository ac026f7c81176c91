//! `adit`: edge, connector and control in one executable. Parses, runs the command, reports how it ended.
#![forbid(unsafe_code)]

// In the order of a run: grammar, command, what it asks others, what it prints, how it ends.
mod args;
mod parent;
mod log;
mod cmd;
mod up;
mod rest;
mod output;
mod failure;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = args::parse(std::env::args_os());
    let outcome = parent::die_together(&matches).and_then(|()| cmd::run(&matches));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::tell(failure.text());
            failure.exit_code()
        }
    }
}
