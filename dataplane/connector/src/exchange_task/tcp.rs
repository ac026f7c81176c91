//! Exchanges with TCP services, and flows that the edge addresses itself.
//!
//! ```text
//! WebSocket: destination ─► dial ─► 101 ─► [SOCKS5] ─► relay of what frames carry
//!            socks-proxy:           101 ─► SOCKS5 ─► dial ─► reply ─► relay
//! flow:      ip:port     ─► dial ─► ack ─► relay of raw bytes
//! ```

use std::net::SocketAddr;

use adit_proto::exchange::connector::RequestHead;
use adit_proto::socks::Reply;
use bytes::Bytes;
use http::StatusCode;
use http::header::SEC_WEBSOCKET_KEY;

use super::{ExchangeCore, ExchangeError, Stream, answer_ourselves, ended};
use crate::edge_stream::{FromEdge, ToEdge};
use crate::metrics::CoreMetrics;
use crate::origin::dial::DialParameters;
use crate::origin::io_stream::OriginIo;
use crate::origin::tcp::carry::{HALF_CLOSE, Inward, relay};
use crate::origin::tcp::{self, JUMP_DESTINATION, TcpOrigin, conversation};
use crate::origin::websocket::{self, Early};
use crate::origin::{builtin, handshake};

/// Carries TCP in a WebSocket.
pub(super) async fn carry<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    origin: &TcpOrigin,
    head: RequestHead,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    if !head.is_websocket() {
        return answer_ourselves(builtin::not_http(), stream).await;
    }
    let Some(mut headers) = handshake::accept(head.header(&SEC_WEBSOCKET_KEY)) else {
        return answer_ourselves(builtin::no_websocket(), stream).await;
    };
    headers.extend([HALF_CLOSE]);
    let place = origin.place(head.header(&JUMP_DESTINATION))?;
    let asked = DialParameters {
        server_name: None,
        visitor: place.as_ref().and_then(|_| origin.visitor(&head)),
        interim: None,
    };
    drop(head);
    // A proxy connects when the visitor has said where to.
    let connecting = place.as_ref().map(|_| core.metrics.connects.begin());
    let dialled = match place {
        Some(place) => {
            let dialling = origin.dial(&core.origins, place, &asked);
            tokio::select! {
                biased;
                dialled = dialling => Some(dialled.map_err(|error| match origin.is_bastion() {
                    true => ExchangeError::Asked(error),
                    false => ExchangeError::Origin(error),
                })?),
                () = stream.send.stopped() => return Err(ExchangeError::Cancelled),
            }
        }
        None => None,
    };
    stream
        .write_head(StatusCode::SWITCHING_PROTOCOLS, &headers)
        .await?;
    if let Some(connecting) = connecting {
        connecting.established();
    }
    match dialled {
        Some((io, _slot)) if origin.is_socks => {
            let _open = OpenFlow::open(&core.metrics);
            converse(io, first, stream).await
        }
        Some((io, _slot)) => {
            let _open = OpenFlow::open(&core.metrics);
            let Stream { send, recv, .. } = stream;
            let recv = recv.as_mut().ok_or(ExchangeError::Relay)?;
            ended(relay(io, Bytes::new(), Inward::new(recv, first), send).await)
        }
        None => proxy(core, origin, first, stream).await,
    }
}

/// Speaks SOCKS5 for an origin that is chosen already.
async fn converse<S: ToEdge, R: FromEdge>(
    io: OriginIo,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let Stream { send, recv, .. } = stream;
    let recv = recv.as_mut().ok_or(ExchangeError::Relay)?;
    let mut inward = Inward::new(recv, first);
    let asked = conversation::hear(&mut inward, send).await?;
    conversation::reply(send, Reply::Succeeded).await;
    ended(relay(io, asked.early, inward, send).await)
}

/// Speaks SOCKS5 and goes where the visitor wants to.
async fn proxy<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    origin: &TcpOrigin,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let Stream { send, recv, .. } = stream;
    let recv = recv.as_mut().ok_or(ExchangeError::Relay)?;
    let mut inward = Inward::new(recv, first);
    let asked = conversation::hear(&mut inward, send).await?;
    let destination = format!("{:?}", asked.destination);
    let connecting = core.metrics.connects.begin();
    let dialled = tokio::select! {
        biased;
        dialled = origin.dial_asked(core.origins.io_mode(), asked.destination) => dialled,
        () = send.stopped() => return Err(ExchangeError::Cancelled),
    };
    match dialled {
        Ok(io) => {
            let _open = OpenFlow::open(&core.metrics);
            conversation::reply(send, Reply::Succeeded).await;
            connecting.established();
            ended(relay(OriginIo::Plain(io), asked.early, inward, send).await)
        }
        Err(reply) => {
            tracing::debug!(destination, ?reply, "a SOCKS request was turned down");
            conversation::reply(send, reply).await;
            Ok(())
        }
    }
}

/// Relays a flow to the address that the edge names.
pub(super) async fn flow<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    dest: &[u8],
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let address: Option<SocketAddr> = std::str::from_utf8(dest).ok().and_then(|dest| dest.parse().ok());
    let address =
        address.ok_or_else(|| ExchangeError::FlowAddress(String::from_utf8_lossy(dest).into_owned()))?;
    core.settings.flows.check(address.ip())?;
    let connecting = core.metrics.connects.begin();
    let io = tokio::select! {
        biased;
        dialled = tcp::dial_flow(core.origins.io_mode(), address) => dialled.map_err(ExchangeError::Asked)?,
        () = stream.send.stopped() => return Err(ExchangeError::Cancelled),
    };
    let _open = OpenFlow::open(&core.metrics);
    stream.send.write_ack().await?;
    connecting.established();
    let early = Early {
        from_visitor: first,
        from_origin: Bytes::new(),
    };
    let Stream { send, recv, .. } = stream;
    let recv = recv.as_mut().ok_or(ExchangeError::Relay)?;
    ended(websocket::relay(OriginIo::Plain(io), early, send, recv, false).await)
}

/// Counts a connection to an origin for as long as it is open.
struct OpenFlow<'a>(&'a CoreMetrics);

impl<'a> OpenFlow<'a> {
    fn open(metrics: &'a CoreMetrics) -> Self {
        metrics.tcp_sessions.add(1);
        metrics.tcp_sessions_open.inc();
        Self(metrics)
    }
}

impl Drop for OpenFlow<'_> {
    fn drop(&mut self) {
        self.0.tcp_sessions_open.dec();
    }
}
