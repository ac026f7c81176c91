//! One exchange from a visitor's request head to the end of its response.
//!
//! ```text
//! head ─► admit ─► route ─► choose ─► open ─► head, body ─► response head ─► body ─► end
//!                            ▲                    │ nothing answered yet: decide again (proto, retry)
//!                            └────────────────────┘ never on the same connection (proto, steering)
//! ```
//! The future lives in the visitor's connection: when the visitor goes, it is dropped, its stream is reset
//! in both directions and the record says so. After the response head the exchange lives on in the
//! response body, or as a [`relay`] of raw bytes after an upgrade.
//!
//! Copies: request and response bodies pass as `Bytes` between socket and stream, none is made here.

mod attempt;
pub(crate) mod body;
mod download;
pub(crate) mod flow;
mod record;
pub(crate) mod relay;
mod source;
mod upload;
mod passing;

use std::rc::Rc;

use adit_driver::time::{Instant, now};
use adit_proto::ejection::{Outcome, Trier};
use adit_proto::exchange::edge::{
    Authority, BodyLength, PublicRequest, PublicResponse, RequestId, ResponseBody, TunnelRequest, Visitor,
    authority, tunnel_request,
};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::framed_body::FramedBody;
use adit_proto::exchange::retry::{ATTEMPTS_MAX, Attempted, Failure, Held, RETRY_DEADLINE, Verdict, decide};
use adit_proto::shares::AddressBlock;
use adit_proto::steering::{NoConnection, Tried};
use adit_wire::connect::ConnectionType;
use adit_wire::{ConnectorId, TunnelId};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::request::Parts;
use http::{Request, Response, Version};
use hyper::body::Body as _;

use crate::core::Core;
use crate::error_page::{Form, render};
use crate::management::Admitted;
use crate::public::VisitorBody;
use crate::tunnels::{Choice, Doubted, Wanted};
pub(crate) use record::refuse;

use attempt::{Answer, Failed, Order, attempt};
use body::PublicBody;
use record::Record;
use relay::Upgrade;
use source::{Pace, Source};

/// Serves one request; always answers. `upgrade` takes the byte flow over if the answer is an upgrade.
pub(crate) async fn run(
    core: Rc<Core>,
    visitor: Visitor,
    request: Request<VisitorBody>,
    upgrade: impl FnOnce(Upgrade),
) -> Response<PublicBody> {
    let id = RequestId(rand::random());
    let (parts, body) = request.into_parts();
    let form = Form::for_request(&parts.method, &parts.headers);
    let mut record = Record::begin(&core, id, visitor.address, &parts);
    match exchange(&core, &visitor, &parts, Some(body), id, &mut record).await {
        Ok((answer, source)) => respond(answer, source, parts.version, record, upgrade),
        Err(code) => {
            record.answer_error(code);
            // Whoever broke off may still read: half a request is no good one.
            let shown = if code == ErrorCode::VisitorGone {
                ErrorCode::BadRequest
            } else {
                code
            };
            render(shown, id, form)
        }
    }
}

/// Sends the request until some connection answers.
async fn exchange(
    core: &Rc<Core>,
    visitor: &Visitor,
    parts: &Parts,
    body: Option<VisitorBody>,
    id: RequestId,
    record: &mut Record,
) -> Result<(Answer, Option<Source>), ErrorCode> {
    let length = body.as_ref().map_or(BodyLength::Empty, length_of);
    let request = PublicRequest {
        method: &parts.method,
        uri: &parts.uri,
        version: parts.version,
        headers: &parts.headers,
        protocol: parts
            .extensions
            .get::<hyper::ext::Protocol>()
            .map(hyper::ext::Protocol::as_str),
        body: length,
    };
    let authority = authority(&request)?;
    record.set_host(&authority.hostname);
    if !record.account().is_admitted() {
        return Err(ErrorCode::Overloaded);
    }
    let (authority, tunnel, aim) = if core.management.is_meant(&authority.hostname) {
        record.hide_query();
        // Boxed, so that other exchanges do not keep room for it.
        let admitting = core
            .management
            .admit(&authority.hostname, visitor.scheme, &parts.uri);
        let Admitted { tunnel, connector } = Box::pin(admitting).await?;
        let hostname = core.management.connector_hostname();
        let authority = Authority {
            text: hostname.as_str().into(),
            hostname: hostname.clone(),
        };
        (authority, tunnel, Aim::Management(connector))
    } else {
        let tunnel = core
            .tunnels
            .route(&authority.hostname)
            .ok_or(ErrorCode::HostnameUnknown)?;
        (authority, tunnel, Aim::Origin)
    };
    record.set_tunnel(tunnel);
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let sent = tunnel_request(&request, &authority, visitor, &core.live().policy, id, &key)?;
    record.set_client(sent.client);
    // Behind a proxy that is trusted and does not say who asks, visitors cannot be told apart.
    let block = (!core.live().policy.trusts(sent.client)).then(|| AddressBlock::of(sent.client));
    record.account().enter(block, tunnel)?;
    let source = body
        .filter(|_| length != BodyLength::Empty)
        .map(|body| Source::new(body, Pace::of(length, parts), record));
    Sending {
        core,
        tunnel,
        aim,
        authority,
        sent,
        parts,
        tried: Tried::default(),
    }
    .until_answered(source, record)
    .await
}

