//! Serves one exchange: one request of the edge, and its response.
//!
//! ```text
//! head ─► rule ─► origin ─► response head ─► body … ─► end
//!   │       │        └ failed: an answer that says so     └ origin broke off: reset
//!   └ unreadable: reset
//! ```
//! [`edge_stream`](crate::edge_stream) has what these are on the wire. How a head is read depends on the
//! transport. Everything between is the same over both.
//!
//! Bodies pass chunk by chunk and are never collected: a chunk is read from one side only after the other
//! has taken the one before. An edge that resets or stops the stream cancels the request at the origin.
//!
//! Does not: retry for the visitor (the edge does), parse heads (`adit_proto::exchange::connector` does).

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::time::{Instant, sleep_until};
use adit_proto::exchange::connector::{self, Framing, HeadRules, RequestHead, clean_origin_head};
use adit_proto::exchange::edge::UPGRADE_BODY_BYTES_MAX;
use adit_proto::exchange::error_code::HEADER as ERROR_CODE;
use adit_proto::exchange::switch::is_agreed;
use adit_wire::ConnIndex;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use time::OffsetDateTime;

use crate::access::ASSERTION;
use crate::edge_stream::{FromEdge, ToEdge};
use crate::management::LogEvent;
use crate::metrics::CoreMetrics;
use crate::origin::body::{Progress, RequestBody, StreamBody};
use crate::origin::builtin::{self, Answer, AnswerBody};
use crate::origin::http_origin::{HttpOrigin, Reply};
use crate::origin::interim::Interim;
use crate::origin::websocket::{self, Early, End, Upgrade};
use crate::origin::{CoreOrigins, OriginError, echo, handshake};
use crate::rules::{CoreRules, Service};
use crate::settings::Settings;

mod error;
mod http2;
mod manage;
mod quic;
mod tcp;
mod told;

use error::ExchangeError;
pub(crate) use http2::serve_http2;
pub(crate) use quic::serve_quic;
use told::Told;

/// An edge writes the head in one go, so a head that takes longer is none.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Largest request body that is collected for a rule with `disableChunkedEncoding`: such origins are old web
/// applications, whose own limits are about as low.
const COLLECTED_BYTES_MAX: usize = 1 << 20;

/// What exchanges need of their core.
pub(crate) struct ExchangeCore {
    pub(crate) settings: Arc<Settings>,
    pub(crate) origins: CoreOrigins,
    pub(crate) rules: CoreRules,
    pub(crate) metrics: Arc<CoreMetrics>,
}

/// What an edge asks for.
enum Asked {
    Request(RequestHead),
    /// A flow to this destination.
    Flow(Bytes),
}

/// The visitor's side of an exchange.
struct Stream<'a, S, R> {
    index: ConnIndex,
    metrics: &'a CoreMetrics,
    told: Told,
    send: S,
    /// Taken by a request body.
    recv: Option<R>,
}

/// Counts an exchange, whose work is `served`, and ends it on the wire according to how that went.
async fn conclude<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    index: ConnIndex,
    mut stream: Stream<'_, S, R>,
    served: impl AsyncFnOnce(&mut Stream<'_, S, R>) -> Result<(), ExchangeError>,
) {
    core.metrics.requests.add(1);
    core.metrics.concurrent_requests.inc();
    let served = served(&mut stream).await;
    core.metrics.concurrent_requests.dec();
    let Err(error) = served else {
        stream.send.finish();
        return;
    };
    let told = std::mem::take(&mut stream.told);
    told.failed(index, &error);
    if !error.is_the_visitors() {
        core.metrics.request_errors.add(1);
    }
    if let Some(code) = error.code() {
        return match answer_ourselves(builtin::failed(code), &mut stream).await {
            Ok(()) => stream.send.finish(),
            Err(_) => stream.send.fail(None).await,
        };
    }
    stream.send.fail(error.excuse().as_ref()).await;
}

