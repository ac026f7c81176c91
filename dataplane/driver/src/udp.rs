//! Owns UDP for one core: receive batches, send GSO batches, wait for more.
//!
//! Two back-ends answer the same four calls: [`ring`](crate::ring::udp) (a multishot receive into a small
//! buffer ring, on the core's own io_uring) and [`portable`] (recvmmsg on the reactor). Both receive
//! with GRO, so one batch is up to 64 KiB of datagrams of one flow, and both send by `sendmsg` with GSO:
//! measured, a send through the ring costs the same as the system call, because one call moves 64 KiB.
//!
//! Per batch of up to 44 datagrams: one copy out of the receive buffer, one system call to send.
//!
//! Does not: know QUIC beyond the byte of the connection id that names a core (see [`bind_group`]).

pub(crate) mod errors;
pub(crate) mod portable;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{EcnCodepoint, UdpSocketState};

pub(crate) use errors::Unreachable;

use crate::kernel::IoMode;
use crate::ring;

/// Socket buffers asked for, bytes. A 4 MiB stream window must fit at the kernel's accounting of about
/// twice the payload; the default of 208 KiB loses packets at a few hundred MB/s.
const SOCKET_BUFFER_BYTES: usize = 8 << 20;

/// Longest UDP payload the kernel takes in one GSO call, bytes.
pub(crate) const GSO_BYTES_MAX: usize = 65_507;

/// Segments of one GSO call: 44 measured best, and the kernel refuses more than 64 on older versions.
const GSO_SEGMENTS_MAX: usize = 44;

/// One received run of equally long datagrams from one peer; the last may be shorter.
pub(crate) struct Batch<'a> {
    pub(crate) data: &'a [u8],
    /// Length of each datagram but the last, bytes; never 0.
    pub(crate) stride: usize,
    pub(crate) from: SocketAddr,
    pub(crate) to_ip: Option<IpAddr>,
    pub(crate) ecn: Option<EcnCodepoint>,
}

/// Counters of one socket.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UdpCounts {
    /// Batches that did not fit the receive buffer and were dropped.
    pub(crate) truncated: u64,
    /// Sends the kernel refused; QUIC recovers them as loss.
    pub(crate) send_errors: u64,
    /// Calls that failed to say that the error queue has something.
    pub(crate) errors_queued: u64,
}

/// The UDP socket of one core.
pub(crate) struct Udp {
    inner: Inner,
    send_state: UdpSocketState,
    counts: UdpCounts,
    /// [`UdpCounts::errors_queued`] when the queue was last read to its end.
    errors_read: u64,
}

enum Inner {
    Ring(Box<ring::udp::RingUdp>),
    Portable(portable::PortableUdp),
}

/// What became of a send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Handed to the kernel, or refused for good and counted.
    Done,
    /// The socket buffer is full; try again when [`writable`](Udp::writable) says so.
    Blocked,
}

impl Udp {
    /// Takes over `socket` with the chosen back-end. Must run inside the core's runtime.
    pub(crate) fn new(socket: UdpSocket, io: IoMode) -> io::Result<Self> {
        let send_state = UdpSocketState::new((&socket).into())?;
        errors::enable(&socket);
        let inner = match io {
            IoMode::Uring => Inner::Ring(Box::new(ring::udp::RingUdp::new(socket)?)),
            IoMode::Portable => Inner::Portable(portable::PortableUdp::new(socket)?),
        };
        Ok(Self {
            inner,
            send_state,
            counts: UdpCounts::default(),
            errors_read: 0,
        })
    }

    /// Passes what has arrived to `sink`; returns whether more may be waiting. Bounded per call.
    pub(crate) fn receive(&mut self, sink: &mut dyn FnMut(Batch<'_>)) -> bool {
        match &mut self.inner {
            Inner::Ring(ring) => ring.receive(&mut self.counts, sink),
            Inner::Portable(portable) => portable.receive(&self.send_state, &mut self.counts, sink),
        }
    }

    /// Ready when datagrams may be waiting.
    pub(crate) fn poll_receivable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.inner {
            Inner::Ring(ring) => ring.poll_receivable(cx),
            Inner::Portable(portable) => portable.poll_receivable(cx),
        }
    }

