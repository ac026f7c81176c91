//! HTTP/1.0 and HTTP/1.1 for one visitor's connection.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use adit_driver::time::{timeout, timeout_at};
use adit_proto::exchange::edge::{Scheme, Visitor};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::limits::HEAD_BYTES_MAX;
use adit_proto::request_head::Fault;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HeaderValue};
use http::{Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::activity::{Activity, Clock, Expired};
use super::interim::InterimWay;
use super::io::PublicIo;
use super::refusal;
use super::remainder::Remainder;
use super::visitor_body::{EndInOrder, VisitorBody};
use crate::core::Core;
use crate::exchange_task::body::PublicBody;
use crate::exchange_task::relay::{Upgrade, relay};

/// Bytes hyper reads ahead or collects for one write. More only adds to what a slow visitor holds.
const BUFFER_BYTES_MAX: usize = 128 << 10;

/// Time a visitor may keep sending after we have closed. Closing with unread bytes would reset the
/// connection and may destroy the response on its way (RFC 9112 §9.6).
pub(super) const LINGER_TIME: Duration = Duration::from_secs(2);

/// Bytes thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 64 << 20;

/// How the connection came to its end.
enum End {
    Done,
    Failed(hyper::Error),
    Expired(Expired),
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<PublicBody>, Infallible>>>>;

/// One connection while HTTP serves it.
struct Serving {
    core: Rc<Core>,
    visitor: Visitor,
    activity: Rc<Activity>,
    remainder: Rc<Remainder>,
    /// What follows HTTP.
    upgrade: RefCell<Option<Upgrade>>,
}

impl Serving {
    fn answer(self: &Rc<Self>, request: Request<Incoming>) -> Answering {
        let (serving, busy) = (self.clone(), self.activity.request());
        let has_body = !request.body().is_end_stream();
        let is_awaited = has_body && request.headers().contains_key(EXPECT);
        self.remainder.begin();
        let number = self.activity.begin_body(has_body);
        let interim = (request.version() == Version::HTTP_11).then(|| InterimWay::new(&self.activity));
        let request = request.map(|body| {
            let end = has_body.then(|| EndInOrder::new(number, &self.activity, &self.remainder, is_awaited));
            VisitorBody::on(body, end)
        });
        Box::pin(async move {
            let keep = |taken| {
                serving.activity.end_http();
                *serving.upgrade.borrow_mut() = Some(taken);
            };
            let core = serving.core.clone();
            let mut response = crate::exchange_task::run(core, serving.visitor, request, interim, keep).await;
            if serving.remainder.ends_connection() {
                let headers = response.headers_mut();
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(response.map(|body| body.holding(busy)))
        })
    }
}

/// Serves requests until the connection ends, and the byte flow that may follow.
pub(super) async fn serve<S>(core: &Rc<Core>, io: PublicIo<S>, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut next = Some(io);
    while let Some(io) = next {
        // Boxed, so that a dozing visitor does not hold it.
        let idle = Box::pin(awake(core, io, visitor)).await;
        next = match idle {
            Some(io) => doze(core, io).await,
            None => None,
        };
    }
}

/// Waits for the first byte of the next request; `None` when the visitor goes or must go.
async fn doze<S>(core: &Rc<Core>, mut io: PublicIo<S>) -> Option<PublicIo<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let until = io.activity().idle_until(core.live().limits.idle_timeout);
    let readable = tokio::select! {
        readable = timeout_at(until, io.readable()) => readable,
        () = core.drain.begun() => Ok(Ok(false)),
    };
    match readable {
        Ok(Ok(true)) => return Some(io),
        Ok(Ok(false)) => Box::pin(linger(io)).await,
        Ok(Err(error)) => tracing::debug!(%error, "idle visitor left"),
        // Idle for too long.
        Err(_) => {}
    }
    None
}

/// Serves requests as long as they follow each other closely; gives the stream back when they do not.
async fn awake<S>(core: &Rc<Core>, io: PublicIo<S>, visitor: Visitor) -> Option<PublicIo<S>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let activity = io.activity();
    // A visitor over TLS says that it leaves by ending its side. In clear, the end of its side does not tell
    // that.
    activity.allow_half_close(visitor.scheme == Scheme::Http);
    let serving = Rc::new(Serving {
        core: core.clone(),
        visitor,
        activity: activity.clone(),
        remainder: Rc::default(),
        upgrade: RefCell::default(),
    });
    let service = {
        let serving = serving.clone();
        service_fn(move |request| serving.answer(request))
    };
    let mut connection = http1::Builder::new()
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        // Idle and head times are kept by our own clock, which tells them apart.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(io), service);
    let mut clock = Clock::new(activity.clone(), core.live().limits.idle_timeout);
    let mut draining = pin!(core.drain.begun());
    let mut was_told = false;
    let end = poll_fn(|cx| {
        if !was_told && draining.as_mut().poll(cx).is_ready() {
            was_told = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match connection.poll_without_shutdown(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(End::Done),
            Poll::Ready(Err(error)) => Poll::Ready(End::Failed(error)),
            Poll::Pending => {
                if activity.expects_body() {
                    serving.remainder.poll(cx);
                }
                clock.poll_expired(cx).map(End::Expired)
            }
        }
    })
    .await;
    match end {
        End::Done => {
            let parts = connection.into_parts();
            let (io, taken) = (parts.io.into_inner(), serving.upgrade.borrow_mut().take());
            Box::pin(finish(core, io, parts.read_buf, taken, visitor)).await;
        }
        End::Failed(error) => {
            if error.is_parse() {
                // Answered by hyper, which found what the look before it has not.
                refusal::count(core, visitor, Fault::Malformed);
            }
            tracing::debug!(visitor = %visitor.address, %error, "visitor connection ended");
        }
        End::Expired(Expired::Head) => {
            core.metrics.heads_timed_out.add(1);
            let io = connection.into_parts().io.into_inner();
            if io.unfinished_head().is_some() {
                Box::pin(refusal::end(core, io, visitor, ErrorCode::HeadTooSlow)).await;
            }
        }
        End::Expired(Expired::Idle | Expired::HalfClosed) => {}
        End::Expired(Expired::Doze) => {
            // Nothing is lost with hyper's state: the last request had no body, its answer is in the stream's
            // hands, and what was read of the next one is taken along.
            let parts = connection.into_parts();
            let mut io = parts.io.into_inner();
            io.put_back(parts.read_buf);
            return Some(io);
        }
    }
    None
}

/// What comes after the last answer: the bytes of an upgrade, or a refusal, or the end.
async fn finish<S>(core: &Rc<Core>, io: PublicIo<S>, read: Bytes, taken: Option<Upgrade>, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match (taken, io.refused()) {
        (Some(taken), _) => relay(io, read, taken).await,
        (None, None) => {
            io.activity().end_http();
            linger(io).await;
        }
        (None, Some((fault, _))) => {
            let code = refusal::count(core, visitor, fault);
            refusal::end(core, io, visitor, code).await;
        }
    }
}

/// Ends our side and waits a little for the visitor to end its own.
pub(super) async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut io: S) {
    let lingering = async {
        io.shutdown().await?;
        let mut scratch = vec![0; 4_096];
        let mut total = 0;
        while total < LINGER_BYTES_MAX {
            match io.read(&mut scratch).await? {
                0 => break,
                count => total += count,
            }
        }
        Ok::<(), std::io::Error>(())
    };
    // Whatever comes of it, the connection ends here.
    let _ = timeout(LINGER_TIME, lingering).await;
}
