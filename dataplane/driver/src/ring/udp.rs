//! Receives UDP through the core's ring: one multishot recvmsg, a ring of eight 64 KiB buffers, GRO.
//!
//! Per batch (up to 64 KiB): no system call of its own. Completions come with the turn that carries
//! everything else of the core.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use io_uring::{cqueue, opcode, types};
use quinn_udp::EcnCodepoint;

use super::buf_ring::BufferRing;
use super::cmsg;
use super::reactor::{Arrival, Reactor};
use crate::udp::{Batch, UdpCounts};

/// Eight measured 20 % better than 32 and 50 % better than 128: the kernel cycles through all of them.
const BUFFERS: u16 = 8;
const NAME_BYTES: usize = 28;
/// `io_uring_recvmsg_out` is four u32.
const OUT_HEADER_BYTES: usize = 16;
const BUFFER_BYTES: usize = 65_536 + OUT_HEADER_BYTES + NAME_BYTES.next_multiple_of(16) + cmsg::CONTROL_BYTES;

/// Lives as long as its core, because the kernel may use its buffers at any time.
pub(crate) struct RingUdp {
    channel: u16,
    /// Read by the kernel while the receive is armed.
    header: &'static libc::msghdr,
    buffers: BufferRing,
    socket: &'static UdpSocket,
    is_armed: bool,
}

impl RingUdp {
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        let register = |ring: &_, group| BufferRing::register(ring, group, BUFFERS, BUFFER_BYTES);
        let (channel, buffers) = Reactor::here().open_channel(register)?;
        let mut udp = Self {
            channel,
            header: Box::leak(receive_header()),
            buffers,
            socket: Box::leak(Box::new(socket)),
            is_armed: false,
        };
        udp.arm();
        Ok(udp)
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        self.socket
    }

    pub(crate) fn poll_receivable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Reactor::here().has_arrivals(self.channel, cx) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    pub(crate) fn receive(&mut self, counts: &mut UdpCounts, sink: &mut dyn FnMut(Batch<'_>)) -> bool {
        let reactor = Reactor::here();
        let waiting = reactor.arrivals(self.channel);
        for _ in 0..waiting {
            let Some(arrival) = reactor.next_arrival(self.channel) else {
                break;
            };
            self.take(arrival, counts, sink);
        }
        if waiting > 0 {
            self.buffers.publish();
        }
        if !self.is_armed {
            self.arm();
        }
        reactor.arrivals(self.channel) > 0
    }

    fn take(&mut self, arrival: Arrival, counts: &mut UdpCounts, sink: &mut dyn FnMut(Batch<'_>)) {
        // Without MORE the kernel has ended the multishot, whatever the reason; out of buffers is the
        // usual one and the next `arm` cures it.
        if !cqueue::more(arrival.flags) {
            self.is_armed = false;
        }
        // The socket has an error to tell, or the buffers are used up, for which a look costs one system
        // call.
        counts.errors_queued += u64::from(arrival.result < 0 && arrival.result != -libc::ENOBUFS);
        let Some(index) = cqueue::buffer_select(arrival.flags) else {
            return;
        };
        if let Ok(length) = usize::try_from(arrival.result) {
            let is_whole = pass(self.buffers.bytes(index, length), self.header, sink);
            counts.truncated += u64::from(!is_whole);
        }
        self.buffers.give(index);
    }

    fn arm(&mut self) {
        let descriptor = types::Fd(self.socket.as_raw_fd());
        let entry = opcode::RecvMsgMulti::new(descriptor, self.header, self.channel).build();
        // SAFETY: header and socket are leaked, registered buffers are never freed.
        unsafe { Reactor::here().start_channel(self.channel, entry) };
        self.is_armed = true;
    }
}

fn receive_header() -> Box<libc::msghdr> {
    // SAFETY: all-zero is a valid msghdr: null pointers with zero lengths.
    let mut header: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
    header.msg_namelen = NAME_BYTES as libc::socklen_t;
    header.msg_controllen = cmsg::CONTROL_BYTES;
    header
}

/// Returns whether the batch was whole.
fn pass(bytes: &[u8], header: &libc::msghdr, sink: &mut dyn FnMut(Batch<'_>)) -> bool {
    let Ok(out) = types::RecvMsgOut::parse(bytes, header) else {
        return false;
    };
    if out.is_payload_truncated() || out.is_name_data_truncated() {
        return false;
    }
    let data = out.payload_data();
    let control = cmsg::parse(out.control_data());
    let Some(from) = cmsg::address(out.name_data()) else {
        return false;
    };
    sink(Batch {
        data,
        stride: control.segment_bytes.unwrap_or(data.len()).max(1),
        from,
        to_ip: control.to_ip,
        ecn: EcnCodepoint::from_bits(control.ecn_bits),
    });
    true
}
