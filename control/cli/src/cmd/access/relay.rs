//! The relay between a local connection and its WebSocket.
//!
//! The end of the local side is told by a close if the connector takes that for one direction, else by the
//! FIN of the connection, after which an edge of ours still waits for last words. The end of the service's
//! side ends a process that is the local side; a local socket gets FIN and may still send.

use std::sync::{Mutex, PoisonError};

use adit_proto::websocket::carrier::{self, DATA_BYTES_MAX, HEADROOM};
use adit_proto::websocket::{Carried, Carrier, Peer};
use anyhow::Context as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::Notify;

use super::dial::Opened;

/// Room for what is read from the edge at once.
const READ_BYTES: usize = 64 << 10;

/// What the local side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocalEnd {
    /// This process: it ends with the service.
    Process,
    /// A socket: its two directions end by themselves.
    Socket,
}

/// The payload of the last ping that is not answered.
#[derive(Default)]
struct Ping {
    payload: Mutex<Option<Bytes>>,
    told: Notify,
}

/// How one direction ended.
#[derive(PartialEq, Eq)]
enum Direction {
    /// The other may go on.
    Closed,
    /// Nothing follows in either.
    Ended,
}

/// Relays until both directions have ended.
pub(super) async fn relay<S>(local: S, opened: Opened, end: LocalEnd) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (local_reader, local_writer) = split(local);
    let (reader, writer) = split(opened.io);
    let ping = Ping::default();
    let mut outward = std::pin::pin!(to_service(local_reader, writer, opened.is_half_close, &ping));
    let mut inward = std::pin::pin!(to_local(reader, local_writer, &ping));
    tokio::select! {
        ended = &mut inward => match ended? {
            Direction::Closed if end == LocalEnd::Socket => outward.await.map(drop),
            Direction::Closed | Direction::Ended => Ok(()),
        },
        ended = &mut outward => {
            ended?;
            inward.await.map(drop)
        }
    }
}

async fn to_service<R, W>(
    mut local: R,
    mut writer: W,
    is_half_close: bool,
    ping: &Ping,
) -> anyhow::Result<Direction>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = BytesMut::new();
    loop {
        if buffer.is_empty() {
            buffer.reserve(HEADROOM + DATA_BYTES_MAX);
            buffer.put_bytes(0, HEADROOM);
        }
        let mut limited = (&mut buffer).limit(DATA_BYTES_MAX);
        let frame = tokio::select! {
            biased;
            payload = ping.wait() => carrier::pong(&payload, Some(mask()?)),
            count = local.read_buf(&mut limited) => match count.context("the local side broke off")? {
                0 if is_half_close => {
                    writer.write_all(&carrier::close(Some(mask()?))).await?;
                    writer.flush().await?;
                    return Ok(Direction::Closed);
                }
                0 => {
                    writer.shutdown().await?;
                    return Ok(Direction::Closed);
                }
                _ => carrier::frame_data(buffer.split(), Some(mask()?)),
            },
        };
        writer.write_all(&frame).await.context("the edge broke off")?;
        writer.flush().await.context("the edge broke off")?;
    }
}

async fn to_local<R, W>(mut reader: R, mut local: W, ping: &Ping) -> anyhow::Result<Direction>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut carrier = Carrier::new(Peer::Server);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let ended = match reader.read_buf(&mut buffer).await {
            Ok(0) => true,
            Ok(_) => false,
            // An edge that goes without TLS's goodbye has ended as well.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => true,
            Err(error) => return Err(error).context("the edge broke off"),
        };
        let mut bytes = buffer.split().freeze();
        while let Some(carried) = carrier.handle_bytes(&mut bytes)? {
            match carried {
                Carried::Data(data) => local.write_all(&data).await.context("the local side broke off")?,
                Carried::Ping(payload) => {
                    ping.tell(payload);
                }
                Carried::End => {
                    local.shutdown().await.context("the local side broke off")?;
                    return Ok(Direction::Closed);
                }
            }
        }
        local.flush().await.context("the local side broke off")?;
        if ended {
            // A local side that is gone already needs no goodbye.
            local.shutdown().await.ok();
            return Ok(Direction::Ended);
        }
    }
}

impl Ping {
    fn tell(&self, payload: Bytes) {
        *self.payload.lock().unwrap_or_else(PoisonError::into_inner) = Some(payload);
        self.told.notify_one();
    }

    async fn wait(&self) -> Bytes {
        loop {
            if let Some(payload) = self.payload.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return payload;
            }
            self.told.notified().await;
        }
    }
}

/// A mask for one frame, which nobody can foresee (RFC 6455 §5.3).
pub(in crate::cmd) fn mask() -> anyhow::Result<[u8; 4]> {
    let mut mask = [0; 4];
    getrandom::fill(&mut mask).context("the system has no randomness")?;
    Ok(mask)
}
