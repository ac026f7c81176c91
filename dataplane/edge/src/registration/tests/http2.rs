//! Connectors over TCP: a scripted HTTP/2 server that dials.

use std::cell::RefCell;

use adit_driver::stream::Stream;
use adit_wire::connect::{ConnectRequest, ConnectResponse, ConnectionType, decode_response};
use adit_wire::http2::{
    CONTROL_STREAM, RESPONSE_HEADERS, RESPONSE_META, ResponseMeta, SERVER_NAME, UPGRADE, encode_headers,
};
use http::{Request, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::tunnel_http2::byte_stream::{Receiving, Sending};

/// A scripted connector's connection over TCP.
struct Http2Connector {
    client: registration_server::Client,
    connector: u128,
    index: u8,
    /// Names of the headers of the last request.
    asked: Rc<RefCell<Vec<String>>>,
    /// Ends the connection when dropped.
    hang_up: Option<oneshot::Sender<()>>,
    /// Done when the connection has ended.
    ended: JoinHandle<()>,
}

impl Core {
    async fn dial_tcp(&self) -> Stream {
        let options = tcp::DialOptions::default();
        tcp::dial(self.io, self.edge_tcp, &options).await.unwrap()
    }

    async fn dial_tls(&self) -> TlsStream<Stream> {
        let name = SERVER_NAME.try_into().unwrap();
        let connector = TlsConnector::from(self.tls_client.clone());
        connector.connect(name, self.dial_tcp().await).await.unwrap()
    }

    /// Dials and answers the request for the control stream, on which the edge may then be called.
    async fn dial_http2(&self, connector: u128, index: u8) -> Http2Connector {
        let mut connection = h2::server::handshake(self.dial_tls().await).await.unwrap();
        let (request, mut respond) = connection.accept().await.unwrap().unwrap();
        assert_eq!(request.headers()[UPGRADE], CONTROL_STREAM);
        let send = respond.send_response(Response::new(()), false).unwrap();
        let network = twoparty::VatNetwork::new(
            Receiving::new(request.into_body()).compat(),
            Sending::new(send).compat_write(),
            Side::Client,
            RPC_READER_OPTIONS,
        );
        let mut system = RpcSystem::new(Box::new(network), None);
        let client = system.bootstrap(Side::Server);
        spawn_local(system);
        let asked = Rc::<RefCell<Vec<String>>>::default();
        let (hang_up, mut hung_up) = oneshot::channel::<()>();
        let told = asked.clone();
        let ended = spawn_local(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = connection.accept() => accepted,
                    _ = &mut hung_up => return,
                };
                let Some(Ok((request, respond))) = accepted else {
                    return;
                };
                let names = request.headers().keys().map(ToString::to_string);
                *told.borrow_mut() = names.collect();
                spawn_local(answer(request, respond));
            }
        });
        Http2Connector {
            client,
            connector,
            index,
            asked,
            hang_up: Some(hang_up),
            ended,
        }
    }

    async fn connect_http2(&self, connector: u128, index: u8) -> Http2Connector {
        let connector = self.dial_http2(connector, index).await;
        connector.register(SECRET).await.unwrap();
        connector
    }

    /// Registers connections of one replica until both cores own one.
    async fn connect_http2_to_both_cores(&self) -> Vec<Http2Connector> {
        let mut connectors = Vec::new();
        while self.cores().len() < CORES {
            let index = u8::try_from(connectors.len()).unwrap();
            connectors.push(self.connect_http2(7, index).await);
            let count = connectors.len();
            until(|| self.choices().len() == count).await;
        }
        connectors
    }
}

impl Http2Connector {
    async fn register(&self, secret: &[u8]) -> Result<(), String> {
        register(&self.client, (self.connector, self.index), TUNNEL, secret).await
    }
}

fn signed(status: u16, meta: ResponseMeta) -> http::response::Builder {
    Response::builder()
        .status(status)
        .header(RESPONSE_META, meta.as_str())
}

/// Does what the path says.
async fn answer(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let headers = encode_headers([(&b"X-Path"[..], request.uri().path().as_bytes())]);
    let origin = signed(200, ResponseMeta::Origin).header(RESPONSE_HEADERS, headers);
    let origin = origin.body(()).unwrap();
    match request.uri().path() {
        "/echo" => {
            let mut send = Sending::new(respond.send_response(origin, false).unwrap());
            let mut recv = Receiving::new(request.into_body());
            // Either fails when the edge breaks off.
            let _ = tokio::io::copy(&mut recv, &mut send).await;
            let _ = send.shutdown().await;
        }
        "/reset" => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        "/refused" => respond.send_reset(h2::Reason::REFUSED_STREAM),
        "/stop" => {
            let mut send = respond.send_response(origin, false).unwrap();
            send.send_data(Bytes::from_static(b"stopped"), true).unwrap();
        }
        "/none" => {
            let meta = ResponseMeta::Connector {
                is_rate_limited: false,
            };
            let none = signed(502, meta).body(()).unwrap();
            respond.send_response(none, true).unwrap();
        }
        "/wait" => {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), h2::Reason::CANCEL);
            CANCELLED.with_borrow_mut(|count| *count += 1);
        }
        path => panic!("no script for {path}"),
    }
}

