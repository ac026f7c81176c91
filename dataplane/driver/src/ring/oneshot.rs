//! Single-completion operations on the runtime's ring.
//!
//! An operation owns its socket and whatever memory the kernel may touch. Dropping it leaves both with
//! the reactor until the completion has arrived, so dropping is always sound; but it does not end the
//! operation. What ends one: data, the peer, [`Socket::shutdown`], or [`cancel_all`].
//!
//! Submission is deferred to the end of the runtime's turn: many operations, one `io_uring_enter`.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use io_uring::{opcode, squeue, types};
use socket2::SockAddr;

use super::reactor::{Reactor, Ticket};
use super::socket::Socket;

/// Lets the kernel wait for bytes before it tries to receive: there are none yet, nearly always.
const IORING_RECVSEND_POLL_FIRST: u16 = 1;

/// An operation in flight that has borrowed `Lent`; completes with the kernel's result and gives it back.
pub(crate) struct Oneshot<Lent: Unpin + 'static> {
    ticket: Ticket,
    /// Taken by the completion.
    held: Option<Held<Lent>>,
}

/// Heap memory that stays at its address until the completion. The future keeps it, or the reactor if the
/// future is dropped.
struct Held<Lent> {
    lent: Lent,
    _socket: Rc<Socket>,
}

impl<Lent: Unpin + 'static> Oneshot<Lent> {
    /// Queues `entry`, which may point at `socket`'s descriptor and at heap memory owned by `lent`, and at
    /// nothing else. Private: each operation below keeps that promise in one place.
    fn submit(socket: &Rc<Socket>, lent: Lent, entry: squeue::Entry) -> Self {
        let held = Held {
            lent,
            _socket: Rc::clone(socket),
        };
        // SAFETY: `entry` points at what `held` owns on the heap. Moving `held` does not move that, and
        // `held` is given away only with the result or to the reactor, which keeps it until the completion.
        let ticket = unsafe { Reactor::here().start(entry) };
        Self {
            ticket,
            held: Some(held),
        }
    }

    fn poll_result(&mut self, cx: &Context<'_>) -> Poll<i32> {
        match Reactor::here().poll(&self.ticket, cx) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

impl<Lent: Unpin + 'static> Future for Oneshot<Lent> {
    type Output = (io::Result<usize>, Lent);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = ready!(self.poll_result(cx));
        let held = self.held.take().expect("not polled again after completion");
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Poll::Ready((result, held.lent))
    }
}

impl<Lent: Unpin + 'static> Drop for Oneshot<Lent> {
    fn drop(&mut self) {
        if let Some(held) = self.held.take() {
            Reactor::here().orphan(&self.ticket, Box::new(held));
        }
    }
}

/// Receives up to `buffer.len()` bytes into `buffer` as soon as there are any; 0 is the end of the stream.
pub(super) fn receive(socket: &Rc<Socket>, mut buffer: Vec<u8>) -> Oneshot<Vec<u8>> {
    let length = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
    let entry = opcode::Recv::new(socket.target(), buffer.as_mut_ptr(), length)
        .ioprio(IORING_RECVSEND_POLL_FIRST)
        .build();
    Oneshot::submit(socket, buffer, entry)
}

/// Sends `bytes[from..]`; completes when the socket has taken all of it, or has failed.
pub(super) fn send(socket: &Rc<Socket>, bytes: Vec<u8>, from: usize) -> Oneshot<Vec<u8>> {
    let rest = bytes.get(from..).unwrap_or_default();
    let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
    let entry = opcode::Send::new(socket.target(), rest.as_ptr(), length);
    Oneshot::submit(
        socket,
        bytes,
        entry.flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL).build(),
    )
}

/// Waits until the socket takes more bytes, or has failed.
pub(super) fn writable(socket: &Rc<Socket>) -> Oneshot<()> {
    let events = libc::POLLOUT as u32;
    Oneshot::submit(socket, (), opcode::PollAdd::new(socket.target(), events).build())
}

/// Waits until a socket in whatever mode takes more, without changing that mode.
pub(crate) async fn until_writable(descriptor: OwnedFd) -> io::Result<()> {
    let socket = Rc::new(Socket::from_blocking(descriptor));
    let (result, ()) = writable(&socket).await;
    result.map(drop)
}

/// Waits for a connection; the result is its descriptor. Asks for no address, so the kernel is lent
/// nothing.
pub(super) fn accept(socket: &Rc<Socket>) -> Oneshot<()> {
    let entry = opcode::Accept::new(socket.target(), std::ptr::null_mut(), std::ptr::null_mut());
    Oneshot::submit(socket, (), entry.flags(libc::SOCK_CLOEXEC).build())
}

/// Connects the socket.
pub(super) fn connect(socket: &Rc<Socket>, address: Box<SockAddr>) -> Oneshot<Box<SockAddr>> {
    let entry = opcode::Connect::new(socket.target(), address.as_ptr().cast(), address.len()).build();
    Oneshot::submit(socket, address, entry)
}

/// Makes every operation on the socket complete with ECANCELED, without waiting for that.
pub(super) fn cancel_all(socket: &Rc<Socket>) {
    let all = types::CancelBuilder::fd(socket.target()).all();
    drop(Oneshot::submit(
        socket,
        (),
        opcode::AsyncCancel2::new(all).build(),
    ));
}
