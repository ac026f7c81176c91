//! Accepts connections through the ring.
//!
//! The operation belongs to the listener, not to the future that waits for it: a dropped `accept` future
//! neither loses the connection the kernel is about to hand over nor leaks its descriptor.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::Shutdown;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use super::oneshot::{self, Oneshot};
use super::socket::Socket;
use super::stream::{RingStream, Transport};

/// One accept operation in flight at a time. One task accepts; a second one would take its wakeups.
pub(crate) struct RingListener {
    socket: Rc<Socket>,
    accepting: RefCell<Option<Oneshot<()>>>,
}

impl RingListener {
    pub(crate) fn new(socket: Socket) -> Self {
        Self {
            socket: Rc::new(socket),
            accepting: RefCell::new(None),
        }
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) async fn accept(&self) -> io::Result<RingStream> {
        let descriptor = poll_fn(|cx| self.poll_accept(cx)).await?;
        Ok(RingStream::new(
            Rc::new(Socket::from_blocking(descriptor)),
            Transport::Tcp,
        ))
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let mut accepting = self.accepting.borrow_mut();
        let operation = accepting.get_or_insert_with(|| oneshot::accept(&self.socket));
        let (result, ()) = ready!(Pin::new(operation).poll(cx));
        *accepting = None;
        Poll::Ready(result.map(owned))
    }
}

impl Drop for RingListener {
    fn drop(&mut self) {
        if self.accepting.borrow().is_none() {
            return;
        }
        // Ends the operation, and takes a connection that has completed it meanwhile. One that completes
        // between the runtime's last look at the ring and this line keeps its descriptor until the process
        // ends; who closes the listener and accepts until that fails avoids it.
        let _ = self.socket.shutdown(Shutdown::Read);
        let _ = self.poll_accept(&mut Context::from_waker(Waker::noop()));
    }
}

fn owned(descriptor: usize) -> OwnedFd {
    let descriptor = descriptor as RawFd;
    // SAFETY: a successful accept returns a new descriptor, and this completion is its only owner.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
