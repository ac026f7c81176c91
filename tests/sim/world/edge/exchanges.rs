//! The loop around one request: where it goes, what a failure means, what the visitor is told.
//!
//! What is decided by `proto` is asked of it; the order of the questions is that of
//! `adit_edge::exchange_task`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use adit_proto::directory::Slot;
use adit_proto::ejection::Outcome as Shown;
use adit_proto::exchange::edge::{
    BodyLength, PublicRequest, RequestId, ResponseBody, ResponseError, Scheme, TunnelRequest, Visitor,
    authority, public_response, tunnel_request,
};
use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::reach::Reach;
use adit_proto::exchange::retry::{Attempted, Failure, Held, Verdict, decide};
use adit_proto::steering::{NoConnection, Tried};
use adit_wire::connect::{ConnectionType, decode_response};
use adit_wire::{ConnectionId, Hostname, TunnelId};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use quinn_proto::{Dir, Side, StreamId};

use super::super::connector::REPLICA;
use super::super::fault::Fault;
use super::super::host::{LinkId, StreamEnd};
use super::super::ledger::{Ledger, Outcome, REQUEST, Request};
use super::{Edge, RECONNECT_WAIT};

/// A request without an end.
pub(super) struct Exchange {
    pub(super) request: Request,
    pub(super) began: Instant,
    pub(super) tunnel: TunnelId,
    pub(super) hostname: Hostname,
    pub(super) sent: TunnelRequest,
    pub(super) tried: Tried,
    pub(super) attempts: u32,
    pub(super) last: Option<Failure>,
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
    pub(super) id: ConnectionId,
    pub(super) slot: Slot,
    pub(super) link: LinkId,
    pub(super) stream: StreamId,
    pub(super) at: Instant,
    /// Whether it is time to look if the connector is late.
    pub(super) may_look: bool,
    pub(super) received: Bytes,
}

impl Edge {
    /// A visitor asks.
    pub(in super::super) fn ask(&mut self, now: Instant, request: Request, ledger: &mut Ledger) {
        let number = request.number;
        let exchange = match self.admit(now, request) {
            Ok(exchange) => exchange,
            Err(code) => return ledger.end(now, number, Outcome::Failed(code)),
        };
        self.budget.deposit();
        self.exchanges.insert(number, exchange);
        self.next(now, number, ledger);
    }

    fn admit(&self, now: Instant, request: Request) -> Result<Exchange, ErrorCode> {
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
        Ok(Exchange {
            request,
            began: now,
            tunnel,
            hostname,
            sent,
            tried: Tried::default(),
            attempts: 0,
            last: None,
            state: State::Waiting { until: now },
        })
    }

    /// Sends the request to a connection that has not seen it, or waits for one.
    pub(super) fn next(&mut self, now: Instant, number: u64, ledger: &mut Ledger) {
        let none = match self.choose(now, number, false) {
            Ok(live) => match self.attempt(now, number, live, ledger) {
                None => return,
                Some(failure) => return self.fail(now, number, failure, ledger),
            },
            Err(none) => none,
        };
        let Some(exchange) = self.exchanges.get_mut(&number) else {
            return;
        };
        let tunnel = exchange.tunnel;
        let is_absent = match none {
            NoConnection::Down => true,
            NoConnection::Doubted => {
                self.absent.entry(tunnel).or_insert(now + RECONNECT_WAIT);
                true
            }
            NoConnection::AllTried if matches!(exchange.last, Some(Failure::Lost | Failure::Doubted)) => {
                self.absent.entry(tunnel).or_insert(now + RECONNECT_WAIT);
                true
            }
            NoConnection::AllTried
            | NoConnection::NotServed
            | NoConnection::NoTrailers
            | NoConnection::Full => false,
        };
        if now < self.started + RECONNECT_WAIT {
            self.absent.entry(tunnel).or_insert(self.started + RECONNECT_WAIT);
        }
        match self.absent.get(&tunnel) {
            Some(until) if is_absent && now < *until => {
                exchange.state = State::Waiting { until: *until };
            }
            Some(_) | None => self.settle_for_any(now, number, none, ledger),
        }
    }

    /// The tunnel has not come back in time.
    pub(super) fn give_up_waiting(&mut self, now: Instant, number: u64, ledger: &mut Ledger) {
        let tunnel = self.exchanges[&number].tunnel;
        if self.absent.get(&tunnel).is_some_and(|until| *until <= now) {
            self.absent.remove(&tunnel);
        }
        match self.choose(now, number, false) {
            Ok(_) => self.next(now, number, ledger),
            Err(none) => self.settle_for_any(now, number, none, ledger),
        }
    }

