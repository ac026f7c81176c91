//! What an attached edge asks of control.

use std::time::{Duration, UNIX_EPOCH};

use adit_wire::ids::{ConnectorId, TunnelId};

use super::codec::{
    list_length, long_text, read_outcome, read_rejections, write_configuration_state, write_connection,
    write_key,
};
use super::{
    ConfigurationState, Connection, ConnectionKey, IssuedCertificate, LinkError, REPORT_CONNECTIONS_MAX,
    RegisterOutcome, Rejection, RemoteConfiguration,
};
use crate::digest::SecretDigest;
use crate::edge_link_capnp::edge_session;

/// The edge's handle on its session with control. Cheap to clone. The session lasts as long as the link.
#[derive(Clone)]
pub struct EdgeSession {
    client: edge_session::Client,
}

impl EdgeSession {
    pub(super) const fn new(client: edge_session::Client) -> Self {
        Self { client }
    }

    /// Asks whether a connection may serve. The caller bounds the wait by [`super::REGISTER_DEADLINE`].
    ///
    /// # Errors
    /// [`LinkError`] when there is no answer; a refusal is not an error.
    pub async fn register(
        &self,
        connection: &Connection,
        secret: &SecretDigest,
    ) -> Result<RegisterOutcome, LinkError> {
        let mut request = self.client.register_request();
        let mut params = request.get();
        write_connection(connection, params.reborrow().init_connection())?;
        params.set_secret_digest(secret.as_bytes());
        let response = request.send().promise.await?;
        read_outcome(response.get()?.get_outcome()?)
    }

    /// Tells that a connection is gone.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone.
    pub async fn unregister(&self, key: &ConnectionKey) -> Result<(), LinkError> {
        let mut request = self.client.unregister_request();
        write_key(key, request.get().init_connection());
        request.send().promise.await?;
        Ok(())
    }

    /// Tells everything that lives on this edge, after every attach; returns what must be closed.
    ///
    /// # Errors
    /// [`LinkError`] when the link is gone or an answer is unreadable.
    pub async fn report_connections(&self, living: &[Connection]) -> Result<Vec<Rejection>, LinkError> {
        let mut rejected = Vec::new();
        let count = living.len().div_ceil(REPORT_CONNECTIONS_MAX).max(1);
        for part in 0..count {
            let from = part * REPORT_CONNECTIONS_MAX;
            let until = living.len().min(from + REPORT_CONNECTIONS_MAX);
            let mut request = self.client.report_connections_request();
            let mut params = request.get();
            let mut list = params.reborrow().init_connections(list_length(until - from)?);
            for (index, connection) in (0..).zip(&living[from..until]) {
                write_connection(connection, list.reborrow().get(index))?;
            }
            params.set_first(part == 0);
            params.set_last(part + 1 == count);
            let response = request.send().promise.await?;
            rejected.extend(read_rejections(response.get()?.get_rejected()?)?);
        }
        Ok(rejected)
    }

    /// Passes on the configuration that a connector told of itself.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone or the configuration is too large.
    pub async fn local_configuration(
        &self,
        tunnel: &TunnelId,
        connector: &ConnectorId,
        config: &[u8],
    ) -> Result<(), LinkError> {
        let mut request = self.client.local_configuration_request();
        let mut params = request.get();
        params.set_tunnel(tunnel.0.as_bytes());
        params.set_connector(connector.0.as_bytes());
        params.set_config(config);
        request.send().promise.await?;
        Ok(())
    }

    /// Tells what became of the remote configuration at a replica.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone.
    pub async fn configuration_told(
        &self,
        tunnel: &TunnelId,
        connector: &ConnectorId,
        state: &ConfigurationState,
    ) -> Result<(), LinkError> {
        let mut request = self.client.configuration_told_request();
        let mut params = request.get();
        params.set_tunnel(tunnel.0.as_bytes());
        params.set_connector(connector.0.as_bytes());
        write_configuration_state(state, params.init_state());
        request.send().promise.await?;
        Ok(())
    }

    /// Fetches a tunnel's remote configuration, to be pushed to its connectors.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone.
    pub async fn configuration(&self, tunnel: &TunnelId) -> Result<Option<RemoteConfiguration>, LinkError> {
        let mut request = self.client.configuration_request();
        request.get().set_tunnel(tunnel.0.as_bytes());
        let response = request.send().promise.await?;
        let found = response.get()?;
        if found.get_version() < 0 {
            return Ok(None);
        }
        Ok(Some(RemoteConfiguration {
            version: found.get_version(),
            config: found.get_config()?.to_vec(),
        }))
    }

    /// Asks for a full snapshot because a delta did not fit the held `generation`.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone.
    pub async fn resync(&self, generation: u64) -> Result<(), LinkError> {
        let mut request = self.client.resync_request();
        request.get().set_generation(generation);
        request.send().promise.await?;
        Ok(())
    }

    /// Has a certificate made for the key in `request`, a PKCS #10 request in DER. The key is ECDSA P-256.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] with control's reason when it refuses the request, or when the link is gone.
    pub async fn issue_tunnel_certificate(&self, request_der: &[u8]) -> Result<IssuedCertificate, LinkError> {
        let mut request = self.client.issue_tunnel_certificate_request();
        request.get().set_request(request_der);
        let response = request.send().promise.await?;
        let issued = response.get()?.get_certificate()?;
        Ok(IssuedCertificate {
            chain_pem: long_text("chain", issued.get_chain_pem()?)?,
            root_pem: long_text("root", issued.get_root_pem()?)?,
            not_after: UNIX_EPOCH + Duration::from_millis(issued.get_not_after_ms()),
        })
    }
}
