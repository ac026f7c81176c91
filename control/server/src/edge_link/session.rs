//! The calls of an edge, turned into calls on [`State`].

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use adit_control_api::ConnectorId;
use adit_control_api::configuration::CONFIGURATION_BYTES_MAX;
use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{
    EdgeInfo, LinkError, REPORT_CONNECTIONS_MAX, ReceiverHandle, RegisterOutcome, read_configuration_state,
    read_connection, read_edge_info, read_key, read_tunnel, write_accepted, write_certificate, write_key,
    write_refused,
};
use adit_control_api::edge_link_capnp::{edge_gate, edge_session};
use tokio::sync::{Notify, oneshot};

use crate::ca::Ca;
use crate::registrar::SessionId;
use crate::state::{Attachment, State};

/// What the pusher needs of an attached edge.
pub(super) struct Attached {
    pub(super) edge: EdgeInfo,
    pub(super) receiver: ReceiverHandle,
    pub(super) attachment: Attachment,
    pub(super) resync: Rc<Notify>,
    /// Detaches when the link ends, however it ends.
    pub(super) guard: Detach,
}

/// Detaches the session when dropped.
pub(super) struct Detach {
    state: Arc<State>,
    session: SessionId,
}

impl Drop for Detach {
    fn drop(&mut self) {
        self.state.detach(self.session);
    }
}

/// Who dialled.
pub(super) struct Peer {
    /// The name in its certificate, over TLS.
    pub(super) identity: Option<String>,
    /// Where it dialled from, for logs.
    pub(super) address: String,
}

/// Lets one edge attach, once.
pub(super) struct Gate {
    state: Arc<State>,
    ca: Rc<Ca>,
    peer: Peer,
    attached: RefCell<Option<oneshot::Sender<Attached>>>,
}

impl Gate {
    pub(super) fn new(state: Arc<State>, ca: Rc<Ca>, peer: Peer) -> (Self, oneshot::Receiver<Attached>) {
        let (sender, receiver) = oneshot::channel();
        (
            Self {
                state,
                ca,
                peer,
                attached: RefCell::new(Some(sender)),
            },
            receiver,
        )
    }
}

impl edge_gate::Server for Gate {
    async fn attach(
        self: Rc<Self>,
        params: edge_gate::AttachParams,
        mut results: edge_gate::AttachResults,
    ) -> Result<(), capnp::Error> {
        let (edge, receiver) = {
            let params = params.get()?;
            (
                read_edge_info(params.get_edge()?)?,
                ReceiverHandle::new(params.get_receiver()?),
            )
        };
        if let Some(identity) = &self.peer.identity
            && *identity != edge.name
        {
            tracing::warn!(
                certificate = identity,
                edge = edge.name,
                "an edge came with the certificate of another"
            );
            return Err(failed(format!(
                "the certificate is of edge {identity:?}, not of {:?}",
                edge.name
            )));
        }
        let attached = self
            .attached
            .take()
            .ok_or_else(|| failed("this link is attached already"))?;
        let attachment = self
            .state
            .attach(&edge, &self.peer.address)
            .await
            .map_err(failed)?;
        let (session, resync) = (attachment.session, Rc::new(Notify::new()));
        let server = Session {
            state: self.state.clone(),
            ca: self.ca.clone(),
            session,
            resync: resync.clone(),
        };
        results.get().set_session(capnp_rpc::new_client(server));
        let guard = Detach {
            state: self.state.clone(),
            session,
        };
        attached
            .send(Attached {
                edge,
                receiver,
                attachment,
                resync,
                guard,
            })
            .map_err(|_| failed("the link is closing"))
    }
}

/// Serves one attached edge.
struct Session {
    state: Arc<State>,
    ca: Rc<Ca>,
    session: SessionId,
    resync: Rc<Notify>,
}

impl edge_session::Server for Session {
    async fn register(
        self: Rc<Self>,
        params: edge_session::RegisterParams,
        mut results: edge_session::RegisterResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let connection = read_connection(params.get_connection()?)?;
        let digest = <[u8; 32]>::try_from(params.get_secret_digest()?)
            .map_err(|_| failed("a secret's digest has 32 bytes"))?;
        let digest = SecretDigest::from_bytes(digest);
        let outcome = results.get().init_outcome();
        match self
            .state
            .register(self.session, connection, &digest)
            .map_err(failed)?
        {
            RegisterOutcome::Accepted(accepted) => write_accepted(accepted, outcome.init_accepted()),
            RegisterOutcome::Refused(refused) => write_refused(&refused, outcome.init_refused()),
        }
        Ok(())
    }

