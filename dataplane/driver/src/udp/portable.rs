//! Receives UDP by recvmmsg with GRO on the runtime's reactor, for kernels and containers without io_uring.
//!
//! One wakeup drains up to [`BUFFERS`] batches. Buffers are few and reused, so they stay in the cache.

use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::task::{Context, Poll, ready};

use quinn_udp::{RecvMeta, UdpSocketState};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Batch, UdpCounts, errors};
use crate::ring;

/// Batches of one recvmmsg call. Eight buffers measured as fast as 32 and fit the second-level cache.
const BUFFERS: usize = 8;
/// The kernel coalesces up to 64 KiB.
const BUFFER_BYTES: usize = 65_536;

pub(crate) struct PortableUdp {
    socket: AsyncFd<UdpSocket>,
    memory: Box<[u8]>,
}

impl PortableUdp {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: ring::readiness::watch(socket, Interest::READABLE)?,
            memory: vec![0; BUFFERS * BUFFER_BYTES].into_boxed_slice(),
        })
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        self.socket.get_ref()
    }

    pub(crate) fn poll_receivable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Readiness is kept until a receive finds the socket empty, so no edge is lost.
        match ready!(self.socket.poll_read_ready(cx)) {
            Ok(mut guard) => guard.retain_ready(),
            Err(error) => tracing::warn!(%error, "reactor lost the UDP socket"),
        }
        Poll::Ready(())
    }

    pub(crate) fn receive(
        &mut self,
        state: &UdpSocketState,
        counts: &mut UdpCounts,
        sink: &mut dyn FnMut(Batch<'_>),
    ) -> bool {
        let mut metas = [RecvMeta::default(); BUFFERS];
        let received = {
            let mut chunks = self.memory.chunks_exact_mut(BUFFER_BYTES);
            let mut slices: [IoSliceMut<'_>; BUFFERS] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            self.socket.try_io(Interest::READABLE, |socket| {
                state.recv(socket.into(), &mut slices, &mut metas)
            })
        };
        let count = match received {
            Ok(count) => count,
            Err(error) => {
                let is_queued = errors::is_queued(&error);
                counts.errors_queued += u64::from(is_queued);
                // Datagrams may wait behind it.
                return is_queued;
            }
        };
        for (meta, chunk) in metas
            .iter()
            .zip(self.memory.chunks_exact(BUFFER_BYTES))
            .take(count)
        {
            let Some(data) = chunk.get(..meta.len) else {
                continue;
            };
            sink(Batch {
                data,
                stride: meta.stride.max(1),
                from: meta.addr,
                to_ip: meta.dst_ip,
                ecn: meta.ecn,
            });
        }
        count == BUFFERS
    }
}
