//! Stateless resets (RFC 9000 §10.3). By one, a process that has forgotten a connection ends it for the peer
//! at once, which else would go on asking until it gives up.
//!
//! A reset proves itself by a token that the peer was given with the connection id. The token is a keyed hash
//! of that id, so whoever has the key can make it again. All cores of a listener share one key, which is kept
//! across restarts.
//!
//! Does not: keep the key (the caller does). A side that only dials needs none. Its port dies with it, so
//! packets from the other side reach nobody who could answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn_proto::ConnectionId;
use quinn_proto::crypto::HmacKey;

use super::cid::CID_BYTES;

/// Least time between resets of one core. Thousands of peers ask a restarted listener at once, and each asks
/// again after a second at the latest. A reset is smaller than what it answers, so it amplifies nothing.
pub(crate) const RESET_INTERVAL: Duration = Duration::from_millis(1);

/// Length of a reset that answers nothing, bytes: more than the longest header and the least payload.
pub const RESET_BYTES: usize = 48;

/// Length of a token, bytes (RFC 9000 §10.3).
const TOKEN_BYTES: usize = 16;

/// A connection as [`ResetKey::reset`] must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResetId([u8; CID_BYTES]);

impl ResetId {
    pub(crate) fn new(id: ConnectionId) -> Self {
        // All ids that a listener gives have this length.
        Self(<[u8; CID_BYTES]>::try_from(&*id).unwrap_or_default())
    }

    /// What [`Self::from_bytes`] reads.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; CID_BYTES] {
        self.0
    }

    /// The id that was written as these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; CID_BYTES]) -> Self {
        Self(bytes)
    }
}

/// From what all reset tokens of a listener are made. Whoever knows it can end its connections.
#[derive(Clone, Copy)]
pub struct ResetKey([u8; Self::BYTES]);

impl ResetKey {
    /// Length, bytes.
    pub const BYTES: usize = 64;

    /// The key with these bytes, which must be random.
    #[must_use]
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    pub(crate) fn hmac(&self) -> Arc<dyn HmacKey> {
        Arc::new(self.signer())
    }

    fn signer(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.0)
    }

    /// The datagram that ends the connection whose listener gave the id `id` under this key. To everybody but
    /// its peer it looks like a packet of that connection (RFC 9000 §10.3, figure 10).
    #[must_use]
    pub fn reset(&self, id: &ResetId) -> [u8; RESET_BYTES] {
        let mut datagram = [0; RESET_BYTES];
        let (padding, token) = datagram.split_at_mut(RESET_BYTES - TOKEN_BYTES);
        // Without randomness of the system nothing in QUIC is safe; quinn-proto takes the same stance.
        getrandom::fill(padding).expect("the system's random source answers");
        padding[0] = 0x40 | (padding[0] >> 2);
        let tag = hmac::sign(&self.signer(), &id.0);
        token.copy_from_slice(&tag.as_ref()[..TOKEN_BYTES]);
        datagram
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey(…)")
    }
}

/// Whether an answer that no connection gave to `datagram` is a reset: short headers get no other.
pub(crate) fn is_reset_of(datagram_first_byte: Option<u8>) -> bool {
    datagram_first_byte.is_some_and(|first| first & 0x80 == 0)
}
