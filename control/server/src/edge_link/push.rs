//! Keeps one attached edge up to date: the snapshot first, then deltas, disconnects and pings, one at a time.

use std::sync::Arc;
use std::time::Duration;

use adit_control_api::edge_link::{
    LinkError, PART_BYTES_MAX, PING_INTERVAL, ReceiverHandle, Rival, split_snapshot,
};
use adit_control_api::snapshot::RouteSnapshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::session::Attached;
use crate::state::{Order, Published};

/// How long an edge may take to accept one message.
const PUSH_TIME: Duration = Duration::from_secs(10);

/// Why a session ended from our side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ending {
    #[error("the edge did not answer within {PUSH_TIME:?}")]
    Silent,
    #[error("the edge could not be told the news")]
    Broken(#[from] LinkError),
    #[error("the edge attached anew or fell too far behind")]
    Superseded,
    #[error("another process attached under its name")]
    Replaced(Rival),
    #[error("control is stopping")]
    Stopping,
}

/// Runs until the session ends; returns why.
pub(super) async fn run(attached: Attached) -> Ending {
    let Attached {
        edge: _,
        receiver,
        attachment,
        resync,
        guard,
    } = attached;
    let (mut orders, mut published) = (attachment.orders, attachment.published);
    let mut pusher = Pusher {
        receiver,
        held: Arc::default(),
    };
    let mut pings = interval(PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = published.borrow_and_update().clone();
    let mut pushed = pusher.snapshot(now.snapshot).await;
    let ending = loop {
        if let Err(ending) = pushed {
            break ending;
        }
        pushed = tokio::select! {
            changed = published.changed() => match changed {
                Ok(()) => {
                    let now = published.borrow_and_update().clone();
                    pusher.news(now).await
                }
                Err(_) => break Ending::Stopping,
            },
            order = orders.recv() => match order {
                Some(Order::Disconnect(target)) => pusher.send(pusher.receiver.disconnect(&target)).await,
                // The answer proves that both processes live: this is no restart seen late.
                Some(Order::MakeWay(rival)) => match pusher.send(pusher.receiver.replaced(&rival)).await {
                    Ok(()) => break Ending::Replaced(rival),
                    Err(ending) => Err(ending),
                },
                None => break Ending::Superseded,
            },
            () = resync.notified() => {
                let now = published.borrow_and_update().clone();
                pusher.snapshot(now.snapshot).await
            }
            _ = pings.tick() => pusher.send(pusher.receiver.ping()).await,
        };
    };
    drop(guard);
    ending
}

struct Pusher {
    receiver: ReceiverHandle,
    /// What the edge has.
    held: Arc<RouteSnapshot>,
}

impl Pusher {
    /// Sends the whole snapshot.
    async fn snapshot(&mut self, snapshot: Arc<RouteSnapshot>) -> Result<(), Ending> {
        let parts = split_snapshot(&snapshot).map_err(LinkError::from)?;
        for part in &parts {
            self.send(self.receiver.snapshot_part(part)).await?;
        }
        self.held = snapshot;
        Ok(())
    }

    /// Sends what is new: the shared deltas from where this edge is, if they are kept, else a delta made for
    /// it, else the whole.
    async fn news(&mut self, now: Published) -> Result<(), Ending> {
        let held = self.held.generation;
        if now.snapshot.generation <= held {
            return Ok(());
        }
        if now.deltas.iter().any(|delta| delta.from == held) {
            for delta in now.deltas.iter().filter(|delta| delta.from >= held) {
                self.send(self.receiver.delta(&delta.json)).await?;
            }
            self.held = now.snapshot;
            return Ok(());
        }
        let json = serde_json::to_vec(&self.held.delta_to(&now.snapshot)).map_err(LinkError::from)?;
        if json.len() > PART_BYTES_MAX {
            return self.snapshot(now.snapshot).await;
        }
        self.send(self.receiver.delta(&json)).await?;
        self.held = now.snapshot;
        Ok(())
    }

    async fn send(&self, push: impl Future<Output = Result<(), LinkError>>) -> Result<(), Ending> {
        timeout(PUSH_TIME, push)
            .await
            .map_err(|_| Ending::Silent)?
            .map_err(Ending::from)
    }
}
