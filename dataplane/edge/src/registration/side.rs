//! Streams and datagrams that a connector sends beside its control stream.
//!
//! UDP sessions are not offered, so all there is to do is to answer politely: an RPC stream gets a server
//! that accepts the end of sessions we never had, any other stream is reset, datagrams are counted and a
//! registration over them is refused. None of it may disturb the connection.

use std::rc::Rc;

use adit_driver::quic::{self, RecvStream, SendStream};
use adit_driver::time::timeout;
use adit_proto::limits::REGISTRATION_DEADLINE;
use adit_wire::datagram::v3::{self, Datagram, RegistrationResult};
use adit_wire::framing::{MESSAGE_BYTES_MAX, RPC_READER_OPTIONS};
use adit_wire::signature::{RPC_STREAM, SIGNATURE_SIZE};
use adit_wire::tunnelrpc_capnp::session_manager;
use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::io::AsyncReadExt;
use tokio::task::{JoinHandle, JoinSet, spawn_local};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::CoreState;
use super::gated::Gated;

/// Side streams of one connection served at once; more wait in QUIC's own limit.
const SIDE_STREAMS_MAX: usize = 16;

/// Serves the streams a connector opens after its control stream.
pub(super) fn spawn_streams(connection: quic::Connection, core: Rc<CoreState>) -> JoinHandle<()> {
    spawn_local(async move {
        let mut tasks = JoinSet::new();
        while let Ok((send, recv)) = connection.accept_bi().await {
            while tasks.len() >= SIDE_STREAMS_MAX {
                tasks.join_next().await;
            }
            core.metrics.side_streams.add(1);
            // An RPC exchange is over in 5 s on the connector's side too.
            tasks.spawn_local(async move {
                if timeout(REGISTRATION_DEADLINE, serve(send, recv)).await.is_err() {
                    tracing::debug!("side stream did not end in time");
                }
            });
        }
    })
}

/// Counts and drops datagrams; reading keeps the queue of the QUIC connection empty.
pub(super) fn spawn_datagrams(
    connection: quic::Connection,
    core: Rc<CoreState>,
    speaks_v3: bool,
) -> JoinHandle<()> {
    spawn_local(async move {
        while let Ok(datagram) = connection.read_datagram().await {
            core.metrics.datagrams_dropped.add(1);
            if speaks_v3 && let Some(refusal) = refusal(datagram) {
                connection.send_datagram(refusal);
            }
        }
    })
}

/// The answer to a datagram that wants a UDP session; none to any other, nor to a malformed one.
fn refusal(datagram: Bytes) -> Option<Bytes> {
    let Ok(Datagram::Registration(registration)) = v3::decode(datagram) else {
        return None;
    };
    let result = RegistrationResult::Failed(Bytes::from_static(b"UDP sessions are not offered here"));
    v3::encode(&Datagram::Response {
        session: registration.session,
        result,
    })
    .ok()
}

async fn serve(mut send: SendStream, mut recv: RecvStream) {
    let mut signature = [0; SIGNATURE_SIZE];
    if recv.read_exact(&mut signature).await.is_err() || signature != RPC_STREAM {
        send.reset(0);
        recv.stop(0);
        return;
    }
    let (recv, _) = Gated::new(recv, MESSAGE_BYTES_MAX);
    let network = twoparty::VatNetwork::new(
        recv.compat(),
        send.compat_write(),
        Side::Server,
        RPC_READER_OPTIONS,
    );
    let server: session_manager::Client = capnp_rpc::new_client(NoSessions);
    if let Err(error) = RpcSystem::new(Box::new(network), Some(server.client)).await {
        tracing::debug!(%error, "side stream ended");
    }
}

struct NoSessions;

impl session_manager::Server for NoSessions {
    async fn unregister_udp_session(
        self: Rc<Self>,
        _: session_manager::UnregisterUdpSessionParams,
        _: session_manager::UnregisterUdpSessionResults,
    ) -> Result<(), capnp::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_wire::datagram::SessionId;
    use adit_wire::datagram::v3::Registration;
    use std::time::Duration;
    use uuid::Uuid;

    #[test]
    fn a_session_asked_for_by_datagram_is_refused_and_nothing_else_is_answered() {
        let session = SessionId(Uuid::from_u128(7));
        let asked = Datagram::Registration(Registration {
            session,
            destination: ([192, 0, 2, 1], 53).into(),
            idle_timeout: Duration::from_secs(5),
            is_traced: false,
            bundled: None,
        });
        let answer = v3::decode(refusal(v3::encode(&asked).unwrap()).unwrap()).unwrap();
        assert!(
            matches!(answer, Datagram::Response { session: id, result: RegistrationResult::Failed(_) }
            if id == session)
        );
        let payload = Datagram::Payload {
            session,
            payload: Bytes::from_static(b"x"),
        };
        assert_eq!(refusal(v3::encode(&payload).unwrap()), None);
        assert_eq!(refusal(Bytes::from_static(&[0, 1, 2])), None);
        assert_eq!(refusal(Bytes::new()), None);
    }
}
