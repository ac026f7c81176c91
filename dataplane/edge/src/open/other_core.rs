//! An exchange whose visitor is on one core and whose connection lives on another: both sides of the two
//! pipes between them.
//!
//! The owner of the connection opens the stream and copies nothing: the same `Bytes` travel from QUIC to the
//! visitor's socket. The credit of the pipes is the back-pressure.

use std::pin::pin;

use adit_driver::pipe::{PipeReader, PipeWriter};
use adit_driver::quic::{ReadError, RecvStream, SendStream, WriteError};
use adit_wire::ConnectionId;

use super::stream::{ExchangeStream, InFlight, LOST, NOT_OPENED};
use super::{OpenError, piped};
use crate::cross_core::{CoreMessage, Outbox};
use crate::tunnel_http2;
use crate::tunnels::connection::Connection;

/// Asks the connection's owner for a stream. What it cannot open ends the pipes.
pub(super) fn open(owner: &Outbox, id: ConnectionId, guard: InFlight) -> Result<ExchangeStream, OpenError> {
    let (stream, request, response) = piped(guard);
    let message = CoreMessage::Open {
        id,
        request,
        response,
    };
    owner.try_send(message).map_err(|_| OpenError::MailboxFull)?;
    Ok(stream)
}

/// The owner's side: carries the exchange until both directions have ended.
pub(crate) async fn carry(connection: Option<Connection>, mut request: PipeReader, mut response: PipeWriter) {
    let opened = match connection {
        Some(Connection::Quic(connection)) => connection.open_bi().await.ok(),
        Some(Connection::Http2(connection)) => {
            return tunnel_http2::exchange::carry(connection, request, response).await;
        }
        None => None,
    };
    let Some((send, recv)) = opened else {
        request.stop(NOT_OPENED);
        response.abort(NOT_OPENED);
        return;
    };
    let (mut sending, mut answering) = (
        pin!(carry_request(request, send)),
        pin!(carry_response(recv, response)),
    );
    tokio::select! {
        biased;
        // Nobody waits for a connector to take what nobody wants answered: dropped, it is reset.
        answered = &mut answering => if answered == Answered::ToTheEnd {
            sending.await;
        },
        () = &mut sending => {
            answering.await;
        }
    }
}

/// How the answer's direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answered {
    /// As the connector ended it.
    ToTheEnd,
    /// Nobody reads it any more.
    InVain,
}

async fn carry_request(mut request: PipeReader, mut send: SendStream) {
    loop {
        match request.read().await {
            Ok(Some(data)) => match send.write(data).await {
                Ok(()) => {}
                Err(WriteError::Stopped(code)) => return request.stop(code_of(code)),
                Err(WriteError::ConnectionLost(_) | WriteError::Closed | WriteError::Stalled(_)) => {
                    return request.stop(LOST);
                }
            },
            Ok(None) => return send.finish(),
            Err(aborted) => return send.reset(aborted.code),
        }
    }
}

async fn carry_response(mut recv: RecvStream, mut response: PipeWriter) -> Answered {
    loop {
        let read = tokio::select! {
            biased;
            code = response.closed() => {
                recv.stop(code);
                return Answered::InVain;
            }
            read = recv.read_chunks() => read,
        };
        match read {
            Ok(Some(mut chunks)) => {
                while let Some(data) = chunks.pop() {
                    if let Err(closed) = response.write(data).await {
                        recv.stop(closed.code);
                        return Answered::InVain;
                    }
                }
                continue;
            }
            Ok(None) => response.finish(),
            Err(ReadError::Reset(code)) => response.abort(code_of(code)),
            Err(ReadError::ConnectionLost(_) | ReadError::Closed) => response.abort(LOST),
        }
        return Answered::ToTheEnd;
    }
}

/// Stream codes of this protocol are 0; anything that does not fit is as meaningless.
fn code_of(code: u64) -> u32 {
    u32::try_from(code)
        .ok()
        .filter(|code| *code < NOT_OPENED)
        .unwrap_or(0)
}
