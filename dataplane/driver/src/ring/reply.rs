//! Sends a small write that answers a read with the runtime's turn, together with those of other streams.
//!
//! Saves a busy server core a system call per response: measured with hyper and 1 KB responses, a fifth
//! less CPU per request on 32 and on 256 connections, nothing on one. It costs a copy, so only small
//! writes qualify; and the next write has to wait for the turn, so only the first write after a read does.
//! Whatever streams without reading is written directly.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::oneshot::{self, Oneshot};
use super::socket::Socket;

/// Longest write sent this way. Larger ones cost more to copy than the system call they save, and the copy
/// of the last reply stays with a stream that is never flushed.
const REPLY_BYTES_MAX: usize = 8192;

#[derive(Default)]
pub(super) struct Reply {
    /// Bytes were read, or nothing has happened yet.
    is_due: bool,
    sending: Option<Oneshot<Vec<u8>>>,
    /// How much of what is being sent the kernel has taken before.
    sent: usize,
}

impl Reply {
    /// Marks the next write as the answer to what was read.
    pub(super) fn expect(&mut self) {
        self.is_due = true;
    }

    /// Queues `slices` as one send if they are a small reply, and returns their length. The previous one
    /// must be sent.
    pub(super) fn take(&mut self, socket: &Rc<Socket>, slices: &[IoSlice<'_>]) -> Option<usize> {
        debug_assert!(self.sending.is_none(), "one send at a time keeps bytes in order");
        if !std::mem::take(&mut self.is_due) {
            return None;
        }
        let length = slices.iter().map(|slice| slice.len()).sum();
        if !(1..=REPLY_BYTES_MAX).contains(&length) {
            return None;
        }
        let mut bytes = Vec::with_capacity(length);
        for slice in slices {
            bytes.extend_from_slice(slice);
        }
        self.sent = 0;
        self.sending = Some(oneshot::send(socket, bytes, 0));
        Some(length)
    }

    /// Ready once the kernel has everything that was taken.
    pub(super) fn poll_sent(&mut self, socket: &Rc<Socket>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(sending) = &mut self.sending {
            let (result, bytes) = ready!(Pin::new(sending).poll(cx));
            self.sending = None;
            self.sent += result?;
            // The kernel sends all or fails; a signal may still cut a send short.
            if self.sent < bytes.len() {
                self.sending = Some(oneshot::send(socket, bytes, self.sent));
            }
        }
        Poll::Ready(Ok(()))
    }
}
