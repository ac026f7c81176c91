//! Accepts visitors and finds out which protocol they speak.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use adit_driver::stream::Stream;
use adit_driver::tcp::Listener;
use adit_driver::time::timeout;
use adit_proto::exchange::edge::{Scheme, Visitor};
use adit_proto::shares::AddressBlock;
use adit_wire::http2::SERVER_NAME;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::task::spawn_local;

use super::ahead::Ahead;
use super::first_bytes::{self, Peer};
use super::io::PublicIo;
use super::tls::{Alpn, PublicTls};
use super::{http1, http2, raw};
use crate::config::TcpEntry;
use crate::core::Core;
use crate::shares::Place;
use crate::tunnel_http2::accept::Door;

/// What an HTTP/2 client says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What visitors of one listener speak.
#[derive(Clone)]
pub(crate) enum Protocol {
    Http,
    /// And where connectors go that come for the tunnel's name, if they may.
    Https(PublicTls, Option<Rc<Door>>),
    /// Bytes for one hostname's tunnel.
    Tcp(Rc<TcpEntry>),
}

/// How visitors come in on one listener.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) protocol: Protocol,
    /// Trusted proxies begin with a PROXY header. Nobody else does, whose bytes are all their own.
    pub(crate) accepts_proxy: bool,
}

/// Accepts on one listener until the core drains.
pub(crate) async fn run(core: Rc<Core>, listener: Listener, entrance: Entrance) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = core.drain.begun() => {
                listener.close();
                return;
            }
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(core = %core.context.id, %error, "listener failed");
                return;
            }
        };
        core.metrics.visitor_connections_accepted.add(1);
        if core.drain.visitors() >= core.visitors_max() {
            core.metrics.visitor_connections_refused.add(1);
            tracing::debug!(visitor = %address, "visitor refused: this core has as many as it may");
            continue;
        }
        let seat = Seat::take(&core);
        // Ends with the visitor, by a timeout, or with the process.
        spawn_local(serve(seat, stream, address, entrance.clone()));
    }
}

/// A visitor's place among those of its core, and among those of its address.
struct Seat {
    core: Rc<Core>,
    place: Option<Place>,
}

impl Seat {
    fn take(core: &Rc<Core>) -> Self {
        core.drain.visitor_came();
        core.metrics.visitor_connections_open.add(1);
        Self {
            core: core.clone(),
            place: None,
        }
    }

    /// Counts the connection for its address. Returns false when that address has enough of them. Trusted
    /// proxies are not counted, because they carry the connections of others.
    fn count(&mut self, address: IpAddr) -> bool {
        if self.core.live().policy.trusts(address) {
            return true;
        }
        self.place = Place::take(&self.core, AddressBlock::of(address));
        if self.place.is_none() {
            self.core.metrics.address_connections_refused.add(1);
            tracing::debug!(visitor = %address, "visitor refused: its address has as many connections as it may");
        }
        self.place.is_some()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.core.drain.visitor_left();
        self.core.metrics.visitor_connections_open.take();
    }
}

async fn serve(mut seat: Seat, mut stream: Stream, address: SocketAddr, entrance: Entrance) {
    let core = &seat.core.clone();
    let mut peer = Peer::new(address);
    let mut ahead = BytesMut::new();
    if entrance.accepts_proxy && core.live().policy.trusts(address.ip()) {
        let heard = Box::pin(first_bytes::proxy_header(&mut stream, &mut ahead, peer)).await;
        match heard {
            Ok(told) => peer = told,
            Err(error) => {
                core.metrics.proxy_headers_refused.add(1);
                tracing::debug!(proxy = %address, %error, "no PROXY header");
                return;
            }
        }
    }
    if !seat.count(peer.source.ip()) {
        return;
    }
    match entrance.protocol {
        Protocol::Http => in_clear(core, stream, ahead, peer.visitor(Scheme::Http)).await,
        Protocol::Https(tls, door) => {
            over_tls(seat, stream, ahead, peer, (&tls, door.as_ref())).await;
        }
        Protocol::Tcp(entry) => {
            let stream = Ahead::new(stream, ahead.freeze());
            Box::pin(raw::serve(core, stream, peer, &entry)).await;
        }
    }
}

