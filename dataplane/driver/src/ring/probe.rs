//! Runs every io_uring facility the dataplane uses once, on a thread that ends afterwards.

use std::io;
use std::os::fd::AsRawFd;
use std::thread;

use io_uring::{IoUring, Probe, opcode};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::buf_ring::BufferRing;
use super::runtime;
use crate::kernel::{Shortfall, Step};

/// Tries the UDP ring's set-up and the runtime's ring.
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
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_clamp()
        .build(8)
        .map_err(at(Step::Ring))?;
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
    BufferRing::register(&ring, 0, 1, 4096).map_err(at(Step::BufferRing))?;
    let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
        .map_err(|errno| Shortfall::new(Step::EventFd, errno.into()))?;
    ring.submitter()
        .register_eventfd(event.as_raw_fd())
        .map_err(at(Step::EventFd))
}

/// Starts the runtime a core would start and passes one operation through it. No operation is in flight
/// when the runtime is dropped, which is the only state in which dropping it is sound.
fn runtime_ring() -> Result<(), Shortfall> {
    let runtime = runtime::uring().map_err(|error| Shortfall::new(Step::Runtime, error))?;
    runtime
        .block_on(tokio_uring::no_op())
        .map_err(|error| Shortfall::new(Step::Runtime, error))
}

const OPERATIONS: [(&str, u8); 6] = [
    ("recvmsg", opcode::RecvMsg::CODE),
    ("recv", opcode::Recv::CODE),
    ("poll", opcode::PollAdd::CODE),
    ("accept", opcode::Accept::CODE),
    ("connect", opcode::Connect::CODE),
    ("cancel", opcode::AsyncCancel::CODE),
];
