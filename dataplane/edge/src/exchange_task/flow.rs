//! A visitor's TCP connection as one exchange. Its bytes go down the tunnel in the binary messages of a
//! WebSocket, as a client of cloudflared would carry them, so any connector's TCP services take them.
//!
//! ```text
//! visitor: bytes ─► masked binary frame per read      binary frames ─► bytes
//!          FIN   ─► close, if the connector takes it   close         ─► FIN
//!                   for one direction; else held back   end of stream ─► FIN, and the end
//!          reset ─► reset of the stream                reset         ─► reset
//! ```
//! Nobody can be told why there is no flow, so the visitor's connection is reset in place of an error page.
//!
//! A flow may be silent for ever. Holds one read of the visitor, what one read of the tunnel gives, and the
//! payload of the last ping. No byte is copied: the mask is applied in place.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use adit_driver::chunks::Chunks;
use adit_driver::patience::Patience;
use adit_driver::time::{Instant, sleep_until};
use adit_proto::exchange::edge::{RequestId, ResponseBody, Visitor};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::websocket::carrier::{self, DATA_BYTES_MAX, HEADROOM};
use adit_proto::websocket::{Carried, Carrier, Peer};
use adit_wire::Hostname;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::Notify;

use super::attempt::Answer;
use super::download::finish_quietly;
use super::record::{Progress, Record};
use super::relay::write;
use crate::access_log::Protocol;
use crate::core::Core;
use crate::open::stream::{RecvHalf, SendError, SendHalf};
use crate::shares::Account;

/// In the 101 of a connector that takes a close as the end of one direction.
const HALF_CLOSE: (&str, &str) = ("adit-half-close", "?1");

/// How long the origin may be silent after a visitor has ended its side, if the connector has no half-close.
/// Such a connector ends both directions at once, which could cut off the origin's last words.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Room for the first read of a visitor, and for those while bytes flow.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = DATA_BYTES_MAX;

/// Where a flow goes and who speaks.
pub(crate) struct Flow<'a> {
    pub(crate) hostname: &'a Hostname,
    pub(crate) visitor: Visitor,
    pub(crate) protocol: Protocol,
    /// Said to the origin before the visitor's first byte: a PROXY header, if it wants one.
    pub(crate) preface: Bytes,
}

/// How a flow ended, for the visitor's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All that was said has been passed on.
    InOrder,
    /// The visitor is to hear of a break.
    Broken,
}

/// Carries a visitor's bytes until the flow ends; the caller ends the visitor's connection accordingly.
pub(crate) async fn run<S>(core: &Rc<Core>, flow: Flow<'_>, stream: S) -> (S, Ended)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let id = RequestId(rand::random());
    let mut record = Record::begin_flow(core, id, flow.visitor.address, flow.protocol);
    let account = Account::open(core);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut early = Early::default();
    let ended = match open(core, &flow, (id, &account), &mut record, &mut reader, &mut early).await {
        Ok(Some(answer)) => {
            let said = Said {
                preface: flow.preface,
                early,
            };
            Box::pin(carry(answer, said, &mut reader, &mut writer, record)).await
        }
        // The record says that the visitor is gone.
        Ok(None) => Ended::Broken,
        Err(code) => {
            tracing::debug!(request_id = %id, host = %flow.hostname, code = code.as_str(), "no flow");
            record.answer_error(code);
            Ended::Broken
        }
    };
    (reader.unsplit(writer), ended)
}

/// What a visitor said before there was a flow.
#[derive(Default)]
struct Early {
    bytes: BytesMut,
    has_ended: bool,
}

impl Early {
    /// Reads as much as one frame takes; returns at the end of the stream, or when it breaks.
    async fn hear<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> std::io::Result<()> {
        while self.bytes.len() < READ_BYTES_MAX && !self.has_ended {
            let room = READ_BYTES_MIN.min(READ_BYTES_MAX - self.bytes.len());
            self.bytes.reserve(room);
            let read = reader.read_buf(&mut (&mut self.bytes).limit(room)).await?;
            self.has_ended = read == 0;
        }
        Ok(())
    }
}

/// What the origin is told first.
struct Said {
    preface: Bytes,
    early: Early,
}