/// Does what was asked for; `first` came along with it.
async fn exchange<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    asked: Asked,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let head = match asked {
        Asked::Flow(dest) => return tcp::flow(core, &dest, first, stream).await,
        Asked::Request(head) => head,
    };
    if core.settings.management.is_meant(head.host()) {
        // Boxed, so that other exchanges do not keep room for it.
        return Box::pin(manage::answer(core, head, first, stream)).await;
    }
    let rules = core.rules.of(&core.settings.ingress.load());
    let (rule, served) = rules.find(head.host(), head.target()).unzip();
    stream.told.of_request(&head, rule);
    tracing::debug!(
        event = LogEvent::Http as u8,
        connIndex = stream.index.0,
        host = head.host(),
        path = path(head.target()),
        requestID = stream.told.request_id(),
        ingressRule = rule,
        "{} request",
        head.method()
    );
    // Every ingress ends with a rule for all, so there is a service.
    let Some(served) = served else {
        return answer_ourselves(builtin::status(StatusCode::NOT_FOUND), stream).await;
    };
    if let Some(gate) = &served.gate
        && !Box::pin(gate.admits(&core.origins, head.header(&ASSERTION))).await
    {
        return answer_ourselves(builtin::status(StatusCode::FORBIDDEN), stream).await;
    }
    let answer = match served.service {
        Service::Http(origin) if head.is_upgrade() => {
            return upgrade(core, &origin, head, first, stream).await;
        }
        Service::Http(origin) => return http(core, &origin, head, first, stream).await,
        Service::Tcp(origin) => return tcp::carry(core, &origin, head, first, stream).await,
        Service::Status(status) => builtin::status(status),
        Service::HelloWorld if head.is_websocket() && echo::is_at(head.target()) => {
            match handshake::accept(head.header(&SEC_WEBSOCKET_KEY)) {
                Some(headers) => return converse(&headers, first, stream).await,
                None => builtin::no_websocket(),
            }
        }
        Service::HelloWorld => {
            let is_head = *head.method() == Method::HEAD;
            builtin::hello(
                head.target(),
                is_head,
                OffsetDateTime::now_utc(),
                core.origins.uptime(),
            )
        }
    };
    answer_ourselves(answer, stream).await
}

/// A target without its query, which may hold secrets.
fn path(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// Forwards a request with its body, and the answer with its.
async fn http<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    origin: &HttpOrigin,
    head: RequestHead,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let mut asked = origin.asked(&head);
    let takes_interim = head.takes_interim() && stream.send.is_for_ours();
    asked.interim = takes_interim.then(Interim::default);
    let rules: HeadRules<'_> = origin.head_rules(&core.settings.added_headers);
    let takes_trailers = head.takes_trailers();
    let (mut request, body) = head.into_origin(&rules)?;
    let (body, progress) = match body {
        connector::RequestBody::Empty => (RequestBody::Empty, Progress::done()),
        connector::RequestBody::Length(length) => stream.body(first, Some(length)),
        connector::RequestBody::UntilEnd => stream.body(first, None),
        connector::RequestBody::Collected => {
            let Some(whole) = stream.collect(first).await? else {
                return answer_ourselves(builtin::status(StatusCode::PAYLOAD_TOO_LARGE), stream).await;
            };
            request.headers_mut().insert(CONTENT_LENGTH, whole.len().into());
            (RequestBody::Collected(whole), Progress::done())
        }
    };
    let sending = origin.send(&core.origins, &asked, request.map(|()| body), progress.clone());
    let reply = match until_answered(origin, sending, asked.interim.as_ref(), stream).await? {
        Err(_) if progress.is_failed() => return Err(ExchangeError::Upload),
        reply => reply?,
    };
    if takes_trailers && reply.may_have_trailers() {
        stream.send.expect_trailers();
    }
    pass_on(origin, reply, stream).await
}

