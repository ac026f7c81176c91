//! The edge's end of the link: start it over a byte stream, then attach.

use std::future::Future;

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use futures_util::io::{AsyncRead, AsyncWrite};

use super::codec::write_edge_info;
use super::receiver::{EdgeReceiver, ReceiverServer};
use super::{EdgeInfo, EdgeSession, LinkError, reader_options};
use crate::edge_link_capnp::{edge_gate, edge_receiver};

/// A link that is up but not attached.
pub struct Link<D> {
    /// Where to attach.
    pub gate: EdgeGate,
    /// Moves the bytes: spawn it locally before the first call. It ends when the link is gone.
    pub driver: D,
}

impl Link<()> {
    /// Starts the protocol over a connected byte stream.
    pub fn over<R, W>(reader: R, writer: W) -> Link<impl Future<Output = Result<(), capnp::Error>> + 'static>
    where
        R: AsyncRead + Unpin + 'static,
        W: AsyncWrite + Unpin + 'static,
    {
        let network = twoparty::VatNetwork::new(reader, writer, Side::Client, reader_options());
        let mut driver = RpcSystem::new(Box::new(network), None);
        let client = driver.bootstrap::<edge_gate::Client>(Side::Server);
        Link {
            gate: EdgeGate { client },
            driver,
        }
    }
}

/// What control offers to an edge that is not attached.
pub struct EdgeGate {
    client: edge_gate::Client,
}

impl EdgeGate {
    /// Attaches as `info`; control sends the snapshot and everything later to `receiver`.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] with control's reason when it refuses, or when the link breaks.
    pub async fn attach(
        &self,
        info: &EdgeInfo,
        receiver: impl EdgeReceiver,
    ) -> Result<EdgeSession, LinkError> {
        let mut request = self.client.attach_request();
        let mut params = request.get();
        write_edge_info(info, params.reborrow().init_edge());
        let receiver: edge_receiver::Client = capnp_rpc::new_client(ReceiverServer::new(receiver));
        params.set_receiver(receiver);
        let response = request.send().promise.await?;
        Ok(EdgeSession::new(response.get()?.get_session()?))
    }
}