fn length_of(body: &VisitorBody) -> BodyLength {
    match (body.is_end_stream(), body.size_hint().exact()) {
        (true, _) | (false, Some(0)) => BodyLength::Empty,
        (false, Some(length)) => BodyLength::Known(length),
        (false, None) => BodyLength::Unknown,
    }
}

/// What of a tunnel is to answer.
#[derive(Clone, Copy)]
enum Aim {
    /// A service behind a replica that serves the hostname.
    Origin,
    /// The management service of this replica, or of any.
    Management(Option<ConnectorId>),
}

/// A request and where it was sent in vain.
struct Sending<'a> {
    core: &'a Rc<Core>,
    tunnel: TunnelId,
    aim: Aim,
    authority: Authority<'a>,
    sent: TunnelRequest,
    parts: &'a Parts,
    tried: Tried,
}

impl Sending<'_> {
    async fn until_answered(
        mut self,
        mut source: Option<Source>,
        record: &mut Record,
    ) -> Result<(Answer, Option<Source>), ErrorCode> {
        let mut retries = self.core.retries.get();
        retries.deposit();
        self.core.retries.set(retries);
        let mut last = None;
        loop {
            let choice = self.next_connection(last, source.as_ref()).await?;
            record.set_attempt(&choice);
            let may_move = self.may_move(source.as_ref(), record);
            let marked = self.sent.head_for_trailers.as_ref();
            let marked = marked.filter(|_| choice.carries_trailers);
            let upgrade = self.sent.upgrade.as_ref().filter(|_| choice.is_of_ours);
            let order = Order {
                head: match upgrade {
                    Some(upgrade) => &upgrade.head,
                    None => marked.unwrap_or(&self.sent.head),
                },
                takes_trailers: marked.is_some() && upgrade.is_none(),
                trailers: self.sent.trailers,
                kind: upgrade.map_or(self.sent.kind, |_| ConnectionType::WebSocket),
                protocol: upgrade.map(|upgrade| &upgrade.protocol),
                method: &self.sent.method,
                version: self.parts.version,
                limit: self.core.live().limits.response_head_timeout,
            };
            let late = may_move.then(|| self.late_and_replaceable(&choice, record.began()));
            let sent = now();
            let attempting = attempt(self.core, &choice, &order, &mut source, record.progress(), late);
            let failed = match attempting.await {
                Ok(answer) => {
                    self.judge(&choice, Outcome::Answered, sent);
                    return Ok((answer, source));
                }
                Err(failed) => failed,
            };
            let (failure, reason) = match failed {
                Failed::Visitor(code) => return Err(code),
                Failed::Tunnel(failure, reason) => (failure, reason),
            };
            tracing::debug!(request_id = %record.id(), tunnel = %self.tunnel, replica = %choice.connector(),
                conn_index = choice.index().0, ?failure, reason, "attempt failed");
            if let Some(outcome) = Outcome::of(failure) {
                self.judge(&choice, outcome, sent);
            }
            match self.verdict(failure, source.as_ref(), record) {
                Verdict::GiveUp(code) => return Err(code),
                Verdict::OtherConnection => self.tried.avoided.push(choice.connector()),
                Verdict::OtherReplica => self.tried.barred.push(choice.connector()),
            }
            self.tried.connections.push(choice.id);
            last = Some(failure);
            self.core.metrics.retries.add(1);
        }
    }

    /// What the request wants of a connection.
    fn wanted(&self) -> Wanted {
        Wanted {
            trailers: self.sent.trailers,
            upgrade: self.sent.upgrade.is_some(),
        }
    }

    /// A connection that has not seen the request. Waits for one when the tunnel has just lost its last.
    async fn next_connection(
        &self,
        last: Option<Failure>,
        source: Option<&Source>,
    ) -> Result<Choice, ErrorCode> {
        let tunnels = &self.core.tunnels;
        if let Aim::Management(connector) = self.aim {
            let choice = tunnels.choose_replica(self.tunnel, connector, &self.tried);
            return choice.ok_or(ErrorCode::ManagementUnreachable);
        }
        let (host, wanted) = (&self.authority.hostname, self.wanted());
        let trier = self.trier(last, source);
        let choose = |doubted| tunnels.choose(self.tunnel, host, &self.tried, wanted, doubted, trier);
        loop {
            let none = match choose(Doubted::Avoided) {
                Ok(choice) => return Ok(choice),
                Err(none) => none,
            };
            let is_absent = match none {
                NoConnection::Down => true,
                NoConnection::Doubted => {
                    // Those of other hostnames may be well.
                    tunnels.expect_back(self.tunnel);
                    true
                }
                NoConnection::AllTried if matches!(last, Some(Failure::Lost | Failure::Doubted)) => {
                    // The cores have yet to hear of the loss.
                    tunnels.expect_back(self.tunnel);
                    true
                }
                NoConnection::AllTried
                | NoConnection::NotServed
                | NoConnection::NoTrailers
                | NoConnection::Full => false,
            };
            let is_back = is_absent
                && tokio::select! {
                    biased;
                    () = self.core.drain.begun() => false,
                    is_back = tunnels.returned(self.tunnel) => is_back,
                };
            if !is_back {
                // Where nobody waits, a connection that may be dead is better than none.
                if let Ok(choice) = choose(Doubted::Taken) {
                    return Ok(choice);
                }
                return Err(last.map_or_else(|| code_of(none), Failure::code));
            }
            self.core.metrics.exchanges_waited.add(1);
        }
    }

    /// Whether the exchange may be asked elsewhere before its connection is known to be lost.
    fn may_move(&self, source: Option<&Source>, record: &Record) -> bool {
        let is_for_origin = matches!(self.aim, Aim::Origin);
        let is_bodiless = source.is_none() && self.sent.method.is_idempotent();
        is_for_origin && is_bodiless && record.attempts() < ATTEMPTS_MAX
    }

    /// Waits until the connector is late with an answer and another replica could give one.
    async fn late_and_replaceable(&self, choice: &Choice, began: Instant) {
        let tunnels = &self.core.tunnels;
        let mut tried = self.tried.clone();
        tried.barred.push(choice.connector());
        loop {
            // Taken before the look, so that no doubt is missed.
            let doubts = tunnels.doubts();
            let (host, wanted) = (&self.authority.hostname, self.wanted());
            let is_replaceable = tunnels.is_doubted(choice.id)
                && began.elapsed() < RETRY_DEADLINE
                && self.core.retries.get().has_token()
                && tunnels
                    .choose(self.tunnel, host, &tried, wanted, Doubted::Avoided, Trier::No)
                    // An upgrade is worth the wait for one that carries it.
                    .is_ok_and(|other| other.is_of_ours || !wanted.upgrade);
            if is_replaceable {
                return;
            }
            doubts.await;
        }
    }

    /// Whether the next attempt may show that a replica that was left out is well again.
    fn trier(&self, last: Option<Failure>, source: Option<&Source>) -> Trier {
        if last.is_some() {
            Trier::No
        } else if self.sent.method.is_idempotent() && Source::held(source) == Held::Whole {
            Trier::Repeatable
        } else {
            Trier::Once
        }
    }

    /// Says what an attempt has shown of the replica's origin.
    fn judge(&self, choice: &Choice, outcome: Outcome, sent: Instant) {
        if matches!(self.aim, Aim::Origin) {
            let (host, metrics) = (&self.authority.hostname, &self.core.metrics);
            self.core
                .tunnels
                .judge(self.tunnel, host, choice, (outcome, sent), metrics);
        }
    }

    fn verdict(&self, failure: Failure, source: Option<&Source>, record: &Record) -> Verdict {
        let attempted = Attempted {
            method: &self.sent.method,
            held: Source::held(source),
            attempts: record.attempts(),
            elapsed: record.elapsed(),
        };
        let mut retries = self.core.retries.get();
        let verdict = decide(failure, &attempted, &mut retries);
        self.core.retries.set(retries);
        verdict
    }
}

