//! A stream socket or listener whose descriptor outlives every operation that names it.
//!
//! Sockets here are in blocking mode: the ring waits by itself, and the calls that must not wait say so
//! with MSG_DONTWAIT. Operations hold an `Rc` of the socket, so the descriptor is closed (and its number
//! reused) only after the last completion that could refer to it.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use bytes::BufMut;
use io_uring::types;
use socket2::SockRef;

#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
}

impl Socket {
    /// Takes over `descriptor` and puts it in blocking mode.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        SockRef::from(&descriptor).set_nonblocking(false)?;
        Ok(Self { descriptor })
    }

    /// The same for a descriptor that is known to be in blocking mode, as accepted ones are.
    pub(crate) fn from_blocking(descriptor: OwnedFd) -> Self {
        Self { descriptor }
    }

    pub(crate) fn options(&self) -> SockRef<'_> {
        SockRef::from(&self.descriptor)
    }

    pub(super) fn target(&self) -> types::Fd {
        types::Fd(self.descriptor.as_fd().as_raw_fd())
    }

    /// Receives into `buffer` what is already there; one system call, one copy (the kernel's).
    ///
    /// Returns 0 at the end of the stream and `WouldBlock` if nothing is there.
    pub(super) fn recv_now(&self, buffer: &mut impl BufMut) -> io::Result<usize> {
        let spare = buffer.chunk_mut();
        // SAFETY: the slice is only handed to recv(2), which writes no uninitialised bytes into it.
        let spare = unsafe { spare.as_uninit_slice_mut() };
        let received = self.options().recv_with_flags(spare, libc::MSG_DONTWAIT)?;
        // SAFETY: recv(2) has initialised the first `received` bytes of the spare part of `buffer`.
        unsafe { buffer.advance_mut(received) };
        Ok(received)
    }

    /// Sends as much of `slices` as the socket takes at once; one system call, one copy (the kernel's).
    pub(super) fn send_now(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.options()
            .send_vectored_with_flags(slices, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    }

    /// Ends one or both directions; operations in flight on them complete.
    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self.options().shutdown(how) {
            // The peer was faster; what was asked for is already the case.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}
