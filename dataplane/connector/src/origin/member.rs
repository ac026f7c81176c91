//! One address of an HTTP origin as one core uses it: its kept-alive HTTP/1.1 connections, or shared ones of
//! HTTP/2.
//!
//! ```text
//! idle connection? ─yes─► send ─► head ─► body ─► back to the pool
//!       │ no               └ closed before it answered: once more on a fresh connection, if that is safe
//!       └► dial ─► send ─► …
//! ```
//! A request is repeated only if the origin cannot have acted on it: it was never sent, or it has no body
//! and an idempotent method (RFC 9110 §9.2.2). Fresh connections are not retried here.

use std::time::Instant;

use adit_wire::connect::METADATA_ENTRIES_MAX;
use http::Request;
use http::header::TE;
use http::uri::Scheme;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::task::spawn_local;

use super::body::{Progress, RequestBody};
use super::dial::{DialParameters, Target};
use super::head_limit::HeadLimited;
use super::http_origin::{Carrier, Reply};
use super::http2::{Http2Connections, Http2Policy, Lease};
use super::io_stream::OriginIo;
use super::last_words::LastWords;
use super::pool::{OriginConnection, Pool};
use super::tls::Alpn;
use super::{CoreOrigins, OriginError};

/// One address.
pub(crate) struct HttpMember {
    pub(crate) target: Target,
    pub(crate) pool: Pool,
    pub(crate) http2: Http2Connections,
}

/// A request that got no answer; it is here if the origin has seen nothing of it.
pub(crate) struct Failed {
    pub(crate) unsent: Option<Request<RequestBody>>,
    pub(crate) error: OriginError,
}

/// A connection ready for a request.
enum Opened {
    Http1(OriginConnection),
    Http2(Lease),
}

/// Why there is no answer; the request comes back if it was not sent.
pub(super) type Unsent = (Option<Request<RequestBody>>, hyper::Error);

impl HttpMember {
    /// Sends `request` and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        core: &CoreOrigins,
        asked: &DialParameters,
        mut request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Reply, Failed> {
        if self.http2.policy != Http2Policy::Never {
            return self.send_http2(core, asked, request, progress).await;
        }
        if let Some(connection) = self.pool.take(asked.server_name.as_deref()) {
            let spare = spare(&request);
            match send_on(connection, asked, request, progress).await {
                Ok(reply) => return Ok(reply),
                Err((unsent, error)) => match unsent.or(spare) {
                    Some(again) => {
                        tracing::debug!(%error, "kept-alive origin connection was closed, trying a fresh one");
                        request = again;
                    }
                    None => return Err(Failed::sent(error)),
                },
            }
        }
        match self.open(core, asked).await {
            Ok(connection) => send_on(connection, asked, request, progress)
                .await
                .map_err(Failed::from),
            Err(error) => Err(Failed {
                unsent: Some(request),
                error,
            }),
        }
    }

