//! Everything that gives the kernel memory or descriptors to use later: the crate's only unsafe code.
//!
//! Two rings per core. The runtime's (tokio-uring) carries streams: accept, connect, receive, wait until
//! writable. A raw one carries UDP receives, because tokio-uring cannot take multishot completions.
//!
//! Invariant of every operation here: what the kernel may touch (descriptor, buffer, address) is owned by
//! the operation until its completion has arrived. Dropping a future neither cancels its operation nor
//! frees what it owns; whoever starts an operation also says how it ends.

pub(crate) mod accept;
pub(crate) mod buf_ring;
pub(crate) mod connect;
pub(crate) mod oneshot;
pub(crate) mod probe;
mod reply;
pub(crate) mod runtime;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod cmsg;
pub(crate) mod readiness;
pub(crate) mod steer;
pub(crate) mod udp;
