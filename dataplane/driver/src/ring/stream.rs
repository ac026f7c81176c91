//! A connected socket on the runtime's ring, as polled reads and writes.
//!
//! Reading. A small receive is always the one in flight while a reader waits, so an idle stream holds
//! [`AHEAD_BYTES`] and nothing else. A receive that fills its buffer means more is there: the rest is
//! received directly into the caller's memory until the socket is empty. After [`DIRECT_READS_MAX`] direct
//! reads in a row the stream goes through the ring once, which lets every other task of the core run.
//!
//! Writing. A small reply goes out with the turn (see [`reply`](super::reply)); everything else directly.
//! Only a full socket waits, by a poll operation that borrows no memory. So bytes are in the kernel when a
//! write returns, or will be at the end of the turn: dropping a stream loses none of them.
//!
//! | operation | system calls | copies in user space |
//! |---|---|---|
//! | read of up to [`AHEAD_BYTES`] | none of its own (submitted with the turn) | 1 |
//! | read of more | 1 per buffer the caller brings | 0 (the first [`AHEAD_BYTES`]: 1) |
//! | small reply on TCP | none of its own | 1 |
//! | other write | 1 | 0 |
//! | write to a full socket | 2 | 0 |

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};

use super::oneshot::{self, Oneshot};
use super::reply::Reply;
use super::socket::Socket;
use crate::stream::chunk;

/// Size of the receive that waits in the kernel. Most request heads fit; an idle connection pays for it.
const AHEAD_BYTES: usize = 2048;

/// Direct reads in a row: with 64 KiB buffers half a MiB, about the time slice of one busy stream.
const DIRECT_READS_MAX: u8 = 8;

/// How long a reply that a dropped stream leaves behind may wait for a peer that takes nothing.
const UNSENT_REPLY_MAX: Duration = Duration::from_secs(10);

/// What kind of socket a stream runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    /// Written directly only: nothing would bound a reply left behind for a peer that does not read.
    Unix,
}

pub(crate) struct RingStream {
    socket: Rc<Socket>,
    transport: Transport,
    receiving: Option<Oneshot<Vec<u8>>>,
    ahead: Ahead,
    /// The last receive filled its buffer.
    may_have_more: bool,
    direct_reads: u8,
    until_writable: Option<Oneshot<()>>,
    reply: Reply,
    /// Closing the descriptor resets the connection; a FIN before would look like an end in order.
    is_aborted: bool,
}

/// Bytes the ring has received and the caller has not taken: `memory[taken..received]`.
#[derive(Default)]
struct Ahead {
    memory: Vec<u8>,
    taken: usize,
    received: usize,
}

/// Where the next bytes come from.
enum Source {
    Ahead,
    Socket,
    Ended,
}

