//! Exchanges with the management service, which is inside of the connector.

use adit_proto::exchange::connector::RequestHead;
use bytes::Bytes;
use http::StatusCode;

use super::{ExchangeCore, ExchangeError, Stream, answer_ourselves, path};
use crate::edge_stream::{FromEdge, ToEdge};
use crate::management::{Reply, log_socket};
use crate::origin::websocket::End;

/// Answers what is asked of the connector itself; the edge has seen to who may ask.
pub(super) async fn answer<S: ToEdge, R: FromEdge>(
    core: &ExchangeCore,
    head: RequestHead,
    first: Bytes,
    stream: &mut Stream<'_, S, R>,
) -> Result<(), ExchangeError> {
    let management = &core.settings.management;
    tracing::debug!(path = path(head.target()), "Management request");
    let (headers, actor) = match management.reply(&core.settings, &head).await {
        Reply::Answer(answer) => return answer_ourselves(answer, stream).await,
        Reply::Logs(headers, actor) => (headers, actor),
    };
    drop(head);
    stream
        .write_head(StatusCode::SWITCHING_PROTOCOLS, &headers)
        .await?;
    let Stream { send, recv, .. } = stream;
    let recv = recv.as_mut().ok_or(ExchangeError::Relay)?;
    match log_socket::serve(&management.live_log, &actor, first, send, recv).await {
        End::Finished => Ok(()),
        End::Broken | End::Gone => Err(ExchangeError::Cancelled),
    }
}
