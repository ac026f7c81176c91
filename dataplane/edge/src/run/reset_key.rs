//! The key of this edge's stateless resets, kept in its state directory. With it an edge that was killed
//! answers the first packet of each old connection by a reset.
//!
//! Only one process at a time listens on the tunnel port of a state directory, so it resets no other's
//! connections. Edges behind one address have state directories, and so keys, of their own. If a balancer
//! sends a packet to the wrong one, the token of the answer proves nothing.

use std::io;
use std::path::Path;

use adit_driver::quic::ResetKey;

use crate::state::{StateError, write_atomically};

/// In the state directory, readable by the edge alone.
const FILE: &str = "reset.key";

/// The kept key, or a new one. A damaged file counts as none: its connectors find a restart by silence once.
pub(super) fn obtain(state_dir: &Path) -> Result<ResetKey, StateError> {
    let path = state_dir.join(FILE);
    match std::fs::read(&path).map(<[u8; ResetKey::BYTES]>::try_from) {
        Ok(Ok(bytes)) => return Ok(ResetKey::new(bytes)),
        Ok(Err(bytes)) => {
            tracing::warn!(path = %path.display(), bytes = bytes.len(), "reset key is damaged; a new one is made");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "reset key not readable; a new one is made");
        }
    }
    let bytes: [u8; ResetKey::BYTES] = std::array::from_fn(|_| rand::random());
    write_atomically(&path, &bytes, 0o600)?;
    Ok(ResetKey::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_key_is_kept_for_the_edge_alone_and_a_damaged_one_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        obtain(dir.path()).unwrap();
        let first = std::fs::read(&path).unwrap();
        assert_eq!(first.len(), ResetKey::BYTES);
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        obtain(dir.path()).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        std::fs::write(&path, b"short").unwrap();
        obtain(dir.path()).unwrap();
        let third = std::fs::read(&path).unwrap();
        assert!(third.len() == ResetKey::BYTES && third != first);
    }
}
