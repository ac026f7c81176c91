//! Carries a request body into the tunnel, beside and beyond the wait for the response head.

use std::rc::Rc;

use adit_driver::patience::Patience;
use adit_proto::exchange::error_code::ErrorCode;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};

use super::record::Progress;
use super::source::Source;
use crate::open::stream::{SendError, SendHalf};

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The body was sent, or the connector wants no more of it.
    Done,
    /// The tunnel broke; the response side tells how.
    Broken,
    /// The visitor broke off.
    Visitor(ErrorCode),
    /// The tunnel took nothing for too long.
    Stalled,
}

/// A running upload. Dropping it stops it and resets the stream.
pub(super) struct Upload {
    task: JoinHandle<(Source, End)>,
    stop: Option<oneshot::Sender<()>>,
    ended: Option<(Option<Source>, End)>,
}

impl Upload {
    pub(super) fn start(send: SendHalf, mut source: Source, progress: Rc<Progress>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        // Owned by this value: aborted when it is dropped.
        let task = spawn_local(async move {
            let end = tokio::select! {
                biased;
                _ = stopped => End::Broken,
                end = carry(send, &mut source, &progress) => end,
            };
            (source, end)
        });
        Self {
            task,
            stop: Some(stop),
            ended: None,
        }
    }

    /// Whether it has ended and was waited for.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Waits for the end. Cancel-safe.
    pub(super) async fn end(&mut self) -> End {
        if let Some((_, end)) = &self.ended {
            return *end;
        }
        let (source, end) = match (&mut self.task).await {
            Ok((source, end)) => (Some(source), end),
            // It panicked: a defect of ours, and the body is gone with it.
            Err(_) => (None, End::Visitor(ErrorCode::Internal)),
        };
        self.ended = Some((source, end));
        end
    }

    /// Stops it and takes the body back, to be sent again.
    pub(super) async fn recall(mut self) -> Option<Source> {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        self.end().await;
        let mut source = self.ended.take().and_then(|(source, _)| source)?;
        source.rewind();
        Some(source)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut send: SendHalf, source: &mut Source, progress: &Progress) -> End {
    let mut patience = Patience::new(progress.send_timeout());
    loop {
        match source.next().await {
            Ok(Some(chunk)) => match send.write(chunk, &mut patience).await {
                Ok(()) => progress.touch(),
                Err(SendError::Stalled) => {
                    progress.stall(ErrorCode::UploadStalled);
                    send.reset(0);
                    return End::Stalled;
                }
                Err(SendError::Stopped) => return End::Done,
                Err(SendError::Lost | SendError::NotOpened) => return End::Broken,
            },
            Ok(None) => {
                send.finish();
                return End::Done;
            }
            Err(code) => {
                send.reset(0);
                return End::Visitor(code);
            }
        }
    }
}
