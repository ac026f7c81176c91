//! One whole exchange: a visitor's request goes to the origin and its response comes back.
//!
//! ```text
//! edge: authority, route, choose, head ─► connector: head, rule, origin's request
//! edge: response head, body            ◄─ connector: response head, body
//! ```
//! Once with the heads handed over as they are, once through two QUIC connections. What HTTP/1 and sockets
//! do on either side is not in it.

use bytes::{Bytes, BytesMut};

use adit_proto::exchange::edge::authority;
use adit_proto::ingress::Ingress;

use super::Work;
use super::choices::{Where, rules};
use super::heads::{forward, parse, request_bytes, response_bytes, visit};
use super::message::{Request, Response};
use super::quic_pair::{Pair, Side};

/// Both roles without a network between them.
struct Exchange {
    request: Request,
    known: Where,
    rules: Ingress,
    response: Response,
}

impl Exchange {
    fn new() -> Self {
        Self {
            request: Request::new(),
            known: Where::new(),
            rules: rules(),
            response: Response::new(),
        }
    }

    /// Edge: what it writes to the stream.
    fn ask(&mut self) -> Bytes {
        let public = self.request.public();
        let host = authority(&public).expect("a host").hostname;
        let tunnel = self.known.route(&host);
        self.known.choose(tunnel, &host);
        request_bytes(&self.request)
    }

    /// Connector: what it answers to what it received.
    fn answer(&self, received: &mut Bytes) -> Bytes {
        let head = parse(received);
        let (number, _) = self.rules.find(head.host(), head.target());
        assert_eq!(number, 2, "the third rule is for this request");
        forward(head);
        response_bytes(&self.response)
    }
}

/// Heads alone.
pub(super) fn heads() -> Work {
    let mut exchange = Exchange::new();
    Box::new(move || {
        let mut request = exchange.ask();
        let mut response = exchange.answer(&mut request);
        visit(&mut response);
    })
}

/// Heads and a body of 1 KB over QUIC.
pub(super) fn over_quic() -> Work {
    let mut exchange = Exchange::new();
    let mut pair = Pair::connected();
    Box::new(move || {
        let request = exchange.ask();
        let stream = pair.open(&[request]);
        assert_eq!(pair.accept(), stream, "streams come in order");
        // The connector keeps a head apart from the datagrams it came in.
        let mut received = BytesMut::new();
        pair.read(Side::Connector, stream, |chunk| {
            received.extend_from_slice(&chunk)
        });
        let response = exchange.answer(&mut received.freeze());
        let body = &exchange.response.body;
        pair.write(Side::Connector, stream, &[response, body.clone()]);
        let mut left = None;
        pair.read(Side::Edge, stream, |mut chunk| match &mut left {
            None => {
                visit(&mut chunk);
                left = Some(body.len() - chunk.len());
            }
            Some(left) => *left -= chunk.len(),
        });
        assert_eq!(left, Some(0), "the whole body came");
    })
}

/// As many bytes over QUIC with nothing done to them: what of [`over_quic`] is not ours.
pub(super) fn quic_alone() -> Work {
    let mut exchange = Exchange::new();
    let mut pair = Pair::connected();
    let request = exchange.ask();
    let response = exchange.answer(&mut request.clone());
    Box::new(move || {
        let stream = pair.open(std::slice::from_ref(&request));
        assert_eq!(pair.accept(), stream, "streams come in order");
        pair.read(Side::Connector, stream, drop);
        let body = exchange.response.body.clone();
        pair.write(Side::Connector, stream, &[response.clone(), body]);
        pair.read(Side::Edge, stream, drop);
    })
}