    /// Where nobody waits, a connection that may be dead is better than none.
    fn settle_for_any(&mut self, now: Instant, number: u64, none: NoConnection, ledger: &mut Ledger) {
        let failure = match self.choose(now, number, true) {
            Ok(live) => self.attempt(now, number, live, ledger),
            Err(_) => {
                let last = self.exchanges[&number].last;
                let code = last.map_or_else(|| code_of(none), Failure::code);
                return self.end(now, number, Outcome::Failed(code), ledger);
            }
        };
        if let Some(failure) = failure {
            self.fail(now, number, failure, ledger);
        }
    }

    /// Sends the request; says why it could not.
    fn attempt(
        &mut self,
        now: Instant,
        number: u64,
        (id, slot, link): (ConnectionId, Slot, LinkId),
        ledger: &mut Ledger,
    ) -> Option<Failure> {
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
            !exchange.tried.connections.contains(&id),
            "request {number} goes to one connection twice"
        );
        exchange.attempts += 1;
        ledger.send(number);
        let opened = self.host.open(link);
        exchange.state = State::Sent(Attempt {
            id,
            slot,
            link,
            stream: opened.unwrap_or_else(|| StreamId::new(Side::Server, Dir::Bi, 0)),
            at: now,
            may_look: false,
            received: Bytes::new(),
        });
        let Some(stream) = opened else {
            return Some(Failure::NotOpened);
        };
        self.host.write(link, stream, &exchange.sent.head);
        if exchange.request.body_bytes > 0 {
            let body = vec![b'b'; exchange.request.body_bytes];
            self.host.write(link, stream, &body.into());
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
        let (id, slot, link, stream, at) =
            (attempt.id, attempt.slot, attempt.link, attempt.stream, attempt.at);
        if failure != Failure::NotOpened {
            self.host.release(link, stream, false);
        }
        let method = match self.fault {
            Some(Fault::PostRetried) => Method::GET,
            _ => exchange.request.method.clone(),
        };
        let attempted = Attempted {
            method: &method,
            held: Held::Whole,
            attempts: exchange.attempts,
            elapsed: now - exchange.began,
        };
        let mut verdict = decide(failure, &attempted, &mut self.budget);
        if self.fault == Some(Fault::NeverRetried) {
            verdict = Verdict::GiveUp(failure.code());
        }
        match verdict {
            Verdict::GiveUp(_) => {}
            Verdict::OtherConnection => exchange.tried.avoided.push(slot.connector),
            Verdict::OtherReplica => exchange.tried.barred.push(slot.connector),
        }
        exchange.tried.connections.push(id);
        exchange.last = Some(failure);
        exchange.state = State::Waiting { until: now };
        if let Some(shown) = Shown::of(failure) {
            self.judge(now, number, slot, shown, at);
        }
        match verdict {
            Verdict::GiveUp(code) => self.end(now, number, Outcome::Failed(code), ledger),
            Verdict::OtherConnection | Verdict::OtherReplica => self.next(now, number, ledger),
        }
    }

    fn end(&mut self, now: Instant, number: u64, outcome: Outcome, ledger: &mut Ledger) {
        if self.exchanges.remove(&number).is_some() {
            ledger.end(now, number, outcome);
        }
    }

    pub(super) fn break_off(&mut self, now: Instant, number: u64, replica: usize, ledger: &mut Ledger) {
        if self.fault == Some(Fault::AnsweredRetried) {
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
                let mut received = BytesMut::from(std::mem::take(&mut attempt.received));
                received.extend_from_slice(&bytes);
                let mut received = received.freeze();
                let response = decode_response(&mut received).expect("a connector writes good heads");
                attempt.received = received;
                match response {
                    Some(response) => {
                        let version = Version::HTTP_11;
                        let method = &exchange.request.method;
                        let response = public_response(response, method, ConnectionType::Http, None, version);
                        let response = match response {
                            Ok(response) => response,
                            Err(error) => return self.fail(now, number, refused(&error), ledger),
                        };
                        let (slot, at) = (attempt.slot, attempt.at);
                        let got = attempt.received.len() as u64;
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
                        self.judge(now, number, slot, Shown::Answered, at);
                        got
                    }
                    None => {
                        match end {
                            None => {}
                            Some(StreamEnd::Reset) => self.fail(now, number, Failure::Reported, ledger),
                            Some(StreamEnd::Finished | StreamEnd::Lost) => {
                                self.fail(now, number, Failure::Lost, ledger);
                            }
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

fn refused(error: &ResponseError) -> Failure {
    match error {
        ResponseError::Connector(_, Reach::Unknown) => Failure::Reported,
        ResponseError::Connector(_, Reach::Nowhere) => Failure::Unreached,
        ResponseError::Connector(_, Reach::Asked) => Failure::Astray,
        ResponseError::Busy => Failure::Busy,
        ResponseError::Unfit(ErrorCode::OriginHeadTooLarge) => Failure::TooLarge,
        ResponseError::Unfit(_) | ResponseError::Invalid(_) => Failure::Invalid,
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
