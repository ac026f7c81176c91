//! Visitors whose bytes are for a tunnel as they are: on ports of their own, and TLS that ends at the origin.

use std::rc::Rc;
use std::time::Duration;

use adit_driver::stream::Stream;
use adit_proto::exchange::edge::Scheme;
use adit_proto::proxy_protocol::{self, Ends, Said, Version};
use adit_wire::Hostname;
use bytes::Bytes;

use super::ahead::Ahead;
use super::first_bytes::Peer;
use super::http1::linger;
use crate::access_log::Protocol;
use crate::config::TcpEntry;
use crate::core::Core;
use crate::exchange_task::flow::{self, Ended, Flow};

/// How often a silent visitor is probed. A flow may be idle for ever, but must not outlive its visitor's
/// machine by long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Carries one connection of a raw port.
pub(super) async fn serve(core: &Rc<Core>, stream: Ahead<Stream>, peer: Peer, entry: &TcpEntry) {
    let flow = Flow {
        hostname: &entry.hostname,
        visitor: peer.visitor(Scheme::Http),
        protocol: Protocol::Tcp,
        preface: preface(entry.sends_proxy, peer, &stream),
    };
    carry(core, flow, stream).await;
}

/// Carries one connection whose TLS the origin ends.
pub(super) async fn pass(
    core: &Rc<Core>,
    stream: Ahead<Stream>,
    peer: Peer,
    hostname: &Hostname,
    sends_proxy: Option<Version>,
) {
    let flow = Flow {
        hostname,
        visitor: peer.visitor(Scheme::Https),
        protocol: Protocol::Tls,
        preface: preface(sends_proxy, peer, &stream),
    };
    carry(core, flow, stream).await;
}

/// The PROXY header that an origin wants.
fn preface(version: Option<Version>, peer: Peer, stream: &Ahead<Stream>) -> Bytes {
    let Some(version) = version else {
        return Bytes::new();
    };
    let here = || stream.get_ref().local_addr().ok();
    let ends = Ends {
        source: peer.source,
        // Unknown only of a connection that is gone already.
        destination: peer.destination.or_else(here).unwrap_or(peer.source),
    };
    proxy_protocol::encode(version, &Said::Visitor(ends))
}

async fn carry(core: &Rc<Core>, flow: Flow<'_>, stream: Ahead<Stream>) {
    if let Err(error) = stream.get_ref().keep_alive(KEEP_ALIVE) {
        tracing::debug!(%error, "a visitor that vanishes will not be noticed");
    }
    let (stream, ended) = Box::pin(flow::run(core, flow, stream)).await;
    match ended {
        Ended::InOrder => linger(stream).await,
        Ended::Broken => stream.into_inner().abort(),
    }
}
