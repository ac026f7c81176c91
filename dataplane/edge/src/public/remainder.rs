//! What is left of a request's body over HTTP/1 when it has been answered, which is read and dropped.
//!
//! The next request stands behind it on the same connection. If nobody read it, the connection would end, and
//! with it a next request that the visitor has already sent (RFC 9112 §9.3). Much is not read for that: then
//! the connection ends, and the answer says so where it can.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use adit_driver::time::{Sleep, sleep};
use bytes::Bytes;
use hyper::body::{Body as _, Incoming};

use super::activity::{Activity, InFlight};
use super::visitor_body::{UNREAD_BYTES_MAX, UNREAD_TIME};

/// The rest of a connection's current body, if nobody wants it.
#[derive(Default)]
pub(super) struct Remainder {
    left: RefCell<Option<Left>>,
    /// Waits for something to be left.
    reader: RefCell<Option<Waker>>,
    ends_connection: Cell<bool>,
}

struct Left {
    incoming: Incoming,
    /// Among the bodies of the connection.
    number: u32,
    bytes_left: usize,
    /// From the first look at it.
    until: Option<Pin<Box<Sleep>>>,
    /// The connection is not idle meanwhile.
    busy: InFlight,
}

impl Remainder {
    /// A request has begun.
    pub(super) fn begin(&self) {
        self.ends_connection.set(false);
    }

    /// Whether the connection ends with the answer, because of what the visitor has not sent yet.
    pub(super) fn ends_connection(&self) -> bool {
        self.ends_connection.get()
    }

    /// Takes what nobody wants. `is_awaited`: the visitor waits for `100 Continue` and so may never send it.
    pub(super) fn put(&self, incoming: Incoming, number: u32, activity: &Rc<Activity>, is_awaited: bool) {
        let size = incoming.size_hint().lower();
        if is_awaited || usize::try_from(size).is_ok_and(|size| size > UNREAD_BYTES_MAX) {
            self.ends_connection.set(true);
            return;
        }
        self.left.replace(Some(Left {
            incoming,
            number,
            bytes_left: UNREAD_BYTES_MAX,
            until: None,
            busy: activity.request(),
        }));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Reads on what is left, if anything is; to be called whenever the connection has been polled while a
    /// body is expected.
    pub(super) fn poll(&self, cx: &mut Context<'_>) {
        let mut slot = self.left.borrow_mut();
        let Some(left) = &mut *slot else {
            let mut reader = self.reader.borrow_mut();
            if !reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *reader = Some(cx.waker().clone());
            }
            return;
        };
        if left.poll(cx).is_ready() {
            // Its end tells hyper to read no more of it.
            *slot = None;
        }
    }
}

impl Left {
    /// Ready when the body has ended, or too much or too little of it has come.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.bytes_left > 0 {
            // The end of a body of announced length is seen here only.
            if self.incoming.is_end_stream() {
                self.busy.end_body(self.number);
                return Poll::Ready(());
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let count = frame.data_ref().map_or(0, Bytes::len);
                    self.bytes_left = self.bytes_left.saturating_sub(count);
                }
                Poll::Ready(None) => {
                    self.busy.end_body(self.number);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(()),
                Poll::Pending => {
                    let until = self.until.get_or_insert_with(|| Box::pin(sleep(UNREAD_TIME)));
                    return until.as_mut().poll(cx);
                }
            }
        }
        Poll::Ready(())
    }
}
