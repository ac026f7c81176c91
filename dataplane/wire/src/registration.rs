//! What a connector says to register a connection, and what the edge answers.
//!
//! The types here are plain and checked; they are read from and written to the readers and builders
//! of [`tunnelrpc_capnp`](crate::tunnelrpc_capnp), which the RPC system owns. Texts of the peer have
//! named limits, because they end up in tables, logs and the control API.
//!
//! Source: cloudflared `tunnelrpc/pogs/registration_server.go`, `tunnelrpc/proto/tunnelrpc.capnp`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::ids::{AccountTag, ConnIndex, ConnectionId, ConnectorId, IdError, TunnelId};
use crate::secret::TunnelSecret;
use crate::tunnelrpc_capnp as schema;

mod origin_health;

pub use origin_health::{HEALTH_PATH_BYTES_MAX, HEALTH_RULES_MAX, OriginHealth, RuleHealth};

/// Longest feature, version, architecture or location name.
pub const LABEL_BYTES_MAX: usize = 256;

/// Most features of one connector; the stock one has seven.
pub const FEATURES_MAX: usize = 64;

/// Longest tunnel secret; those of cloudflared have 32 bytes.
pub const SECRET_BYTES_MAX: usize = 256;

/// Longest cause of a refusal that is kept; the rest is cut off.
pub const CAUSE_BYTES_MAX: usize = 1024;

/// Names in [`ClientInfo::features`].
pub mod feature {
    /// Takes a configuration from the edge.
    pub const ALLOW_REMOTE_CONFIG: &str = "allow_remote_config";
    /// Serialises response headers on HTTP/2.
    pub const SERIALIZED_HEADERS: &str = "serialized_headers";
    /// Speaks datagram v2; listed even when v3 is active.
    pub const DATAGRAM_V2: &str = "support_datagram_v2";
    /// Datagram v3 is active on this connection, and v2 must not be used.
    pub const DATAGRAM_V3: &str = "support_datagram_v3_2";
    /// Ends its side of a data stream with FIN.
    pub const QUIC_EOF: &str = "support_quic_eof";
    /// Streams its logs on request.
    pub const MANAGEMENT_LOGS: &str = "management_logs";
    /// Exchanges keys by post-quantum means only.
    pub const POST_QUANTUM: &str = "postquantum";
}

/// Cause of a refusal that sends the stock connector to another edge address.
pub const CAUSE_DUPLICATE: &str = "EDUPCONN";

/// Why a registration message cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The message breaks the rules of Cap'n Proto.
    #[error("not a valid message")]
    Message(#[from] capnp::Error),
    /// An id has a wrong size or form.
    #[error("{field} is not valid")]
    Id {
        /// Name in the schema.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: IdError,
    },
    /// A text is not UTF-8.
    #[error("{field} is not valid UTF-8")]
    Text {
        /// Name in the schema.
        field: &'static str,
    },
    /// A field is larger than its limit.
    #[error("{field} has {size} bytes or entries, more than {limit}")]
    TooLarge {
        /// Name in the schema.
        field: &'static str,
        /// What came.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
    /// A union's member that the schema does not know.
    #[error("{field} is of a kind unknown here")]
    UnknownMember {
        /// Name in the schema.
        field: &'static str,
    },
}

/// Proof that the connector may serve the tunnel.
#[derive(Debug, Clone)]
pub struct TunnelAuth {
    /// Account that owns the tunnel.
    pub account_tag: AccountTag,
    /// Shared secret of the tunnel.
    pub secret: TunnelSecret,
}

/// Who the connector is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// The replica.
    pub connector_id: ConnectorId,
    /// Names of [`feature`] and others; a set on the wire too.
    pub features: BTreeSet<String>,
    /// Version of the connector program.
    pub version: String,
    /// `<os>_<architecture>` in Go's words, as in `linux_amd64`.
    pub arch: String,
}

impl ClientInfo {
    /// Whether the connector has a feature of [`feature`].
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }
}

