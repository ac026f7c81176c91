//! The SHA-256 digest of a secret: what edges keep and compare, never the secret itself.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// SHA-256 of a tunnel secret or an API token, 64 hexadecimal digits in JSON.
///
/// There is no `PartialEq` on purpose: secrets are compared by [`SecretDigest::matches`], whose time does not
/// depend on the bytes.
#[derive(Clone, Copy)]
pub struct SecretDigest([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("a SHA-256 digest has 64 hexadecimal digits")]
pub struct DigestSyntax;

impl SecretDigest {
    /// Digests the raw bytes of a secret.
    pub fn of(secret: &[u8]) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Takes a digest somebody else computed.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether both digests are of the same secret, in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl fmt::Debug for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretDigest(..)")
    }
}

impl fmt::Display for SecretDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for SecretDigest {
    type Err = DigestSyntax;

    fn from_str(text: &str) -> Result<Self, DigestSyntax> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(DigestSyntax);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| DigestSyntax)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| DigestSyntax)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for SecretDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_rejects_other_lengths() {
        let digest = SecretDigest::of(b"a secret");
        let text = digest.to_string();
        assert_eq!(text.len(), 64);
        assert!(text.parse::<SecretDigest>().unwrap().matches(&digest));
        for bad in [
            "",
            "00",
            &text[1..],
            &format!("{text}0"),
            &text.replace(&text[..1], "x"),
        ] {
            assert!(bad.parse::<SecretDigest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn different_secrets_do_not_match() {
        assert!(!SecretDigest::of(b"a").matches(&SecretDigest::of(b"b")));
    }
}
