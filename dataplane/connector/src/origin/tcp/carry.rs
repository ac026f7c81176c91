//! The relay between a visitor's WebSocket and a TCP connection: bytes out of frames, and frames around
//! bytes.
//!
//! ```text
//! visitor: binary frame ─► bytes                      bytes ─► one binary frame per read
//!          close        ─► FIN to the origin          FIN   ─► close
//!          end of the stream ─► the end of both      reset ─► reset of the stream
//!          reset ─► reset
//! ```
//! A close ends one direction only, so the half-close of TCP passes. A client learns that from the header
//! [`HALF_CLOSE`] of the 101. A client that does not know the header ends its connection, which ends both
//! directions, as with cloudflared.
//!
//! Holds one read of either side and the payload of the last ping. Copies: one to unmask bytes that somebody
//! else shares, none to frame.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use adit_driver::time::{now, sleep, sleep_until};
use adit_proto::websocket::carrier::{self, DATA_BYTES_MAX, HEADROOM};
use adit_proto::websocket::{Carried, Carrier, Peer};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::Notify;

use crate::edge_stream::{FromEdge, ToEdge};
use crate::origin::io_stream::OriginIo;
use crate::origin::websocket::End;

/// In the 101 of a connector that takes a close as the end of one direction.
pub(crate) const HALF_CLOSE: (HeaderName, HeaderValue) = (
    HeaderName::from_static("adit-half-close"),
    HeaderValue::from_static("?1"),
);

/// Pause between pings, which keep middleboxes from forgetting an idle connection; cloudflared's.
const PING_INTERVAL: Duration = Duration::from_secs(54);

/// How long the open direction of a half-closed flow may be silent, at least; it ends within twice that.
const HALF_CLOSED_IDLE_MAX: Duration = Duration::from_secs(3600);

/// Room for the first read, and for those while bytes flow.
const READ_BYTES_MIN: usize = 2 << 10;
const READ_BYTES_MAX: usize = DATA_BYTES_MAX;

/// What a visitor sends, without its frames.
pub(crate) struct Inward<'a, R> {
    recv: &'a mut R,
    carrier: Carrier,
    chunk: Bytes,
}

/// What came from a visitor.
pub(crate) enum Heard {
    Data(Bytes),
    Ping(Bytes),
    /// It sends no more data.
    Close,
    /// It is gone.
    Gone(End),
}

impl<'a, R: FromEdge> Inward<'a, R> {
    /// `first` came along with the request.
    pub(crate) fn new(recv: &'a mut R, first: Bytes) -> Self {
        Self {
            recv,
            carrier: Carrier::new(Peer::Client),
            chunk: first,
        }
    }

    /// Waits for the next thing. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Heard {
        loop {
            match self.carrier.handle_bytes(&mut self.chunk) {
                Ok(Some(Carried::Data(data))) => return Heard::Data(data),
                Ok(Some(Carried::Ping(payload))) => return Heard::Ping(payload),
                Ok(Some(Carried::End)) => return Heard::Close,
                Ok(None) => {}
                Err(_) => return Heard::Gone(End::Broken),
            }
            self.chunk = match self.recv.read_chunk().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Heard::Gone(End::Finished),
                Err(_) => return Heard::Gone(End::Gone),
            };
        }
    }
}

/// How one direction ended.
enum Direction {
    /// In order; the other may go on.
    Closed,
    /// With the whole flow.
    Ended(End),
}

/// What the two directions tell each other.
#[derive(Default)]
struct Shared {
    /// Payload of the last ping that is not answered; older ones need no answer (RFC 6455 §5.5.3).
    ping: RefCell<Option<Bytes>>,
    pinged: Notify,
    /// Whether anything moved since this was last looked at.
    has_moved: Cell<bool>,
}

