//! One attempt of an exchange on one connection, up to the response head.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use adit_driver::patience::Patience;
use adit_driver::time::{Instant, sleep_until};
use adit_proto::exchange::delivery::{Due, Watch};
use adit_proto::exchange::edge::{self, HeadReader, PublicResponse};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::interim::is_interim_response;
use adit_proto::exchange::retry::{Failure, StreamEnd};
use adit_wire::connect::{ConnectResponse, ConnectionType};
use bytes::Bytes;

use super::hints::Hints;
use super::record::Progress;
use super::source::Source;
use super::upload::{End, Upload};
use crate::core::Core;
use crate::open::open;
use crate::open::stream::{InFlight, RecvError, RecvHalf, SendError, SendHalf};
use crate::tunnels::Choice;

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

/// What one attempt is made with.
pub(super) struct Order<'a, W, L> {
    pub(super) request: edge::Order<'a>,
    /// Where interim answers go.
    pub(super) hints: &'a Hints,
    /// How long the answer may take to begin.
    pub(super) limit: Duration,
    /// Makes the deadlines once the head is sent.
    pub(super) watch: W,
    /// Ends when the connector is late and the request can be asked elsewhere.
    pub(super) late: L,
}

/// Sends the request on the chosen connection and waits for the response head. On failure the body is back in
/// `source`, if it still exists.
pub(super) async fn attempt(
    core: &Rc<Core>,
    choice: &Choice,
    order: Order<'_, impl FnOnce(Instant) -> Watch, impl Future<Output = ()>>,
    source: &mut Option<Source>,
    progress: &Rc<Progress>,
) -> Result<Answer, Failed> {
    progress.touch();
    let opened = adit_driver::time::timeout(order.limit, open(&core.tunnels, choice)).await;
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
    put(&mut send, order.request.head.clone(), &mut patience).await?;
    let (mut kept, mut upload) = (None, None);
    match (order.request.kind, source.take()) {
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
    let watch = (order.watch)(Instant::now());
    let head = read_head(&mut recv, async |interim: &ConnectResponse| {
        order.hints.pass(interim, progress, &core.metrics).await;
    });
    let answered = wait(head, &mut upload, progress, watch, order.late).await;
    let answered = answered.and_then(|(head, rest)| match order.request.response(head) {
        Ok(response) => Ok((response, rest)),
        Err(error) => Err(Failed::Tunnel(Failure::from(&error), error.to_string())),
    });
    match answered {
        Ok((response, rest)) => Ok(Answer {
            response,
            rest,
            recv,
            send: kept,
            has_half_close: order.request.is_of_other_protocol(),
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

/// Waits for the head; the clock runs from the last byte of the request, as nobody answers before.
async fn wait(
    head: impl Future<Output = Result<(ConnectResponse, Bytes), Failed>>,
    upload: &mut Option<Upload>,
    progress: &Progress,
    mut watch: Watch,
    late: impl Future<Output = ()>,
) -> Result<(ConnectResponse, Bytes), Failed> {
    let mut head = pin!(head);
    let mut late = Some(late);
    // Boxed, so that the many answers that come in time keep no room for it.
    let mut looking: Option<Pin<Box<dyn Future<Output = ()> + '_>>> = None;
    loop {
        let deadline = watch.poll_timeout(progress.active_at());
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
            () = sleep_until(deadline) => match watch.handle_timeout(Instant::now(), progress.active_at()) {
                Some(Due::Look) => {
                    if let Some(late) = late.take() {
                        looking = Some(Box::pin(late));
                    }
                }
                Some(Due::Silence) => {
                    let reason = format!("no response head within {:?}", watch.limit());
                    return Err(Failed::Tunnel(Failure::Silent, reason));
                }
                None => {}
            },
        }
    }
}

/// Reads the head of the answer; `interim` takes those that come before it.
async fn read_head(
    recv: &mut RecvHalf,
    interim: impl AsyncFn(&ConnectResponse),
) -> Result<(ConnectResponse, Bytes), Failed> {
    let mut reader = HeadReader::default();
    loop {
        let chunk = match recv.read_chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                return Err(Failed::Tunnel(
                    StreamEnd::Finished.into(),
                    "the stream ended without a response".into(),
                ));
            }
            Err(error) => {
                let end = match error {
                    RecvError::NotOpened => StreamEnd::NotOpened,
                    RecvError::Reset => StreamEnd::Reset,
                    RecvError::Lost => StreamEnd::Lost,
                };
                return Err(Failed::Tunnel(end.into(), error.to_string()));
            }
        };
        let mut next = Some(chunk);
        while let Some(bytes) = next.take() {
            match reader.handle_bytes(bytes) {
                Ok(Some((head, rest))) if is_interim_response(&head) => {
                    interim(&head).await;
                    next = Some(rest);
                }
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                Err(error) => return Err(Failed::Tunnel(Failure::from(&error), error.to_string())),
            }
        }
    }
}
