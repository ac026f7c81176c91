//! HTTP/2 connections of one core to the origin of one ingress rule; each carries many requests at once.
//!
//! ```text
//! https with http2Origin:  TLS ─► ALPN h2 ───────► kept here, shared by requests
//!                               └ anything else ─► HTTP/1.1, as without the key
//! http with h2cOrigin:     the connection preface at once (prior knowledge, RFC 9113 §3.3)
//! ```
//! Only one request at a time opens a connection, so that a burst shares one. A connection with
//! [`STREAMS_MAX`] requests gets no more and another one is opened beside it.
//!
//! Does not: upgrade to WebSockets (those take an HTTP/1.1 connection each), carry trailers of requests.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use adit_driver::time::timeout;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::spawn_local;

use super::OriginError;
use super::body::RequestBody;
use super::io_stream::OriginIo;
use super::member::Unsent;

/// Requests on one connection at once: RFC 9113 §6.5.2 asks every server to allow as many.
const STREAMS_MAX: usize = 100;

/// How long a request waits for the connection that another one opens, before it opens its own.
const TURN_MAX: Duration = Duration::from_millis(500);

/// Bytes of one response that may be under way: 256 KiB keep 200 Mbit/s going over 10 ms. Every response
/// whose visitor does not read may hold as much.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for all responses on a connection together: those that nobody reads must not hold up the others.
const CONNECTION_WINDOW: u32 = STREAMS_MAX as u32 * STREAM_WINDOW;

/// Bytes of one request that wait for the connection's turn.
const SEND_BUFFER: usize = 256 << 10;

/// Largest response head: what a data stream can carry on.
const HEAD_BYTES_MAX: u32 = 64 << 10;

/// When HTTP/2 is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http2Policy {
    /// Never.
    Never,
    /// If the origin picks it in the TLS handshake.
    Negotiated,
    /// Always.
    PriorKnowledge,
}

/// The open connections.
pub(crate) struct Http2Connections {
    pub(crate) policy: Http2Policy,
    open: RefCell<Vec<Open>>,
    idle_timeout: Duration,
    /// Held while a connection is opened.
    opening: Mutex<()>,
    /// Whether a connection serves more than the request it was opened for.
    is_shared: bool,
    /// The origin has picked HTTP/1.1, so that requests need not wait for each other's connections.
    is_http1: Cell<bool>,
}

struct Open {
    sender: SendRequest<RequestBody>,
    /// TLS server name it was opened with.
    server_name: Option<Box<str>>,
    /// One count for this value, one for each request.
    requests: Rc<()>,
    last_used: Instant,
}

/// The right to one request on a connection, which counts as long as this lives.
pub(crate) struct Lease {
    sender: SendRequest<RequestBody>,
    _request: Rc<()>,
}

/// Runs hyper's tasks on this core.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        // Ends with the connection or the stream it belongs to.
        spawn_local(async move {
            task.await;
        });
    }
}

impl Http2Connections {
    pub(crate) fn new(policy: Http2Policy, is_shared: bool, idle_timeout: Duration) -> Self {
        Self {
            policy,
            is_shared,
            open: RefCell::default(),
            idle_timeout,
            opening: Mutex::default(),
            is_http1: Cell::new(false),
        }
    }

    /// A connection with room.
    pub(crate) fn lease(&self, server_name: Option<&str>) -> Option<Lease> {
        let mut open = self.open.borrow_mut();
        open.retain(|entry| !entry.sender.is_closed());
        let entry = open.iter_mut().find(|entry| {
            entry.server_name.as_deref() == server_name
                && entry.sender.is_ready()
                && Rc::strong_count(&entry.requests) <= STREAMS_MAX
        })?;
        entry.last_used = Instant::now();
        Some(entry.lease())
    }

