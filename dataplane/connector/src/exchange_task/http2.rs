//! The head of an exchange over HTTP/2.

use std::rc::Rc;

use adit_proto::exchange::connector::RequestHead;
use adit_proto::exchange::connector::http2::Kind;
use adit_wire::ConnIndex;
use bytes::Bytes;
use http::Request;

use super::{Asked, ExchangeCore, Stream, Told, conclude, exchange};
use crate::edge_stream::ToEdge as _;
use crate::edge_stream::http2::{Http2Answer, Http2Body};

/// Serves a request that is for an origin.
pub(crate) async fn serve_http2(
    core: Rc<ExchangeCore>,
    index: ConnIndex,
    request: Request<Http2Body>,
    answer: Http2Answer,
) {
    let (parts, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let is_edge_ours = answer.is_for_ours();
    let stream = Stream {
        index,
        metrics: &core.metrics,
        told: Told::default(),
        send: answer,
        recv: Some(body),
    };
    let serving = async |stream: &mut Stream<'_, Http2Answer, Http2Body>| {
        stream.told.dest = Bytes::from(parts.uri.to_string());
        let asked = if Kind::of(&parts.headers) == Kind::Flow {
            let authority = parts.uri.authority().map_or("", |authority| authority.as_str());
            stream.told.dest = Bytes::copy_from_slice(authority.as_bytes());
            Asked::Flow(stream.told.dest.clone())
        } else {
            Asked::Request(RequestHead::from_http2(parts, has_body, is_edge_ours)?)
        };
        exchange(&core, asked, Bytes::new(), stream).await
    };
    conclude(&core, index, stream, serving).await;
}