/// Relays until both directions have ended. `early` is for the origin and came out of frames already. A flow
/// that breaks is reset, so that the origin does not take it for a complete one.
pub(crate) async fn relay(
    io: OriginIo,
    early: Bytes,
    mut inward: Inward<'_, impl FromEdge>,
    send: &mut impl ToEdge,
) -> End {
    let (mut reader, mut writer) = tokio::io::split(io);
    let end = until_both(&mut reader, &mut writer, early, &mut inward, send).await;
    if end != End::Finished {
        reader.unsplit(writer).abort();
    }
    end
}

async fn until_both<R, W>(
    reader: &mut R,
    writer: &mut W,
    early: Bytes,
    inward: &mut Inward<'_, impl FromEdge>,
    send: &mut impl ToEdge,
) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let shared = Shared::default();
    let mut to_origin = pin!(to_origin(inward, early, writer, &shared));
    let mut to_visitor = pin!(to_visitor(reader, send, &shared));
    tokio::select! {
        end = &mut to_visitor => match end {
            Direction::Closed => finish(to_origin, &shared).await,
            Direction::Ended(end) => end,
        },
        end = &mut to_origin => match end {
            Direction::Closed => finish(to_visitor, &shared).await,
            Direction::Ended(end) => end,
        },
    }
}

/// Waits for the direction that is still open.
async fn finish(mut direction: impl Future<Output = Direction> + Unpin, shared: &Shared) -> End {
    loop {
        tokio::select! {
            end = &mut direction => return match end {
                Direction::Closed => End::Finished,
                Direction::Ended(end) => end,
            },
            () = sleep(HALF_CLOSED_IDLE_MAX) => if !shared.has_moved.take() {
                return End::Broken;
            },
        }
    }
}

async fn to_origin<W>(
    inward: &mut Inward<'_, impl FromEdge>,
    early: Bytes,
    writer: &mut W,
    shared: &Shared,
) -> Direction
where
    W: AsyncWrite + Unpin,
{
    let mut data = early;
    loop {
        if !data.is_empty() {
            shared.has_moved.set(true);
            if writer.write_all(&data).await.is_err() || writer.flush().await.is_err() {
                return Direction::Ended(End::Broken);
            }
        }
        data = match inward.next().await {
            Heard::Data(data) => data,
            Heard::Ping(payload) => {
                shared.ping.replace(Some(payload));
                shared.pinged.notify_one();
                Bytes::new()
            }
            Heard::Close => match writer.shutdown().await {
                Ok(()) => return Direction::Closed,
                Err(_) => return Direction::Ended(End::Broken),
            },
            Heard::Gone(end) => return Direction::Ended(end),
        };
    }
}

async fn to_visitor<R>(reader: &mut R, send: &mut impl ToEdge, shared: &Shared) -> Direction
where
    R: AsyncRead + Unpin,
{
    let mut buffer = BytesMut::new();
    let mut room = READ_BYTES_MIN;
    let mut ping = sleep_until(now() + PING_INTERVAL);
    loop {
        if buffer.is_empty() {
            buffer.reserve(HEADROOM + room);
            buffer.put_bytes(0, HEADROOM);
        }
        let mut limited = (&mut buffer).limit(room);
        let frame = tokio::select! {
            biased;
            payload = shared.pinged() => carrier::pong(&payload, None),
            read = reader.read_buf(&mut limited) => match read {
                Ok(0) => match send.write(carrier::close(None)).await {
                    Ok(()) => return Direction::Closed,
                    Err(_) => return Direction::Ended(End::Gone),
                },
                Ok(count) => {
                    shared.has_moved.set(true);
                    room = if count == room { READ_BYTES_MAX } else { READ_BYTES_MIN };
                    carrier::frame_data(buffer.split(), None)
                }
                Err(_) => return Direction::Ended(End::Broken),
            },
            () = &mut ping => {
                ping.reset(now() + PING_INTERVAL);
                carrier::ping(None)
            }
        };
        if send.write(frame).await.is_err() {
            return Direction::Ended(End::Gone);
        }
    }
}

impl Shared {
    /// Waits for a ping to answer. Cancel-safe.
    async fn pinged(&self) -> Bytes {
        loop {
            if let Some(payload) = self.ping.take() {
                return payload;
            }
            self.pinged.notified().await;
        }
    }
}