/// Waits for the answer, and passes on what the origin says before.
async fn until_answered<S: ToEdge, R: FromEdge>(
    origin: &HttpOrigin,
    sending: impl Future<Output = Result<Reply, OriginError>>,
    interim: Option<&Interim>,
    stream: &mut Stream<'_, S, R>,
) -> Result<Result<Reply, OriginError>, ExchangeError> {
    let mut sending = pin!(sending);
    let heard = async || match interim {
        Some(interim) => interim.next().await,
        None => pending().await,
    };
    let answered = loop {
        tokio::select! {
            biased;
            (status, mut headers) = heard() => {
                headers.remove(ERROR_CODE);
                origin.edit_interim(&mut headers);
                stream.send.write_interim(status, &headers).await?;
            }
            reply = &mut sending => break reply,
            () = stream.gone() => return Err(ExchangeError::Cancelled),
        }
    };
    if let Some(dropped) = interim.map(Interim::dropped).filter(|dropped| *dropped > 0) {
        stream.metrics.interim_dropped.add(dropped);
    }
    Ok(answered)
}

/// Asks for an upgrade and relays what follows it.
async fn upgrade<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    origin: &HttpOrigin,
    head: RequestHead,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let asked = origin.asked(&head);
    let has_half_close = !head.is_websocket();
    let protocol = head.protocol().cloned();
    let (request, body) = head.into_origin(&origin.head_rules(&core.settings.added_headers))?;
    let (body, first) = match body {
        connector::RequestBody::Length(length) => {
            let Some((body, rest)) = stream.take(first, length).await? else {
                return answer_ourselves(builtin::status(StatusCode::PAYLOAD_TOO_LARGE), stream).await;
            };
            (RequestBody::Collected(body), rest)
        }
        connector::RequestBody::Empty
        | connector::RequestBody::UntilEnd
        | connector::RequestBody::Collected => (RequestBody::Empty, first),
    };
    let request = request.map(|()| body);
    // Bytes of the visitor stay in the stream until the origin has agreed, so only a stop is watched for.
    let upgraded = tokio::select! {
        biased;
        upgraded = websocket::upgrade(origin, &core.origins, &asked, request) => upgraded?,
        () = stream.send.stopped() => return Err(ExchangeError::Cancelled),
    };
    match upgraded {
        Upgrade::Answered(reply) => pass_on(origin, reply, stream).await,
        Upgrade::Switched {
            mut headers,
            io,
            early,
            permit: _permit,
        } => {
            let answered = headers.get_all(UPGRADE).into_iter().map(HeaderValue::as_bytes);
            if !is_agreed(protocol.as_ref(), answered) {
                return Err(ExchangeError::Unasked);
            }
            headers.remove(ERROR_CODE);
            origin.edit_response(&mut headers);
            stream
                .write_head(StatusCode::SWITCHING_PROTOCOLS, &headers)
                .await?;
            let early = Early {
                from_visitor: first,
                from_origin: early,
            };
            let Stream { send, recv, .. } = stream;
            let Some(recv) = recv else {
                return Err(ExchangeError::Relay);
            };
            ended(websocket::relay(io, early, send, recv, has_half_close).await)
        }
    }
}

/// Agrees to an upgrade and echoes.
async fn converse<S: ToEdge, R: FromEdge>(
    headers: &HeaderMap,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    stream
        .write_head(StatusCode::SWITCHING_PROTOCOLS, headers)
        .await?;
    let Stream { send, recv, .. } = stream;
    let Some(recv) = recv else {
        return Err(ExchangeError::Relay);
    };
    ended(echo::serve(first, send, recv).await)
}

/// What the end of a relay means for the exchange.
fn ended(end: End) -> Result<(), ExchangeError> {
    match end {
        End::Finished => Ok(()),
        End::Broken => Err(ExchangeError::Relay),
        End::Gone => Err(ExchangeError::Cancelled),
    }
}

/// Writes an origin's response and gives its connection back.
async fn pass_on<S: ToEdge, R: FromEdge>(
    origin: &HttpOrigin,
    reply: Reply,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let (response, held, progress) = reply.into_parts();
    let (mut head, mut body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(ExchangeError::Unasked);
    }
    // Ours alone to say.
    head.headers.remove(ERROR_CODE);
    let framing = clean_origin_head(&mut head.headers)?;
    origin.edit_response(&mut head.headers);
    stream.write_head(head.status, &head.headers).await?;
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = stream.gone() => return Err(ExchangeError::Cancelled),
        };
        match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) => stream.send.write(chunk).await?,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        stream.send.write_trailers(trailers).await?;
                    }
                }
            },
            Some(Err(_)) if progress.is_failed() => return Err(ExchangeError::Upload),
            Some(Err(error)) => return Err(ExchangeError::ResponseBody(error)),
            None => break,
        }
    }
    if progress.is_done() && framing == Framing::Clear {
        origin.recycle(held);
    }
    Ok(())
}

