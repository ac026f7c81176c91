//! Requests to HTTP origins over kept-alive HTTP/1.1 connections, or over shared ones of HTTP/2.
//!
//! ```text
//! idle connection? ─yes─► send ─► head ─► body ─► back to the pool
//!       │ no               └ closed before it answered: once more on a fresh connection, if that is safe
//!       └► dial ─► send ─► …
//! ```
//! A request is repeated only if the origin cannot have acted on it: it was never sent, or it has no body
//! and an idempotent method (RFC 9110 §9.2.2). Fresh connections are not retried.

use std::sync::Arc;
use std::time::Instant;

use adit_proto::exchange::connector::{HeadRules, RequestHead};
use adit_proto::ingress::edits::Edits;
use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;

use super::body::{Progress, RequestBody};
use super::dial::{Place, Purpose, Target};
use super::http2::{Http2Connections, Lease, Wish};
use super::io_stream::OriginIo;
use super::pool::{OriginConnection, Pool};
use super::tls::Alpn;
use super::{CoreOrigins, OriginError};

/// The origin of one ingress rule.
pub(crate) struct HttpOrigin {
    pub(crate) target: Target,
    /// Name in TLS unless it follows the request.
    pub(crate) server_name: Option<String>,
    /// TLS names the request's host.
    pub(crate) is_named_by_request: bool,
    /// Replaces the request's Host.
    pub(crate) host_header: Option<HeaderValue>,
    /// Bodies of unknown length are refused.
    pub(crate) disable_chunked_encoding: bool,
    /// Changes on the way.
    pub(crate) edits: Option<Arc<Edits>>,
    pub(crate) pool: Pool,
    pub(crate) http2: Http2Connections,
}

/// An origin's answer whose body has not been read.
pub(crate) struct Reply {
    response: Response<Incoming>,
    carrier: Carrier,
    progress: Progress,
}

/// What a response comes on.
pub(crate) enum Carrier {
    /// A connection that can take the next request afterwards.
    Own(OriginConnection),
    /// One of many requests on an HTTP/2 connection.
    Shared { _lease: Lease },
}

impl HttpOrigin {
    /// Sends `request` and waits for the head of the answer.
    ///
    /// `asked` is from [`asked`](Self::asked), and `progress` that of the request's body.
    /// Dropping the future cancels the request at the origin by closing its connection.
    pub(crate) async fn send(
        &self,
        core: &CoreOrigins,
        asked: &Purpose,
        mut request: Request<RequestBody>,
        progress: Progress,
    ) -> Result<Reply, OriginError> {
        if self.http2.wish != Wish::Never {
            return self.send_http2(core, asked, request, progress).await;
        }
        if let Some(connection) = self.pool.take(asked.server_name.as_deref()) {
            let spare = spare(&request);
            match send_on(connection, request, &progress).await {
                Ok(reply) => return Ok(reply),
                Err((unsent, error)) => match unsent.or(spare) {
                    Some(again) => {
                        tracing::debug!(%error, "kept-alive origin connection was closed, trying a fresh one");
                        request = again;
                    }
                    None => return Err(OriginError::Http { source: error }),
                },
            }
        }
        let connection = self.open(core, asked).await?;
        let sent = send_on(connection, request, &progress).await;
        sent.map_err(|(_, source)| OriginError::Http { source })
    }

    /// The same, to an origin that may speak HTTP/2.
    async fn send_http2(
        &self,
        core: &CoreOrigins,
        asked: &Purpose,
        mut request: Request<RequestBody>,
        progress: Progress,
    ) -> Result<Reply, OriginError> {
        let kept = match self.http2.lease(asked.server_name.as_deref()) {
            Some(lease) => Some(Opened::Http2(lease)),
            None => self.pool.take(asked.server_name.as_deref()).map(Opened::Http1),
        };
        if let Some(kept) = kept {
            let spare = spare(&request);
            match self.send_over(kept, request, &progress).await {
                Ok(reply) => return Ok(reply),
                Err((unsent, error)) => match unsent.or(spare) {
                    Some(again) => request = again,
                    None => return Err(OriginError::Http { source: error }),
                },
            }
        }
        let opened = self.open_either(core, asked).await?;
        let sent = self.send_over(opened, request, &progress).await;
        sent.map_err(|(_, source)| OriginError::Http { source })
    }

