//! A bounded queue into one core, from any thread.
//!
//! Cores exchange ownership through mailboxes, not references through locks. Sending never blocks and
//! never allocates: a full mailbox gives the item back and the sender decides what to shed.
//!
//! Cost of a send: one compare-and-swap, one fence; the receiving core is woken once per batch, only if it
//! sleeps. Cost of a receive: one compare-and-swap per item, no system call.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use crossbeam_queue::ArrayQueue;

use crate::doorbell::Doorbell;

/// Makes a mailbox that holds at most `capacity` items.
///
/// # Panics
/// If `capacity` is 0.
pub fn mailbox<T: Send>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        bell: Doorbell::default(),
        senders: AtomicUsize::new(1),
        is_abandoned: AtomicBool::new(false),
    });
    (
        Sender {
            shared: Arc::clone(&shared),
        },
        Receiver { shared },
    )
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    bell: Doorbell,
    senders: AtomicUsize,
    /// The receiver is gone.
    is_abandoned: AtomicBool,
}

/// The item that did not fit: the mailbox is full, or its receiver is gone.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the mailbox takes no more items")]
pub struct Full<T>(pub T);

impl<T> fmt::Debug for Full<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Full(..)")
    }
}

/// The sending end; clone it for every sender.
pub struct Sender<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Sender<T> {
    /// Puts `item` at the end of the queue. Items of one sender arrive in order.
    ///
    /// # Errors
    /// [`Full`] with the item if there is no room or nobody will receive it.
    pub fn try_send(&self, item: T) -> Result<(), Full<T>> {
        if self.shared.is_abandoned.load(Ordering::Acquire) {
            return Err(Full(item));
        }
        self.shared.queue.push(item).map_err(Full)?;
        self.shared.bell.ring();
        Ok(())
    }
}

impl<T: Send> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<T: Send> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: the receiver that sees no senders also sees everything they sent.
        if self.shared.senders.fetch_sub(1, Ordering::Release) == 1 {
            self.shared.bell.ring();
        }
    }
}

impl<T: Send> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("queued", &self.shared.queue.len())
            .finish()
    }
}

/// The receiving end. Dropping it drops what is queued and makes sends fail.
pub struct Receiver<T: Send> {
    shared: Arc<Shared<T>>,
}

impl<T: Send> Receiver<T> {
    /// The next item, or `None` once all senders are gone and the queue is empty. Cancel-safe.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Appends what is queued, at most `max` items, to `batch`; waits if there is nothing. Returns how
    /// many were appended: 0 only once all senders are gone and the queue is empty (or if `max` is 0).
    /// Cancel-safe.
    pub async fn recv_many(&mut self, batch: &mut Vec<T>, max: usize) -> usize {
        if max == 0 {
            return 0;
        }
        let Some(first) = self.recv().await else { return 0 };
        batch.push(first);
        let mut count = 1;
        while count < max
            && let Some(item) = self.shared.queue.pop()
        {
            batch.push(item);
            count += 1;
        }
        count
    }

    /// Polls for the next item; see [`recv`](Self::recv).
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        if let ready @ Poll::Ready(_) = self.look() {
            return ready;
        }
        self.shared.bell.arm(cx);
        let second = self.look();
        if second.is_ready() {
            self.shared.bell.disarm();
        }
        second
    }

    fn look(&self) -> Poll<Option<T>> {
        // Read before the queue: when it says zero, nothing can be pushed behind our back any more.
        let senders = self.shared.senders.load(Ordering::Acquire);
        match self.shared.queue.pop() {
            Some(item) => Poll::Ready(Some(item)),
            None if senders == 0 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

impl<T: Send> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.is_abandoned.store(true, Ordering::Release);
        // Items hold resources whose owners wait for them. One pushed while this runs goes with the last
        // sender; the bound keeps busy senders from holding this core here.
        for _ in 0..self.shared.queue.capacity() {
            if self.shared.queue.pop().is_none() {
                break;
            }
        }
    }
}

impl<T: Send> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("queued", &self.shared.queue.len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
