//! A configuration that the edge pushes to a connector, and what the connector makes of it.
//!
//! The edge opens a stream, writes [`OPENING`], and calls `updateConfiguration` on the connector's
//! `CloudflaredServer`. Versions only grow; a connector keeps what it has and answers with the
//! version in force. One call to a stream: a connector ends the stream after a few seconds.
//!
//! Over HTTP/2 the same travels as JSON in the bodies of a request and its answer; what a connector has
//! against a configuration is lost there.
//!
//! Source: cloudflared `tunnelrpc/pogs/configuration_manager.go`, `orchestration/orchestrator.go`,
//! `connection/http2.go`.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use crate::signature::{RPC_STREAM, SIGNATURE_SIZE};
use crate::tunnelrpc_capnp as schema;

/// What the edge writes before the first RPC message.
pub const OPENING: [u8; SIGNATURE_SIZE] = RPC_STREAM;

/// Largest configuration: the rest of the largest RPC message is left for the call around it.
pub const CONFIG_BYTES_MAX: usize = crate::framing::MESSAGE_BYTES_MAX - 4096;

/// Longest error text that is kept of an answer; the rest is cut off.
pub const ERROR_BYTES_MAX: usize = 4096;

/// Version before any configuration was applied.
pub const VERSION_NONE: i32 = -1;

/// Why a push or its answer cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ConfigPushError {
    /// The message breaks the rules of Cap'n Proto.
    #[error("not a valid message")]
    Message(#[from] capnp::Error),
    /// The configuration is larger than [`CONFIG_BYTES_MAX`].
    #[error("configuration has {size} bytes, more than {CONFIG_BYTES_MAX}")]
    TooLarge {
        /// What came.
        size: usize,
    },
    /// The answer is not the JSON it should be.
    #[error("not a valid answer")]
    Json(#[from] serde_json::Error),
}

/// Parameters of `updateConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigUpdate {
    /// Grows with every change.
    pub version: i32,
    /// JSON.
    pub config: Bytes,
}

/// Result of `updateConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigApplied {
    /// Version in force after the call; [`VERSION_NONE`] if there is none.
    pub latest_version: i32,
    /// Empty if the update was applied or was not newer.
    pub error: String,
}

impl ConfigUpdate {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// [`ConfigPushError`].
    pub fn read(
        params: schema::configuration_manager::update_configuration_params::Reader<'_>,
    ) -> Result<Self, ConfigPushError> {
        let config = params.get_config()?;
        if config.len() > CONFIG_BYTES_MAX {
            return Err(ConfigPushError::TooLarge { size: config.len() });
        }
        Ok(Self {
            version: params.get_version(),
            config: Bytes::copy_from_slice(config),
        })
    }

    /// Writes the parameters of a call.
    pub fn write(&self, mut params: schema::configuration_manager::update_configuration_params::Builder<'_>) {
        params.set_version(self.version);
        params.set_config(&self.config);
    }

    /// The body of a request over HTTP/2. The configuration stands in it as it is.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        let version = self.version.to_string();
        let parts: [&[u8]; 5] = [
            b"{\"version\":",
            version.as_bytes(),
            b",\"config\":",
            &self.config,
            b"}",
        ];
        parts.concat().into()
    }
}

/// What a connector says of a configuration over HTTP/2.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonApplied {
    last_applied_version: i32,
    /// Null, or what the stock connector makes of any error: an object without fields.
    #[serde(default)]
    err: Value,
}

impl ConfigApplied {
    /// Reads the result of a call.
    ///
    /// # Errors
    /// [`ConfigPushError::Message`].
    pub fn read(
        response: schema::update_configuration_response::Reader<'_>,
    ) -> Result<Self, ConfigPushError> {
        let error = response.get_err()?.as_bytes();
        let error = String::from_utf8_lossy(&error[..error.len().min(ERROR_BYTES_MAX)]).into_owned();
        Ok(Self {
            latest_version: response.get_latest_applied_version(),
            error,
        })
    }

    /// Reads the body of an answer over HTTP/2.
    ///
    /// # Errors
    /// [`ConfigPushError::Json`].
    pub fn from_json(body: &[u8]) -> Result<Self, ConfigPushError> {
        let applied: JsonApplied = serde_json::from_slice(body)?;
        let mut error = match applied.err {
            Value::Null => String::new(),
            Value::String(text) => text,
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                "it does not say why".to_owned()
            }
        };
        error.truncate(error.floor_char_boundary(ERROR_BYTES_MAX));
        Ok(Self {
            latest_version: applied.last_applied_version,
            error,
        })
    }

    /// Writes the result of a call.
    pub fn write(&self, mut response: schema::update_configuration_response::Builder<'_>) {
        response.set_latest_applied_version(self.latest_version);
        if !self.error.is_empty() {
            response.set_err(&*self.error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_and_answers_survive_a_round_trip() {
        let update = ConfigUpdate {
            version: 7,
            config: Bytes::from_static(b"{\"ingress\":[]}"),
        };
        let mut message = capnp::message::Builder::new_default();
        update.write(message.init_root());
        assert_eq!(
            ConfigUpdate::read(message.get_root_as_reader().unwrap()).unwrap(),
            update
        );

        for error in ["", "ingress rule 0 is unknown"] {
            let applied = ConfigApplied {
                latest_version: VERSION_NONE,
                error: error.to_owned(),
            };
            let mut message = capnp::message::Builder::new_default();
            applied.write(message.init_root());
            assert_eq!(
                ConfigApplied::read(message.get_root_as_reader().unwrap()).unwrap(),
                applied
            );
        }
    }

    #[test]
    fn over_http2_both_are_json() {
        let update = ConfigUpdate {
            version: -1,
            config: Bytes::from_static(b"{\"ingress\":[]}"),
        };
        assert_eq!(update.to_json(), r#"{"version":-1,"config":{"ingress":[]}}"#);
        for (body, version, error) in [
            (r#"{"lastAppliedVersion":7,"err":null}"#, 7, ""),
            (r#"{"lastAppliedVersion":-1,"err":{}}"#, -1, "it does not say why"),
            (r#"{"lastAppliedVersion":2,"err":"bad rule"}"#, 2, "bad rule"),
        ] {
            let applied = ConfigApplied::from_json(body.as_bytes()).unwrap();
            assert_eq!((applied.latest_version, applied.error.as_str()), (version, error));
        }
        for bad in ["", "null", "{}", r#"{"lastAppliedVersion":1e99}"#] {
            assert!(ConfigApplied::from_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn configurations_beyond_the_limit_are_refused() {
        let mut message = capnp::message::Builder::new_default();
        let update = ConfigUpdate {
            version: 1,
            config: vec![0; CONFIG_BYTES_MAX + 1].into(),
        };
        update.write(message.init_root());
        let refused = ConfigUpdate::read(message.get_root_as_reader().unwrap());
        assert!(matches!(refused, Err(ConfigPushError::TooLarge { .. })));
    }
}
