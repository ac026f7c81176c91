//! Link structs to and from Cap'n Proto. Texts and lists are bounded here, so the rest need not ask.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use adit_wire::ids::{AccountTag, ConnIndex, ConnectionId, ConnectorId, TunnelId};
use capnp::{struct_list, text};
use uuid::Uuid;

use super::{
    Accepted, ConfigurationRefusal, ConfigurationState, Connection, ConnectionKey, Disconnect, EdgeInfo,
    FEATURES_MAX, IssuedCertificate, LinkError, REFUSAL_BYTES_MAX, Refused, RegisterOutcome, Rejection,
    Rival, TEXT_BYTES_MAX,
};
use crate::edge_link_capnp::{
    accepted, configuration_state, connection, connection_key, disconnect, edge_info, issued_certificate,
    refused, register_outcome, rejection,
};

pub(super) fn write_edge_info(info: &EdgeInfo, mut out: edge_info::Builder<'_>) {
    out.set_name(info.name.as_str());
    out.set_colo(info.colo.as_str());
    out.set_region(info.region.as_str());
    out.set_run(info.run.as_bytes());
    out.set_generation(info.generation);
    out.set_version(info.version.as_str());
}

/// Reads who attaches.
///
/// # Errors
/// [`LinkError::Field`] for an empty name, a long text or a bad id.
pub fn read_edge_info(input: edge_info::Reader<'_>) -> Result<EdgeInfo, LinkError> {
    let name = text("edge name", input.get_name()?)?;
    if name.is_empty() {
        return Err(bad("edge name", "it is empty"));
    }
    Ok(EdgeInfo {
        name,
        colo: text("colo", input.get_colo()?)?,
        region: text("region", input.get_region()?)?,
        run: uuid("run", input.get_run()?)?,
        generation: input.get_generation(),
        version: text("edge version", input.get_version()?)?,
    })
}

pub(super) fn read_rival(edge: edge_info::Reader<'_>, address: text::Reader<'_>) -> Result<Rival, LinkError> {
    Ok(Rival {
        edge: read_edge_info(edge)?,
        address: text("address", address)?,
    })
}

/// Reads a tunnel's id.
///
/// # Errors
/// [`LinkError::Field`] unless it has 16 bytes.
pub fn read_tunnel(bytes: &[u8]) -> Result<TunnelId, LinkError> {
    uuid("tunnel", bytes).map(TunnelId)
}

/// Writes which connection is meant.
pub fn write_key(key: &ConnectionKey, mut out: connection_key::Builder<'_>) {
    out.set_tunnel(key.tunnel.0.as_bytes());
    out.set_connector(key.connector.0.as_bytes());
    out.set_index(key.index.0);
    out.set_connection(key.connection.0.as_bytes());
}

/// Reads which connection is meant.
///
/// # Errors
/// [`LinkError::Field`] for an id that has not 16 bytes.
pub fn read_key(input: connection_key::Reader<'_>) -> Result<ConnectionKey, LinkError> {
    Ok(ConnectionKey {
        tunnel: read_tunnel(input.get_tunnel()?)?,
        connector: ConnectorId(uuid("connector", input.get_connector()?)?),
        index: ConnIndex(input.get_index()),
        connection: ConnectionId(uuid("connection", input.get_connection()?)?),
    })
}

pub(super) fn write_connection(
    value: &Connection,
    mut out: connection::Builder<'_>,
) -> Result<(), LinkError> {
    write_key(&value.key, out.reborrow().init_key());
    out.set_account(value.account.to_string().as_str());
    out.set_version(clipped(&value.version));
    out.set_arch(clipped(&value.arch));
    let kept = value.features.len().min(FEATURES_MAX);
    let mut features = out.reborrow().init_features(list_length(kept)?);
    for (index, feature) in (0..).zip(value.features.iter().take(kept)) {
        features.set(index, clipped(feature));
    }
    out.set_origin_address(value.origin_address.to_string().as_str());
    out.set_opened_at_ms(millis(value.opened_at));
    Ok(())
}

/// Reads a connection that registers or lives.
///
/// # Errors
/// [`LinkError::Field`] for a bad id, account, address or a text that is too long.
pub fn read_connection(input: connection::Reader<'_>) -> Result<Connection, LinkError> {
    let list = input.get_features()?;
    if list.len() as usize > FEATURES_MAX {
        return Err(bad("features", "there are too many"));
    }
    let features = list
        .iter()
        .map(|item| text("feature", item?))
        .collect::<Result<_, LinkError>>()?;
    let account = text("account", input.get_account()?)?;
    let address = text("origin address", input.get_origin_address()?)?;
    Ok(Connection {
        key: read_key(input.get_key()?)?,
        account: account
            .parse::<AccountTag>()
            .map_err(|error| bad("account", error))?,
        version: text("version", input.get_version()?)?,
        arch: text("arch", input.get_arch()?)?,
        features,
        origin_address: address
            .parse::<IpAddr>()
            .map_err(|error| bad("origin address", error))?,
        opened_at: time(input.get_opened_at_ms()),
    })
}

/// Writes control's consent.
pub fn write_accepted(value: Accepted, mut out: accepted::Builder<'_>) {
    out.set_remotely_managed(value.remotely_managed);
    out.set_config_version(value.config_version);
}

