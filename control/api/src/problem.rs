//! Why control refuses a REST request: one table of codes, used in answers, logs and documentation.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// One entry of an envelope's `errors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// One of [`Code`]'s numbers; other servers have their own.
    #[serde(deserialize_with = "number_or_text")]
    pub code: u32,
    /// What was wrong and what to do, for people.
    pub message: String,
}

/// Stable reasons of refusals, with their number and HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The body, a parameter or the path cannot be understood.
    Malformed,
    /// A value is understood but not allowed.
    Invalid,
    /// No token, an unknown one, or one of another account.
    Unauthorized,
    /// The thing named does not exist.
    NotFound,
    /// The path exists but not with this method.
    MethodNotAllowed,
    /// A living tunnel of the account has this name.
    NameTaken,
    /// The hostname leads elsewhere already, or belongs to another account.
    HostnameTaken,
    /// The tunnel has live connections.
    TunnelInUse,
    /// The tunnel was deleted earlier.
    TunnelDeleted,
    /// A configured limit is reached.
    LimitReached,
    /// The body is larger than allowed.
    TooLarge,
    /// The store could not take the write; nothing changed.
    StoreFailed,
    /// Control cannot answer in time or is stopping.
    Unavailable,
}

impl Code {
    /// All codes, for documentation and tests.
    pub const ALL: [Self; 13] = [
        Self::Malformed,
        Self::Invalid,
        Self::Unauthorized,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NameTaken,
        Self::HostnameTaken,
        Self::TunnelInUse,
        Self::TunnelDeleted,
        Self::LimitReached,
        Self::TooLarge,
        Self::StoreFailed,
        Self::Unavailable,
    ];

    /// The number in `errors[].code`.
    pub const fn number(self) -> u32 {
        match self {
            Self::Malformed => 1001,
            Self::Invalid => 1002,
            Self::NotFound => 1003,
            Self::MethodNotAllowed => 1004,
            Self::TooLarge => 1005,
            Self::NameTaken => 1013,
            Self::HostnameTaken => 1014,
            Self::TunnelInUse => 1022,
            Self::TunnelDeleted => 1023,
            Self::LimitReached => 1024,
            Self::StoreFailed => 1050,
            Self::Unavailable => 1051,
            Self::Unauthorized => 10000,
        }
    }

    /// The HTTP status of the answer.
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed | Self::Invalid | Self::TunnelInUse => 400,
            Self::Unauthorized => 401,
            Self::NotFound | Self::TunnelDeleted => 404,
            Self::MethodNotAllowed => 405,
            Self::NameTaken | Self::HostnameTaken => 409,
            Self::TooLarge => 413,
            Self::LimitReached => 429,
            Self::Unavailable => 503,
            Self::StoreFailed => 507,
        }
    }

    /// The error with this code.
    pub fn error(self, message: impl Into<String>) -> ApiError {
        ApiError {
            code: self.number(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code: {}, reason: {}", self.code, self.message)
    }
}

fn number_or_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Number;
    impl Visitor<'_> for Number {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number or a numeric string")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u32, E> {
            u32::try_from(value).map_err(E::custom)
        }

        fn visit_str<E: de::Error>(self, value: &str) -> Result<u32, E> {
            value.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Number)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_number() {
        let numbers: BTreeSet<u32> = Code::ALL.into_iter().map(Code::number).collect();
        assert_eq!(numbers.len(), Code::ALL.len());
    }

    #[test]
    fn a_code_may_be_a_numeric_string() {
        for text in [
            r#"{"code":1003,"message":"m"}"#,
            r#"{"code":"1003","message":"m"}"#,
        ] {
            assert_eq!(
                serde_json::from_str::<ApiError>(text).unwrap(),
                Code::NotFound.error("m")
            );
        }
        assert!(serde_json::from_str::<ApiError>(r#"{"code":"x","message":"m"}"#).is_err());
    }
}
