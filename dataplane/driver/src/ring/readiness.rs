//! Registers descriptors we own with the runtime's reactor.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Descriptor owners whose `as_raw_fd` names one open descriptor for as long as they live.
pub(crate) trait OwnsDescriptor: AsRawFd {}

impl OwnsDescriptor for UdpSocket {}

/// Watches `owner` for `interest`; must run inside a runtime.
pub(crate) fn watch<T: OwnsDescriptor>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    // SAFETY: `OwnsDescriptor` is implemented only above, for types that own their descriptor, always
    // return the same one, and close it only when dropped, which the `AsyncFd` controls.
    unsafe { AsyncFd::register_with_interest(owner, interest) }.map_err(io::Error::from)
}
