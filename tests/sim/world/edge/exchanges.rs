//! The loop around one request: where it goes, what a failure means, what the visitor is told.
//!
//! All of it is said by [`Delivery`], as to `adit_edge::exchange_task`; this performs it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use adit_proto::directory::Slot;
use adit_proto::exchange::delivery::{self, Aim, Delivery, Step, Watch};
use adit_proto::exchange::edge::{
    BodyLength, Carries, HeadReader, PublicRequest, RequestId, ResponseBody, Scheme, TunnelRequest, Visitor,
    authority, tunnel_request,
};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::held_body::HeldBody;
use adit_proto::exchange::retry::{self, Failure};
use adit_wire::{ConnectionId, Hostname, TunnelId};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Uri, Version};
use quinn_proto::{Dir, Side, StreamId};

use super::super::connector::REPLICA;
use super::super::fault::Fault;
use super::super::host::{LinkId, StreamEnd};
use super::super::ledger::{Ledger, Outcome, REQUEST, Request};
use super::{Edge, HEAD_LIMIT};

/// Connections of this world carry what ours do over QUIC; its requests ask for neither.
const CARRIES: Carries = Carries {
    trailers: true,
    protocols: true,
};

/// A request without an end.
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) tunnel: TunnelId,
    pub(super) hostname: Hostname,
    pub(super) sent: TunnelRequest,
    pub(super) body: HeldBody,
    pub(super) delivery: Delivery,
    pub(super) state: State,
}

pub(super) enum State {
    /// For the tunnel to come back.
    Waiting {
        until: Instant,
    },
    Sent(Attempt),
    /// The answer has begun.
    Answering {
        link: LinkId,
        stream: StreamId,
        status: u16,
        replica: usize,
        missing: u64,
    },
}

pub(super) struct Attempt {
    pub(super) chosen: Chosen,
    pub(super) stream: StreamId,
    /// When the request was sent.
    pub(super) at: Instant,
    pub(super) watch: Watch,
    /// Whether it is time to look if the connector is late.
    pub(super) may_look: bool,
    pub(super) reader: HeadReader,
}

/// A connection that was picked.
#[derive(Clone, Copy)]
pub(super) struct Chosen {
    pub(super) id: ConnectionId,
    pub(super) slot: Slot,
    pub(super) link: LinkId,
}

impl Edge {
    /// A visitor asks.
    pub(in super::super) fn ask(&mut self, now: Instant, request: Request, ledger: &mut Ledger) {
        let number = request.number;
        let exchange = match self.admit(now, request) {
            Ok(exchange) => exchange,
            Err(code) => return ledger.end(now, number, Outcome::Failed(code)),
        };
        self.exchanges.insert(number, exchange);
        self.next(now, number, ledger);
    }