/// Writes control's refusal.
pub fn write_refused(value: &Refused, mut out: refused::Builder<'_>) {
    out.set_cause(value.cause.as_str());
    out.set_code(value.code.as_str());
    out.set_should_retry(value.should_retry);
    out.set_retry_after_ms(u64::try_from(value.retry_after.as_millis()).unwrap_or(u64::MAX));
}

/// Writes an issued certificate.
pub fn write_certificate(value: &IssuedCertificate, mut out: issued_certificate::Builder<'_>) {
    out.set_chain_pem(value.chain_pem.as_str());
    out.set_root_pem(value.root_pem.as_str());
    out.set_not_after_ms(millis(value.not_after));
}

pub(super) fn read_outcome(input: register_outcome::Reader<'_>) -> Result<RegisterOutcome, LinkError> {
    match input.which().map_err(capnp::Error::from)? {
        register_outcome::Which::Accepted(accepted) => {
            let accepted = accepted?;
            Ok(RegisterOutcome::Accepted(Accepted {
                remotely_managed: accepted.get_remotely_managed(),
                config_version: accepted.get_config_version(),
            }))
        }
        register_outcome::Which::Refused(refused) => Ok(RegisterOutcome::Refused(read_refused(refused?)?)),
    }
}

pub(super) fn read_rejections(
    list: struct_list::Reader<'_, rejection::Owned>,
) -> Result<Vec<Rejection>, LinkError> {
    list.iter()
        .map(|item| {
            Ok(Rejection {
                key: read_key(item.get_key()?)?,
                refused: read_refused(item.get_refused()?)?,
            })
        })
        .collect()
}

fn read_refused(input: refused::Reader<'_>) -> Result<Refused, LinkError> {
    Ok(Refused {
        cause: long_text("cause", input.get_cause()?)?,
        code: text("code", input.get_code()?)?,
        should_retry: input.get_should_retry(),
        retry_after: Duration::from_millis(input.get_retry_after_ms()),
    })
}

pub(super) fn write_disconnect(value: &Disconnect, mut out: disconnect::Builder<'_>) {
    out.set_tunnel(value.tunnel.0.as_bytes());
    if let Some(connector) = &value.connector {
        out.set_connector(connector.0.as_bytes());
    }
    if let Some(connection) = &value.connection {
        out.set_connection(connection.0.as_bytes());
    }
    out.set_reason(value.reason.as_str());
}

pub(super) fn read_disconnect(input: disconnect::Reader<'_>) -> Result<Disconnect, LinkError> {
    Ok(Disconnect {
        tunnel: read_tunnel(input.get_tunnel()?)?,
        connector: optional_uuid("connector", input.get_connector()?)?.map(ConnectorId),
        connection: optional_uuid("connection", input.get_connection()?)?.map(ConnectionId),
        reason: text("reason", input.get_reason()?)?,
    })
}

pub(super) fn list_length(length: usize) -> Result<u32, LinkError> {
    u32::try_from(length).map_err(|_| bad("list", "it is too long"))
}

fn uuid(field: &'static str, bytes: &[u8]) -> Result<Uuid, LinkError> {
    Uuid::from_slice(bytes).map_err(|error| bad(field, error))
}

fn optional_uuid(field: &'static str, bytes: &[u8]) -> Result<Option<Uuid>, LinkError> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        uuid(field, bytes).map(Some)
    }
}

fn text(field: &'static str, value: text::Reader<'_>) -> Result<String, LinkError> {
    if value.len() > TEXT_BYTES_MAX {
        return Err(bad(field, "it is too long"));
    }
    long_text(field, value)
}

/// A text bounded by the message alone.
pub(super) fn long_text(field: &'static str, value: text::Reader<'_>) -> Result<String, LinkError> {
    value.to_string().map_err(|error| bad(field, error))
}

/// Reads what became of a configuration.
///
/// # Errors
/// [`LinkError::Field`] for a reason that is no text.
pub fn read_configuration_state(
    state: configuration_state::Reader<'_>,
) -> Result<ConfigurationState, LinkError> {
    let error = state
        .get_error()?
        .to_str()
        .map_err(|error| bad("configuration error", error))?;
    let refusal = (state.get_refused() >= 0).then(|| ConfigurationRefusal {
        version: state.get_refused(),
        error: error[..error.floor_char_boundary(REFUSAL_BYTES_MAX)].to_owned(),
    });
    Ok(ConfigurationState {
        applied: state.get_applied(),
        refusal,
    })
}

pub(super) fn write_configuration_state(
    state: &ConfigurationState,
    mut to: configuration_state::Builder<'_>,
) {
    to.set_applied(state.applied);
    match &state.refusal {
        Some(refusal) => {
            to.set_refused(refusal.version);
            to.set_error(&refusal.error[..refusal.error.floor_char_boundary(REFUSAL_BYTES_MAX)]);
        }
        None => to.set_refused(-1),
    }
}

/// The longest prefix of a text that the other side accepts: these texts come from connectors, and a long one
/// must not cost its edge the link.
fn clipped(value: &str) -> &str {
    &value[..value.floor_char_boundary(TEXT_BYTES_MAX)]
}

fn bad(field: &'static str, reason: impl ToString) -> LinkError {
    LinkError::Field {
        field,
        reason: reason.to_string(),
    }
}

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Times beyond what the clock can tell become 1970: they are shown, never decided on.
fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH)
}
