//! Visitors whose bytes are for a tunnel as they are: no HTTP, no TLS of ours.

use std::rc::Rc;
use std::time::Duration;

use adit_driver::stream::Stream;
use adit_proto::exchange::edge::{Scheme, Visitor};

use super::http1::linger;
use super::listen::Peer;
use crate::access_log::Protocol;
use crate::config::TcpEntry;
use crate::core::Core;
use crate::exchange_task::flow::{self, Ended, Flow};

/// How often a silent visitor is probed: a flow may be idle for ever, but not outlive its visitor's machine by long.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Carries one connection of a raw port.
pub(super) async fn serve(core: &Rc<Core>, stream: Stream, peer: Peer, entry: &TcpEntry) {
    let flow = Flow {
        hostname: &entry.hostname,
        visitor: Visitor {
            address: peer.address.ip(),
            scheme: Scheme::Http,
        },
        protocol: Protocol::Tcp,
    };
    carry(core, &flow, stream).await;
}

async fn carry(core: &Rc<Core>, flow: &Flow<'_>, stream: Stream) {
    if let Err(error) = stream.keep_alive(KEEP_ALIVE) {
        tracing::debug!(%error, "a visitor that vanishes will not be noticed");
    }
    let (stream, ended) = Box::pin(flow::run(core, flow, stream)).await;
    match ended {
        Ended::InOrder => linger(stream).await,
        Ended::Broken => stream.abort(),
    }
}
