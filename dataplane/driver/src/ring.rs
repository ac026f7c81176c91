//! Everything that gives the kernel memory or descriptors to use later: the crate's only unsafe code.
//!
//! One ring per core carries everything: accept, connect, receive, wait until writable, UDP receives, and the
//! core's own sleep.
//!
//! Invariant of every operation here: what the kernel may touch (descriptor, buffer, address) is owned by
//! the operation until its completion has arrived. Dropping a future neither cancels its operation nor
//! frees what it owns; whoever starts an operation also says how it ends.

pub(crate) mod accept;
mod alarm;
mod bell;
pub(crate) mod buf_ring;
pub(crate) mod connect;
pub(crate) mod oneshot;
pub(crate) mod probe;
pub(crate) mod route;
mod reactor;
mod reply;
pub(crate) mod runtime;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod cmsg;
pub(crate) mod readiness;
pub(crate) mod steer;
pub(crate) mod udp;