fn code_of(none: NoConnection) -> ErrorCode {
    match none {
        NoConnection::Down | NoConnection::NotServed | NoConnection::AllTried | NoConnection::Doubted => {
            ErrorCode::TunnelNoConnection
        }
        NoConnection::NoTrailers => ErrorCode::TrailersNotCarried,
        NoConnection::Full => ErrorCode::TunnelSaturated,
    }
}

/// Turns an answer into the response hyper sends.
fn respond(
    answer: Answer,
    unread: Option<Source>,
    version: Version,
    mut record: Record,
    upgrade: impl FnOnce(Upgrade),
) -> Response<PublicBody> {
    let PublicResponse {
        status,
        headers,
        body,
        is_framed,
    } = answer.response;
    record.answer(status);
    // What the tunnel did not want of the request is not read from the visitor either.
    drop(unread);
    let body = match (body, answer.send) {
        (ResponseBody::Upgraded, Some(send)) => {
            upgrade(Upgrade {
                send,
                recv: answer.recv,
                first: answer.rest,
                has_half_close: answer.has_half_close,
                guard: answer.guard,
                record,
            });
            PublicBody::empty()
        }
        (ResponseBody::Empty | ResponseBody::Upgraded, _) => {
            download::finish_quietly(answer.recv, answer.guard);
            record.complete();
            PublicBody::empty()
        }
        (ResponseBody::Length(_) | ResponseBody::UntilFinish, _) => PublicBody::stream(download::Download {
            recv: answer.recv,
            first: answer.rest,
            left: match body {
                ResponseBody::Length(length) => Some(length),
                ResponseBody::Empty | ResponseBody::UntilFinish | ResponseBody::Upgraded => None,
            },
            frames: is_framed.then(FramedBody::default),
            // A body of HTTP/1.1 has a length or trailers.
            has_place_for_trailers: version == Version::HTTP_2,
            record,
            upload: answer.upload,
            guard: answer.guard,
        }),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