/// How the connector wants this connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// Who the connector is.
    pub client: ClientInfo,
    /// An address of 4 or 16 bytes, informational; whatever else comes is dropped.
    pub origin_local_ip: Option<std::net::IpAddr>,
    /// Whether an older connection with the same index should go.
    pub replace_existing: bool,
    /// Always zero today.
    pub compression_quality: u8,
    /// Failures of this slot before this attempt.
    pub num_previous_attempts: u8,
}

/// Parameters of `registerConnection`.
#[derive(Debug, Clone)]
pub struct RegisterRequest {
    /// Proof.
    pub auth: TunnelAuth,
    /// Tunnel to serve.
    pub tunnel_id: TunnelId,
    /// Slot of this connection in its replica.
    pub conn_index: ConnIndex,
    /// The rest.
    pub options: ConnectionOptions,
}

/// The edge's consent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionDetails {
    /// The edge's name for this connection.
    pub id: ConnectionId,
    /// The edge's own name, as in `fra01`.
    pub location: String,
    /// Whether the configuration comes from the edge.
    pub is_remotely_managed: bool,
}

/// The edge's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionError {
    /// Reason in human words; [`CAUSE_DUPLICATE`] has a meaning of its own.
    pub cause: String,
    /// How long to wait before the next try.
    pub retry_after: Duration,
    /// Whether another try makes sense.
    pub should_retry: bool,
}

/// The edge's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterResponse {
    /// The connection is registered.
    Registered(ConnectionDetails),
    /// It is not.
    Refused(ConnectionError),
}

impl RegisterRequest {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// [`RegistrationError`] for fields that are missing, malformed or too large.
    pub fn read(
        params: schema::registration_server::register_connection_params::Reader<'_>,
    ) -> Result<Self, RegistrationError> {
        let auth = params.get_auth()?;
        let account_tag = text("accountTag", auth.get_account_tag()?, LABEL_BYTES_MAX)?;
        let account_tag = account_tag.parse().map_err(|source| id("accountTag", source))?;
        let secret = within("tunnelSecret", auth.get_tunnel_secret()?, SECRET_BYTES_MAX)?;
        Ok(Self {
            auth: TunnelAuth {
                account_tag,
                secret: TunnelSecret::new(secret.to_vec()),
            },
            tunnel_id: TunnelId::from_slice(params.get_tunnel_id()?)
                .map_err(|source| id("tunnelId", source))?,
            conn_index: ConnIndex(params.get_conn_index()),
            options: ConnectionOptions::read(params.get_options()?)?,
        })
    }

    /// Writes the parameters of a call.
    pub fn write(&self, mut params: schema::registration_server::register_connection_params::Builder<'_>) {
        params.set_tunnel_id(self.tunnel_id.as_bytes());
        params.set_conn_index(self.conn_index.0);
        let mut auth = params.reborrow().init_auth();
        auth.set_account_tag(self.auth.account_tag.as_str());
        auth.set_tunnel_secret(self.auth.secret.as_bytes());
        self.options.write(params.init_options());
    }
}

