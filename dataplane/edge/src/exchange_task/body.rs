//! Response bodies as hyper takes them.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use adit_driver::chunks::Chunks;
use adit_proto::exchange::error_code::ErrorCode;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::download::{BodyError, Download};
use super::passing::Passing;
use super::record::Progress;
use crate::public::InFlight;
use crate::shares::Account;

/// What follows a response head.
pub(crate) struct PublicBody {
    kind: Kind,
    /// Keeps the visitor's connection busy until the body is done.
    busy: Option<InFlight>,
    taking: Option<Rc<Taking>>,
    /// Of the exchange that the body is of.
    progress: Option<Rc<Progress>>,
}

/// Whether a body waits for the visitor, for whoever can end its stream.
#[derive(Debug, Default)]
pub(crate) struct Taking {
    /// There is a body, and it was not asked for more since it last gave something.
    is_awaited: Cell<bool>,
    /// How often it was asked.
    turns: Cell<u64>,
    is_stalled: Cell<bool>,
}

impl Taking {
    /// How often the body was asked for more, if it waits to be asked.
    pub(crate) fn awaited(&self) -> Option<u64> {
        self.is_awaited.get().then(|| self.turns.get())
    }

    /// The visitor took nothing for too long.
    pub(crate) fn stall(&self) {
        self.is_stalled.set(true);
    }
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream {
        /// Ends with the trailers.
        pump: Pin<Box<dyn Future<Output = Result<Option<HeaderMap>, BodyError>>>>,
        handoff: Rc<Handoff>,
        left: Option<u64>,
        account: Rc<Account>,
    },
}

/// Hands chunks from the pump to hyper. Both run in one poll of the body, so nothing needs waking.
#[derive(Default)]
pub(super) struct Handoff(Cell<Option<Chunks>>);

impl Handoff {
    /// Gives chunks and waits until they are taken: the pump never runs ahead of the visitor.
    pub(super) async fn put(&self, chunks: Chunks) {
        self.0.set(Some(chunks));
        poll_fn(|_| {
            let chunks = self.0.take();
            match chunks {
                Some(_) => {
                    self.0.set(chunks);
                    Poll::Pending
                }
                None => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl PublicBody {
    pub(crate) fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    pub(crate) fn full(bytes: Bytes) -> Self {
        Self::of(if bytes.is_empty() {
            Kind::Empty
        } else {
            Kind::Full(bytes)
        })
    }

    /// What comes from the tunnel, as it comes.
    pub(super) fn stream(download: Download) -> Self {
        let handoff = Rc::<Handoff>::default();
        let left = download.left.filter(|_| !download.goes_beyond_length());
        let account = download.account.clone();
        let progress = download.record.progress().clone();
        let pump = Box::pin(download.run(handoff.clone()));
        let mut body = Self::of(Kind::Stream {
            pump,
            handoff,
            left,
            account,
        });
        body.progress = Some(progress);
        body
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            busy: None,
            taking: None,
            progress: None,
        }
    }

    /// The same body, which holds `busy` as long as it lives.
    pub(crate) fn holding(mut self, busy: InFlight) -> Self {
        self.busy = Some(busy);
        self
    }

    /// The same body, which tells `taking` whether it waits.
    pub(crate) fn telling(mut self, taking: Rc<Taking>) -> Self {
        taking.is_awaited.set(true);
        self.taking = Some(taking);
        self
    }
}

impl Body for PublicBody {
    type Data = Passing;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Passing>, BodyError>>> {
        if let Some(taking) = &self.taking {
            taking.turns.set(taking.turns.get() + 1);
            taking.is_awaited.set(true);
        }
        let ended = match &mut self.kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Full(bytes) => {
                let chunks = Chunks::from(std::mem::take(bytes));
                Poll::Ready(Some(Ok(Frame::data(chunks.into()))))
            }
            Kind::Stream {
                pump,
                handoff,
                left,
                account,
            } => match pump.as_mut().poll(cx) {
                Poll::Ready(Ok(trailers)) => {
                    Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    let Some(chunks) = handoff.0.take() else {
                        if let Some(taking) = &self.taking {
                            taking.is_awaited.set(false);
                        }
                        return Poll::Pending;
                    };
                    if let Some(left) = left {
                        *left = left.saturating_sub(chunks.len() as u64);
                    }
                    let passing = Passing::accounted(chunks, account);
                    if *left != Some(0) {
                        return Poll::Ready(Some(Ok(Frame::data(passing))));
                    }
                    // The last announced bytes, behind which nothing comes. hyper must know that it need not
                    // ask again.
                    Poll::Ready(Some(Ok(Frame::data(passing))))
                }
            },
        };
        self.kind = Kind::Empty;
        ended
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.kind, Kind::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

impl Drop for PublicBody {
    fn drop(&mut self) {
        let is_stalled = self.busy.as_ref().is_some_and(InFlight::is_stalled)
            || self.taking.as_ref().is_some_and(|taking| taking.is_stalled.get());
        if is_stalled && let Some(progress) = &self.progress {
            progress.stall(ErrorCode::VisitorStalled);
        }
    }
}
