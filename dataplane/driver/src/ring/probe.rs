//! Runs every io_uring facility the dataplane uses once, on a thread that ends afterwards.

use std::io;
use std::thread;

use io_uring::{Probe, opcode};

use super::buf_ring::BufferRing;
use super::{reactor, runtime};
use crate::kernel::{Shortfall, Step};

/// Tries a ring with our flags, its operations, a buffer ring, and a turn of the runtime.
///
/// On its own thread because rings belong to the thread that makes them (SINGLE_ISSUER), and because the
/// caller may already be inside a runtime.
pub(crate) fn try_everything() -> Result<(), Shortfall> {
    let probing = thread::Builder::new()
        .name("io-probe".to_owned())
        .spawn(|| raw_ring().and_then(|()| runtime_ring()))
        .map_err(|error| Shortfall::new(Step::Thread, error))?;
    let panicked = || {
        Err(Shortfall::new(
            Step::Thread,
            io::Error::other("the probe panicked"),
        ))
    };
    probing.join().unwrap_or_else(|_| panicked())
}

fn raw_ring() -> Result<(), Shortfall> {
    let at = |step: Step| move |error: io::Error| Shortfall::new(step, error);
    let ring = reactor::ring().map_err(at(Step::Ring))?;
    let mut operations = Probe::new();
    ring.submitter()
        .register_probe(&mut operations)
        .map_err(at(Step::Operations))?;
    for (name, code) in OPERATIONS {
        if !operations.is_supported(code) {
            let missing = io::Error::new(io::ErrorKind::Unsupported, format!("no operation {name}"));
            return Err(Shortfall::new(Step::Operations, missing));
        }
    }
    BufferRing::register(&ring, 0, 1, 4096)
        .map(drop)
        .map_err(at(Step::BufferRing))
}

/// Passes one operation through what a core would run on.
fn runtime_ring() -> Result<(), Shortfall> {
    runtime::try_once().map_err(|error| Shortfall::new(Step::Runtime, error))
}

const OPERATIONS: [(&str, u8); 8] = [
    ("recvmsg", opcode::RecvMsg::CODE),
    ("read", opcode::Read::CODE),
    ("send", opcode::Send::CODE),
    ("recv", opcode::Recv::CODE),
    ("poll", opcode::PollAdd::CODE),
    ("accept", opcode::Accept::CODE),
    ("connect", opcode::Connect::CODE),
    ("cancel", opcode::AsyncCancel::CODE),
];
