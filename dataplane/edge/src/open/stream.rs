//! The two halves of an exchange's stream, whether its connection lives on this core or another, and over
//! HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use adit_driver::chunks::Chunks;
use adit_driver::patience::Patience;
use adit_driver::pipe::{PipeAborted, PipeReader, PipeWriter};
use adit_driver::quic::{ReadError, RecvStream, SendStream, WriteError};
use bytes::Bytes;

/// Code by which a pipe between cores says that the connection itself was lost. No stream error code of
/// the protocol is this large: both sides use 0.
pub(crate) const LOST: u32 = u32::MAX;

/// Code by which a pipe between cores says that the stream was never opened: the connector saw nothing.
pub(crate) const NOT_OPENED: u32 = u32::MAX - 1;

/// An open data stream and its place in the connection's count of work.
pub(crate) struct ExchangeStream {
    pub(crate) send: SendHalf,
    pub(crate) recv: RecvHalf,
    pub(crate) guard: InFlight,
}

/// Towards the connector.
pub(crate) enum SendHalf {
    Here(SendStream),
    There(PipeWriter),
}

/// From the connector. Dropped before its end, it asks the connector to stop with code 0.
pub(crate) enum RecvHalf {
    Here(RecvStream),
    There(PipeReader),
}

/// Writing ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the connector wants no more of the request")]
    Stopped,
    #[error("the connection was gone before the stream was opened")]
    NotOpened,
    #[error("the connection was lost")]
    Lost,
    #[error("the connector took nothing for too long")]
    Stalled,
}

/// Reading ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecvError {
    #[error("the connector gave the exchange up")]
    Reset,
    #[error("the connection was gone before the stream was opened")]
    NotOpened,
    #[error("the connection was lost")]
    Lost,
}

impl SendHalf {
    /// Sends all of `data`; gives up when nothing of it was taken for as long as `patience` lasts.
    pub(crate) async fn write(&mut self, data: Bytes, patience: &mut Patience) -> Result<(), SendError> {
        match self {
            Self::Here(stream) => {
                let written = stream.write_within(data, patience).await;
                written.map_err(|error| match error {
                    WriteError::Stopped(_) => SendError::Stopped,
                    WriteError::ConnectionLost(_) | WriteError::Closed => SendError::Lost,
                    WriteError::Stalled(_) => SendError::Stalled,
                })
            }
            Self::There(pipe) => match pipe.write_within(data, patience).await {
                Ok(written) => written.map_err(|_| SendError::Stalled),
                Err(closed) => Err(match closed.code {
                    LOST => SendError::Lost,
                    NOT_OPENED => SendError::NotOpened,
                    _ => SendError::Stopped,
                }),
            },
        }
    }

    pub(crate) fn finish(&mut self) {
        match self {
            Self::Here(stream) => stream.finish(),
            Self::There(pipe) => pipe.finish(),
        }
    }

    pub(crate) fn reset(&mut self, code: u32) {
        match self {
            Self::Here(stream) => stream.reset(code),
            Self::There(pipe) => pipe.abort(code),
        }
    }
}

impl RecvHalf {
    pub(crate) async fn read_chunk(&mut self) -> Result<Option<Bytes>, RecvError> {
        match self {
            Self::Here(stream) => Ok(stream.read_chunk().await?),
            Self::There(pipe) => Ok(pipe.read().await?),
        }
    }

    /// All that has arrived, up to what one write takes.
    pub(crate) async fn read_chunks(&mut self) -> Result<Option<Chunks>, RecvError> {
        match self {
            Self::Here(stream) => Ok(stream.read_chunks().await?),
            Self::There(pipe) => Ok(pipe.read_chunks().await?),
        }
    }
}

impl From<ReadError> for RecvError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Reset(_) => Self::Reset,
            ReadError::ConnectionLost(_) | ReadError::Closed => Self::Lost,
        }
    }
}

impl From<PipeAborted> for RecvError {
    fn from(aborted: PipeAborted) -> Self {
        match aborted.code {
            LOST => Self::Lost,
            NOT_OPENED => Self::NotOpened,
            _ => Self::Reset,
        }
    }
}

/// Counts one exchange on a connection for as long as it lives.
pub(crate) struct InFlight(Arc<AtomicU32>);

impl InFlight {
    pub(crate) fn enter(load: &Arc<AtomicU32>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
