//! One attempt of an exchange on one connection, up to the response head.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use adit_driver::patience::Patience;
use adit_driver::time::{Instant, sleep_until};
use adit_proto::exchange::edge::{
    PublicResponse, ResponseBody, ResponseError, Trailers, is_trailers_only, public_response,
};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::reach::Reach;
use adit_proto::exchange::retry::Failure;
use adit_wire::connect::{ConnectResponse, ConnectionType, decode_response};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Version};

use super::record::Progress;
use super::source::Source;
use super::upload::{End, Upload};
use crate::core::Core;
use crate::tunnels::Choice;
use crate::tunnels::stream::{InFlight, RecvError, RecvHalf, SendError, SendHalf};

/// An attempt without an answer after this long checks whether its connector is late. Most attempts have an
/// answer by then.
const LOOK_AFTER: Duration = Duration::from_millis(100);

/// What is to be sent, and how long we wait for the answer to begin.
pub(super) struct Order<'a> {
    pub(super) head: &'a Bytes,
    /// Whether the head says that the answer may be in frames.
    pub(super) takes_trailers: bool,
    /// What the visitor does with trailers.
    pub(super) trailers: Trailers,
    pub(super) kind: ConnectionType,
    /// The protocol that the head asks for, if it is not WebSocket.
    pub(super) protocol: Option<&'a HeaderValue>,
    pub(super) method: &'a Method,
    pub(super) version: Version,
    pub(super) limit: Duration,
}

/// The answer has begun.
pub(super) struct Answer {
    pub(super) response: PublicResponse,
    /// Bytes of the body that came with the head.
    pub(super) rest: Bytes,
    pub(super) recv: RecvHalf,
    /// Kept open for an upgrade.
    pub(super) send: Option<SendHalf>,
    /// Whether the end of one direction of an upgrade leaves the other open: in any protocol but WebSocket.
    pub(super) has_half_close: bool,
    pub(super) upload: Option<Upload>,
    pub(super) guard: InFlight,
}

/// No answer from this attempt.
pub(super) enum Failed {
    /// The visitor is at fault, or nobody takes his body; nothing to try again.
    Visitor(ErrorCode),
    /// Another connection may do. The text is for logs.
    Tunnel(Failure, String),
}

/// Sends the request on the chosen connection and waits for the response head, or until `late` ends. On
/// failure the body is back in `source`, if it still exists.
pub(super) async fn attempt(
    core: &Rc<Core>,
    choice: &Choice,
    order: &Order<'_>,
    source: &mut Option<Source>,
    progress: &Rc<Progress>,
    late: Option<impl Future<Output = ()>>,
) -> Result<Answer, Failed> {
    progress.touch();
    let opened = adit_driver::time::timeout(order.limit, core.tunnels.open(choice)).await;
    let stream = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Failed::Tunnel(Failure::NotOpened, error.to_string())),
        Err(_) => {
            return Err(Failed::Tunnel(
                Failure::NotOpened,
                "no stream could be opened in time".into(),
            ));
        }
    };
    let (mut send, mut recv, guard) = (stream.send, stream.recv, stream.guard);
    let mut patience = Patience::new(progress.send_timeout());
    put(&mut send, order.head.clone(), &mut patience).await?;
    let (mut kept, mut upload) = (None, None);
    match (order.kind, source.take()) {
        (ConnectionType::WebSocket | ConnectionType::Tcp, body) => {
            if let Some(mut body) = body {
                let put = put_body(&mut body, &mut send, &mut patience).await;
                *source = Some(body);
                put?;
            }
            kept = Some(send);
        }
        (ConnectionType::Http, Some(body)) => upload = Some(Upload::start(send, body, progress.clone())),
        (ConnectionType::Http, None) => send.finish(),
    }
    let answered = wait(&mut recv, &mut upload, progress, order.limit, late)
        .await
        .and_then(|(head, rest)| {
            let response = public_response(head, order.method, order.kind, order.protocol, order.version);
            let mut response = response.map_err(refused)?;
            // What was not asked for is not agreed on.
            response.is_framed &= order.takes_trailers;
            let is_open = response.body == ResponseBody::UntilFinish;
            if is_open && order.trailers == Trailers::Needed && is_trailers_only(&response.headers) {
                response.body = ResponseBody::Empty;
            }
            Ok((response, rest))
        });
    match answered {
        Ok((response, rest)) => Ok(Answer {
            response,
            rest,
            recv,
            send: kept,
            has_half_close: order.protocol.is_some(),
            upload,
            guard,
        }),
        Err(failed) => {
            if let Some(upload) = upload {
                *source = upload.recall().await;
                if source.is_none() {
                    return Err(Failed::Visitor(ErrorCode::Internal));
                }
            }
            Err(failed)
        }
    }
}

