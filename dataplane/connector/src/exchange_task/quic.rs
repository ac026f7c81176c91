//! The head of an exchange on a data stream.

use std::rc::Rc;

use adit_driver::quic::RecvStream;
use adit_driver::time::timeout;
use adit_proto::exchange::connector::RequestHead;
use adit_wire::ConnIndex;
use adit_wire::connect::{ConnectRequest, ConnectionType, decode_request};
use adit_wire::signature::DATA_STREAM;
use bytes::{Bytes, BytesMut};

use super::{Asked, ExchangeCore, ExchangeError, HEAD_DEADLINE, Stream, Told, conclude, exchange};
use crate::edge_stream::over_quic::QuicAnswer;

/// Serves a data stream whose signature has been read.
pub(crate) async fn serve_quic(
    core: Rc<ExchangeCore>,
    index: ConnIndex,
    answer: QuicAnswer,
    recv: RecvStream,
) {
    let stream = Stream {
        index,
        metrics: &core.metrics,
        told: Told::default(),
        send: answer,
        recv: Some(recv),
    };
    let serving = async |stream: &mut Stream<'_, QuicAnswer, RecvStream>| {
        let (request, first) = read_head(stream.recv.as_mut()).await?;
        stream.told.dest.clone_from(&request.dest);
        let asked = match request.kind {
            ConnectionType::Tcp => Asked::Flow(request.dest),
            ConnectionType::Http | ConnectionType::WebSocket => Asked::Request(RequestHead::parse(&request)?),
        };
        exchange(&core, asked, first, stream).await
    };
    conclude(&core, index, stream, serving).await;
}

/// Reads the head and what came with it.
async fn read_head(recv: Option<&mut RecvStream>) -> Result<(ConnectRequest, Bytes), ExchangeError> {
    let Some(recv) = recv else {
        return Err(ExchangeError::Cancelled);
    };
    let reading = async {
        // A copy, so that what is kept of the head does not keep the datagrams it came in.
        let mut buffer = BytesMut::new();
        loop {
            let Ok(Some(chunk)) = recv.read_chunk().await else {
                return Err(ExchangeError::Cancelled);
            };
            if buffer.is_empty() {
                buffer.reserve(DATA_STREAM.len() + chunk.len());
                buffer.extend_from_slice(&DATA_STREAM);
            }
            // The decoder refuses a head above its limit, which bounds the buffer.
            buffer.extend_from_slice(&chunk);
            let mut received = buffer.freeze();
            if let Some(request) = decode_request(&mut received)? {
                return Ok((request, received));
            }
            buffer = BytesMut::from(received);
        }
    };
    match timeout(HEAD_DEADLINE, reading).await {
        Ok(read) => read,
        Err(_) => Err(ExchangeError::HeadDeadline),
    }
}