thread_local! {
    /// Requests to `/wait` that the edge has given up.
    static CANCELLED: RefCell<u32> = const { RefCell::new(0) };
}

/// Sends the head of a request whose body is to come.
async fn ask(stream: &mut ExchangeStream, path: &str, more: &[(&str, &str)]) {
    let metadata = [
        ("HttpMethod", "POST"),
        ("HttpHost", "a.test"),
        ("HttpHeader:Transfer-Encoding", "chunked"),
    ];
    let request = ConnectRequest {
        dest: format!("http://a.test{path}").into(),
        kind: ConnectionType::Http,
        metadata: metadata.iter().chain(more).copied().collect(),
        takes_interim: false,
    };
    stream
        .send
        .write(request.encode().unwrap(), &mut patient())
        .await
        .unwrap();
}

/// The head of the answer and what came with it.
async fn answered(stream: &mut ExchangeStream) -> Result<(ConnectResponse, Bytes), RecvError> {
    let mut received = Bytes::new();
    while let Some(chunk) = stream.recv.read_chunk().await? {
        received = [received, chunk].concat().into();
        if let Some(head) = decode_response(&mut received).unwrap() {
            return Ok((head, received));
        }
    }
    panic!("an answer begins with its head");
}

#[test]
fn an_exchange_reaches_both_cores_with_its_body_both_ways() {
    on_edge(|core| async move {
        let _connectors = core.connect_http2_to_both_cores().await;
        for owner in [0, 1] {
            let mut stream = crate::open::open(&core.tunnels, &core.on_core(owner))
                .await
                .unwrap();
            ask(&mut stream, "/echo", &[]).await;
            let (head, first) = answered(&mut stream).await.unwrap();
            let metadata: Vec<_> = head.metadata.iter().collect();
            assert_eq!(
                metadata,
                [
                    (&b"HttpStatus"[..], &b"200"[..]),
                    (b"HttpHeader:X-Path", b"/echo")
                ]
            );
            let body = Bytes::from(vec![b'x'; 3 << 20]);
            let writing = async {
                for chunk in body.chunks(50_000) {
                    stream
                        .send
                        .write(body.slice_ref(chunk), &mut patient())
                        .await
                        .unwrap();
                }
                stream.send.finish();
            };
            let reading = async {
                let mut size = first.len();
                while let Some(chunk) = stream.recv.read_chunk().await.unwrap() {
                    size += chunk.len();
                }
                size
            };
            let ((), size) = tokio::join!(writing, reading);
            assert_eq!(size, body.len(), "through core {owner}");
        }
    });
}

