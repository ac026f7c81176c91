//! The SOCKS5 conversation inside of a WebSocket, before bytes are relayed.

use std::time::Duration;

use adit_driver::time::timeout;
use adit_proto::socks::{Destination, Handshake, Reply, Said, SocksError, WELCOME};
use adit_proto::websocket::carrier;
use bytes::Bytes;

use super::carry::{Heard, Inward};
use crate::edge_stream::{FromEdge, ToEdge};

/// A client says where to in one go, so one that takes longer says nothing.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// Why nothing was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConversationError {
    #[error(transparent)]
    Socks(#[from] SocksError),
    #[error("no SOCKS request within {HANDSHAKE_LIMIT:?}")]
    Deadline,
    #[error("the visitor left before it said where to")]
    Gone,
}

/// What was asked for, and bytes that are for there already.
pub(crate) struct Asked {
    pub(crate) destination: Destination,
    pub(crate) early: Bytes,
}

/// Greets a client and hears where it wants to go; tells it if it cannot be served. A reply is owed.
pub(crate) async fn hear(
    inward: &mut Inward<'_, impl FromEdge>,
    send: &mut impl ToEdge,
) -> Result<Asked, ConversationError> {
    let heard = timeout(HANDSHAKE_LIMIT, converse(inward, send)).await;
    let heard = heard.unwrap_or(Err(ConversationError::Deadline));
    if let Err(ConversationError::Socks(error)) = &heard {
        tell(send, &error.reply()).await;
    }
    heard
}

/// Tells the client how its request went.
pub(crate) async fn reply(send: &mut impl ToEdge, reply: Reply) {
    tell(send, &reply.bytes()).await;
}

async fn converse(
    inward: &mut Inward<'_, impl FromEdge>,
    send: &mut impl ToEdge,
) -> Result<Asked, ConversationError> {
    let mut handshake = Handshake::default();
    let mut bytes = Bytes::new();
    loop {
        match handshake.handle_bytes(&mut bytes)? {
            Some(Said::Greeting) => {
                tell(send, &WELCOME).await;
                continue;
            }
            Some(Said::Connect(destination)) => {
                return Ok(Asked {
                    destination,
                    early: bytes,
                });
            }
            None => {}
        }
        match inward.next().await {
            Heard::Data(data) => bytes = data,
            Heard::Ping(payload) => write(send, carrier::pong(&payload, None)).await,
            Heard::Close | Heard::Gone(_) => return Err(ConversationError::Gone),
        }
    }
}

async fn tell(send: &mut impl ToEdge, text: &[u8]) {
    if !text.is_empty() {
        write(send, carrier::frame(text, None)).await;
    }
}

/// A visitor who cannot be told is gone, which the next thing heard of it says.
async fn write(send: &mut impl ToEdge, frame: Bytes) {
    if let Err(error) = send.write(frame).await {
        tracing::trace!(%error, "the visitor of a SOCKS proxy is gone");
    }
}