async fn over_tls(
    seat: Seat,
    mut stream: Stream,
    mut ahead: BytesMut,
    peer: Peer,
    (tls, door): (&PublicTls, Option<&Rc<Door>>),
) {
    let core = &seat.core.clone();
    let failed = |error: &io::Error| {
        core.metrics.tls_handshakes_failed.add(1);
        tracing::debug!(visitor = %peer.source, %error, "TLS handshake failed");
    };
    if door.is_some() || !core.live().passthrough.is_empty() {
        let name = match Box::pin(first_bytes::server_name(&mut stream, &mut ahead)).await {
            Ok(name) => name,
            Err(error) => return failed(&error),
        };
        if let Some(door) = door
            && name.as_ref().is_some_and(|name| name.as_str() == SERVER_NAME)
        {
            // No visitor, so it takes none of their seats.
            drop(seat);
            return door.admit(Ahead::new(stream, ahead.freeze()), peer.source);
        }
        let listed = name.and_then(|name| Some((core.live().passthrough.get(&name)?, name)));
        if let Some((sends_proxy, hostname)) = listed {
            let stream = Ahead::new(stream, ahead.freeze());
            return Box::pin(raw::pass(core, stream, peer, &hostname, sends_proxy)).await;
        }
    }
    let stream = Ahead::new(stream, ahead.freeze());
    match Box::pin(tls.accept(stream)).await {
        // Boxed, because every future it moves through keeps room for it: 1.3 KiB each.
        Ok((stream, alpn)) => secured(core, Box::new(stream), alpn, peer.visitor(Scheme::Https)).await,
        Err(error) => failed(&error),
    }
}

/// The futures that a visitor's task needs later are boxed. One future for all of them would hold 17 KiB for
/// each visitor that waits between two requests.
async fn secured<S>(core: &Rc<Core>, stream: S, alpn: Alpn, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let send_timeout = core.live().limits.send_timeout;
    match alpn {
        Alpn::Http2 => {
            let io = PublicIo::http2(stream, BytesMut::new(), send_timeout, core.metrics.clone());
            Box::pin(http2::serve(core, io, visitor)).await;
        }
        Alpn::Http1 => {
            let io = PublicIo::http1(stream, BytesMut::new(), send_timeout);
            Box::pin(http1::serve(core, io, visitor)).await;
        }
    }
}

/// Without ALPN the first bytes tell: HTTP/2 with prior knowledge begins with its preface.
/// `first` is what was read of it.
pub(super) async fn in_clear<S>(core: &Rc<Core>, mut stream: S, mut first: BytesMut, visitor: Visitor)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let send_timeout = core.live().limits.send_timeout;
    first.reserve(PREFACE.len());
    let read = tokio::select! {
        read = timeout(core.live().limits.idle_timeout, read_first(&mut stream, &mut first)) => read,
        () = core.drain.begun() => return,
    };
    match read {
        Ok(Ok(true)) => {
            let io = PublicIo::http2(stream, first, send_timeout, core.metrics.clone());
            Box::pin(http2::serve(core, io, visitor)).await;
        }
        Ok(Ok(false)) => {
            let io = PublicIo::http1(stream, first, send_timeout);
            Box::pin(http1::serve(core, io, visitor)).await;
        }
        Ok(Err(error)) => tracing::debug!(%error, "visitor left before a request"),
        // Browsers connect ahead of need; that is no fault.
        Err(_) => {}
    }
}

/// Reads until the bytes are, or cannot be, the preface.
async fn read_first<S: AsyncRead + Unpin>(stream: &mut S, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        let count = first.len().min(PREFACE.len());
        if first.get(..count) != PREFACE.get(..count) {
            return Ok(false);
        }
        if count == PREFACE.len() {
            return Ok(true);
        }
        if stream.read_buf(first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
