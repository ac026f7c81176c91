//! One exchange from a visitor's request head to the end of its response.
//!
//! ```text
//! head ─► admit ─► route ─► choose ─► open ─► head, body ─► response head ─► body ─► end
//!                            ▲                    │ nothing answered yet: the delivery says what is next
//!                            └────────────────────┘ (proto, exchange/delivery)
//! ```
//! The future lives in the visitor's connection: when the visitor goes, it is dropped, its stream is reset
//! in both directions and the record says so. After the response head the exchange lives on in the
//! response body, or as a [`relay`] of raw bytes after an upgrade.
//!
//! Copies: request and response bodies pass as `Bytes` between socket and stream, none is made here.

mod attempt;
pub(crate) mod body;
mod download;
mod hints;
pub(crate) mod flow;
mod record;
pub(crate) mod relay;
mod source;
mod upload;
mod passing;

use std::rc::Rc;

use adit_driver::time::{Instant, now};
use adit_proto::ejection::Trier;
use adit_proto::exchange::delivery::{self, Aim, Delivery, Doubted, Search, Shown, Step};
use adit_proto::exchange::edge::{
    Authority, BodyLength, Carries, PublicRequest, PublicResponse, RequestId, ResponseBody, TunnelRequest,
    Visitor, authority, tunnel_request,
};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::framed_body::FramedBody;
use adit_proto::shares::AddressBlock;
use adit_proto::steering::{NoConnection, Tried};
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
use crate::public::interim::InterimWay;
use crate::shares::Account;
use crate::tunnels::{Choice, Wanted};
pub(crate) use record::refuse;

use attempt::{Answer, Failed, Order, attempt};
use body::PublicBody;
use hints::Hints;
use record::Record;
use relay::Upgrade;
use source::{Pace, Source};

/// Serves one request; always answers. `interim` is where interim answers go, if the visitor takes any.
/// `upgrade` takes the byte flow over if the answer is an upgrade.
pub(crate) async fn run(
    core: Rc<Core>,
    visitor: Visitor,
    request: Request<VisitorBody>,
    interim: Option<InterimWay>,
    upgrade: impl FnOnce(Upgrade),
) -> Response<PublicBody> {
    let id = RequestId(rand::random());
    let (parts, body) = request.into_parts();
    let form = Form::for_request(&parts.method, &parts.headers);
    let mut record = Record::begin(&core, id, visitor.address, &parts);
    let account = Account::open(&core);
    let body = Some((body, interim));
    match exchange(&core, &visitor, &parts, body, (id, &account), &mut record).await {
        Ok((answer, source)) => respond(answer, source, parts.version, (record, account), upgrade),
        Err(code) => {
            record.answer_error(code);
            render(code.on_page(), id, form)
        }
    }
}

