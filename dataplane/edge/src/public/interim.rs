//! Interim answers on their way to a visitor over HTTP/1.1, which hyper has no way for.
//!
//! ```text
//! exchange ─ pass() ─► Interim ─► PublicIo ─► visitor
//!    └ waits until all is written, so the answer is behind it
//! ```
//! hyper flushes the stream when all that it has written has left, and writes no answer before the exchange
//! has one. So what is written when it flushes stands between two of its messages. Only hyper's own
//! `100 Continue` may come meanwhile; it waits for a head that is half written.
//!
//! At most one head is held. An exchange that is dropped takes back what has not begun.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::AsyncWrite;

use super::activity::Activity;

/// What of an interim answer the stream has yet to take.
#[derive(Debug, Default)]
pub(super) struct Interim {
    left: RefCell<Bytes>,
    /// The visitor has a part of it.
    is_begun: Cell<bool>,
    exchange: RefCell<Option<Waker>>,
}

impl Interim {
    /// Whether there is something to write.
    pub(super) fn is_waiting(&self) -> bool {
        !self.left.borrow().is_empty()
    }

    /// Whether nothing else may be written now.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun.get()
    }

    /// Writes what there is.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
    ) -> Poll<io::Result<()>> {
        let mut left = self.left.borrow_mut();
        while !left.is_empty() {
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, &left))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            left.advance(count);
            self.is_begun.set(!left.is_empty());
            if left.is_empty() {
                *left = Bytes::new();
                if let Some(exchange) = self.exchange.take() {
                    exchange.wake();
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The way of one request's interim answers.
pub(crate) struct InterimWay(Rc<Activity>);

impl InterimWay {
    pub(super) fn new(activity: &Rc<Activity>) -> Self {
        Self(activity.clone())
    }

    /// Waits until the visitor's stream has taken all of `head`.
    pub(crate) async fn pass(&self, head: Bytes) {
        let interim = &self.0.interim;
        *interim.left.borrow_mut() = head;
        let _held = Held(interim);
        poll_fn(|cx| {
            if interim.left.borrow().is_empty() {
                return Poll::Ready(());
            }
            *interim.exchange.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// Takes a head back of which the visitor has nothing.
struct Held<'a>(&'a Interim);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.0.is_begun.get() {
            *self.0.left.borrow_mut() = Bytes::new();
        }
        self.0.exchange.take();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, duplex};

    use super::*;
    use crate::public::activity::Heads;

    #[tokio::test]
    async fn a_head_that_is_begun_is_finished_and_another_is_taken_back() {
        let activity = Rc::new(Activity::new(Heads::All));
        let way = InterimWay::new(&activity);
        let (mut stream, mut visitor) = duplex(4);
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut passing = pin!(way.pass(Bytes::from_static(b"never")));
            assert!(passing.as_mut().poll(&mut cx).is_pending());
            assert!(activity.interim.is_waiting() && !activity.interim.is_begun());
        }
        assert!(!activity.interim.is_waiting(), "the exchange is gone");
        {
            let mut passing = pin!(way.pass(Bytes::from_static(b"HTTP/1.1")));
            assert!(passing.as_mut().poll(&mut cx).is_pending());
            assert!(activity.interim.poll_write(&mut cx, &mut stream).is_pending());
            assert!(activity.interim.is_begun() && passing.as_mut().poll(&mut cx).is_pending());
        }
        let mut half = [0; 4];
        visitor.read_exact(&mut half).await.unwrap();
        assert!(activity.interim.poll_write(&mut cx, &mut stream).is_ready());
        assert!(!activity.interim.is_begun());
        visitor.read_exact(&mut half).await.unwrap();
        assert_eq!(&half, b"/1.1", "half a head would spoil what follows");
    }
}