    /// Waits until nobody else opens a connection; `None` for an origin whose connections are not shared, or
    /// if the other takes long: a slow dial holds up no more than its own request.
    pub(crate) async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.is_http1.get() || !self.is_shared {
            return None;
        }
        timeout(TURN_MAX, self.opening.lock()).await.ok()
    }

    /// The origin has chosen HTTP/1.1.
    pub(crate) fn note_http1(&self) {
        self.is_http1.set(true);
    }

    /// Begins HTTP/2 on `io` and keeps it for the requests to come.
    pub(crate) async fn begin(&self, io: OriginIo, server_name: Option<&str>) -> Result<Lease, OriginError> {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEAD_BYTES_MAX);
        let (sender, connection) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|source| OriginError::Http { source })?;
        // Ends when the last sender and the last response are gone, or the origin closes.
        spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "origin connection ended");
            }
        });
        self.is_http1.set(false);
        let entry = Open {
            sender,
            server_name: server_name.map(Into::into),
            requests: Rc::default(),
            last_used: Instant::now(),
        };
        let lease = entry.lease();
        if self.is_shared {
            self.open.borrow_mut().push(entry);
        }
        Ok(lease)
    }

    /// Takes no more requests on connections that nobody has used for the rule's time.
    pub(crate) fn expire(&self, now: Instant) {
        self.open.borrow_mut().retain(|entry| {
            let is_used = Rc::strong_count(&entry.requests) > 1;
            let is_fresh = now.saturating_duration_since(entry.last_used) < self.idle_timeout;
            !entry.sender.is_closed() && (is_used || is_fresh)
        });
    }
}

impl Open {
    fn lease(&self) -> Lease {
        Lease {
            sender: self.sender.clone(),
            _request: Rc::clone(&self.requests),
        }
    }
}

impl Lease {
    /// Sends `request`, which is written as for HTTP/1.1, and waits for the head of the answer. A request
    /// that was not sent comes back.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        scheme: Scheme,
    ) -> Result<Response<Incoming>, Unsent> {
        let target = request.uri().clone();
        let sent = self.sender.try_send_request(for_http2(request, scheme)).await;
        sent.map_err(|mut error| {
            let unsent = error.take_message().map(|request| for_http1(request, target));
            (unsent, error.into_error())
        })
    }
}

/// A request of HTTP/1.1 as HTTP/2 wants it: the host in the target, no header about the connection
/// (RFC 9113 §8.2.2).
fn for_http2(mut request: Request<RequestBody>, scheme: Scheme) -> Request<RequestBody> {
    let headers = request.headers_mut();
    for name in [CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    // gRPC servers insist on it.
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if content_type.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let host = headers.remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = request.uri().clone().into_parts();
    parts.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    parts.scheme = Some(scheme);
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    *request.version_mut() = Version::HTTP_2;
    request
}

/// The same backwards.
fn for_http1(mut request: Request<RequestBody>, target: Uri) -> Request<RequestBody> {
    let host = request.uri().authority().map(Authority::as_str);
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        request.headers_mut().insert(HOST, host);
    }
    if !request.body().is_end_stream() && !request.headers().contains_key(CONTENT_LENGTH) {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
    *request.uri_mut() = target;
    *request.version_mut() = Version::HTTP_11;
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_moves_into_the_target() {
        let request = Request::builder()
            .uri("/a?b")
            .header(HOST, "app.test:8443")
            .header(TRANSFER_ENCODING, "chunked")
            .header(CONTENT_TYPE, "application/grpc+proto");
        let request = request.body(RequestBody::Empty).unwrap();
        let request = for_http2(request, Scheme::HTTPS);
        assert_eq!(request.uri(), "https://app.test:8443/a?b");
        assert_eq!(request.headers().get(TRANSFER_ENCODING), None);
        assert_eq!(request.headers().get(HOST), None);
        assert_eq!(
            request.headers().get(TE),
            Some(&HeaderValue::from_static("trailers"))
        );
        let request = for_http1(request, Uri::from_static("/a?b"));
        assert_eq!(request.uri(), "/a?b");
        assert_eq!(
            request.headers().get(HOST),
            Some(&HeaderValue::from_static("app.test:8443"))
        );
    }
}