    fn admit(&mut self, now: Instant, request: Request) -> Result<Exchange, ErrorCode> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static(request.host));
        headers.insert(REQUEST, request.number.into());
        let mut body = BodyLength::Empty;
        if request.body_bytes > 0 {
            headers.insert(CONTENT_LENGTH, request.body_bytes.into());
            body = BodyLength::Known(request.body_bytes as u64);
        }
        let public = PublicRequest {
            method: &request.method,
            uri: &Uri::from_static("/"),
            version: Version::HTTP_11,
            headers: &headers,
            protocol: None,
            body,
        };
        let authority = authority(&public)?;
        let hostname = authority.hostname.clone();
        let tunnel = *self.routes.get(&hostname).ok_or(ErrorCode::HostnameUnknown)?;
        let visitor = Visitor {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
            scheme: Scheme::Https,
        };
        let id = RequestId(request.number.into());
        let sent = tunnel_request(&public, &authority, &visitor, &self.policy, id, "")?;
        let mut held = HeldBody::default();
        if request.body_bytes > 0 {
            held.keep(&vec![b'b'; request.body_bytes].into(), false);
        }
        Ok(Exchange {
            tunnel,
            hostname,
            sent,
            body: held,
            delivery: self.delivery(now, &request),
            state: State::Waiting { until: now },
            request,
        })
    }

    fn delivery(&mut self, now: Instant, request: &Request) -> Delivery {
        let is_idempotent = request.method.is_idempotent() || self.fault == Some(Fault::PostRetried);
        let facts = delivery::Request {
            aim: Aim::Origin,
            is_idempotent,
            has_body: request.body_bytes > 0,
            began: now,
        };
        Delivery::new(facts, &mut self.budget)
    }

    /// Does what is to be done until something has to happen first.
    pub(super) fn next(&mut self, now: Instant, number: u64, ledger: &mut Ledger) {
        let mut chosen = None;
        while let Some(exchange) = self.exchanges.get_mut(&number) {
            match (exchange.delivery.poll_step(), chosen) {
                (Step::Choose(search), _) => {
                    let found = self.choose(now, number, search);
                    chosen = found.ok();
                    let place = found.map(|chosen| (chosen.id, chosen.slot.connector));
                    if let Some(exchange) = self.exchanges.get_mut(&number) {
                        exchange.delivery.handle_choice(now, place);
                    }
                }
                (Step::Wait { expects }, _) => {
                    if expects {
                        self.absences.begin(exchange.tunnel, now);
                    }
                    if let Some(absence) = self.absences.of(exchange.tunnel, now) {
                        exchange.state = State::Waiting { until: absence.until };
                        return;
                    }
                    exchange.delivery.handle_return(false);
                }
                (Step::Send, Some(chosen)) => match self.attempt(now, number, chosen, ledger) {
                    None => return,
                    Some(failure) => self.note(now, number, failure),
                },
                (Step::Fail(code), _) => self.end(now, number, Outcome::Failed(code), ledger),
                (Step::ChooseReplica(_) | Step::Send | Step::Answered, _) => {
                    panic!("request {number} has nothing to do here")
                }
            }
        }
    }

    /// The tunnel has come back, or has not in time.
    pub(super) fn end_wait(&mut self, now: Instant, number: u64, is_back: bool, ledger: &mut Ledger) {
        if let Some(exchange) = self.exchanges.get_mut(&number) {
            exchange.delivery.handle_return(is_back);
            self.next(now, number, ledger);
        }
    }

    /// Sends the request; says why it could not.
    fn attempt(&mut self, now: Instant, number: u64, chosen: Chosen, ledger: &mut Ledger) -> Option<Failure> {
        let Chosen { id, link, .. } = chosen;
        let session = self.sessions.get(&link);
        let session = session.expect("the directory holds what lives");
        assert!(
            session.leaving.is_none(),
            "request {number} goes to a draining replica"
        );
        let exchange = self.exchanges.get_mut(&number)?;
        assert!(
            session
                .hosts
                .as_ref()
                .is_none_or(|hosts| hosts.serves(&exchange.hostname)),
            "request {number} goes to a replica that does not serve {}",
            exchange.hostname
        );
        assert!(
            !exchange.delivery.tried().connections.contains(&id),
            "request {number} goes to one connection twice"
        );
        ledger.send(number);
        let opened = self.host.open(link);
        exchange.state = State::Sent(Attempt {
            chosen,
            stream: opened.unwrap_or_else(|| StreamId::new(Side::Server, Dir::Bi, 0)),
            at: now,
            watch: exchange.delivery.watch(now, HEAD_LIMIT),
            may_look: false,
            reader: HeadReader::default(),
        });
        let Some(stream) = opened else {
            return Some(Failure::NotOpened);
        };
        let order = exchange.sent.order(CARRIES, Version::HTTP_11);
        self.host.write(link, stream, &order.head);
        exchange.body.rewind();
        while let Some(chunk) = exchange.body.next_chunk() {
            self.host.write(link, stream, &chunk);
        }
        self.host.finish(link, stream);
        None
    }

    /// The present attempt has failed.
    pub(super) fn fail(&mut self, now: Instant, number: u64, failure: Failure, ledger: &mut Ledger) {
        let Some(exchange) = self.exchanges.get_mut(&number) else {
            return;
        };
        let State::Sent(attempt) = &exchange.state else {
            return;
        };
        if failure != Failure::NotOpened {
            self.host.release(attempt.chosen.link, attempt.stream, false);
        }
        if self.fault == Some(Fault::NeverRetried) {
            return self.end(now, number, Outcome::Failed(failure.code()), ledger);
        }
        self.note(now, number, failure);
        self.next(now, number, ledger);
    }

    /// Tells the delivery and the table of ejections.
    fn note(&mut self, now: Instant, number: u64, failure: Failure) {
        let Some(exchange) = self.exchanges.get_mut(&number) else {
            return;
        };
        let State::Sent(attempt) = &exchange.state else {
            return;
        };
        let slot = attempt.chosen.slot;
        let held = exchange.body.held();
        exchange.state = State::Waiting { until: now };
        let shown = exchange
            .delivery
            .handle_failure(now, failure, held, &mut self.budget);
        self.judge(now, number, slot, shown);
    }

    fn end(&mut self, now: Instant, number: u64, outcome: Outcome, ledger: &mut Ledger) {
        if self.exchanges.remove(&number).is_some() {
            ledger.end(now, number, outcome);
        }
    }

    pub(super) fn break_off(&mut self, now: Instant, number: u64, replica: usize, ledger: &mut Ledger) {
        if self.fault == Some(Fault::AnsweredRetried)
            && let Some(request) = self.exchanges.get(&number).map(|of| of.request.clone())
        {
            let delivery = self.delivery(now, &request);
            if let Some(exchange) = self.exchanges.get_mut(&number) {
                exchange.delivery = delivery;
            }
            return self.next(now, number, ledger);
        }
        self.end(now, number, Outcome::Broken { replica }, ledger);
    }

    pub(super) fn read(
        &mut self,
        now: Instant,
        number: u64,
        link: LinkId,
        stream: StreamId,
        ledger: &mut Ledger,
    ) {
        let (bytes, end) = self.host.read(link, stream);
        let Some(exchange) = self.exchanges.get_mut(&number) else {
            return;
        };
        let got = match &mut exchange.state {
            State::Sent(attempt) => {
                let head = attempt.reader.handle_bytes(bytes.into());
                match head.expect("a connector writes good heads") {
                    Some((head, rest)) => {
                        let order = exchange.sent.order(CARRIES, Version::HTTP_11);
                        let response = match order.response(head) {
                            Ok(response) => response,
                            Err(error) => return self.fail(now, number, Failure::from(&error), ledger),
                        };
                        let slot = attempt.chosen.slot;
                        let replica = response
                            .headers
                            .get(REPLICA)
                            .and_then(|value| value.to_str().ok());
                        let replica = replica.and_then(|text| text.parse().ok()).expect("a number");
                        let missing = match response.body {
                            ResponseBody::Length(length) => length,
                            ResponseBody::Empty | ResponseBody::UntilFinish | ResponseBody::Upgraded => 0,
                        };
                        exchange.state = State::Answering {
                            link,
                            stream,
                            status: response.status.as_u16(),
                            replica,
                            missing,
                        };
                        ledger.answer(number);
                        let shown = exchange.delivery.handle_answer();
                        self.judge(now, number, slot, shown);
                        rest.len() as u64
                    }
                    None => {
                        let end = end.map(|end| match end {
                            StreamEnd::Reset => retry::StreamEnd::Reset,
                            StreamEnd::Finished => retry::StreamEnd::Finished,
                            StreamEnd::Lost => retry::StreamEnd::Lost,
                        });
                        if let Some(end) = end {
                            self.fail(now, number, end.into(), ledger);
                        }
                        return;
                    }
                }
            }
            State::Answering { .. } => bytes.len() as u64,
            State::Waiting { .. } => return,
        };
        self.pass_on(now, number, got, end, ledger);
    }

    /// Bytes of an answer have come.
    fn pass_on(&mut self, now: Instant, number: u64, got: u64, end: Option<StreamEnd>, ledger: &mut Ledger) {
        let Some(exchange) = self.exchanges.get_mut(&number) else {
            return;
        };
        let State::Answering {
            link,
            stream,
            status,
            replica,
            missing,
        } = &mut exchange.state
        else {
            return;
        };
        *missing = missing.saturating_sub(got);
        let (link, stream, status, replica, is_whole) = (*link, *stream, *status, *replica, *missing == 0);
        if is_whole {
            self.host.release(link, stream, end == Some(StreamEnd::Finished));
            self.end(now, number, Outcome::Answered { status, replica }, ledger);
        } else if end.is_some() {
            self.host.release(link, stream, false);
            self.break_off(now, number, replica, ledger);
        }
    }
}
