//! The connectors with which an edge has connections over QUIC, kept on its disk. An edge that was killed
//! tells them of it when it starts anew.
//!
//! ```text
//! registered ─► Known ─► peers.json within a second ─► killed, started ─► a stateless reset to each
//!                                                                         └► they dial at once
//! ```
//! A connector of ours is silent while nobody asks for anything, so it would notice only at its next PING. A
//! reset counts only for the peer of that very connection. A stranger drops it as noise.
//!
//! What is not covered: a connector that has changed its connection id since (it has moved by itself), and an
//! address of this host other than the one that the kernel chooses for the way back.
//!
//! Does not: make resets ([`ResetKey`] does) or keep the key (`run/reset_key.rs` does).

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adit_driver::quic::{ResetId, ResetKey};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::state::write_atomically;

/// In the state directory, readable by the edge alone.
const FILE: &str = "peers.json";

/// Connections that are kept; those above are found by silence.
const PEERS_MAX: usize = 16_384;

/// Longest file that is read, with room to spare for every peer.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Changes are gathered for so long before they are written, and writes are as far apart.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Resets are sent in bursts of so many, as far apart: their peers all dial at once.
const BURST: usize = 16;
const BURST_INTERVAL: Duration = Duration::from_millis(10);

/// The connections of all cores. Locked when one begins, ends or moves, never on a request's path.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    known: Mutex<BTreeSet<Peer>>,
    changed: Notify,
}

/// A connection's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Peer {
    address: SocketAddr,
    id: ResetId,
}

/// As it is written.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    address: SocketAddr,
    id: [u8; 12],
}

/// A connection that is kept, until dropped.
#[derive(Debug)]
pub(crate) struct Known {
    peers: Arc<Peers>,
    peer: Cell<Peer>,
}

impl Peers {
    /// Keeps a connection; `None` where as many are kept as may.
    pub(crate) fn enter(self: &Arc<Self>, address: SocketAddr, id: ResetId) -> Option<Known> {
        let peer = Peer { address, id };
        let mut known = self.lock();
        if known.len() >= PEERS_MAX {
            return None;
        }
        known.insert(peer);
        drop(known);
        self.changed.notify_one();
        Some(Known {
            peers: Arc::clone(self),
            peer: Cell::new(peer),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Peer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn to_json(&self) -> Vec<u8> {
        let written = |peer: &Peer| Written {
            address: peer.address,
            id: peer.id.to_bytes(),
        };
        let list: Vec<_> = self.lock().iter().map(written).collect();
        serde_json::to_vec(&list).expect("a list of numbers and texts")
    }

    /// Writes every change to `state_dir`, for ever.
    pub(crate) async fn keep(self: Arc<Self>, state_dir: PathBuf) {
        let mut has_failed = false;
        loop {
            self.changed.notified().await;
            sleep(SAVE_INTERVAL).await;
            let (peers, path) = (Arc::clone(&self), state_dir.join(FILE));
            let written =
                tokio::task::spawn_blocking(move || write_atomically(&path, &peers.to_json(), 0o600));
            match written.await {
                Ok(Ok(())) => has_failed = false,
                // A full disk is told once.
                Ok(Err(error)) if !has_failed => {
                    has_failed = true;
                    tracing::warn!(%error, "cannot write down which connectors are connected; after a crash they return late");
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }
}

impl Known {
    /// The connector was seen at another address.
    pub(crate) fn moved(&self, address: SocketAddr) {
        let old = self.peer.get();
        if old.address == address {
            return;
        }
        let new = Peer { address, ..old };
        let mut known = self.peers.lock();
        known.remove(&old);
        known.insert(new);
        drop(known);
        self.peer.set(new);
        self.peers.changed.notify_one();
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.peers.lock().remove(&self.peer.get());
        self.peers.changed.notify_one();
    }
}

/// The connections that the process before this one had when it ended without a word. One that ends properly
/// leaves none.
pub(crate) struct Forgotten(Vec<Peer>);

impl Forgotten {
    /// Reads what is on disk. A damaged file counts as none: its connectors notice by silence.
    pub(crate) fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let is_small = std::fs::metadata(&path).is_ok_and(|file| file.len() <= FILE_BYTES_MAX);
        let Some(bytes) = is_small.then(|| std::fs::read(&path).ok()).flatten() else {
            return Self(Vec::new());
        };
        let list: Vec<Written> = serde_json::from_slice(&bytes)
            .inspect_err(
                |error| tracing::warn!(path = %path.display(), %error, "list of connectors is damaged"),
            )
            .unwrap_or_default();
        let peer = |written: Written| Peer {
            address: written.address,
            id: ResetId::from_bytes(written.id),
        };
        Self(list.into_iter().take(PEERS_MAX).map(peer).collect())
    }

    /// Tells each that its connection is gone.
    pub(crate) async fn reset(self, key: ResetKey, socket: UdpSocket) {
        if self.0.is_empty() {
            return;
        }
        let count = self.0.len();
        tracing::info!(
            count,
            "telling connectors of the edge before this one that their connections are gone"
        );
        for burst in self.0.chunks(BURST) {
            for peer in burst {
                let send = || socket.send_to(&key.reset(&peer.id), peer.address);
                // A call may fail for what the network says of an earlier peer. A reset that is lost all the
                // same leaves a connector that notices by silence.
                if let Err(error) = send().or_else(|_| send()) {
                    tracing::debug!(address = %peer.address, %error, "reset not sent");
                }
            }
            sleep(BURST_INTERVAL).await;
        }
    }
}

/// Leaves nothing behind for the next start, as every connection was closed with a word.
pub(crate) fn remove(state_dir: &Path) {
    if let Err(error) = std::fs::remove_file(state_dir.join(FILE))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(%error, "cannot remove the list of connectors");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> ResetId {
        ResetId::from_bytes([byte; 12])
    }

    fn address(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    #[test]
    fn what_is_connected_is_read_again_at_the_address_where_it_was_last_seen() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Forgotten::load(dir.path()).0.is_empty());
        let peers = Arc::<Peers>::default();
        let (first, second) = (peers.enter(address(1), id(1)), peers.enter(address(2), id(2)));
        let third = peers.enter("[::1]:3".parse().unwrap(), id(3));
        drop(first);
        second.as_ref().unwrap().moved(address(4));
        std::fs::write(dir.path().join(FILE), peers.to_json()).unwrap();
        let found = Forgotten::load(dir.path()).0;
        let ids: Vec<_> = found.iter().map(|peer| (peer.address.port(), peer.id)).collect();
        assert_eq!(ids, [(4, id(2)), (3, id(3))]);
        drop((second, third));
        assert_eq!(peers.to_json(), b"[]");
    }

    #[test]
    fn a_damaged_list_counts_as_none_and_a_list_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["", "{", "[{\"address\":\"nowhere\",\"id\":[]}]", "[1]"] {
            std::fs::write(dir.path().join(FILE), bad).unwrap();
            assert!(Forgotten::load(dir.path()).0.is_empty(), "{bad}");
        }
        let peers = Arc::<Peers>::default();
        let all: Vec<_> = (0..PEERS_MAX)
            .map(|port| peers.enter(address(port as u16), id(0)))
            .collect();
        assert!(all.iter().all(Option::is_some));
        assert!(peers.enter(address(0), id(1)).is_none());
        assert!((peers.to_json().len() as u64) < FILE_BYTES_MAX);
    }
}
