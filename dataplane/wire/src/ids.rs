//! Names of things that travel on the wire, each a type of its own so that they cannot be mixed up.
//!
//! The UUID types are written and read as hyphenated text everywhere but in Cap'n Proto messages,
//! where they are 16 raw bytes in text order. Serialised they are their inner value alone.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest account tag accepted. Tags in the field are 32 hexadecimal digits; ours are short names.
pub const ACCOUNT_TAG_BYTES_MAX: usize = 128;

/// Why a text or some bytes are not the id they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// An account tag is empty, too long, or has a space or a control character in it.
    #[error("account tag must be 1 to {ACCOUNT_TAG_BYTES_MAX} visible characters")]
    AccountTag,
    /// Not a UUID in text form.
    #[error("not a UUID")]
    Uuid(#[source] uuid::Error),
    /// A binary id does not have 16 bytes.
    #[error("a binary id has {size} bytes, not 16")]
    Size {
        /// Bytes that came instead.
        size: usize,
    },
    /// Not a connection index.
    #[error("connection index must be a number from 0 to 255")]
    ConnIndex,
}

/// The account that owns a tunnel: a free text without spaces, compared exactly.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountTag(Box<str>);

impl AccountTag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountTag {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let visible = |c: char| !c.is_control() && !c.is_whitespace();
        if text.is_empty() || text.len() > ACCOUNT_TAG_BYTES_MAX || !text.chars().all(visible) {
            return Err(IdError::AccountTag);
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for AccountTag {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<AccountTag> for String {
    fn from(tag: AccountTag) -> Self {
        tag.0.into()
    }
}

impl fmt::Display for AccountTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes the newtypes over a UUID; they differ in nothing but their meaning.
macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Reads the 16 raw bytes of a Cap'n Proto `Data` field.
            ///
            /// # Errors
            /// [`IdError::Size`] for any other number of bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                Uuid::from_slice(bytes).map(Self).map_err(|_| IdError::Size { size: bytes.len() })
            }

            /// The 16 raw bytes, in text order.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(IdError::Uuid)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(
    /// A tunnel: the named thing that users create. Has many replicas.
    TunnelId
);
uuid_id!(
    /// A replica: one running connector process, made up at its start and the same for all its
    /// connections.
    ConnectorId
);
uuid_id!(
    /// One registered connection, named by the edge in its answer to the registration.
    ConnectionId
);

/// Which of a replica's connections this is, from 0; stable for a slot across reconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnIndex(pub u8);

impl FromStr for ConnIndex {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.parse().map(Self).map_err(|_| IdError::ConnIndex)
    }
}

impl fmt::Display for ConnIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUNNEL: &str = "11111111-2222-3333-4444-555555555555";

    #[test]
    fn uuid_ids_are_text_order_bytes_on_the_wire_and_hyphenated_text_elsewhere() {
        let id: TunnelId = TUNNEL.parse().unwrap();
        assert_eq!(id.as_bytes()[..6], [0x11, 0x11, 0x11, 0x11, 0x22, 0x22]);
        assert_eq!(TunnelId::from_slice(id.as_bytes()), Ok(id));
        assert_eq!(id.to_string(), TUNNEL);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{TUNNEL}\""));
    }

    #[test]
    fn ids_of_another_size_or_shape_are_refused() {
        assert_eq!(ConnectorId::from_slice(&[0; 15]), Err(IdError::Size { size: 15 }));
        assert_eq!(ConnectionId::from_slice(&[]), Err(IdError::Size { size: 0 }));
        assert!("not-a-uuid".parse::<TunnelId>().is_err());
        assert_eq!("256".parse::<ConnIndex>(), Err(IdError::ConnIndex));
        assert_eq!("3".parse(), Ok(ConnIndex(3)));
    }

    #[test]
    fn account_tags_are_visible_text_of_a_sane_length() {
        for bad in [
            "",
            "a b",
            "tab\t",
            "line\n",
            "\u{0}",
            &"x".repeat(ACCOUNT_TAG_BYTES_MAX + 1),
        ] {
            assert_eq!(bad.parse::<AccountTag>(), Err(IdError::AccountTag), "{bad:?}");
        }
        let tag: AccountTag = serde_json::from_str("\"acct0123\"").unwrap();
        assert_eq!(tag.as_str(), "acct0123");
        assert!(serde_json::from_str::<AccountTag>("\"\"").is_err());
    }
}