    async fn send_over(
        &self,
        opened: Opened,
        request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Reply, Unsent> {
        match opened {
            Opened::Http1(connection) => send_on(connection, request, progress).await,
            Opened::Http2(mut lease) => {
                let is_tls = self.target.tls.is_some();
                let scheme = if is_tls { Scheme::HTTPS } else { Scheme::HTTP };
                let response = lease.send(request, scheme).await?;
                let carrier = Carrier::Shared { _lease: lease };
                Ok(Reply::new(response, carrier, progress.clone()))
            }
        }
    }

    /// Opens a connection, or takes the one that another request has opened meanwhile.
    async fn open_either(&self, core: &CoreOrigins, asked: &Purpose) -> Result<Opened, OriginError> {
        let _turn = self.http2.turn().await;
        if let Some(lease) = self.http2.lease(asked.server_name.as_deref()) {
            return Ok(Opened::Http2(lease));
        }
        let io = self.dial(core, asked, Alpn::Http2).await?;
        if self.http2.wish == Wish::PriorKnowledge || io.has_chosen_http2() {
            return self
                .http2
                .begin(io, asked.server_name.as_deref())
                .await
                .map(Opened::Http2);
        }
        self.http2.note_http1();
        begin(io, asked.server_name.as_deref()).await.map(Opened::Http1)
    }

    /// Takes back the connection of an answer that was read to its end.
    pub(crate) fn recycle(&self, carrier: Carrier) {
        match carrier {
            // One that was opened for a visitor is nobody else's.
            Carrier::Own(connection) if self.target.proxy_protocol.is_none() => self.pool.put(connection),
            Carrier::Own(_) | Carrier::Shared { .. } => {}
        }
    }

    /// Closes connections that were idle for too long.
    pub(crate) fn expire(&self, now: Instant) {
        self.pool.expire(now);
        self.http2.expire(now);
    }

    /// Dials without handing the connection to HTTP.
    pub(crate) async fn dial(
        &self,
        core: &CoreOrigins,
        asked: &Purpose,
        alpn: Alpn,
    ) -> Result<OriginIo, OriginError> {
        let dialling = self.target.dial(core.io_mode(), core.tls(), asked, alpn);
        dialling.await
    }

    async fn open(&self, core: &CoreOrigins, asked: &Purpose) -> Result<OriginConnection, OriginError> {
        let io = self.dial(core, asked, Alpn::Http1).await?;
        begin(io, asked.server_name.as_deref()).await
    }

    /// What the rule does to request heads.
    pub(crate) fn head_rules<'a>(&'a self, added: &'a [(HeaderName, HeaderValue)]) -> HeadRules<'a> {
        HeadRules {
            host_header: self.host_header.as_ref(),
            disable_chunked_encoding: self.disable_chunked_encoding,
            added,
            edits: self.edits.as_deref(),
        }
    }

    /// Changes the headers of a response as the rule says.
    pub(crate) fn edit_response(&self, headers: &mut HeaderMap) {
        if let Some(edits) = &self.edits {
            edits.response(headers);
        }
    }

    /// For whom a connection is needed.
    pub(crate) fn asked(&self, head: &RequestHead) -> Purpose {
        Purpose {
            server_name: self.server_name(head.host()).map(str::to_owned),
            visitor: self.target.visitor(head),
        }
    }

    /// The name that the origin's certificate must have, for a request to `host`; `None` for plain origins.
    fn server_name<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        self.target.tls.as_ref()?;
        let follows = self.is_named_by_request || matches!(self.target.place, Place::Unix { .. });
        match &self.server_name {
            Some(name) if !self.is_named_by_request => Some(name),
            Some(_) | None if follows => Some(without_port(host)),
            Some(_) | None => match &self.target.place {
                Place::Tcp { host, .. } => Some(host),
                Place::Unix { .. } => None,
            },
        }
    }
}

impl Reply {
    pub(crate) fn new(response: Response<Incoming>, carrier: Carrier, progress: Progress) -> Self {
        Self {
            response,
            carrier,
            progress,
        }
    }

    /// Splits off what [`HttpOrigin::recycle`] wants once the body was read to its end. It may only be
    /// recycled if the request was sent whole by then, which the second value says.
    pub(crate) fn into_parts(self) -> (Response<Incoming>, Carrier, Progress) {
        (self.response, self.carrier, self.progress)
    }
}

/// Bytes read of a response at once, or collected of a request. hyper's own 400 KiB leave the second-level cache before
/// QUIC takes them; half as much costs more in turns than it saves.
const BUFFER_BYTES_MAX: usize = 248_000;

/// How we speak HTTP/1.1: header names in the case that old origins expect.
pub(crate) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.title_case_headers(true).max_buf_size(BUFFER_BYTES_MAX);
    builder
}

/// A connection ready for a request.
enum Opened {
    Http1(OriginConnection),
    Http2(Lease),
}

/// Begins HTTP/1.1.
async fn begin(io: OriginIo, server_name: Option<&str>) -> Result<OriginConnection, OriginError> {
    let (sender, connection) = builder()
        .handshake(TokioIo::new(io))
        .await
        .map_err(|source| OriginError::Http { source })?;
    // Ends with the connection, and is aborted when the connection is dropped.
    let task = spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "origin connection ended");
        }
    });
    Ok(OriginConnection::new(sender, server_name, task))
}

/// Why there is no answer; the request comes back if it was not sent.
pub(super) type Unsent = (Option<Request<RequestBody>>, hyper::Error);

async fn send_on(
    mut connection: OriginConnection,
    request: Request<RequestBody>,
    progress: &Progress,
) -> Result<Reply, Unsent> {
    match connection.sender.try_send_request(request).await {
        Ok(response) => Ok(Reply::new(response, Carrier::Own(connection), progress.clone())),
        Err(mut error) => Err((error.take_message(), error.into_error())),
    }
}

/// A copy for a second try, of a request that may be sent twice.
fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_safe = matches!(request.body(), RequestBody::Empty) && request.method().is_idempotent();
    if !is_safe {
        return None;
    }
    let mut again = Request::new(RequestBody::Empty);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    Some(again)
}

/// The host part of a Host header.
fn without_port(host: &str) -> &str {
    if let Some(end) = host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return host.get(1..=end).unwrap_or(host);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_no_part_of_a_tls_name() {
        for (host, name) in [
            ("app.test", "app.test"),
            ("app.test:8443", "app.test"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn only_bodyless_idempotent_requests_may_be_sent_twice() {
        let request = |method: &str| {
            let request = Request::builder().method(method).uri("/a?b").header("x", "y");
            request.body(RequestBody::Empty).expect("a plain request")
        };
        let again = spare(&request("GET")).expect("a GET may be repeated");
        assert_eq!(again.uri(), "/a?b");
        assert_eq!(again.headers().get("x"), Some(&HeaderValue::from_static("y")));
        assert!(spare(&request("POST")).is_none());
    }
}