    /// Sends one transmit of quinn-proto.
    pub(crate) fn send(&mut self, transmit: &quinn_proto::Transmit, contents: &[u8]) -> Sent {
        let transmit = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|mark| EcnCodepoint::from_bits(mark as u8)),
            contents: contents.get(..transmit.size).unwrap_or(contents),
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        let mut sent = self.send_state.try_send(self.socket().into(), &transmit);
        if sent.as_ref().is_err_and(errors::is_queued) {
            // Of an earlier datagram, most likely of another peer's.
            self.counts.errors_queued += 1;
            sent = self.send_state.try_send(self.socket().into(), &transmit);
        }
        match sent {
            Ok(()) => Sent::Done,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Blocked,
            Err(error) => {
                // Unreachable peers and MTU probes too big for the path end here: QUIC treats both as loss.
                self.counts.send_errors += 1;
                tracing::trace!(%error, to = %transmit.destination, "datagram not sent");
                Sent::Done
            }
        }
    }

    /// Passes what the network says of peers to `sink`; returns whether more may be waiting. Bounded per
    /// call, and nothing but a comparison while the kernel has nothing to say.
    pub(crate) fn unreachable(&mut self, sink: &mut dyn FnMut(SocketAddr, Unreachable)) -> bool {
        let queued = self.counts.errors_queued;
        if queued == self.errors_read {
            return false;
        }
        let has_more = errors::read(self.socket(), sink);
        if !has_more {
            self.errors_read = queued;
        }
        has_more
    }

    /// Waits until the socket takes another datagram. Registers only for this wait, so that the core is
    /// not woken by every transmit completion.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        let socket = self.socket().try_clone()?;
        match &self.inner {
            Inner::Ring(_) => ring::oneshot::until_writable(socket.into()).await,
            Inner::Portable(_) => {
                let socket = ring::readiness::watch(socket, tokio::io::Interest::WRITABLE)?;
                socket.writable().await?.clear_ready();
                Ok(())
            }
        }
    }

    /// Segments that fit one send at this MTU.
    pub(crate) fn segments_max(&self, mtu: u16) -> usize {
        let fitting = GSO_BYTES_MAX / usize::from(mtu.max(1));
        GSO_SEGMENTS_MAX
            .min(fitting)
            .min(self.send_state.max_gso_segments())
            .max(1)
    }

    /// Whether the kernel may fragment what we send, which forbids path MTU discovery.
    pub(crate) fn may_fragment(&self) -> bool {
        self.send_state.may_fragment()
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr()
    }

    pub(crate) fn counts(&self) -> UdpCounts {
        self.counts
    }

    fn socket(&self) -> &UdpSocket {
        match &self.inner {
            Inner::Ring(ring) => ring.socket(),
            Inner::Portable(portable) => portable.socket(),
        }
    }
}

/// Binds `n` sockets to one address, socket `i` for core `i`, and lets the kernel steer each datagram to
/// the core named in its destination connection id (see [`cid`](crate::quic::cid)).
///
/// Port 0 is resolved by the first socket. With one core nothing is shared and nothing is steered.
///
/// # Errors
/// What `socket`, `bind` or `setsockopt` say; the steering program is attached last, so no datagram is
/// steered to a socket that does not exist.
pub fn bind_group(addr: SocketAddr, n: usize) -> io::Result<Vec<UdpSocket>> {
    let mut sockets = Vec::with_capacity(n);
    let mut bound = addr;
    if n > 1 && addr.port() == 0 {
        // Chosen for a socket that shares, the port could be one that another group of this user has.
        bound = UdpSocket::bind(addr)?.local_addr()?;
    }
    for _ in 0..n {
        let socket = bind(bound, n > 1)?;
        bound = socket.local_addr()?;
        sockets.push(socket);
    }
    if n > 1
        && let Some(first) = sockets.first()
    {
        ring::steer::attach(first, n)?;
    }
    Ok(sockets)
}

/// UDP payload that this host's own route to `peer` carries in one frame, in bytes. `None` if the route does
/// not say. Three system calls; nothing is sent.
pub(crate) fn route_payload_bytes(peer: SocketAddr) -> Option<u32> {
    let any: IpAddr = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    let frame = ring::route::route_mtu(&socket, peer.is_ipv6())?;
    let headers = if peer.is_ipv6() { 48 } else { 28 };
    frame.checked_sub(headers)
}

/// Binds one UDP socket with large buffers.
///
/// # Errors
/// What `socket` or `bind` say.
pub fn bind(addr: SocketAddr, share_port: bool) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(addr),
        socket2::Type::DGRAM.nonblocking(),
        Some(socket2::Protocol::UDP),
    )?;
    if share_port {
        socket.set_reuse_port(true)?;
    }
    if addr.is_ipv6() {
        // One socket of an IPv6 wildcard serves IPv4 as well, as operators expect of `[::]`.
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    grow_buffers(&socket);
    Ok(socket.into())
}

/// Asks for large buffers past the system's limit where we are privileged, up to the limit otherwise.
/// A small buffer only costs speed, so failures are not errors.
fn grow_buffers(socket: &socket2::Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    }
}
