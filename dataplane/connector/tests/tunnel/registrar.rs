//! Who registers the connector: an edge's end of the control stream.

use std::cell::RefCell;
use std::rc::Rc;

use adit_wire::ConnectionId;
use adit_wire::framing::RPC_READER_OPTIONS;
use adit_wire::registration::{ConnectionDetails, RegisterRequest, RegisterResponse};
use adit_wire::tunnelrpc_capnp::registration_server;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use uuid::Uuid;

pub(crate) const ACCOUNT: &str = "acct0123";
pub(crate) const TUNNEL: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const SECRET: [u8; 32] = [7; 32];

#[derive(Default)]
pub(crate) struct Registrar {
    pub(crate) local_config: RefCell<String>,
    pub(crate) configured: Notify,
    pub(crate) unregistered: Notify,
}

/// Serves a control stream.
pub(crate) fn serve(
    registrar: Rc<Registrar>,
    send: impl AsyncWrite + Unpin + 'static,
    recv: impl AsyncRead + Unpin + 'static,
) {
    let network = twoparty::VatNetwork::new(
        recv.compat(),
        send.compat_write(),
        Side::Server,
        RPC_READER_OPTIONS,
    );
    let server: registration_server::Client = capnp_rpc::new_client(ControlServer(registrar));
    // Ends with the connection.
    spawn_local(RpcSystem::new(Box::new(network), Some(server.client)));
}

struct ControlServer(Rc<Registrar>);

impl registration_server::Server for ControlServer {
    async fn register_connection(
        self: Rc<Self>,
        params: registration_server::RegisterConnectionParams,
        mut results: registration_server::RegisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        let request = RegisterRequest::read(params.get()?).unwrap();
        assert_eq!(request.tunnel_id.to_string(), TUNNEL);
        assert_eq!(request.auth.account_tag.as_str(), ACCOUNT);
        assert_eq!(request.auth.secret.as_bytes(), SECRET);
        assert_eq!(request.conn_index.0, 0);
        let details = ConnectionDetails {
            id: ConnectionId(Uuid::new_v4()),
            location: "tst01".to_owned(),
            is_remotely_managed: false,
        };
        RegisterResponse::Registered(details).write(results.get().init_result());
        Ok(())
    }

    async fn update_local_configuration(
        self: Rc<Self>,
        params: registration_server::UpdateLocalConfigurationParams,
        _: registration_server::UpdateLocalConfigurationResults,
    ) -> Result<(), capnp::Error> {
        let config = params.get()?.get_config()?;
        *self.0.local_config.borrow_mut() = String::from_utf8(config.to_vec()).unwrap();
        self.0.configured.notify_one();
        Ok(())
    }

    async fn unregister_connection(
        self: Rc<Self>,
        _: registration_server::UnregisterConnectionParams,
        _: registration_server::UnregisterConnectionResults,
    ) -> Result<(), capnp::Error> {
        self.0.unregistered.notify_one();
        Ok(())
    }
}
