//! Reads the small JSON objects of tokens, credentials files and origin certificates.
//!
//! cloudflared reads them with Go's rules, and files written for it must work here: keys match in any
//! case (an exact match first), unknown keys are ignored, `null` counts as absent.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::secret::TunnelSecret;

/// Largest object accepted; real ones are below 1 KiB.
pub(crate) const BYTES_MAX: usize = 16 * 1024;

/// Why an object or one of its fields cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Longer than 16 KiB.
    #[error("is {size} bytes long, which is too much")]
    TooLarge {
        /// Bytes of it.
        size: usize,
    },
    /// Not a JSON object.
    #[error("is not a JSON object")]
    Json(#[source] serde_json::Error),
    /// A field is absent or empty.
    #[error("has no {0}")]
    Missing(&'static str),
    /// A field does not hold what it should.
    #[error("has a {0} that is not valid")]
    Invalid(&'static str),
}

/// One JSON object, read with Go's rules.
#[derive(Debug)]
pub(crate) struct Object(Map<String, Value>);

impl Object {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, ObjectError> {
        if text.len() > BYTES_MAX {
            return Err(ObjectError::TooLarge { size: text.len() });
        }
        serde_json::from_slice(text).map(Self).map_err(ObjectError::Json)
    }

    /// The text of a field, empty if absent.
    pub(crate) fn text(&self, key: &'static str) -> Result<&str, ObjectError> {
        let in_any_case = || {
            self.0
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(key))
                .map(|(_, value)| value)
        };
        match self.0.get(key).or_else(in_any_case) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(ObjectError::Invalid(key))
            }
        }
    }

    /// The text of a field that must be there.
    pub(crate) fn required(&self, key: &'static str) -> Result<&str, ObjectError> {
        match self.text(key)? {
            "" => Err(ObjectError::Missing(key)),
            text => Ok(text),
        }
    }

    /// A field that must be there, parsed.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, ObjectError> {
        self.required(key)?.parse().map_err(|_| ObjectError::Invalid(key))
    }

    /// A secret in standard padded base64.
    pub(crate) fn secret(&self, key: &'static str) -> Result<TunnelSecret, ObjectError> {
        let bytes = STANDARD
            .decode(self.required(key)?)
            .map_err(|_| ObjectError::Invalid(key))?;
        if bytes.is_empty() || bytes.len() > crate::registration::SECRET_BYTES_MAX {
            return Err(ObjectError::Invalid(key));
        }
        Ok(TunnelSecret::new(bytes))
    }
}

/// Quotes a text as JSON.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Quotes a secret as a JSON string of base64.
pub(crate) fn quoted_secret(secret: &TunnelSecret) -> String {
    quoted(&STANDARD.encode(secret.as_bytes()))
}