/// Opens the flow, while the visitor may speak or leave; `None` when it left.
async fn open<R: AsyncRead + Unpin>(
    core: &Rc<Core>,
    flow: &Flow<'_>,
    (id, account): (RequestId, &Rc<Account>),
    record: &mut Record,
    reader: &mut R,
    early: &mut Early,
) -> Result<Option<Answer>, ErrorCode> {
    let parts = upgrade(flow.hostname);
    // Boxed, so that a running flow does not keep room for it.
    let mut opening = Box::pin(super::exchange(
        core,
        &flow.visitor,
        &parts,
        None,
        (id, account),
        record,
    ));
    let answered = tokio::select! {
        biased;
        answered = &mut opening => answered,
        heard = early.hear(reader) => match heard {
            Ok(()) => opening.await,
            Err(_) => return Ok(None),
        },
    };
    let (answer, _) = answered?;
    if answer.response.body == ResponseBody::Upgraded {
        return Ok(Some(answer));
    }
    tracing::debug!(request_id = %id, host = %flow.hostname, status = %answer.response.status,
        "the hostname's service carries no TCP");
    Err(ErrorCode::OriginBadResponse)
}

/// The request with which a client of cloudflared asks for a flow.
fn upgrade(hostname: &Hostname) -> Parts {
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let request = Request::get("/")
        .header(HOST, hostname.as_str())
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, key)
        .body(())
        .expect("a hostname and base64 are header values");
    request.into_parts().0
}

fn has_half_close(headers: &HeaderMap) -> bool {
    headers
        .get(HALF_CLOSE.0)
        .is_some_and(|value| value.as_bytes() == HALF_CLOSE.1.as_bytes())
}

/// How one direction ended.
enum Direction {
    /// In order; the other may go on.
    Closed,
    /// The tunnel's stream is at its end: nothing follows in either direction.
    Finished,
    /// With the whole flow.
    Broken(ErrorCode),
}

/// What the two directions tell each other.
struct Shared {
    /// Payload of the last ping that is not answered; older ones need no answer (RFC 6455 §5.5.3).
    ping: RefCell<Option<Bytes>>,
    pinged: Notify,
    /// The visitor is being given bytes and has not taken all of them.
    is_passing: Cell<bool>,
    progress: Rc<Progress>,
}

async fn carry<S>(
    answer: Answer,
    said: Said,
    reader: &mut ReadHalf<S>,
    writer: &mut WriteHalf<S>,
    mut record: Record,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    record.answer(answer.response.status);
    let is_half_close = has_half_close(&answer.response.headers);
    let (mut recv, guard, rest) = (answer.recv, answer.guard, answer.rest);
    let Some(mut send) = answer.send else {
        record.fail(ErrorCode::Internal);
        return Ended::Broken;
    };
    let shared = Shared {
        ping: RefCell::default(),
        pinged: Notify::new(),
        is_passing: Cell::new(false),
        progress: record.progress().clone(),
    };
    let end = {
        let inward = async {
            let ended = inward(said, reader, &mut send, is_half_close, &shared).await;
            if matches!(ended, Direction::Closed) && !is_half_close {
                shared.last_words().await;
                return Direction::Finished;
            }
            ended
        };
        let outward = outward(&mut recv, rest, writer, &shared);
        until_both(pin!(inward), pin!(outward)).await
    };
    match end {
        Direction::Closed | Direction::Finished => {
            // Whoever has a half-close has said its close already.
            send.finish();
            finish_quietly(recv, guard);
            record.complete();
            Ended::InOrder
        }
        Direction::Broken(code) => {
            send.reset(0);
            record.fail(code);
            Ended::Broken
        }
    }
}

/// Runs both directions until both are closed, or one ends the flow.
async fn until_both(
    mut inward: impl Future<Output = Direction> + Unpin,
    mut outward: impl Future<Output = Direction> + Unpin,
) -> Direction {
    tokio::select! {
        biased;
        end = &mut outward => match end {
            Direction::Closed => inward.await,
            end @ (Direction::Finished | Direction::Broken(_)) => end,
        },
        end = &mut inward => match end {
            Direction::Closed => outward.await,
            end @ (Direction::Finished | Direction::Broken(_)) => end,
        },
    }
}

