//! Halves of one request over HTTP/2.
//!
//! What is written waits for the edge's credit, and for the library's bound on what it keeps of one stream.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use adit_proto::exchange::connector::http2::{failure, flow_response, response};
use adit_proto::exchange::framed_body::clean_trailers;
use bytes::Bytes;
use h2::Reason;
use h2::server::SendResponse;
use http::{HeaderMap, Response, StatusCode};

use super::{EdgeKind, Excuse, Gone, SendHeadError, ToEdge};
pub(crate) use body::{Bodies, Http2Body};

mod body;

/// The answer to one request.
pub(crate) struct Http2Answer {
    phase: Phase,
    edge: EdgeKind,
    trailers: Option<HeaderMap>,
}

enum Phase {
    /// The head is owed.
    Owed(SendResponse<Bytes>),
    /// The body is being sent.
    Open(h2::SendStream<Bytes>),
    Over,
}

impl Http2Answer {
    pub(crate) fn new(respond: SendResponse<Bytes>, edge: EdgeKind) -> Self {
        Self {
            phase: Phase::Owed(respond),
            edge,
            trailers: None,
        }
    }

    fn send_head(&mut self, head: Response<()>) -> Result<(), Gone> {
        let Phase::Owed(respond) = &mut self.phase else {
            return Err(Gone);
        };
        let stream = respond.send_response(head, false).map_err(|_| Gone)?;
        self.phase = Phase::Open(stream);
        Ok(())
    }
}

impl ToEdge for Http2Answer {
    /// HTTP/2 has a place for them anyway.
    fn expect_trailers(&mut self) {}

    fn is_for_ours(&self) -> bool {
        self.edge == EdgeKind::Ours
    }

    async fn write_interim(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), SendHeadError> {
        let Phase::Owed(respond) = &mut self.phase else {
            return Err(Gone.into());
        };
        let sent = respond.send_informational(response(status, headers)?);
        Ok(sent.map_err(|_| Gone)?)
    }

    async fn write_head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), SendHeadError> {
        let head = response(status, headers)?;
        Ok(self.send_head(head)?)
    }

    async fn write_ack(&mut self) -> Result<(), SendHeadError> {
        Ok(self.send_head(flow_response())?)
    }

    async fn write(&mut self, mut bytes: Bytes) -> Result<(), Gone> {
        let Phase::Open(stream) = &mut self.phase else {
            return Err(Gone);
        };
        while !bytes.is_empty() {
            let credit = reserve(stream, bytes.len()).await?;
            let part = bytes.split_to(credit.min(bytes.len()));
            stream.send_data(part, false).map_err(|_| Gone)?;
        }
        Ok(())
    }

    async fn write_trailers(&mut self, mut trailers: HeaderMap) -> Result<(), SendHeadError> {
        clean_trailers(&mut trailers);
        self.trailers = Some(trailers);
        Ok(())
    }

    fn finish(&mut self) {
        let Phase::Open(mut stream) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return;
        };
        let is_ended = self
            .trailers
            .take()
            .is_some_and(|trailers| stream.send_trailers(trailers).is_ok());
        if !is_ended && let Err(error) = stream.send_data(Bytes::new(), true) {
            tracing::trace!(%error, "the edge is gone before the end of an answer");
        }
    }

    async fn fail(&mut self, excuse: Option<&Excuse>) {
        match (std::mem::replace(&mut self.phase, Phase::Over), excuse) {
            (Phase::Owed(mut respond), Some(excuse)) => {
                let failure = failure(self.edge.told(excuse.reach));
                if let Err(error) = respond.send_response(failure, true) {
                    tracing::trace!(%error, "the edge is gone before an answer");
                }
            }
            (Phase::Owed(mut respond), None) => respond.send_reset(Reason::INTERNAL_ERROR),
            (Phase::Open(mut stream), _) => stream.send_reset(Reason::INTERNAL_ERROR),
            (Phase::Over, _) => {}
        }
    }

    async fn stopped(&mut self) {
        poll_fn(|cx| match &mut self.phase {
            Phase::Owed(respond) => respond.poll_reset(cx).map(drop),
            Phase::Open(stream) => stream.poll_reset(cx).map(drop),
            Phase::Over => Poll::Pending,
        })
        .await;
    }
}

/// Waits for the edge's credit for at most `wanted` bytes, and at least one.
async fn reserve(stream: &mut h2::SendStream<Bytes>, wanted: usize) -> Result<usize, Gone> {
    poll_fn(|cx| poll_reserve(stream, wanted, cx)).await
}

/// See [`reserve`].
pub(crate) fn poll_reserve(
    stream: &mut h2::SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Gone>> {
    stream.reserve_capacity(wanted);
    loop {
        // Only new credit wakes whoever waits; what there is already must not be waited for.
        let credit = stream.capacity();
        if credit > 0 {
            return Poll::Ready(Ok(credit));
        }
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
        }
    }
}