impl RingStream {
    pub(crate) fn new(socket: Rc<Socket>, transport: Transport) -> Self {
        let mut stream = Self {
            socket,
            transport,
            receiving: None,
            ahead: Ahead::default(),
            may_have_more: false,
            direct_reads: 0,
            until_writable: None,
            reply: Reply::default(),
            is_aborted: false,
        };
        stream.expect_reply();
        stream
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Reads into `buffer`, which has room; 0 at the end of the stream.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            match ready!(self.poll_source(cx))? {
                Source::Ahead => return Poll::Ready(Ok(self.ahead.take_into(buffer))),
                Source::Socket => match self.read_now(buffer)? {
                    Some(length) => return Poll::Ready(Ok(length)),
                    None => continue,
                },
                Source::Ended => return Poll::Ready(Ok(0)),
            }
        }
    }

    /// Reads up to `max` bytes as a chunk; `None` at the end of the stream.
    pub(crate) fn poll_read_chunk(
        &mut self,
        cx: &mut Context<'_>,
        max: usize,
    ) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            match ready!(self.poll_source(cx))? {
                Source::Ahead => return Poll::Ready(Ok(Some(self.ahead.take_chunk(max)))),
                Source::Socket => {
                    let read = chunk::read(max, |buffer| self.read_now(buffer))?;
                    if let Some(chunk) = read {
                        return Poll::Ready(Ok((!chunk.is_empty()).then_some(chunk)));
                    }
                }
                Source::Ended => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// Writes as much of `slices` as the socket takes; waits only while it takes nothing.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.reply.poll_sent(&self.socket, cx))?;
        if let Some(length) = self.reply.take(&self.socket, slices) {
            return Poll::Ready(Ok(length));
        }
        loop {
            if let Some(until_writable) = &mut self.until_writable {
                // The outcome does not matter: the next send says what is the case.
                let _ = ready!(Pin::new(until_writable).poll(cx));
                self.until_writable = None;
            }
            match self.socket.send_now(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.until_writable = Some(oneshot::writable(&self.socket));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Ready once the kernel has everything that was written.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.reply.poll_sent(&self.socket, cx)
    }

    /// Ends the writing direction after everything that was written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Poll::Ready(self.socket.shutdown(Shutdown::Write))
    }

    /// Says that the descriptor is set to reset the connection when it closes.
    pub(crate) fn expect_reset(&mut self) {
        self.is_aborted = true;
    }

    fn expect_reply(&mut self) {
        if self.transport == Transport::Tcp {
            self.reply.expect();
        }
    }

    /// Decides where to read next; waits for the ring only if neither memory nor socket are known to have
    /// bytes.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Source>> {
        if !self.ahead.is_empty() {
            return Poll::Ready(Ok(Source::Ahead));
        }
        if self.receiving.is_none() && self.may_have_more && self.direct_reads < DIRECT_READS_MAX {
            return Poll::Ready(Ok(Source::Socket));
        }
        let receiving = self.receiving.get_or_insert_with(|| {
            let mut memory = std::mem::take(&mut self.ahead.memory);
            memory.resize(AHEAD_BYTES, 0);
            oneshot::receive(&self.socket, memory)
        });
        let (result, memory) = ready!(Pin::new(receiving).poll(cx));
        self.receiving = None;
        self.direct_reads = 0;
        let received = result?;
        self.may_have_more = received == AHEAD_BYTES;
        if received == 0 {
            return Poll::Ready(Ok(Source::Ended));
        }
        self.ahead = Ahead {
            memory,
            taken: 0,
            received,
        };
        self.expect_reply();
        Poll::Ready(Ok(Source::Ahead))
    }

    /// Reads from the socket without waiting; `None` if there is nothing.
    fn read_now(&mut self, buffer: &mut impl BufMut) -> io::Result<Option<usize>> {
        let room = buffer.chunk_mut().len();
        match self.socket.recv_now(buffer) {
            Ok(length) => {
                self.may_have_more = length == room;
                self.direct_reads += 1;
                Ok(Some(length))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.may_have_more = false;
                Ok(None)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for RingStream {
    /// Operations keep the descriptor open, so they are ended here and the peer sees the end at once.
    /// Bytes already written are still delivered.
    fn drop(&mut self) {
        if self.is_aborted && self.until_writable.is_none() {
            // Ends a receive in flight, which closes the descriptor, and sends nothing.
            let _ = self.socket.shutdown(Shutdown::Read);
            return;
        }
        let is_sent = self
            .poll_flush(&mut Context::from_waker(Waker::noop()))
            .is_ready();
        if !is_sent {
            // Not yet in the kernel, perhaps: the descriptor closes, and the peer sees the end, after it.
            let _ = self.socket.options().set_tcp_user_timeout(Some(UNSENT_REPLY_MAX));
            let _ = self.socket.shutdown(Shutdown::Read);
        } else if self.receiving.is_some() || self.until_writable.is_some() {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

impl Ahead {
    fn is_empty(&self) -> bool {
        self.taken == self.received
    }

    fn take_into(&mut self, buffer: &mut impl BufMut) -> usize {
        let mut bytes = self.bytes();
        let length = bytes.len().min(buffer.remaining_mut());
        buffer.put((&mut bytes).take(length));
        self.taken += length;
        length
    }

    fn take_chunk(&mut self, max: usize) -> Bytes {
        let bytes = self.bytes();
        let chunk = Bytes::copy_from_slice(bytes.get(..max).unwrap_or(bytes));
        self.taken += chunk.len();
        chunk
    }

    fn bytes(&self) -> &[u8] {
        self.memory.get(self.taken..self.received).unwrap_or_default()
    }
}