/// Visitor to tunnel.
async fn inward<R: AsyncRead + Unpin>(
    said: Said,
    reader: &mut R,
    send: &mut SendHalf,
    is_half_close: bool,
    shared: &Shared,
) -> Direction {
    let Said { preface, early } = said;
    let mut patience = Patience::new(shared.progress.send_timeout());
    shared.progress.received(early.bytes.len());
    // A frame each: no more than fits one was read, and a PROXY header is short.
    for bytes in [&preface[..], &early.bytes] {
        if bytes.is_empty() {
            continue;
        }
        if let Err(error) = send.write(carrier::frame(bytes, mask()), &mut patience).await {
            return shared.unwanted(error).await;
        }
    }
    let mut has_ended = early.has_ended;
    drop(early);
    let mut buffer = BytesMut::new();
    let mut room = READ_BYTES_MIN;
    loop {
        if buffer.is_empty() {
            buffer.reserve(HEADROOM + room);
            buffer.put_bytes(0, HEADROOM);
        }
        let mut limited = (&mut buffer).limit(room);
        let read = async {
            match has_ended {
                true => Ok(0),
                false => reader.read_buf(&mut limited).await,
            }
        };
        let frame = tokio::select! {
            biased;
            payload = shared.pinged() => carrier::pong(&payload, mask()),
            read = read => match read {
                Ok(0) if is_half_close => {
                    has_ended = true;
                    carrier::close(mask())
                }
                Ok(0) => return Direction::Closed,
                Ok(count) => {
                    shared.progress.received(count);
                    room = if count == room { READ_BYTES_MAX } else { READ_BYTES_MIN };
                    carrier::frame_data(buffer.split(), mask())
                }
                Err(_) => return Direction::Broken(ErrorCode::VisitorGone),
            },
        };
        if let Err(error) = send.write(frame, &mut patience).await {
            return shared.unwanted(error).await;
        }
        if has_ended {
            return Direction::Closed;
        }
    }
}

/// Tunnel to visitor.
async fn outward<W: AsyncWrite + Unpin>(
    recv: &mut RecvHalf,
    first: Bytes,
    writer: &mut W,
    shared: &Shared,
) -> Direction {
    let mut carrier = Carrier::new(Peer::Server);
    let mut received = Chunks::from(first);
    let mut data = Chunks::default();
    loop {
        let mut is_closed = false;
        while let Some(mut piece) = received.pop() {
            loop {
                match carrier.handle_bytes(&mut piece) {
                    Ok(Some(Carried::Data(part))) => data.push(part),
                    Ok(Some(Carried::Ping(payload))) => shared.ping(payload),
                    Ok(Some(Carried::End)) => is_closed = true,
                    Ok(None) => break,
                    Err(_) => return Direction::Broken(ErrorCode::ResponseAborted),
                }
                // One byte per frame would make any read of the tunnel many pieces.
                if data.is_full()
                    && let Err(code) = shared.pass(&mut data, writer).await
                {
                    return Direction::Broken(code);
                }
            }
        }
        if let Err(code) = shared.pass(&mut data, writer).await {
            return Direction::Broken(code);
        }
        if is_closed {
            return match writer.shutdown().await {
                Ok(()) => Direction::Closed,
                Err(_) => Direction::Broken(ErrorCode::VisitorGone),
            };
        }
        received = match recv.read_chunks().await {
            Ok(Some(chunks)) => chunks,
            Ok(None) => return Direction::Finished,
            Err(_) => return Direction::Broken(ErrorCode::ResponseAborted),
        };
    }
}

impl Shared {
    fn ping(&self, payload: Bytes) {
        self.ping.replace(Some(payload));
        self.pinged.notify_one();
    }

    /// Waits for a ping to answer. Cancel-safe.
    async fn pinged(&self) -> Bytes {
        loop {
            if let Some(payload) = self.ping.take() {
                return payload;
            }
            self.pinged.notified().await;
        }
    }

    /// Writes all of `data` to the visitor.
    async fn pass<W: AsyncWrite + Unpin>(&self, data: &mut Chunks, writer: &mut W) -> Result<(), ErrorCode> {
        if data.is_empty() {
            return Ok(());
        }
        self.progress.sent(data.len());
        self.is_passing.set(true);
        write(writer, data, self.progress.send_timeout()).await?;
        self.is_passing.set(false);
        self.progress.touch();
        Ok(())
    }

    /// The connector takes no more; what it still says, and how it ends, the other direction hears.
    async fn unwanted(&self, error: SendError) -> Direction {
        if error == SendError::Stalled {
            return Direction::Broken(ErrorCode::UploadStalled);
        }
        self.last_words().await;
        Direction::Broken(ErrorCode::ResponseAborted)
    }

    /// Waits until the origin has been silent for [`LAST_WORDS`].
    async fn last_words(&self) {
        self.progress.touch();
        loop {
            if self.is_passing.get() {
                // A slow visitor is no silent origin.
                self.progress.touch();
            }
            let until = self.progress.active_at() + LAST_WORDS;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// A mask for one frame, which nobody can foresee (RFC 6455 §5.3).
fn mask() -> Option<[u8; 4]> {
    Some(rand::random())
}