/// Sends the request until some connection answers.
async fn exchange(
    core: &Rc<Core>,
    visitor: &Visitor,
    parts: &Parts,
    body: Option<(VisitorBody, Option<InterimWay>)>,
    (id, account): (RequestId, &Rc<Account>),
    record: &mut Record,
) -> Result<(Answer, Option<Source>), ErrorCode> {
    let (body, interim) = body.unzip();
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
    if !account.is_admitted() {
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
        let tunnel = core.tunnels.route(&authority.hostname)?;
        (authority, tunnel, Aim::Origin)
    };
    record.set_tunnel(tunnel);
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    let sent = tunnel_request(&request, &authority, visitor, &core.live().policy, id, &key)?;
    record.set_client(sent.client);
    // Behind a proxy that is trusted and does not say who asks, visitors cannot be told apart.
    let block = (!core.live().policy.trusts(sent.client)).then(|| AddressBlock::of(sent.client));
    account.enter(block, tunnel)?;
    let source = body
        .filter(|_| length != BodyLength::Empty)
        .map(|body| Source::new(body, Pace::of(length, parts), record, account));
    let mut retries = core.retries.get();
    let request = delivery::Request {
        aim,
        is_idempotent: sent.method.is_idempotent(),
        has_body: source.is_some(),
        began: record.began(),
    };
    let delivery = Delivery::new(request, &mut retries);
    core.retries.set(retries);
    Sending {
        core,
        account,
        tunnel,
        authority,
        sent,
        parts,
        delivery,
        hints: Hints::new(interim.flatten(), parts),
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

/// A request on its way to an origin. What is done next is said by [`Delivery`].
struct Sending<'a> {
    core: &'a Rc<Core>,
    account: &'a Account,
    tunnel: TunnelId,
    authority: Authority<'a>,
    sent: TunnelRequest,
    parts: &'a Parts,
    delivery: Delivery,
    hints: Hints,
}

impl Sending<'_> {
    async fn until_answered(
        mut self,
        mut source: Option<Source>,
        record: &mut Record,
    ) -> Result<(Answer, Option<Source>), ErrorCode> {
        let mut chosen = None;
        loop {
            match (self.delivery.poll_step(), &chosen) {
                (Step::Choose(search), _) => chosen = self.choose(search, record),
                (Step::ChooseReplica(connector), _) => chosen = self.choose_replica(connector, record),
                (Step::Wait { expects }, _) => self.wait(expects).await,
                (Step::Send, Some(choice)) => {
                    if let Some(answer) = self.attempt(choice, &mut source, record).await {
                        return Ok((answer, source));
                    }
                }
                (Step::Fail(code), _) => return Err(code),
                // An answer is returned at once, and nothing is sent without a choice.
                (Step::Answered, _) | (Step::Send, None) => return Err(ErrorCode::Internal),
            }
        }
    }

    fn choose(&mut self, search: Search, record: &mut Record) -> Option<Choice> {
        let tried = self.delivery.tried();
        let found = self.core.tunnels.choose(&self.wanted(tried, search));
        self.take(found, record)
    }

    fn choose_replica(&mut self, connector: Option<ConnectorId>, record: &mut Record) -> Option<Choice> {
        let tried = self.delivery.tried();
        let found = self.core.tunnels.choose_replica(self.tunnel, connector, tried);
        self.take(found, record)
    }

    fn take(&mut self, found: Result<Choice, NoConnection>, record: &mut Record) -> Option<Choice> {
        let place = found
            .as_ref()
            .map(|choice| (choice.id, choice.connector()))
            .map_err(|none| *none);
        self.delivery.handle_choice(now(), place);
        let choice = found.ok()?;
        record.set_attempt(&choice);
        self.account.carried_by(choice.load());
        Some(choice)
    }

    /// Waits for a connection when the tunnel has just lost its last, but not at an edge that is leaving.
    async fn wait(&mut self, expects: bool) {
        let absent = &self.core.tunnels.absent;
        if expects {
            absent.expect_back(self.tunnel);
        }
        let is_back = tokio::select! {
            biased;
            () = self.core.drain.begun() => false,
            is_back = absent.returned(self.tunnel) => is_back,
        };
        if is_back {
            self.core.metrics.exchanges_waited.add(1);
        }
        self.delivery.handle_return(is_back);
    }

    /// Sends the request on the chosen connection. Without an answer, the delivery knows why.
    async fn attempt(
        &mut self,
        choice: &Choice,
        source: &mut Option<Source>,
        record: &Record,
    ) -> Option<Answer> {
        let carries = Carries {
            trailers: choice.carries_trailers,
            protocols: choice.is_of_ours,
        };
        let limit = self.core.live().limits.response_head_timeout;
        let order = Order {
            request: self.sent.order(carries, self.parts.version),
            hints: &self.hints,
            limit,
            watch: |now| self.delivery.watch(now, limit),
            late: self.late_and_replaceable(choice),
        };
        let attempting = attempt(self.core, choice, order, source, record.progress());
        let (failure, reason) = match attempting.await {
            Ok(answer) => {
                let shown = self.delivery.handle_answer();
                self.judge(choice, shown);
                return Some(answer);
            }
            Err(Failed::Visitor(code)) => {
                self.delivery.handle_visitor_failure(code);
                return None;
            }
            Err(Failed::Tunnel(failure, reason)) => (failure, reason),
        };
        tracing::debug!(request_id = %record.id(), tunnel = %self.tunnel, replica = %choice.connector(),
            conn_index = choice.index().0, ?failure, reason, "attempt failed");
        let (held, mut retries) = (Source::held(source.as_ref()), self.core.retries.get());
        let shown = self
            .delivery
            .handle_failure(Instant::now(), failure, held, &mut retries);
        self.core.retries.set(retries);
        self.judge(choice, shown);
        if !matches!(self.delivery.poll_step(), Step::Fail(_)) {
            self.core.metrics.retries.add(1);
        }
        None
    }

    /// Waits until the connector is late with an answer and another replica could give one.
    async fn late_and_replaceable(&self, choice: &Choice) {
        let tunnels = &self.core.tunnels;
        loop {
            // Taken before the look, so that no doubt is missed.
            let doubts = tunnels.doubts();
            let is_doubted = tunnels.registry.is_doubted(choice.id);
            let left_out = self
                .delivery
                .look(Instant::now(), is_doubted, &self.core.retries.get());
            let search = Search {
                doubted: Doubted::Avoided,
                trier: Trier::No,
            };
            let is_replaceable = left_out.is_some_and(|tried| {
                let wanted = self.wanted(&tried, search);
                let other = tunnels.choose(&wanted);
                // An upgrade is worth the wait for one that carries it.
                other.is_ok_and(|other| other.is_of_ours || !wanted.upgrade)
            });
            if is_replaceable {
                return;
            }
            doubts.await;
        }
    }

    fn wanted<'a>(&'a self, tried: &'a Tried, search: Search) -> Wanted<'a> {
        Wanted {
            tunnel: self.tunnel,
            host: &self.authority.hostname,
            path: self.parts.uri.path(),
            tried,
            trailers: self.sent.trailers,
            upgrade: self.sent.upgrade.is_some(),
            search,
        }
    }

    /// Says what an attempt has shown of the replica's origin.
    fn judge(&self, choice: &Choice, shown: Option<Shown>) {
        if let Some(shown) = shown {
            let host = (&self.authority.hostname, self.parts.uri.path());
            let metrics = &self.core.metrics;
            self.core
                .tunnels
                .judge(self.tunnel, host, choice, (shown.outcome, shown.sent), metrics);
        }
    }
}

/// Turns an answer into the response hyper sends.
fn respond(
    answer: Answer,
    unread: Option<Source>,
    version: Version,
    (mut record, account): (Record, Rc<Account>),
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
                account,
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
            account,
            upload: answer.upload,
            guard: answer.guard,
        }),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