    async fn unregister(
        self: Rc<Self>,
        params: edge_session::UnregisterParams,
        _: edge_session::UnregisterResults,
    ) -> Result<(), capnp::Error> {
        let key = read_key(params.get()?.get_connection()?)?;
        self.state.unregister(self.session, &key).map_err(failed)
    }

    async fn report_connections(
        self: Rc<Self>,
        params: edge_session::ReportConnectionsParams,
        mut results: edge_session::ReportConnectionsResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let list = params.get_connections()?;
        if list.len() as usize > REPORT_CONNECTIONS_MAX {
            return Err(failed(format!(
                "a part of a report has at most {REPORT_CONNECTIONS_MAX} connections"
            )));
        }
        let part = list
            .iter()
            .map(read_connection)
            .collect::<Result<Vec<_>, LinkError>>()?;
        let rejected = self
            .state
            .report(self.session, part, params.get_first(), params.get_last())
            .map_err(failed)?;
        let length = u32::try_from(rejected.len()).map_err(failed)?;
        let mut out = results.get().init_rejected(length);
        for (index, rejection) in (0..).zip(&rejected) {
            let mut item = out.reborrow().get(index);
            write_key(&rejection.key, item.reborrow().init_key());
            write_refused(&rejection.refused, item.init_refused());
        }
        Ok(())
    }

    async fn local_configuration(
        self: Rc<Self>,
        params: edge_session::LocalConfigurationParams,
        _: edge_session::LocalConfigurationResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let tunnel = read_tunnel(params.get_tunnel()?)?;
        let connector = ConnectorId::from_slice(params.get_connector()?).map_err(failed)?;
        let config = params.get_config()?;
        if config.len() > CONFIGURATION_BYTES_MAX {
            return Err(failed(format!(
                "a configuration has at most {CONFIGURATION_BYTES_MAX} bytes"
            )));
        }
        self.state.local_configuration(tunnel, connector, config.into());
        Ok(())
    }

    async fn configuration_told(
        self: Rc<Self>,
        params: edge_session::ConfigurationToldParams,
        _: edge_session::ConfigurationToldResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let tunnel = read_tunnel(params.get_tunnel()?)?;
        let connector = ConnectorId::from_slice(params.get_connector()?).map_err(failed)?;
        let state = read_configuration_state(params.get_state()?)?;
        self.state.configuration_told(tunnel, connector, state);
        Ok(())
    }

    async fn configuration(
        self: Rc<Self>,
        params: edge_session::ConfigurationParams,
        mut results: edge_session::ConfigurationResults,
    ) -> Result<(), capnp::Error> {
        let tunnel = read_tunnel(params.get()?.get_tunnel()?)?;
        let facts = self.state.facts();
        let mut out = results.get();
        match facts.configurations.get(&tunnel) {
            Some(held) => {
                out.set_version(held.version);
                out.set_config(held.config.to_string().as_bytes());
            }
            None => out.set_version(-1),
        }
        Ok(())
    }

    async fn resync(
        self: Rc<Self>,
        _: edge_session::ResyncParams,
        _: edge_session::ResyncResults,
    ) -> Result<(), capnp::Error> {
        self.state.metrics.resynced();
        self.resync.notify_one();
        Ok(())
    }

    async fn issue_tunnel_certificate(
        self: Rc<Self>,
        params: edge_session::IssueTunnelCertificateParams,
        mut results: edge_session::IssueTunnelCertificateResults,
    ) -> Result<(), capnp::Error> {
        if !self.state.ask(|registrar| registrar.is_attached(self.session)) {
            return Err(failed("the session has ended; attach again"));
        }
        let issued = self
            .ca
            .issue_tunnel(params.get()?.get_request()?, SystemTime::now())
            .map_err(failed)?;
        write_certificate(&issued, results.get().init_certificate());
        Ok(())
    }
}

fn failed(reason: impl ToString) -> capnp::Error {
    capnp::Error::failed(reason.to_string())
}
