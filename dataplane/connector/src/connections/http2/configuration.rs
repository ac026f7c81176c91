//! A configuration that comes as a request over HTTP/2.
//!
//! Source: docs/protocol/transport-http2.md §2.5; cloudflared `connection/http2.go`.

use std::time::{Duration, Instant};

use adit_driver::time::timeout;
use adit_proto::exchange::connector::http2::failure;
use adit_proto::exchange::reach::Reach;
use adit_wire::config_push::{CONFIG_BYTES_MAX, ConfigUpdate};
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{Request, Response};
use serde_json::{Value, json};

use crate::edge_stream::FromEdge as _;
use crate::edge_stream::http2::Http2Body;
use crate::exchange_task::ExchangeCore;
use crate::metrics::RpcMethod;

/// As long as a stream with such a call lasts over QUIC.
const PUSH_TIME_MAX: Duration = Duration::from_secs(5);

/// For what stands around a configuration: a version, and names.
const ENVELOPE_BYTES_MAX: usize = 1024;

/// Serves one request.
pub(super) async fn serve(
    core: &ExchangeCore,
    request: Request<h2::RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let start = Instant::now();
    let reading = read(Http2Body::new(request.into_body()));
    let update = timeout(PUSH_TIME_MAX, reading).await.ok().flatten();
    let answer = update.map(|update| core.settings.apply(&update));
    core.metrics
        .rpc
        .ended(RpcMethod::UpdateConfiguration, start.elapsed(), answer.is_none());
    match answer {
        Some(applied) => {
            // The stock connector sends an empty object for any error. The text says more to whoever reads
            // it.
            let error = Some(applied.error).filter(|error| !error.is_empty());
            let body = json!({ "lastAppliedVersion": applied.latest_version, "err": error });
            send(respond, Response::new(()), body.to_string().into());
        }
        None => send(respond, failure(Reach::Unknown), Bytes::new()),
    }
}

/// Reads a whole body; `None` if it is no configuration.
async fn read(mut body: Http2Body) -> Option<ConfigUpdate> {
    let mut text = BytesMut::new();
    while let Some(chunk) = body.read_chunk().await.ok()? {
        // What stands around the configuration has room beside it.
        if text.len() + chunk.len() > CONFIG_BYTES_MAX + ENVELOPE_BYTES_MAX {
            return None;
        }
        text.extend_from_slice(&chunk);
    }
    let Value::Object(mut fields) = serde_json::from_slice(&text).ok()? else {
        return None;
    };
    let version = i32::try_from(fields.get("version")?.as_i64()?).ok()?;
    let config = fields.remove("config")?;
    Some(ConfigUpdate {
        version,
        config: config.to_string().into(),
    })
}

fn send(mut respond: SendResponse<Bytes>, head: Response<()>, body: Bytes) {
    let sent = match respond.send_response(head, body.is_empty()) {
        Ok(mut stream) if !body.is_empty() => stream.send_data(body, true),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "the edge is gone before it was told of its configuration");
    }
}
