//! HTTP/2 for one visitor's connection, with WebSockets by extended CONNECT (RFC 8441).

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Duration;

use adit_driver::patience::Patience;
use adit_driver::time::timeout;
use adit_proto::exchange::edge::Visitor;
use adit_proto::limits::HEAD_BYTES_MAX;
use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;

use super::activity::{Activity, Clock, Expired};
use super::io::PublicIo;
use super::refusal;
use super::visitor_body::{Unread, VisitorBody};
use crate::core::Core;
use crate::exchange_task::body::{PublicBody, Taking};
use crate::exchange_task::relay::{Upgrade, relay};

/// Streams at once of a trusted proxy's connection, if that is more than others have. It carries many
/// visitors.
const PROXY_STREAMS_MAX: u32 = 1_000;

/// Streams reset by the visitor before we looked at them, and by us for its errors, after which the
/// connection is closed: the defence against rapid resets.
const PENDING_RESETS_MAX: usize = 100;
const ERROR_RESETS_MAX: usize = 100;

/// Bytes a visitor may send ahead per stream and per connection. A trusted proxy's connection carries many
/// visitors. Uploads that nobody reads must not hold up all its others.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;
const PROXY_CONNECTION_WINDOW_BYTES: u32 = PROXY_STREAMS_MAX * STREAM_WINDOW_BYTES;

/// Bytes of one response that wait for the visitor's window.
const SEND_BUFFER_BYTES_MAX: usize = 64 << 10;

/// Time for a visitor to close after GOAWAY when nothing runs.
const GOAWAY_TIME: Duration = Duration::from_secs(1);

const HEAD_LIST_BYTES_MAX: u32 = HEAD_BYTES_MAX as u32;

/// Runs hyper's tasks on this core, and ends those of streams whose visitor takes nothing.
#[derive(Clone)]
pub(super) struct StreamTasks {
    /// Of the stream whose request hyper has just handed over: its task is the next.
    next: Rc<Cell<Option<Stream>>>,
    send_timeout: Duration,
}

/// What is to be known of a stream to end it.
struct Stream {
    taking: Rc<Taking>,
    /// Of a request with a body.
    unread: Option<Rc<Unread>>,
}

impl Stream {
    fn new(taking: &Rc<Taking>, unread: Option<&Rc<Unread>>) -> Self {
        Self {
            taking: taking.clone(),
            unread: unread.cloned(),
        }
    }
}

impl StreamTasks {
    pub(super) fn new(send_timeout: Duration) -> Self {
        Self {
            next: Rc::default(),
            send_timeout,
        }
    }
}

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, task: F) {
        // Ends with its stream, which ends with the connection.
        match self.next.take() {
            Some(stream) => {
                let patience = Patience::new(self.send_timeout);
                spawn_local(async move {
                    let is_answered = until_stalled(task, stream.taking, patience).await;
                    if let Some(unread) = stream.unread.filter(|_| is_answered) {
                        // Boxed, so that others keep no room for it.
                        Box::pin(unread.throw_away()).await;
                    }
                })
            }
            None => spawn_local(async move {
                task.await;
            }),
        };
    }
}

