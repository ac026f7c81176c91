//! The secret a tunnel shares with its connectors.
//!
//! It is compared in constant time, shown by nobody's `Debug`, and leaves control only as its digest.

use std::fmt;

use aws_lc_rs::{constant_time, digest};

/// Bytes of a secret's digest.
pub const DIGEST_SIZE: usize = 32;

/// SHA-256 of a secret: enough to check a secret, of no use to make one.
pub type SecretDigest = [u8; DIGEST_SIZE];

/// Raw bytes of a tunnel's secret; 32 random ones when we make it.
#[derive(Clone)]
pub struct TunnelSecret(Box<[u8]>);

impl TunnelSecret {
    /// Takes the decoded bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the wire and for files only.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The digest that edges keep.
    pub fn digest(&self) -> SecretDigest {
        let mut out = [0; DIGEST_SIZE];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        out
    }

    /// Whether this is the secret that `expected` is the digest of; takes the same time for all.
    pub fn matches(&self, expected: &SecretDigest) -> bool {
        constant_time::verify_slices_are_equal(&self.digest(), expected).is_ok()
    }
}

/// In constant time for secrets of equal length.
impl PartialEq for TunnelSecret {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for TunnelSecret {}

impl fmt::Debug for TunnelSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TunnelSecret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_themselves() {
        let shown = format!("{:?}", TunnelSecret::new(*b"hunter2"));
        assert_eq!(shown, "TunnelSecret(redacted)");
    }

    #[test]
    fn a_secret_matches_its_own_digest_only() {
        let secret = TunnelSecret::new((0..32).collect::<Vec<u8>>());
        let digest = secret.digest();
        // SHA-256 of the bytes 00..1f.
        assert_eq!(digest[..4], [0x63, 0x0d, 0xcd, 0x29]);
        assert!(secret.matches(&digest));
        assert!(!TunnelSecret::new(*b"other").matches(&digest));
        assert_ne!(secret, TunnelSecret::new(*b"other"));
        assert_eq!(secret, secret.clone());
    }
}