impl ConnectionOptions {
    fn read(options: schema::connection_options::Reader<'_>) -> Result<Self, RegistrationError> {
        let client = options.get_client()?;
        let listed = client.get_features()?;
        let count = listed.len() as usize;
        if count > FEATURES_MAX {
            return Err(RegistrationError::TooLarge {
                field: "features",
                size: count,
                limit: FEATURES_MAX,
            });
        }
        let features = listed
            .iter()
            .map(|name| text("features", name?, LABEL_BYTES_MAX))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            client: ClientInfo {
                connector_id: ConnectorId::from_slice(client.get_client_id()?)
                    .map_err(|source| id("clientId", source))?,
                features,
                version: text("version", client.get_version()?, LABEL_BYTES_MAX)?,
                arch: text("arch", client.get_arch()?, LABEL_BYTES_MAX)?,
            },
            origin_local_ip: ip(options.get_origin_local_ip()?),
            replace_existing: options.get_replace_existing(),
            compression_quality: options.get_compression_quality(),
            num_previous_attempts: options.get_num_previous_attempts(),
        })
    }

    fn write(&self, mut options: schema::connection_options::Builder<'_>) {
        match self.origin_local_ip {
            Some(std::net::IpAddr::V4(ip)) => options.set_origin_local_ip(&ip.octets()),
            Some(std::net::IpAddr::V6(ip)) => options.set_origin_local_ip(&ip.octets()),
            None => {}
        }
        options.set_replace_existing(self.replace_existing);
        options.set_compression_quality(self.compression_quality);
        options.set_num_previous_attempts(self.num_previous_attempts);
        let mut client = options.init_client();
        client.set_client_id(self.client.connector_id.as_bytes());
        client.set_version(&*self.client.version);
        client.set_arch(&*self.client.arch);
        // A connector has a handful of features, so the count fits.
        let mut listed = client.init_features(self.client.features.len() as u32);
        for (index, name) in (0..).zip(&self.client.features) {
            listed.set(index, &**name);
        }
    }
}

impl RegisterResponse {
    /// Reads the result of a call.
    ///
    /// # Errors
    /// [`RegistrationError`]; the connector then treats the registration as failed.
    pub fn read(response: schema::connection_response::Reader<'_>) -> Result<Self, RegistrationError> {
        use schema::connection_response::result::Which;
        match response.get_result().which() {
            Ok(Which::ConnectionDetails(details)) => {
                let details = details?;
                Ok(Self::Registered(ConnectionDetails {
                    id: ConnectionId::from_slice(details.get_uuid()?).map_err(|source| id("uuid", source))?,
                    location: text("locationName", details.get_location_name()?, LABEL_BYTES_MAX)?,
                    is_remotely_managed: details.get_tunnel_is_remotely_managed(),
                }))
            }
            Ok(Which::Error(error)) => {
                let error = error?;
                let cause = error.get_cause()?.as_bytes();
                let cause = &cause[..cause.len().min(CAUSE_BYTES_MAX)];
                Ok(Self::Refused(ConnectionError {
                    cause: String::from_utf8_lossy(cause).into_owned(),
                    // A negative wait is no wait.
                    retry_after: Duration::from_nanos(u64::try_from(error.get_retry_after()).unwrap_or(0)),
                    should_retry: error.get_should_retry(),
                }))
            }
            Err(capnp::NotInSchema(_)) => Err(RegistrationError::UnknownMember { field: "result" }),
        }
    }

    /// Writes the result of a call.
    pub fn write(&self, response: schema::connection_response::Builder<'_>) {
        let result = response.init_result();
        match self {
            Self::Registered(details) => {
                let mut out = result.init_connection_details();
                out.set_uuid(details.id.as_bytes());
                out.set_location_name(&*details.location);
                out.set_tunnel_is_remotely_managed(details.is_remotely_managed);
            }
            Self::Refused(error) => {
                let mut out = result.init_error();
                out.set_cause(&*error.cause);
                out.set_retry_after(i64::try_from(error.retry_after.as_nanos()).unwrap_or(i64::MAX));
                out.set_should_retry(error.should_retry);
            }
        }
    }
}

fn id(field: &'static str, source: IdError) -> RegistrationError {
    RegistrationError::Id { field, source }
}

fn within<'a>(field: &'static str, bytes: &'a [u8], limit: usize) -> Result<&'a [u8], RegistrationError> {
    if bytes.len() > limit {
        return Err(RegistrationError::TooLarge {
            field,
            size: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

fn text(
    field: &'static str,
    text: capnp::text::Reader<'_>,
    limit: usize,
) -> Result<String, RegistrationError> {
    let bytes = within(field, text.as_bytes(), limit)?;
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| RegistrationError::Text { field })
}

fn ip(bytes: &[u8]) -> Option<std::net::IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(Into::into)
}

#[cfg(test)]
mod tests;
