//! The HTTP origin of one ingress rule on one core: what the rule does to requests, and which address takes
//! them.
//!
//! ```text
//! one address:      send ─► head
//! several, limits:  a permit ─► send ─► head, reported
//!                     ▲          └ not connected, or no answer to what may be sent twice: the next address
//!                     └ waits while the origin is at its limit ([`group`](super::group))
//! ```
//! How a request reaches one address is in [`member`](super::member).

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use adit_proto::exchange::connector::{HeadRules, RequestHead};
use adit_proto::ingress::address::OriginAddress;
use adit_proto::ingress::edits::Edits;
use adit_proto::origin_pool::MemberId;
use adit_proto::origin_pool::health::Outcome;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};

use super::body::{Progress, RequestBody};
use super::dial::{DialParameters, Place, Target};
use super::group::{Group, Permit};
use super::http2::{Http2Connections, Http2Policy, Lease};
use super::io_stream::OriginIo;
use super::member::{Failed, HttpMember, spare};
use super::pool::{OriginConnection, Pool};
use super::tls::Alpn;
use super::{CoreOrigins, OriginError};

/// The origin of one ingress rule.
pub(crate) struct HttpOrigin {
    /// Name in TLS unless it follows the request.
    pub(crate) server_name: Option<String>,
    /// TLS names the request's host.
    pub(crate) is_named_by_request: bool,
    /// Replaces the request's Host.
    pub(crate) host_header: Option<HeaderValue>,
    /// Bodies of unknown length are refused.
    pub(crate) disable_chunked_encoding: bool,
    /// Changes on the way.
    pub(crate) edits: Option<Arc<Edits>>,
    pub(crate) template: MemberTemplate,
    pub(crate) places: Places,
}

/// What the addresses of an origin have in common.
pub(crate) struct MemberTemplate {
    /// Of the service's own address.
    pub(crate) target: Target,
    pub(crate) keep_alive_connections: usize,
    pub(crate) keep_alive_timeout: std::time::Duration,
    pub(crate) http2_policy: Http2Policy,
}

/// Where requests go.
pub(crate) enum Places {
    /// The service's own address, without limits.
    Sole(Box<HttpMember>),
    /// What the group says; its addresses as this core knows them.
    Group {
        group: Arc<Group>,
        members: RefCell<BTreeMap<MemberId, Rc<HttpMember>>>,
    },
}

/// An origin's answer whose body has not been read.
pub(crate) struct Reply {
    response: Response<Incoming>,
    carrier: Carrier,
    progress: Progress,
    permit: Option<Permit>,
}

/// What a response comes on.
pub(crate) enum Carrier {
    /// A connection that can take the next request afterwards.
    Own(OriginConnection),
    /// One of many requests on an HTTP/2 connection.
    Shared { _lease: Lease },
}

/// What an exchange holds at its origin until its end.
pub(crate) struct Held {
    carrier: Carrier,
    permit: Option<Permit>,
}

impl HttpOrigin {
    /// Sends `request` and waits for the head of the answer.
    ///
    /// `asked` is from [`asked`](Self::asked), and `progress` that of the request's body.
    /// Dropping the future cancels the request at the origin by closing its connection.
    pub(crate) async fn send(
        &self,
        core: &CoreOrigins,
        asked: &DialParameters,
        request: Request<RequestBody>,
        progress: Progress,
    ) -> Result<Reply, OriginError> {
        match &self.places {
            Places::Sole(member) => {
                let sent = member.send(core, asked, request, &progress).await;
                sent.map_err(Failed::into_error)
            }
            // On the heap, so that rules without a group do not carry its size.
            Places::Group { group, .. } => {
                Box::pin(self.send_to_any(group, core, asked, request, progress)).await
            }
        }
    }

    async fn send_to_any(
        &self,
        group: &Arc<Group>,
        core: &CoreOrigins,
        asked: &DialParameters,
        mut request: Request<RequestBody>,
        progress: Progress,
    ) -> Result<Reply, OriginError> {
        let mut permit = group.admit().await?;
        loop {
            let member = self.member(&permit);
            let spare = spare(&request);
            let failed = match member.send(core, asked, request, &progress).await {
                Ok(mut reply) => {
                    permit.report(outcome(reply.response.status()));
                    reply.permit = Some(permit);
                    return Ok(reply);
                }
                // The visitor broke off, which says nothing about the origin.
                Err(failed) if progress.is_failed() => return Err(failed.error),
                Err(failed) => failed,
            };
            let Some(outcome) = failed.error.outcome() else {
                return Err(failed.error);
            };
            permit.report(outcome);
            if (failed.unsent.is_none() && spare.is_none()) || !permit.move_on() {
                return Err(failed.into_error());
            }
            tracing::debug!(error = %failed.error, next = %permit.address(), "An address of an origin failed, trying another");
            request = match failed.unsent.or(spare) {
                Some(again) => again,
                None => return Err(failed.error),
            };
        }
    }

