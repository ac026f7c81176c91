//! The floor: what the parts of a tunnel cost by themselves on this machine, without anything that joins
//! them.
//!
//! A tunnel's sending side reads TCP, seals packets and sends them; its receiving side receives, opens and
//! writes TCP:
//! ```text
//! sending side   = TCP receive + AEAD seal + UDP send (GSO)
//! receiving side = UDP receive (GRO) + AEAD open + TCP send
//! ```
//! Packets are as long as on an ordinary path. Copies, protocols and public TLS are not counted, so no real
//! tunnel can reach this.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use nix::time::ClockId;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use serde::{Deserialize, Serialize};

use crate::args::Floor;
use crate::report;
use crate::suite::layout::on;

/// Payload of a packet on a path of 1,500 bytes.
const PACKET_BYTES: usize = 1452;

/// Packets per send: what one send of the kernel takes.
const BATCH_PACKETS: usize = 44;

/// Bytes per TCP read and write.
const CHUNK_BYTES: usize = 64 * 1024;

/// Socket buffers; asked for, not insisted on.
const SOCKET_BYTES: usize = 8 << 20;

/// Associated data: a short packet header.
const HEADER: [u8; 13] = [1; 13];

/// CPU milliseconds per gigabyte of each part.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct FloorReport {
    pub(crate) seal: f64,
    pub(crate) open: f64,
    pub(crate) udp_send: f64,
    pub(crate) udp_receive: f64,
    pub(crate) tcp_send: f64,
    pub(crate) tcp_receive: f64,
}

impl FloorReport {
    /// The side that turns TCP into packets.
    pub(crate) const fn sending_side(&self) -> f64 {
        self.tcp_receive + self.seal + self.udp_send
    }

    /// The side that turns packets into TCP.
    pub(crate) const fn receiving_side(&self) -> f64 {
        self.udp_receive + self.open + self.tcp_send
    }
}

/// Measures every part and prints the report as JSON.
pub(crate) fn run(floor: &Floor) -> Result<()> {
    let (one, other) = (&floor.cpus[..1], &floor.cpus[floor.cpus.len() - 1..]);
    let (seal, open) = on(other, || aead(floor.duration))??;
    let (udp_send, udp_receive) = pair(one, other, udp(floor.duration)?)?;
    let (tcp_send, tcp_receive) = pair(one, other, tcp(floor.duration)?)?;
    let report = FloorReport {
        seal,
        open,
        udp_send,
        udp_receive,
        tcp_send,
        tcp_receive,
    };
    report::print(&(serde_json::to_string_pretty(&report)? + "\n"))
}

/// CPU milliseconds per gigabyte that `work` took in this thread for the bytes it returns.
fn cost(work: impl FnOnce() -> Result<u64>) -> Result<f64> {
    let clock = || ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from);
    let before = clock().context("no CPU clock of threads")?;
    let bytes = work()?;
    let spent = clock().context("no CPU clock of threads")?.saturating_sub(before);
    ensure!(bytes > 0, "no byte moved");
    Ok(spent.as_secs_f64() * 1e3 / (bytes as f64 / 1e9))
}

fn aead(length: Duration) -> Result<(f64, f64)> {
    let key = UnboundKey::new(&AES_128_GCM, &[7; 16]).map_err(|_| anyhow!("a key of 16 bytes"))?;
    let key = LessSafeKey::new(key);
    let nonce = |count: u64| {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&count.to_le_bytes());
        Nonce::assume_unique_for_key(bytes)
    };
    let mut packet = vec![0; PACKET_BYTES];
    let mut count = 0;
    let seal = cost(|| {
        let end = Instant::now() + length / 2;
        while Instant::now() < end {
            for _ in 0..BATCH_PACKETS {
                count += 1;
                let tag = key.seal_in_place_separate_tag(nonce(count), Aad::from(HEADER), &mut packet);
                let _sealed = std::hint::black_box(tag.map_err(|_| anyhow!("sealing failed"))?);
            }
        }
        Ok(count * PACKET_BYTES as u64)
    })?;
    let mut sealed = vec![0; PACKET_BYTES];
    let aad = Aad::from(HEADER);
    key.seal_in_place_append_tag(nonce(0), aad, &mut sealed)
        .map_err(|_| anyhow!("sealing failed"))?;
    let mut scratch = sealed.clone();
    let open = cost(|| {
        let (mut bytes, end) = (0, Instant::now() + length / 2);
        while Instant::now() < end {
            for _ in 0..BATCH_PACKETS {
                // The copy is of a hot kilobyte: a few per cent of what opening takes.
                scratch.copy_from_slice(&sealed);
                key.open_in_place(nonce(0), Aad::from(HEADER), &mut scratch)
                    .map_err(|_| anyhow!("opening failed"))?;
                bytes += PACKET_BYTES as u64;
            }
        }
        Ok(bytes)
    })?;
    Ok((seal, open))
}

