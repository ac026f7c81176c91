//! Requests that are the edge's own: the control stream, and a configuration for the connector.

use std::future::poll_fn;

use adit_wire::config_push::{ConfigApplied, ConfigPushError, ConfigUpdate};
use adit_wire::http2::{
    CONNECTOR_OF_OURS, CONTROL_STREAM, EDGE_OF_OURS, SERVER_NAME, UPDATE_CONFIGURATION, UPGRADE,
};
use adit_wire::metadata::TRUE;
use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response, StatusCode, Version};

use super::Connection;
use super::byte_stream::{Receiving, Sending, poll_granted};

/// Largest answer to a configuration.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// A connector does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error(transparent)]
    Http(#[from] h2::Error),
    #[error("the connector answers with status {0}")]
    Status(StatusCode),
    #[error("the connector's answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the connector's answer is none")]
    Answer(#[from] ConfigPushError),
}

impl Connection {
    /// Opens the control stream. The connector answers with its first bytes on it, and says whether it is
    /// ours.
    ///
    /// # Errors
    /// [`CallError::Http`], and [`CallError::Status`] if the connector does not know it.
    pub(crate) async fn open_control(&self) -> Result<(Receiving, Sending), CallError> {
        let (answer, send) = self.call(Method::GET, CONTROL_STREAM).await?;
        let answer = answer.await?;
        let is_ours = answer
            .headers()
            .get(CONNECTOR_OF_OURS)
            .is_some_and(|value| value == TRUE);
        self.0.is_of_ours.set(is_ours);
        Ok((Receiving::new(accepted(answer)?), Sending::new(send)))
    }

    /// Sends a configuration and returns what the connector makes of it.
    ///
    /// # Errors
    /// Any [`CallError`].
    pub(crate) async fn push(&self, update: &ConfigUpdate) -> Result<ConfigApplied, CallError> {
        let (answer, mut send) = self.call(Method::PUT, UPDATE_CONFIGURATION).await?;
        let mut body = update.to_json();
        while body.has_remaining() {
            let granted = poll_fn(|cx| poll_granted(&mut send, cx, body.len())).await?;
            send.send_data(body.split_to(granted), false)?;
        }
        send.send_data(Bytes::new(), true)?;
        let mut received = accepted(answer.await?)?;
        let mut answer = BytesMut::new();
        while let Some(data) = received.data().await {
            let data = data?;
            if answer.len() + data.len() > ANSWER_BYTES_MAX {
                return Err(CallError::TooLarge);
            }
            answer.extend_from_slice(&data);
            received.flow_control().release_capacity(data.len())?;
        }
        Ok(ConfigApplied::from_json(&answer)?)
    }

    async fn call(
        &self,
        method: Method,
        kind: &'static str,
    ) -> Result<(h2::client::ResponseFuture, SendStream<Bytes>), CallError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://{SERVER_NAME}/"))
            .version(Version::HTTP_2)
            .header(UPGRADE, kind)
            .header(EDGE_OF_OURS, TRUE)
            .body(())
            .expect("made of constants");
        let mut requests = self.0.requests.clone().ready().await?;
        Ok(requests.send_request(request, false)?)
    }
}

fn accepted(answer: Response<RecvStream>) -> Result<RecvStream, CallError> {
    match answer.status() {
        StatusCode::OK => Ok(answer.into_body()),
        status => Err(CallError::Status(status)),
    }
}
