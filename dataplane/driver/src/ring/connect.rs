//! Connects a socket through the ring, and stops trying when the caller does.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use socket2::SockAddr;

use super::oneshot::{self, Oneshot};
use super::socket::Socket;
use super::stream::{RingStream, Transport};

/// Resolves to the connected stream. Dropping it (a timeout, say) cancels the attempt.
///
/// Cancelled by the ring rather than by shutdown: a shut-down socket leaves the connecting state, and the
/// kernel would then start a second attempt for the same operation.
pub(crate) struct Connecting {
    socket: Rc<Socket>,
    operation: Option<Oneshot<Box<SockAddr>>>,
}

impl Connecting {
    pub(crate) fn start(socket: Socket, address: SockAddr) -> Self {
        let socket = Rc::new(socket);
        let operation = Some(oneshot::connect(&socket, Box::new(address)));
        Self { socket, operation }
    }
}

impl Future for Connecting {
    type Output = io::Result<RingStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let operation = self
            .operation
            .as_mut()
            .expect("not polled again after completion");
        let (result, _) = ready!(Pin::new(operation).poll(cx));
        self.operation = None;
        Poll::Ready(result.map(|_| RingStream::new(Rc::clone(&self.socket), Transport::Tcp)))
    }
}

impl Drop for Connecting {
    fn drop(&mut self) {
        if self.operation.is_some() {
            oneshot::cancel_all(&self.socket);
        }
    }
}
