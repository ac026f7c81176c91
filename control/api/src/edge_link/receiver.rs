//! What control tells an attached edge: the edge's side (a trait) and control's side (a handle).

use std::cell::RefCell;
use std::rc::Rc;

use super::codec::{read_disconnect, read_rival, write_disconnect, write_edge_info};
use super::parts::{SnapshotAssembly, SnapshotPart};
use super::{Disconnect, LinkError, Rival};
use crate::edge_link_capnp::edge_receiver;
use crate::snapshot::{RouteSnapshot, SnapshotDelta};

/// What an edge does with control's news. Calls come one at a time, in the order in which control made them.
/// The next one waits until a handler has returned, so handlers hand over and return.
pub trait EdgeReceiver: 'static {
    /// A whole snapshot. See [`RouteSnapshot::replace`].
    fn handle_snapshot(&self, snapshot: RouteSnapshot);

    /// A difference. See [`RouteSnapshot::apply`]; on a gap call [`super::EdgeSession::resync`].
    fn handle_delta(&self, delta: SnapshotDelta);

    /// Connections to close.
    fn handle_disconnect(&self, target: Disconnect);

    /// Another process has attached under this edge's name; the link ends next.
    fn handle_replaced(&self, by: Rival);

    /// Control asks whether this edge is there; the answer is sent by itself.
    fn handle_ping(&self) {}
}

/// Serves an [`EdgeReceiver`] on the link.
pub(super) struct ReceiverServer<T> {
    receiver: T,
    assembly: RefCell<SnapshotAssembly>,
}

impl<T: EdgeReceiver> ReceiverServer<T> {
    pub(super) fn new(receiver: T) -> Self {
        Self {
            receiver,
            assembly: RefCell::default(),
        }
    }
}

impl<T: EdgeReceiver> edge_receiver::Server for ReceiverServer<T> {
    async fn snapshot(
        self: Rc<Self>,
        params: edge_receiver::SnapshotParams,
        _: edge_receiver::SnapshotResults,
    ) -> Result<(), capnp::Error> {
        let part = params.get()?.get_part()?;
        let part = SnapshotPart {
            generation: part.get_generation(),
            index: part.get_index(),
            count: part.get_count(),
            body: part.get_body()?.to_vec(),
        };
        let complete = self
            .assembly
            .borrow_mut()
            .handle_part(&part)
            .map_err(LinkError::from)?;
        if let Some(snapshot) = complete {
            self.receiver.handle_snapshot(snapshot);
        }
        Ok(())
    }

    async fn delta(
        self: Rc<Self>,
        params: edge_receiver::DeltaParams,
        _: edge_receiver::DeltaResults,
    ) -> Result<(), capnp::Error> {
        let delta = serde_json::from_slice(params.get()?.get_body()?).map_err(LinkError::from)?;
        self.receiver.handle_delta(delta);
        Ok(())
    }

    async fn disconnect(
        self: Rc<Self>,
        params: edge_receiver::DisconnectParams,
        _: edge_receiver::DisconnectResults,
    ) -> Result<(), capnp::Error> {
        let target = read_disconnect(params.get()?.get_target()?)?;
        self.receiver.handle_disconnect(target);
        Ok(())
    }

    async fn replaced(
        self: Rc<Self>,
        params: edge_receiver::ReplacedParams,
        _: edge_receiver::ReplacedResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        self.receiver
            .handle_replaced(read_rival(params.get_by()?, params.get_address()?)?);
        Ok(())
    }

    async fn ping(
        self: Rc<Self>,
        _: edge_receiver::PingParams,
        _: edge_receiver::PingResults,
    ) -> Result<(), capnp::Error> {
        self.receiver.handle_ping();
        Ok(())
    }
}

/// Control's handle on an attached edge.
#[derive(Clone)]
pub struct ReceiverHandle {
    client: edge_receiver::Client,
}

impl ReceiverHandle {
    /// Wraps the capability that came with an attach call.
    pub const fn new(client: edge_receiver::Client) -> Self {
        Self { client }
    }

    /// Sends one part of a snapshot and waits until the edge has it.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone or the edge cannot use the part.
    pub async fn snapshot_part(&self, part: &SnapshotPart) -> Result<(), LinkError> {
        let mut request = self.client.snapshot_request();
        let mut out = request.get().init_part();
        out.set_generation(part.generation);
        out.set_index(part.index);
        out.set_count(part.count);
        out.set_body(&part.body);
        request.send().promise.await?;
        Ok(())
    }

    /// Sends a delta in its JSON form and waits until the edge has it.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone or the edge cannot read it.
    pub async fn delta(&self, json: &[u8]) -> Result<(), LinkError> {
        let mut request = self.client.delta_request();
        request.get().set_body(json);
        request.send().promise.await?;
        Ok(())
    }

    /// Asks the edge to close connections.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone.
    pub async fn disconnect(&self, target: &Disconnect) -> Result<(), LinkError> {
        let mut request = self.client.disconnect_request();
        write_disconnect(target, request.get().init_target());
        request.send().promise.await?;
        Ok(())
    }

    /// Tells the edge that another process has taken its place, and waits until it knows.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone: the edge has left and not met its like.
    pub async fn replaced(&self, by: &Rival) -> Result<(), LinkError> {
        let mut request = self.client.replaced_request();
        let mut params = request.get();
        write_edge_info(&by.edge, params.reborrow().init_by());
        params.set_address(by.address.as_str());
        request.send().promise.await?;
        Ok(())
    }

    /// Asks whether the edge is there.
    ///
    /// # Errors
    /// [`LinkError::Rpc`] when the link is gone.
    pub async fn ping(&self) -> Result<(), LinkError> {
        self.client.ping_request().send().promise.await?;
        Ok(())
    }
}