/// Writes an answer that no origin gave.
async fn answer_ourselves<S: ToEdge, R: FromEdge>(
    answer: Answer,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    stream.write_head(answer.status, &answer.headers).await?;
    match answer.body {
        AnswerBody::Full(bytes) => Ok(stream.send.write(bytes).await?),
        AnswerBody::Events => {
            let mut next = Instant::now();
            for number in 0.. {
                tokio::select! {
                    () = sleep_until(next) => {}
                    () = stream.gone() => return Err(ExchangeError::Cancelled),
                }
                stream
                    .send
                    .write(builtin::event(number, OffsetDateTime::now_utc()))
                    .await?;
                next += builtin::EVENT_INTERVAL;
            }
            Ok(())
        }
    }
}

impl<S: ToEdge, R: FromEdge> Stream<'_, S, R> {
    /// Makes the receiving half the body of a request.
    fn body(&mut self, first: Bytes, length: Option<u64>) -> (RequestBody, Progress) {
        let Some(recv) = self.recv.take() else {
            return (RequestBody::Empty, Progress::done());
        };
        let (body, progress) = StreamBody::new(first, recv, length);
        (R::into_request(body), progress)
    }

    /// Reads a body to its end, unless it is larger than [`COLLECTED_BYTES_MAX`].
    async fn collect(&mut self, first: Bytes) -> Result<Option<Bytes>, ExchangeError> {
        let mut whole = BytesMut::from(first);
        let Some(recv) = &mut self.recv else {
            return Err(ExchangeError::Cancelled);
        };
        while whole.len() <= COLLECTED_BYTES_MAX {
            match recv.read_chunk().await {
                Ok(Some(chunk)) => whole.extend_from_slice(&chunk),
                Ok(None) => return Ok(Some(whole.freeze())),
                Err(_) => return Err(ExchangeError::Upload),
            }
        }
        Ok(None)
    }

    /// Reads the first `length` bytes, unless they are more than an upgrade may bring along, and returns what
    /// came behind them too.
    async fn take(&mut self, first: Bytes, length: u64) -> Result<Option<(Bytes, Bytes)>, ExchangeError> {
        if length > UPGRADE_BODY_BYTES_MAX {
            return Ok(None);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut whole = BytesMut::from(first);
        let Some(recv) = &mut self.recv else {
            return Err(ExchangeError::Cancelled);
        };
        while whole.len() < length {
            match recv.read_chunk().await {
                Ok(Some(chunk)) => whole.extend_from_slice(&chunk),
                Ok(None) | Err(_) => return Err(ExchangeError::Upload),
            }
        }
        let body = whole.split_to(length).freeze();
        Ok(Some((body, whole.freeze())))
    }

    async fn write_head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), ExchangeError> {
        self.send.write_head(status, headers).await?;
        self.metrics.responses.add(status.as_u16());
        tracing::debug!(
            event = LogEvent::Http as u8,
            connIndex = self.index.0,
            status = status.as_u16(),
            requestID = self.told.request_id(),
            ingressRule = self.told.rule,
            "Response"
        );
        Ok(())
    }

    /// Waits until the edge stops or resets the stream, or the connection is lost.
    async fn gone(&mut self) {
        let Self { send, recv, .. } = self;
        tokio::select! {
            () = send.stopped() => {}
            () = reset(recv.as_mut()) => {}
        }
    }
}

/// Waits for the edge to give up its sending half. What it sends after a head that announces no body is
/// thrown away; a half that became a body is watched by whoever reads it.
async fn reset(recv: Option<&mut impl FromEdge>) {
    let Some(recv) = recv else {
        return pending().await;
    };
    loop {
        match recv.read_chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => return pending().await,
            Err(_) => return,
        }
    }
}
