//! A UDP forwarder between connector and edge that counts what passes, and does nothing else to it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;

/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// IPv4 and UDP headers, which a wire carries as well.
const HEADER_BYTES: u64 = 28;

/// How often the thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// A running forwarder; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Where the connector dials.
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    datagrams: AtomicU64,
    bytes: AtomicU64,
    ended: AtomicBool,
}

impl Wire {
    /// Forwards between whoever sends to its address and `edge`.
    pub(crate) fn start(edge: SocketAddr) -> Result<Self> {
        let front = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("no loopback UDP socket")?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(forward(front, edge, &shared))
        });
        Ok(Self { address, counts })
    }

    /// Datagrams and bytes of both directions so far, headers included.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (
            self.counts.datagrams.load(Relaxed),
            self.counts.bytes.load(Relaxed),
        )
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.counts.ended.store(true, Relaxed);
    }
}

impl Counts {
    fn add(&self, bytes: usize) {
        self.datagrams.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64 + HEADER_BYTES, Relaxed);
    }
}

async fn forward(front: std::net::UdpSocket, edge: SocketAddr, counts: &Arc<Counts>) -> std::io::Result<()> {
    let front = Arc::new(UdpSocket::from_std(front)?);
    let mut flows: BTreeMap<SocketAddr, Arc<UdpSocket>> = BTreeMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    while !counts.ended.load(Relaxed) {
        let Ok(received) = tokio::time::timeout(LOOK, front.recv_from(&mut buffer)).await else {
            continue;
        };
        let (length, client) = received?;
        let back = match flows.get(&client) {
            Some(back) => Arc::clone(back),
            None => {
                let back = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
                back.connect(edge).await?;
                tokio::spawn(answer(
                    Arc::clone(&front),
                    Arc::clone(&back),
                    client,
                    Arc::clone(counts),
                ));
                flows.insert(client, Arc::clone(&back));
                back
            }
        };
        counts.add(length);
        // A datagram that cannot be sent is lost, as on any wire.
        back.send(&buffer[..length]).await.ok();
    }
    Ok(())
}

async fn answer(front: Arc<UdpSocket>, back: Arc<UdpSocket>, client: SocketAddr, counts: Arc<Counts>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    // An error here is the echo of a lost datagram; the flow goes on until the forwarder ends.
    while !counts.ended.load(Relaxed) {
        if let Ok(length) = back.recv(&mut buffer).await {
            counts.add(length);
            front.send_to(&buffer[..length], client).await.ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_counted_both_ways() {
        let edge = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Wire::start(edge.local_addr().unwrap()).unwrap();
        let client = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for socket in [&edge, &client] {
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        }
        client.send_to(&[1; 100], wire.address).unwrap();
        let mut buffer = [0; 200];
        let (length, from) = edge.recv_from(&mut buffer).unwrap();
        assert_eq!(length, 100);
        edge.send_to(&[2; 50], from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (50, wire.address));
        assert_eq!(wire.counts(), (2, 150 + 2 * HEADER_BYTES));
    }
}
