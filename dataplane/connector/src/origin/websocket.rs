//! Asks an origin to upgrade, then relays the connection: raw bytes both ways until either side ends.
//!
//! An upgrade takes a connection of its own. An origin that does not switch protocols gives an ordinary
//! response, which is passed on as such.
//!
//! Frames are not looked at. There is no half-close in WebSocket: the end of one direction ends the exchange
//! (docs/protocol/data-streams.md §4). Other protocols, which only an edge of ours asks for, have one.

use std::future::pending;

use adit_driver::chunks::Chunks;
use adit_driver::stream::growing::GrowingBuffer;
use adit_proto::origin_pool::health::Outcome;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::task::spawn_local;

use super::body::{Progress, RequestBody};
use super::dial::DialParameters;
use super::group::Permit;
use super::head_limit::HeadLimited;
use super::http_origin::{Carrier, HttpOrigin, Reply, outcome};
use super::io_stream::OriginIo;
use super::member::builder;
use super::pool::OriginConnection;
use super::{CoreOrigins, OriginError};
use crate::edge_stream::{FromEdge, ToEdge};

/// What an origin makes of the wish to upgrade.
pub(crate) enum Upgrade {
    /// It switched protocols.
    Switched {
        /// Of the 101.
        headers: HeaderMap,
        io: OriginIo,
        /// Came along with the 101.
        early: Bytes,
        /// Of the origin's limits.
        permit: Option<Permit>,
    },
    /// It answered with something else.
    Answered(Reply),
}

/// Sends `request`, which asks for an upgrade, on a fresh connection.
pub(crate) async fn upgrade(
    origin: &HttpOrigin,
    core: &CoreOrigins,
    asked: &DialParameters,
    request: Request<RequestBody>,
) -> Result<Upgrade, OriginError> {
    let (io, permit) = origin.open(core, asked).await?;
    let asking = ask(io, asked, request).await;
    if let Some(permit) = &permit {
        permit.report(match &asking {
            Ok(Upgrade::Switched { .. }) => Outcome::Answered,
            Ok(Upgrade::Answered(reply)) => outcome(reply.status()),
            Err(_) => Outcome::Unanswered,
        });
    }
    Ok(match asking? {
        Upgrade::Switched {
            headers, io, early, ..
        } => Upgrade::Switched {
            headers,
            io,
            early,
            permit,
        },
        Upgrade::Answered(reply) => Upgrade::Answered(reply.with_permit(permit)),
    })
}

/// The same on a connection that is open.
async fn ask(
    io: OriginIo,
    asked: &DialParameters,
    request: Request<RequestBody>,
) -> Result<Upgrade, OriginError> {
    let failed = |source| OriginError::Http { source };
    let (io, allowance) = HeadLimited::new(io);
    allowance.limit();
    let (mut sender, connection) = builder().handshake(TokioIo::new(io)).await.map_err(failed)?;
    let mut driving = Box::pin(connection.without_shutdown());
    let mut ended = None;
    let response = {
        let mut responding = std::pin::pin!(sender.send_request(request));
        loop {
            tokio::select! {
                biased;
                response = &mut responding => break response.map_err(failed)?,
                // Gives the connection back in the same turn in which it hands out a 101.
                end = &mut driving, if ended.is_none() => ended = Some(end),
            }
        }
    };
    allowance.lift();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let end = match ended {
            Some(end) => end,
            None => driving.await,
        };
        let parts = end.map_err(failed)?;
        return Ok(Upgrade::Switched {
            headers: response.into_parts().0.headers,
            io: parts.io.into_inner().into_inner(),
            early: parts.read_buf,
            permit: None,
        });
    }
    // Ends with the connection, and is aborted when the connection is dropped.
    let task = spawn_local(async move {
        if ended.is_none()
            && let Err(error) = driving.await
        {
            tracing::trace!(%error, "origin connection ended");
        }
    });
    let connection = OriginConnection::new(sender, asked.server_name.as_deref(), task, allowance);
    Ok(Upgrade::Answered(Reply::new(
        response,
        Carrier::Own(connection),
        Progress::done(),
    )))
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// One side said that it is done.
    Finished,
    /// The origin broke off, or neither side moved for too long.
    Broken,
    /// The visitor is gone, or the edge is.
    Gone,
}

/// Bytes that came along with the heads of the upgrade.
pub(crate) struct Early {
    pub(crate) from_visitor: Bytes,
    pub(crate) from_origin: Bytes,
}

/// Relays until either direction ends. The caller ends `send` according to the result.
pub(crate) async fn relay(
    io: OriginIo,
    early: Early,
    send: &mut impl ToEdge,
    recv: &mut impl FromEdge,
    has_half_close: bool,
) -> End {
    let (mut reader, mut writer) = tokio::io::split(io);
    let to_origin = async {
        let mut chunks = Chunks::from(early.from_visitor);
        loop {
            if !chunks.is_empty()
                && (writer.write_all_buf(&mut chunks).await.is_err() || writer.flush().await.is_err())
            {
                return End::Broken;
            }
            chunks = match recv.read_chunks().await {
                Ok(Some(chunks)) => chunks,
                Ok(None) if has_half_close => {
                    if writer.shutdown().await.is_err() {
                        return End::Broken;
                    }
                    // The origin ends it, or the edge.
                    return pending().await;
                }
                Ok(None) => return End::Finished,
                Err(_) => return End::Gone,
            };
        }
    };
    let to_visitor = async {
        if !early.from_origin.is_empty() && send.write(early.from_origin).await.is_err() {
            return End::Gone;
        }
        let mut buffer = GrowingBuffer::default();
        loop {
            let chunk = match buffer.read(&mut reader).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return End::Finished,
                Err(_) => return End::Broken,
            };
            if send.write(chunk).await.is_err() {
                return End::Gone;
            }
        }
    };
    tokio::select! {
        end = to_visitor => end,
        end = to_origin => end,
    }
}
