//! One core of the dataplane: a pinned thread with its runtime, sockets, streams, QUIC endpoint and queues.
//!
//! The only crate that talks to the kernel. Everything in it exists per core and is not `Send`, except
//! [`mailbox`] and [`pipe`], through which cores meet. It works in two modes, chosen once at start by
//! [`kernel::probe`]: on io_uring, or on tokio's reactor where io_uring is forbidden.
//!
//! Does not: know tunnels, exchanges or HTTP. It moves bytes and says what they cost; each module's
//! documentation lists copies, wakeups and system calls per operation.

#![deny(unsafe_code)]

// In the order a process meets them: choose the mode, start cores, connect them, open sockets.
pub mod kernel;
pub mod cpus;
pub mod core;
pub mod time;
pub mod patience;
pub(crate) mod doorbell;
pub mod mailbox;
pub mod chunks;
pub mod gathered;
pub mod pipe;
pub(crate) mod sockopt;
pub mod tcp;
pub mod unix;
pub mod stream;
pub mod udp;
pub mod quic;
pub mod pem;
pub mod shared_window;
#[expect(
    unsafe_code,
    reason = "operations that lend memory to the kernel live here and nowhere else"
)]
mod ring;

#[cfg(test)]
mod testing;
