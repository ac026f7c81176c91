//! A registered connection over either transport, as its slot sees it.

use std::convert::Infallible;
use std::future::pending;

use adit_driver::quic::Connection;
use adit_driver::time::{Instant, sleep};
use adit_proto::supervisor::End;
use adit_wire::ConnIndex;

use super::http2::{Http2Connection, Lost};
use super::streams::Streams;
use super::{Core, Event, slot};
use crate::edge_stream::EdgeKind;
use crate::metrics::{Sampler, SlotMetrics};

/// How often a connection's numbers are looked at: as fresh as any scrape needs them.
const SAMPLE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);

/// The connection and what serves it.
pub(super) enum Link {
    Quic {
        connection: Connection,
        streams: Streams,
    },
    Http2 {
        connection: Http2Connection,
        edge: EdgeKind,
    },
}

impl Link {
    /// Who is at the other end.
    pub(super) fn edge(&self) -> EdgeKind {
        match self {
            Self::Quic { connection, .. } => EdgeKind::over_quic(connection),
            Self::Http2 { edge, .. } => *edge,
        }
    }

    /// Waits for the end.
    pub(super) async fn closed(&self) -> Lost {
        match self {
            Self::Quic { connection, .. } => {
                let reason = connection.closed().await;
                let end = if reason.is_timeout() {
                    End::Silent
                } else if reason.is_reset() {
                    End::Forgotten
                } else {
                    End::Closed
                };
                Lost {
                    reason: reason.to_string(),
                    end,
                }
            }
            Self::Http2 { connection, .. } => connection.closed().await,
        }
    }

    /// Waits until no exchange is under way.
    pub(super) async fn idle(&self) {
        match self {
            Self::Quic { streams, .. } => streams.idle().await,
            Self::Http2 { connection, .. } => connection.idle().await,
        }
    }

    /// Closes from this side.
    pub(super) async fn close(&self) {
        match self {
            Self::Quic { connection, .. } => connection.close(slot::CLOSE_CODE, b""),
            Self::Http2 { connection, .. } => connection.close().await,
        }
    }

    /// Looks after the connection until dropped.
    pub(super) async fn attend(&self, core: &Core, index: ConnIndex, sampler: &mut Sampler) -> Infallible {
        let connection = match self {
            Self::Quic { connection, .. } => connection,
            Self::Http2 { connection, .. } => return connection.watch(core).await,
        };
        if self.edge() == EdgeKind::Ours {
            let (first, interval) = core.settings.idle_pings(index, Instant::now());
            connection.ping_by_clock(first, interval);
        }
        let slot = core.exchanges.metrics.slot(index.0.into());
        tokio::select! {
            never = tell_doubts(core, connection) => never,
            never = answer_checks(core, connection) => never,
            never = sample(connection, sampler, slot) => never,
        }
    }

    /// Takes the connection's last numbers.
    pub(super) fn sample(&self, core: &Core, index: ConnIndex, sampler: &mut Sampler) {
        if let (Self::Quic { connection, .. }, Some(slot)) =
            (self, core.exchanges.metrics.slot(index.0.into()))
        {
            sampler.sample(connection.stats(), slot);
        }
    }
}

/// What kept one edge from answering may have hit the other connections, on which nothing is asked.
async fn tell_doubts(core: &Core, connection: &Connection) -> Infallible {
    loop {
        connection.doubted().await;
        core.tell(Event::Doubted);
    }
}

async fn answer_checks(core: &Core, connection: &Connection) -> Infallible {
    loop {
        core.checks.notified().await;
        connection.check();
    }
}

/// Carries the connection's numbers over to its slot until dropped.
async fn sample(connection: &Connection, sampler: &mut Sampler, slot: Option<&SlotMetrics>) -> Infallible {
    let Some(slot) = slot else {
        return pending().await;
    };
    loop {
        let seen = connection.turns();
        sampler.sample(connection.stats(), slot);
        sleep(SAMPLE_INTERVAL).await;
        // An idle connection must not wake its core every second.
        connection.turned(seen).await;
    }
}
