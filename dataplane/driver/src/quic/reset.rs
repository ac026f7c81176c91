//! Stateless resets (RFC 9000 §10.3): how a process that has forgotten a connection tells its peer, who otherwise asks in
//! vain until it gives up.
//!
//! A reset proves itself by a token that the peer was given with the connection id. The token is a keyed hash of that id,
//! so whoever has the key can make it anew: one key for all cores of a listener, kept across restarts.
//!
//! Does not: keep the key (the caller does). A side that only dials needs none: its port dies with it, and the other side's
//! packets reach nobody who could answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use quinn_proto::crypto::HmacKey;

/// Least time between resets of one core. A restart is asked by thousands of peers at once, and each asks again after a
/// second at the latest; a reset is smaller than what it answers, so it amplifies nothing.
pub(crate) const RESET_INTERVAL: Duration = Duration::from_millis(1);

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
        Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.0))
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