    /// The same, to an origin that may speak HTTP/2.
    async fn send_http2(
        &self,
        core: &CoreOrigins,
        asked: &DialParameters,
        mut request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Reply, Failed> {
        let kept = match self.http2.lease(asked.server_name.as_deref()) {
            Some(lease) => Some(Opened::Http2(lease)),
            None => self.pool.take(asked.server_name.as_deref()).map(Opened::Http1),
        };
        if let Some(kept) = kept {
            let spare = spare(&request);
            match self.send_over(kept, asked, request, progress).await {
                Ok(reply) => return Ok(reply),
                Err((unsent, error)) => match unsent.or(spare) {
                    Some(again) => request = again,
                    None => return Err(Failed::sent(error)),
                },
            }
        }
        match self.open_either(core, asked).await {
            Ok(opened) => self
                .send_over(opened, asked, request, progress)
                .await
                .map_err(Failed::from),
            Err(error) => Err(Failed {
                unsent: Some(request),
                error,
            }),
        }
    }

    async fn send_over(
        &self,
        opened: Opened,
        asked: &DialParameters,
        mut request: Request<RequestBody>,
        progress: &Progress,
    ) -> Result<Reply, Unsent> {
        match opened {
            Opened::Http1(connection) => {
                // What it says is about HTTP/2 (see `HeadRules`).
                request.headers_mut().remove(TE);
                send_on(connection, asked, request, progress).await
            }
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
    async fn open_either(&self, core: &CoreOrigins, asked: &DialParameters) -> Result<Opened, OriginError> {
        let _turn = self.http2.turn().await;
        if let Some(lease) = self.http2.lease(asked.server_name.as_deref()) {
            return Ok(Opened::Http2(lease));
        }
        let io = self.dial(core, asked, Alpn::Http2).await?;
        if self.http2.policy == Http2Policy::PriorKnowledge || io.has_chosen_http2() {
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
    pub(super) fn recycle(&self, carrier: Carrier) {
        match carrier {
            // One that was opened for a visitor is nobody else's.
            Carrier::Own(connection) if self.target.proxy_protocol.is_none() => self.pool.put(connection),
            Carrier::Own(_) | Carrier::Shared { .. } => {}
        }
    }

    /// Closes connections that were idle for too long.
    pub(super) fn expire(&self, now: Instant) {
        self.pool.expire(now);
        self.http2.expire(now);
    }

    /// Dials without handing the connection to HTTP.
    pub(super) async fn dial(
        &self,
        core: &CoreOrigins,
        asked: &DialParameters,
        alpn: Alpn,
    ) -> Result<OriginIo, OriginError> {
        let dialling = self.target.dial(core.io_mode(), core.tls(), asked, alpn);
        dialling.await
    }

    async fn open(
        &self,
        core: &CoreOrigins,
        asked: &DialParameters,
    ) -> Result<OriginConnection, OriginError> {
        let io = self.dial(core, asked, Alpn::Http1).await?;
        begin(io, asked.server_name.as_deref()).await
    }
}

impl Failed {
    /// What is told of it.
    pub(super) fn into_error(self) -> OriginError {
        match (self.unsent, self.error) {
            (Some(_), OriginError::Http { source }) => OriginError::Unsent { source },
            (_, error) => error,
        }
    }

    fn sent(error: hyper::Error) -> Self {
        Self::from((None, error))
    }
}

impl From<Unsent> for Failed {
    fn from((unsent, source): Unsent) -> Self {
        Self {
            unsent,
            error: OriginError::Http { source },
        }
    }
}

/// Bytes of a response that are read at once, or of a request that are collected. hyper's own 400 KiB leave
/// the second-level cache before QUIC takes them. Half of this costs more in turns than it saves.
const BUFFER_BYTES_MAX: usize = 248_000;

/// Headers of one answer: what a data stream's head has room for, beside the status and a few marks. While it
/// reads a head the parser takes 16 KiB twice for so many, but touches only those that came.
pub(crate) const HEADERS_MAX: usize = 500;

const _: () = assert!(HEADERS_MAX + 8 <= METADATA_ENTRIES_MAX);

/// How we speak HTTP/1.1. Header names have the case that old origins expect. Values on several lines, as
/// some old origins write them (RFC 9112 §5.2), are joined by a space.
pub(crate) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .title_case_headers(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

/// Begins HTTP/1.1.
async fn begin(io: OriginIo, server_name: Option<&str>) -> Result<OriginConnection, OriginError> {
    let (io, allowance) = HeadLimited::new(io);
    let (sender, connection) = builder()
        .handshake(TokioIo::new(LastWords::new(io)))
        .await
        .map_err(|source| OriginError::Http { source })?;
    // Ends with the connection, and is aborted when the connection is dropped.
    let task = spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::trace!(%error, "origin connection ended");
        }
    });
    Ok(OriginConnection::new(sender, server_name, task, allowance))
}

async fn send_on(
    mut connection: OriginConnection,
    asked: &DialParameters,
    mut request: Request<RequestBody>,
    progress: &Progress,
) -> Result<Reply, Unsent> {
    if let Some(interim) = &asked.interim {
        interim.listen(&mut request);
    }
    connection.allowance.limit();
    let sent = connection.sender.try_send_request(request).await;
    connection.allowance.lift();
    match sent {
        Ok(response) => Ok(Reply::new(response, Carrier::Own(connection), progress.clone())),
        Err(mut error) => Err((error.take_message(), error.into_error())),
    }
}

/// A copy for a second try, of a request that may be sent twice.
pub(super) fn spare(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

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
