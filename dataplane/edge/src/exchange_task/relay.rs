//! Raw bytes in both directions after an upgrade, until either side ends.
//!
//! The protocol has no half-close: a connector tears the origin connection down at our FIN and may lose the
//! reply (docs/protocol/data-streams.md §4). So when the visitor ends its side first, FIN is held back while
//! the origin still speaks, for a limited time.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use adit_driver::chunks::Chunks;
use adit_driver::patience::{Patience, Stalled};
use adit_driver::stream::growing::GrowingBuffer;
use adit_driver::time::{sleep, timeout};
use adit_proto::exchange::error_code::ErrorCode;
use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::record::{Progress, Record};
use crate::open::stream::{InFlight, RecvHalf, SendError, SendHalf};
use crate::shares::Account;

/// Time for the origin to say its last words after the visitor has ended its side.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The same where the protocol has a half-close: whoever asked may have nothing to add and wait for a long
/// answer.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(3600);

/// An exchange that has become a byte flow.
pub(crate) struct Upgrade {
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    /// Came with the response head.
    pub(super) first: Bytes,
    /// The end of one direction is no end of the other: any protocol but WebSocket.
    pub(super) has_half_close: bool,
    pub(super) guard: InFlight,
    pub(super) record: Record,
    pub(super) account: Rc<Account>,
}

/// Relays between the visitor's stream and the tunnel until one of them ends. `early` is what the visitor
/// sent before the switch.
pub(crate) async fn relay<S: AsyncRead + AsyncWrite>(visitor: S, early: Bytes, upgrade: Upgrade) {
    let Upgrade {
        mut send,
        recv,
        first,
        has_half_close,
        guard,
        mut record,
        account,
    } = upgrade;
    let (reader, writer) = tokio::io::split(visitor);
    let progress = record.progress().clone();
    let came_to_end = {
        let inward = async {
            match inward(reader, early, &mut send, &progress).await {
                Ended::InOrder if has_half_close => {
                    send.finish();
                    sleep(HALF_CLOSED_MAX).await;
                }
                Ended::InOrder => sleep(LAST_WORDS).await,
                Ended::Torn => {}
                Ended::Stalled => return Err(ErrorCode::UploadStalled),
            }
            Ok(())
        };
        tokio::select! {
            ended = inward => ended,
            ended = outward(recv, first, writer, &progress) => ended,
        }
    };
    match came_to_end {
        Ok(()) => {
            send.finish();
            record.complete();
        }
        Err(code) => {
            send.reset(0);
            record.fail(code);
        }
    }
    drop((guard, account));
}

/// How a direction ended.
#[derive(PartialEq, Eq)]
enum Ended {
    /// The other direction may have more to say.
    InOrder,
    /// Nobody listens any more.
    Torn,
    /// Somebody listens, but takes nothing.
    Stalled,
}

impl From<SendError> for Ended {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Stalled => Self::Stalled,
            SendError::Stopped | SendError::NotOpened | SendError::Lost => Self::InOrder,
        }
    }
}

/// Visitor to tunnel; returns when the visitor has ended or the tunnel takes no more.
async fn inward<R: AsyncRead + Unpin>(
    mut reader: R,
    early: Bytes,
    send: &mut SendHalf,
    progress: &Progress,
) -> Ended {
    let mut patience = Patience::new(progress.send_timeout());
    if !early.is_empty() {
        progress.received(early.len());
        if let Err(error) = send.write(early, &mut patience).await {
            return error.into();
        }
    }
    let mut buffer = GrowingBuffer::default();
    loop {
        match buffer.read(&mut reader).await {
            Ok(None) => return Ended::InOrder,
            Err(_) => return Ended::Torn,
            Ok(Some(chunk)) => {
                progress.received(chunk.len());
                if let Err(error) = send.write(chunk, &mut patience).await {
                    return error.into();
                }
            }
        }
    }
}

/// Tunnel to visitor; returns when either has ended.
async fn outward<W: AsyncWrite + Unpin>(
    mut recv: RecvHalf,
    first: Bytes,
    mut writer: W,
    progress: &Progress,
) -> Result<(), ErrorCode> {
    let mut chunks = Chunks::from(first);
    loop {
        if !chunks.is_empty() {
            progress.sent(chunks.len());
            write(&mut writer, &mut chunks, progress.send_timeout()).await?;
        }
        chunks = match recv.read_chunks().await {
            Ok(Some(chunks)) => chunks,
            Ok(None) => {
                // The visitor may have gone first.
                let _ = writer.shutdown().await;
                return Ok(());
            }
            Err(_) => return Err(ErrorCode::ResponseAborted),
        };
    }
}

/// Writes all of `chunks` to a visitor, who must take something of it within every `limit`.
pub(super) async fn write<W>(writer: &mut W, chunks: &mut Chunks, limit: Duration) -> Result<(), ErrorCode>
where
    W: AsyncWrite + Unpin,
{
    while chunks.has_remaining() {
        match timeout(limit, writer.write_buf(chunks)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return Err(ErrorCode::VisitorGone),
            Ok(Err(error)) => return Err(code_of(&error)),
            Err(_) => return Err(ErrorCode::VisitorStalled),
        }
    }
    match timeout(limit, writer.flush()).await {
        Ok(flushed) => flushed.map_err(|error| code_of(&error)),
        Err(_) => Err(ErrorCode::VisitorStalled),
    }
}

fn code_of(error: &io::Error) -> ErrorCode {
    match error.get_ref() {
        Some(reason) if reason.is::<Stalled>() => ErrorCode::VisitorStalled,
        Some(_) | None => ErrorCode::VisitorGone,
    }
}