/// Sends a body that precedes another protocol, all of it; it is short.
async fn put_body(body: &mut Source, send: &mut SendHalf, patience: &mut Patience) -> Result<(), Failed> {
    body.rewind();
    while let Some(chunk) = body.next().await.map_err(Failed::Visitor)? {
        put(send, chunk, patience).await?;
    }
    Ok(())
}

async fn put(send: &mut SendHalf, bytes: Bytes, patience: &mut Patience) -> Result<(), Failed> {
    match send.write(bytes, patience).await {
        // A connector that wants nothing more still answers.
        Ok(()) | Err(SendError::Stopped) => Ok(()),
        Err(error @ SendError::NotOpened) => Err(Failed::Tunnel(Failure::NotOpened, error.to_string())),
        Err(error @ (SendError::Lost | SendError::Stalled)) => {
            Err(Failed::Tunnel(Failure::Lost, error.to_string()))
        }
    }
}

fn refused(error: ResponseError) -> Failed {
    let failure = match error {
        ResponseError::Connector(_, Reach::Unknown) => Failure::Reported,
        ResponseError::Connector(_, Reach::Nowhere) => Failure::Unreached,
        ResponseError::Connector(_, Reach::Asked) => Failure::Astray,
        ResponseError::Busy => Failure::Busy,
        ResponseError::Unfit(ErrorCode::OriginHeadTooLarge) => Failure::TooLarge,
        ResponseError::Unfit(_) | ResponseError::Invalid(_) => Failure::Invalid,
    };
    Failed::Tunnel(failure, error.to_string())
}

/// Waits for the head; the clock runs from the last byte of the request, as nobody answers before.
async fn wait(
    recv: &mut RecvHalf,
    upload: &mut Option<Upload>,
    progress: &Progress,
    limit: Duration,
    mut late: Option<impl Future<Output = ()>>,
) -> Result<(ConnectResponse, Bytes), Failed> {
    let mut head = pin!(read_head(recv));
    let look_at = Instant::now() + LOOK_AFTER;
    // Boxed, so that the many answers that come in time keep no room for it.
    let mut looking: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
    loop {
        let silent_at = progress.active_at() + limit;
        let deadline = if late.is_some() {
            silent_at.min(look_at)
        } else {
            silent_at
        };
        let uploading = upload.as_mut().filter(|upload| !upload.has_ended());
        let is_uploading = uploading.is_some();
        let end: Pin<Box<dyn Future<Output = End> + '_>> = match uploading {
            Some(upload) => Box::pin(upload.end()),
            None => Box::pin(std::future::pending()),
        };
        tokio::select! {
            biased;
            head = &mut head => return head,
            end = end, if is_uploading => match end {
                End::Visitor(code) => return Err(Failed::Visitor(code)),
                End::Stalled => return Err(Failed::Visitor(ErrorCode::UploadStalled)),
                End::Done | End::Broken => {}
            },
            () = async { if let Some(looking) = &mut looking { looking.await } }, if looking.is_some() => {
                return Err(Failed::Tunnel(Failure::Doubted, "the connector is late with an answer".into()));
            }
            () = sleep_until(deadline) => {
                if let Some(late) = late.take_if(|_| look_at <= Instant::now()) {
                    looking = Some(Box::pin(late));
                }
                if progress.active_at() + limit <= Instant::now() {
                    return Err(Failed::Tunnel(Failure::Silent, format!("no response head within {limit:?}")));
                }
            }
        }
    }
}

async fn read_head(recv: &mut RecvHalf) -> Result<(ConnectResponse, Bytes), Failed> {
    let mut received = Bytes::new();
    loop {
        match recv.read_chunk().await {
            Ok(Some(chunk)) if received.is_empty() => received = chunk,
            Ok(Some(chunk)) => {
                let mut joined = BytesMut::from(received);
                joined.extend_from_slice(&chunk);
                received = joined.freeze();
            }
            Ok(None) => {
                return Err(Failed::Tunnel(
                    Failure::Lost,
                    "the stream ended without a response".into(),
                ));
            }
            Err(error @ RecvError::NotOpened) => {
                return Err(Failed::Tunnel(Failure::NotOpened, error.to_string()));
            }
            // A reset may discard a reported failure that was on its way (docs/protocol/data-streams.md §3).
            Err(error @ RecvError::Reset) => {
                return Err(Failed::Tunnel(Failure::Reported, error.to_string()));
            }
            Err(error @ RecvError::Lost) => return Err(Failed::Tunnel(Failure::Lost, error.to_string())),
        }
        match decode_response(&mut received) {
            Ok(Some(head)) => return Ok((head, received)),
            Ok(None) => {}
            Err(error) => {
                let failure = if error.is_too_large() {
                    Failure::TooLarge
                } else {
                    Failure::Invalid
                };
                return Err(Failed::Tunnel(failure, error.to_string()));
            }
        }
    }
}
