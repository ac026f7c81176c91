//! What a connector makes of a stream that an edge opens, and how its origin treats that.

use std::time::Instant;

use adit_proto::exchange::connector::{
    HeadRules, RequestBody, RequestHead, encode_error, encode_response_head,
};
use adit_proto::exchange::reach::{Reach, UNREACHABLE};
use adit_proto::ingress::service::OriginService;
use adit_wire::connect::decode_request;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode};
use quinn_proto::StreamId;

use super::super::clock::ms;
use super::super::host::{LinkId, StreamEnd};
use super::super::ledger::{Ledger, REQUEST};
use super::{ANSWER_BYTES, Connector, Mood, REPLICA};

/// One exchange on its stream.
pub(super) enum Exchange {
    /// The head is incomplete.
    Reading(Bytes),
    /// The body is incomplete.
    Taking { request: u64, missing: u64 },
    /// The origin has it.
    Asked { request: u64, due: Instant },
    /// The first half of the answer is sent.
    Answering { due: Instant },
    /// Nothing more will come.
    Silent,
}

impl Connector {
    pub(super) fn read(&mut self, now: Instant, place: (LinkId, StreamId), ledger: &mut Ledger) {
        if !self.host.is_in_use(place.0, place.1) {
            return;
        }
        let (bytes, end) = self.host.read(place.0, place.1);
        match end {
            Some(StreamEnd::Reset | StreamEnd::Lost) => {
                if self.exchanges.remove(&place).is_some() {
                    self.host.release(place.0, place.1, false);
                }
                return;
            }
            // A stream that was given up still reports what had arrived.
            Some(StreamEnd::Finished) | None if bytes.is_empty() => return,
            Some(StreamEnd::Finished) | None => {}
        }
        let next = match self.exchanges.remove(&place) {
            None => self.on_head(now, place, bytes.freeze(), ledger),
            Some(Exchange::Reading(before)) => {
                let mut whole = BytesMut::from(before);
                whole.extend_from_slice(&bytes);
                self.on_head(now, place, whole.freeze(), ledger)
            }
            Some(Exchange::Taking { request, missing }) => {
                Some(self.on_body(now, request, missing, bytes.len(), ledger))
            }
            Some(other @ (Exchange::Asked { .. } | Exchange::Answering { .. } | Exchange::Silent)) => {
                Some(other)
            }
        };
        let Some(next) = next else {
            return self.host.release(place.0, place.1, true);
        };
        self.exchanges.insert(place, next);
        if let Some(Exchange::Asked { due, .. }) = self.exchanges.get(&place)
            && *due <= now
        {
            self.answer(now, place, ledger);
        }
    }

    /// Nothing is left of an exchange that the connector has answered itself.
    fn on_head(
        &mut self,
        now: Instant,
        place: (LinkId, StreamId),
        mut received: Bytes,
        ledger: &mut Ledger,
    ) -> Option<Exchange> {
        let Some(request) = decode_request(&mut received).expect("an edge writes good heads") else {
            return Some(Exchange::Reading(received));
        };
        let head = RequestHead::parse(&request).expect("an edge writes good heads");
        let number = head.header(&REQUEST).and_then(|value| value.to_str().ok());
        let request = number.and_then(|text| text.parse().ok()).expect("a number");
        let host = head.host().to_owned();
        let (_, rule) = self.ingress.find(&host, head.target());
        ledger.reach(request, self.character.number, self.id);
        if let OriginService::Status(status) = rule.service {
            let status = StatusCode::from_u16(status).expect("a status");
            let head = encode_response_head(status, &self.marked()).expect("a small head");
            self.host.write(place.0, place.1, &head);
            self.host.finish(place.0, place.1);
            return None;
        }
        let rules = HeadRules {
            host_header: None,
            disable_chunked_encoding: false,
            may_speak_http2: false,
            added: &[],
            edits: None,
        };
        let (_, body) = head.into_origin(&rules).expect("a good head");
        let length = match body {
            RequestBody::Length(length) => length,
            RequestBody::Empty | RequestBody::UntilEnd | RequestBody::Collected => 0,
        };
        Some(self.on_body(now, request, length, received.len(), ledger))
    }

    fn on_body(
        &mut self,
        now: Instant,
        request: u64,
        missing: u64,
        got: usize,
        ledger: &mut Ledger,
    ) -> Exchange {
        let missing = missing.saturating_sub(got as u64);
        if missing > 0 {
            return Exchange::Taking { request, missing };
        }
        let due = match self.origin {
            Mood::Refusing => now,
            Mood::Well(after) => now + after,
            Mood::Breaking => now + ms(20),
            Mood::Hanging => {
                ledger.execute(request, self.character.number);
                return Exchange::Silent;
            }
        };
        if self.origin != Mood::Refusing {
            ledger.execute(request, self.character.number);
        }
        Exchange::Asked { request, due }
    }

    /// The origin has answered, or has not.
    pub(super) fn answer(&mut self, now: Instant, place: (LinkId, StreamId), ledger: &mut Ledger) {
        let (link, stream) = place;
        match (self.exchanges.remove(&place), self.origin) {
            (Some(Exchange::Asked { request, .. }), Mood::Refusing) if !ledger.is_executed(request) => {
                let text = format!("{UNREACHABLE}: dial tcp 127.0.0.1:8080: connect: connection refused");
                let head = encode_error(&text, Reach::Nowhere).expect("a short text");
                self.host.write(link, stream, &head);
                self.host.finish(link, stream);
                self.host.release(link, stream, true);
            }
            (Some(Exchange::Asked { .. }), Mood::Breaking | Mood::Refusing | Mood::Hanging) => {
                self.host.release(link, stream, false);
            }
            (Some(Exchange::Asked { .. }), Mood::Well(after)) => {
                let mut headers = self.marked();
                headers.insert(http::header::CONTENT_LENGTH, ANSWER_BYTES.into());
                let head = encode_response_head(StatusCode::OK, &headers).expect("a small head");
                self.host.write(link, stream, &head);
                self.host
                    .write(link, stream, &Bytes::from_static(&[b'a'; ANSWER_BYTES / 2]));
                let due = now + after;
                self.exchanges.insert(place, Exchange::Answering { due });
            }
            (Some(Exchange::Answering { .. }), _) => {
                self.host
                    .write(link, stream, &Bytes::from_static(&[b'z'; ANSWER_BYTES / 2]));
                self.host.finish(link, stream);
                self.host.release(link, stream, true);
            }
            (Some(Exchange::Reading(_) | Exchange::Taking { .. } | Exchange::Silent) | None, _) => {}
        }
    }

    fn marked(&self) -> HeaderMap {
        [(REPLICA, HeaderValue::from(self.character.number))]
            .into_iter()
            .collect()
    }
}
