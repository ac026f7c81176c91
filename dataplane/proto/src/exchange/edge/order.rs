//! What of a request goes down one chosen connection, and what its answer's head then means.

use adit_wire::connect::{ConnectResponse, ConnectionType, HeadError, decode_response, without_interim};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Version};

use super::request::TunnelRequest;
use super::response::{PublicResponse, ResponseBody, ResponseError, public_response};
use super::trailers::{Trailers, is_trailers_only};

/// One attempt's form of a request.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The first bytes of the data stream.
    pub head: Bytes,
    /// What the exchange carries.
    pub kind: ConnectionType,
    /// Whether the head says that the answer may be in frames.
    takes_trailers: bool,
    /// What the visitor does with trailers.
    trailers: Trailers,
    /// The protocol that the head asks for, if it is not WebSocket.
    protocol: Option<&'a HeaderValue>,
    method: &'a Method,
    version: Version,
}

/// What a connection can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carries {
    /// Trailers.
    pub trailers: bool,
    /// Other protocols than WebSocket, and interim answers: the connector is of ours.
    pub protocols: bool,
}

impl TunnelRequest {
    /// The request for a connection that can do `carries`, of a visitor who speaks `version`.
    #[must_use]
    pub fn order(&self, carries: Carries, version: Version) -> Order<'_> {
        let marked = self.head_for_trailers.as_ref().filter(|_| carries.trailers);
        let upgrade = self.upgrade.as_ref().filter(|_| carries.protocols);
        // A stock connector gets no other bytes than ever. Over HTTP/2 the carrying task sees to it.
        let is_unmarked = self.takes_interim && !carries.protocols;
        let head = match (upgrade, marked) {
            (Some(upgrade), _) => upgrade.head.clone(),
            (None, Some(marked)) => marked.clone(),
            (None, None) if is_unmarked => without_interim(&self.head),
            (None, None) => self.head.clone(),
        };
        Order {
            head,
            takes_trailers: marked.is_some() && upgrade.is_none(),
            trailers: self.trailers,
            kind: upgrade.map_or(self.kind, |_| ConnectionType::WebSocket),
            protocol: upgrade.map(|upgrade| &upgrade.protocol),
            method: &self.method,
            version,
        }
    }
}

impl Order<'_> {
    /// Whether it asks for an upgrade to another protocol than WebSocket.
    #[must_use]
    pub fn is_of_other_protocol(&self) -> bool {
        self.protocol.is_some()
    }

    /// Reads the head of the answer.
    ///
    /// # Errors
    /// [`ResponseError`] when there is nothing to pass on.
    pub fn response(&self, head: ConnectResponse) -> Result<PublicResponse, ResponseError> {
        let mut response = public_response(head, self.method, self.kind, self.protocol, self.version)?;
        // What was not asked for is not agreed on.
        response.is_framed &= self.takes_trailers;
        let is_open = response.body == ResponseBody::UntilFinish;
        if is_open && self.trailers == Trailers::Needed && is_trailers_only(&response.headers) {
            response.body = ResponseBody::Empty;
        }
        Ok(response)
    }
}

/// Collects the first bytes of a data stream until they are the head of an answer. One that comes in one
/// piece is not copied. Bounded by the decoder's limit.
#[derive(Debug, Default)]
pub struct HeadReader {
    received: Bytes,
}

impl HeadReader {
    /// The head and what follows it, when the last of it has come.
    ///
    /// # Errors
    /// What the decoder says of a head that is none.
    pub fn handle_bytes(&mut self, chunk: Bytes) -> Result<Option<(ConnectResponse, Bytes)>, HeadError> {
        if self.received.is_empty() {
            self.received = chunk;
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.received));
            joined.extend_from_slice(&chunk);
            self.received = joined.freeze();
        }
        let head = decode_response(&mut self.received)?;
        Ok(head.map(|head| (head, std::mem::take(&mut self.received))))
    }
}