#[test]
fn resets_refusals_and_losses_are_told_apart() {
    on_edge(|core| async move {
        let mut connectors = core.connect_http2_to_both_cores().await;
        for owner in [0, 1] {
            let choice = core.on_core(owner);
            for (path, expected) in [("/reset", RecvError::Reset), ("/refused", RecvError::NotOpened)] {
                let mut stream = crate::open::open(&core.tunnels, &choice).await.unwrap();
                ask(&mut stream, path, &[]).await;
                assert_eq!(answered(&mut stream).await.unwrap_err(), expected);
            }

            let mut none = crate::open::open(&core.tunnels, &choice).await.unwrap();
            ask(&mut none, "/none", &[]).await;
            let (head, _) = answered(&mut none).await.unwrap();
            assert!(!head.error.is_empty() && head.metadata.is_empty());

            let mut stopped = crate::open::open(&core.tunnels, &choice).await.unwrap();
            ask(&mut stopped, "/stop", &[]).await;
            let (_, first) = answered(&mut stopped).await.unwrap();
            let rest = read_all(&mut stopped).await.unwrap();
            assert_eq!([&first[..], &rest].concat(), b"stopped");
            let error = loop {
                if let Err(error) = stopped
                    .send
                    .write(Bytes::from_static(b"more"), &mut patient())
                    .await
                {
                    break error;
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(error, SendError::Stopped);

            let mut lost = crate::open::open(&core.tunnels, &choice).await.unwrap();
            ask(&mut lost, "/echo", &[]).await;
            answered(&mut lost).await.unwrap();
            drop(connectors[usize::from(choice.index().0)].hang_up.take());
            assert_eq!(read_all(&mut lost).await, Err(RecvError::Lost));
            until(|| core.choices().iter().all(|other| other.id != choice.id)).await;
        }
    });
}

#[test]
fn a_visitor_who_leaves_cancels_the_request() {
    on_edge(|core| async move {
        let connector = core.connect_http2(7, 0).await;
        until(|| core.choices().len() == 1).await;
        let (arrived, before) = (connector.asked.clone(), CANCELLED.with_borrow(|count| *count));
        for number in 1..=3 {
            arrived.borrow_mut().clear();
            let mut stream = crate::open::open(&core.tunnels, &core.choices()[0])
                .await
                .unwrap();
            ask(&mut stream, "/wait", &[("HttpHeader:X-Own", "1")]).await;
            until(|| !arrived.borrow().is_empty()).await;
            drop(stream);
            until(|| CANCELLED.with_borrow(|count| *count) == before + number).await;
        }
    });
}

#[test]
fn a_visitor_cannot_make_a_request_anything_else() {
    on_edge(|core| async move {
        let connector = core.connect_http2(7, 0).await;
        until(|| core.choices().len() == 1).await;
        let mut stream = crate::open::open(&core.tunnels, &core.choices()[0])
            .await
            .unwrap();
        let more = [
            ("HttpHeader:X-Own", "1"),
            (
                "HttpHeader:Cf-Cloudflared-Proxy-Connection-Upgrade",
                "update-configuration",
            ),
            ("HttpHeader:cf-cloudflared-proxy-src", "1"),
        ];
        ask(&mut stream, "/stop", &more).await;
        answered(&mut stream).await.unwrap();
        assert_eq!(*connector.asked.borrow(), ["x-own"]);
    });
}

#[test]
fn an_unregistered_connection_finishes_what_it_has_and_is_closed() {
    on_edge(|core| async move {
        let mut connectors = core.connect_http2_to_both_cores().await;
        for owner in [0, 1] {
            let choice = core.on_core(owner);
            let mut running = crate::open::open(&core.tunnels, &choice).await.unwrap();
            ask(&mut running, "/echo", &[]).await;
            answered(&mut running).await.unwrap();
            let connector = &mut connectors[usize::from(choice.index().0)];
            let unregister = connector.client.unregister_connection_request();
            unregister.send().promise.await.unwrap();
            until(|| core.choices().iter().all(|other| other.id != choice.id)).await;
            running
                .send
                .write(Bytes::from_static(b"end"), &mut patient())
                .await
                .unwrap();
            running.send.finish();
            assert_eq!(read_all(&mut running).await.unwrap(), b"end");
            drop(running);
            (&mut connector.ended).await.unwrap();
        }
    });
}

#[test]
fn a_reconnect_over_the_other_transport_takes_the_slot() {
    on_edge(|core| async move {
        let over_quic = core.connect(7, 0).await;
        until(|| core.choices().len() == 1).await;
        let over_http2 = core.connect_http2(7, 0).await;
        over_quic.connection.closed().await;
        until(|| core.choices().len() == 1).await;
        let _again = core.connect(7, 0).await;
        over_http2.ended.await.unwrap();
    });
}

#[test]
fn strangers_are_told_why_and_then_closed() {
    on_edge(|core| async move {
        let wrong = core.dial_http2(7, 0).await;
        let cause = wrong.register(b"something else").await.unwrap_err();
        assert!(cause.starts_with("Unauthorized:"), "{cause}");
        wrong.ended.await.unwrap();
        // Speaks HTTP/2 and never registers.
        core.dial_http2(7, 0).await.ended.await.unwrap();
        assert!(core.choices().is_empty());
    });
}

#[test]
fn what_is_no_connector_is_closed_in_time() {
    on_edge(|core| async move {
        let mut in_clear = core.dial_tcp().await;
        in_clear.write_all(&[b'x'; 4_096]).await.unwrap();
        until_closed(&mut in_clear).await;
        let mut garbage = core.dial_tls().await;
        garbage.write_all(&[b'x'; 4_096]).await.unwrap();
        until_closed(&mut garbage).await;
        // Knows HTTP/2, but no control stream.
        let mut refusing = h2::server::handshake(core.dial_tls().await).await.unwrap();
        let (_, mut respond) = refusing.accept().await.unwrap().unwrap();
        let refusal = Response::builder().status(404).body(()).unwrap();
        respond.send_response(refusal, true).unwrap();
        assert!(refusing.accept().await.is_none_or(|accepted| accepted.is_err()));
        // A probe, and one that says nothing after TLS.
        drop(core.dial_tls().await);
        until_closed(&mut core.dial_tls().await).await;
        let _works = core.connect_http2(7, 0).await;
    });
}

#[test]
fn a_bomb_on_the_control_stream_ends_the_connection() {
    on_edge(|core| async move {
        let mut connection = h2::server::handshake(core.dial_tls().await).await.unwrap();
        let (_request, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(&[255; 8]), false).unwrap();
        let ended = timeout(Duration::from_secs(3), connection.accept())
            .await
            .unwrap();
        assert!(ended.is_none_or(|accepted| accepted.is_err()));
    });
}

async fn until_closed<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut buffer = [0; 1_024];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}