    /// Opens a connection of its own for one exchange, at the first address that accepts. The permit, if
    /// there is one, is to be told what came of the exchange.
    pub(crate) async fn open(
        &self,
        core: &CoreOrigins,
        asked: &DialParameters,
    ) -> Result<(OriginIo, Option<Permit>), OriginError> {
        let group = match &self.places {
            Places::Sole(member) => {
                let io = member.dial(core, asked, Alpn::Http1).await?;
                return Ok((io, None));
            }
            Places::Group { group, .. } => group,
        };
        let mut permit = group.admit().await?;
        loop {
            match self.member(&permit).dial(core, asked, Alpn::Http1).await {
                Ok(io) => return Ok((io, Some(permit))),
                Err(error) => {
                    let Some(outcome) = error.outcome() else {
                        return Err(error);
                    };
                    permit.report(outcome);
                    if !permit.move_on() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// The address of `permit` as this core uses it.
    fn member(&self, permit: &Permit) -> Rc<HttpMember> {
        match &self.places {
            Places::Group { members, .. } => {
                let mut members = members.borrow_mut();
                let member = members.entry(permit.member());
                Rc::clone(member.or_insert_with(|| Rc::new(self.template.member(permit.address()))))
            }
            Places::Sole(_) => Rc::new(self.template.member(permit.address())),
        }
    }

    /// Takes back what an answer that was read to its end came on, then lets the next exchange go on.
    pub(crate) fn recycle(&self, held: Held) {
        let Held { carrier, permit } = held;
        match (&self.places, &permit) {
            (Places::Sole(member), _) => member.recycle(carrier),
            (Places::Group { .. }, Some(permit)) => self.member(permit).recycle(carrier),
            (Places::Group { .. }, None) => {}
        }
    }

    /// Closes connections that were idle for too long.
    pub(crate) fn expire(&self, now: Instant) {
        match &self.places {
            Places::Sole(member) => member.expire(now),
            Places::Group { members, .. } => members.borrow().values().for_each(|member| member.expire(now)),
        }
    }

    /// The group, if there is one.
    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        match &self.places {
            Places::Sole(_) => None,
            Places::Group { group, .. } => Some(group),
        }
    }

    /// What the rule does to request heads.
    pub(crate) fn head_rules<'a>(&'a self, added: &'a [(HeaderName, HeaderValue)]) -> HeadRules<'a> {
        HeadRules {
            host_header: self.host_header.as_ref(),
            disable_chunked_encoding: self.disable_chunked_encoding,
            may_speak_http2: self.template.http2_policy != Http2Policy::Never,
            added,
            edits: self.edits.as_deref(),
        }
    }

    /// Changes the headers of a response as the rule says.
    pub(crate) fn edit_response(&self, headers: &mut HeaderMap) {
        if let Some(edits) = &self.edits {
            edits.response(headers);
        }
    }

    /// The same for what comes ahead of a response, which gets no headers that the origin has not said.
    pub(crate) fn edit_interim(&self, headers: &mut HeaderMap) {
        if let Some(edits) = &self.edits {
            edits.interim(headers);
        }
    }

    /// For whom a connection is needed.
    pub(crate) fn asked(&self, head: &RequestHead) -> DialParameters {
        DialParameters {
            server_name: self.server_name(head.host()).map(str::to_owned),
            visitor: self.template.target.visitor(head),
            interim: None,
        }
    }

    /// The name that the origin's certificate must have, for a request to `host`; `None` for plain origins.
    pub(crate) fn server_name<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        let target = &self.template.target;
        target.tls.as_ref()?;
        let follows = self.is_named_by_request || matches!(target.place, Place::Unix { .. });
        match &self.server_name {
            Some(name) if !self.is_named_by_request => Some(name),
            Some(_) | None if follows => Some(without_port(host)),
            Some(_) | None => match &target.place {
                Place::Tcp { host, .. } => Some(host),
                Place::Unix { .. } => None,
            },
        }
    }
}

impl MemberTemplate {
    /// The same at another address.
    pub(crate) fn member(&self, address: &OriginAddress) -> HttpMember {
        self.at(address.into())
    }

    /// The service's own address.
    pub(crate) fn own(&self) -> HttpMember {
        self.at(self.target.place.clone())
    }

    fn at(&self, place: Place) -> HttpMember {
        let is_shared = self.target.proxy_protocol.is_none();
        HttpMember {
            target: Target {
                place,
                ..self.target.clone()
            },
            pool: Pool::new(self.keep_alive_connections, self.keep_alive_timeout),
            http2: Http2Connections::new(self.http2_policy, is_shared, self.keep_alive_timeout),
        }
    }
}

impl Reply {
    pub(crate) fn new(response: Response<Incoming>, carrier: Carrier, progress: Progress) -> Self {
        Self {
            response,
            carrier,
            progress,
            permit: None,
        }
    }

    /// Whether anything may come after the body: in HTTP/1.1 not after one of announced length.
    pub(crate) fn may_have_trailers(&self) -> bool {
        let body = self.response.body();
        let is_http2 = self.response.version() == Version::HTTP_2;
        !body.is_end_stream() && (is_http2 || body.size_hint().exact().is_none())
    }

    /// The same, of an exchange that holds `permit`.
    pub(crate) fn with_permit(self, permit: Option<Permit>) -> Self {
        Self { permit, ..self }
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    /// Splits off what is held until the body was read, and what [`HttpOrigin::recycle`] needs then. The last
    /// value says whether the request was sent whole, without which nothing may be recycled.
    pub(crate) fn into_parts(self) -> (Response<Incoming>, Held, Progress) {
        let held = Held {
            carrier: self.carrier,
            permit: self.permit,
        };
        (self.response, held, self.progress)
    }
}

/// What an answer says about its address.
pub(super) fn outcome(status: StatusCode) -> Outcome {
    if status.is_server_error() {
        Outcome::Failed
    } else {
        Outcome::Answered
    }
}

/// The host part of a Host header.
fn without_port(host: &str) -> &str {
    if let Some(end) = host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        return host.get(1..=end).unwrap_or(host);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_no_part_of_a_tls_name() {
        for (host, name) in [
            ("app.test", "app.test"),
            ("app.test:8443", "app.test"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