/// Runs the task of a stream; drops it, which resets the stream, when the visitor takes nothing of the body
/// for too long. Whether it came to its end.
async fn until_stalled<F: Future>(task: F, taking: Rc<Taking>, mut patience: Patience) -> bool {
    let mut task = pin!(task);
    let mut seen = None;
    poll_fn(|cx| {
        if task.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        let awaited = taking.awaited();
        if awaited.is_none() || awaited != seen {
            seen = awaited;
            patience.renew();
        }
        if awaited.is_some() {
            ready!(patience.poll_end(cx));
            taking.stall();
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

type Answering = Pin<Box<dyn Future<Output = Result<Response<PublicBody>, Infallible>>>>;

/// Serves streams until the connection ends.
pub(super) async fn serve<S>(core: &Rc<Core>, io: PublicIo<S>, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (activity, flooded, ended) = (io.activity(), io.flooded(), io.ended());
    let tasks = StreamTasks::new(core.live().limits.send_timeout);
    let service = {
        let (core, activity, next) = (core.clone(), activity.clone(), tasks.next.clone());
        service_fn(move |request: Request<Incoming>| {
            let taking = Rc::<Taking>::default();
            let is_upgrade = *request.method() == Method::CONNECT;
            let unread = (!is_upgrade && !request.body().is_end_stream()).then(Rc::<Unread>::default);
            next.set(Some(Stream::new(&taking, unread.as_ref())));
            let request = request.map(|body| VisitorBody::alone(body, unread));
            answer(core.clone(), activity.clone(), taking, visitor, request)
        })
    };
    let mut streams_max = core.live().limits.shares.streams_per_connection;
    let mut connection_window = CONNECTION_WINDOW_BYTES;
    if core.live().policy.trusts(visitor.address) {
        streams_max = streams_max.max(PROXY_STREAMS_MAX);
        connection_window = PROXY_CONNECTION_WINDOW_BYTES;
    }
    let mut connection = pin!(
        http2::Builder::new(tasks)
            .max_concurrent_streams(streams_max)
            .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
            .max_local_error_reset_streams(ERROR_RESETS_MAX)
            .max_header_list_size(HEAD_LIST_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(connection_window)
            .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(io), service)
    );
    let mut clock = Clock::new(activity, core.live().limits.idle_timeout);
    let mut draining = pin!(core.drain.begun());
    let mut was_told = false;
    let expired = poll_fn(|cx| {
        if !was_told && draining.as_mut().poll(cx).is_ready() {
            was_told = true;
            connection.as_mut().graceful_shutdown();
        }
        match connection.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            Poll::Ready(Err(error)) => {
                tracing::debug!(visitor = %visitor.address, %error, "visitor connection ended");
                Poll::Ready(None)
            }
            Poll::Pending if flooded.get().is_some() => Poll::Ready(None),
            Poll::Pending => clock.poll_expired(cx).map(Some),
        }
    })
    .await;
    refusal::note(core, visitor, flooded.get(), ended.get());
    if let Some(flood) = flooded.get() {
        core.metrics.floods_ended.add(1);
        tracing::debug!(visitor = %visitor.address, %flood, "visitor connection ended");
        // Until the visitor has had time to read why. What it has under way ends with the connection.
        let _ = timeout(GOAWAY_TIME, connection).await;
        return;
    }
    match expired {
        None => {}
        Some(Expired::Head) => core.metrics.heads_timed_out.add(1),
        // It never dozes, and its streams end one by one.
        Some(Expired::Idle | Expired::Doze | Expired::HalfClosed) => {
            connection.as_mut().graceful_shutdown();
            // A visitor that does not answer is dropped all the same.
            let _ = timeout(GOAWAY_TIME, connection).await;
        }
    }
}

fn answer(
    core: Rc<Core>,
    activity: Rc<Activity>,
    taking: Rc<Taking>,
    visitor: Visitor,
    mut request: Request<VisitorBody>,
) -> Answering {
    let busy = activity.request();
    let taking_over = (*request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    Box::pin(async move {
        let upgrade = move |upgrade: Upgrade| {
            if let Some(taking_over) = taking_over {
                // Ends with the exchange, or with the connection under it.
                spawn_local(follow(taking_over, upgrade, activity));
            }
        };
        let response = crate::exchange_task::run(core, visitor, request, None, upgrade).await;
        Ok(response.map(|body| body.holding(busy).telling(taking)))
    })
}

/// Relays once hyper has sent the response head.
async fn follow(taking_over: OnUpgrade, upgrade: Upgrade, activity: Rc<Activity>) {
    let busy = activity.request();
    match taking_over.await {
        Ok(stream) => relay(TokioIo::new(stream), Bytes::new(), upgrade).await,
        Err(error) => tracing::debug!(%error, "visitor left before its upgrade"),
    }
    drop(busy);
}