/// Two ends of a flow; each returns the bytes it moved.
type Ends = (
    Box<dyn FnOnce() -> Result<u64> + Send>,
    Box<dyn FnOnce() -> Result<u64> + Send>,
);

/// Runs both ends on CPUs of their own; returns what each cost.
fn pair(one: &[usize], other: &[usize], ends: Ends) -> Result<(f64, f64)> {
    let (sender, receiver) = ends;
    let (result, got) = sync_channel(1);
    let receiving = other.to_vec();
    let thread = thread::spawn(move || {
        let measured = on(&receiving, || cost(receiver)).and_then(|measured| measured);
        // The other end waits for it, or has failed and says so itself.
        result.send(measured).ok();
    });
    let sent = on(one, || cost(sender))?;
    let received = got.recv().context("the receiving thread panicked")?;
    thread
        .join()
        .map_err(|_| anyhow!("the receiving thread panicked"))?;
    Ok((sent?, received?))
}

fn udp(length: Duration) -> Result<Ends> {
    let bind = || -> Result<(UdpSocket, UdpSocketState)> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let state = UdpSocketState::new((&socket).into())?;
        state.set_send_buffer_size((&socket).into(), SOCKET_BYTES).ok();
        state.set_recv_buffer_size((&socket).into(), SOCKET_BYTES).ok();
        socket.set_nonblocking(false)?;
        Ok((socket, state))
    };
    let (from, from_state) = bind().context("no UDP socket")?;
    let (to, to_state) = bind().context("no UDP socket")?;
    to.set_read_timeout(Some(Duration::from_millis(100)))?;
    let destination = to.local_addr()?;
    let ended = std::sync::Arc::new(AtomicBool::new(false));
    let is_over = std::sync::Arc::clone(&ended);
    let send = move || -> Result<u64> {
        let segments = BATCH_PACKETS.min(from_state.max_gso_segments()).max(1);
        let batch = vec![1; PACKET_BYTES * segments];
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: &batch,
            segment_size: Some(PACKET_BYTES),
            src_ip: None,
        };
        let (mut bytes, end) = (0, Instant::now() + length);
        while Instant::now() < end {
            from_state.try_send((&from).into(), &transmit)?;
            bytes += batch.len() as u64;
        }
        ended.store(true, Ordering::Release);
        Ok(bytes)
    };
    let receive = move || -> Result<u64> {
        let mut buffer = vec![0; PACKET_BYTES * to_state.gro_segments().max(1)];
        let mut meta = [RecvMeta::default()];
        let mut bytes = 0;
        loop {
            let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
            // The kernel drops what it has no room for: only what arrived is counted here.
            match to_state.recv((&to).into(), &mut slices, &mut meta) {
                Ok(count) => bytes += meta.iter().take(count).map(|meta| meta.len as u64).sum::<u64>(),
                Err(_) if is_over.load(Ordering::Acquire) => return Ok(bytes),
                Err(_) => {}
            }
        }
    };
    Ok((Box::new(send), Box::new(receive)))
}

fn tcp(length: Duration) -> Result<Ends> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no TCP socket")?;
    let mut from = TcpStream::connect(listener.local_addr()?).context("cannot connect")?;
    let (mut to, _) = listener.accept().context("cannot accept")?;
    let send = move || -> Result<u64> {
        let chunk = vec![1; CHUNK_BYTES];
        let (mut bytes, end) = (0, Instant::now() + length);
        while Instant::now() < end {
            from.write_all(&chunk)?;
            bytes += chunk.len() as u64;
        }
        Ok(bytes)
    };
    let receive = move || -> Result<u64> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut bytes = 0;
        loop {
            match to.read(&mut chunk)? {
                0 => return Ok(bytes),
                size => bytes += size as u64,
            }
        }
    };
    Ok((Box::new(send), Box::new(receive)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_costs_something() {
        let length = Duration::from_millis(20);
        let cpus = crate::suite::layout::Layout::of_this_machine().unwrap().all;
        let (seal, open) = aead(length).unwrap();
        let (sent, received) = pair(&cpus[..1], &cpus[cpus.len() - 1..], udp(length).unwrap()).unwrap();
        let (written, read) = pair(&cpus[..1], &cpus[cpus.len() - 1..], tcp(length).unwrap()).unwrap();
        for cost in [seal, open, sent, received, written, read] {
            assert!(cost > 0.0);
        }
    }
}
