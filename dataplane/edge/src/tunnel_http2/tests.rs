//! One connection over a stream in memory, against a scripted connector.

use std::time::Duration;

use adit_driver::pipe::pipe;
use adit_driver::quic::WindowBudget;
use adit_wire::config_push::{ConfigApplied, ConfigUpdate};
use adit_wire::connect::{ConnectionType, Entry, encode_request};
use adit_wire::http2::{RESPONSE_HEADERS, RESPONSE_META, ResponseMeta, UPDATE_CONFIGURATION, UPGRADE};
use adit_wire::metadata::{HTTP_HOST, HTTP_METHOD};
use h2::server::{self, SendResponse};
use http::{Request, Response};
use tokio::io::DuplexStream;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::timeout;

use super::call::CallError;
use super::*;

const DEADLINE: Duration = Duration::from_secs(30);

type Connector = server::Connection<DuplexStream, Bytes>;

/// Runs `script` with both ends of a connection.
fn with_connector<Fut: Future<Output = ()> + 'static>(script: impl FnOnce(Connection, Connector) -> Fut) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (edge, connector) = tokio::io::duplex(64 << 10);
        let remote = ([192, 0, 2, 1], 5).into();
        let (connection, carried) = Connection::over(edge, remote, WindowBudget::new(64 << 20))
            .await
            .unwrap();
        spawn_local(carried);
        let connector = server::handshake(connector).await.unwrap();
        timeout(DEADLINE, script(connection, connector))
            .await
            .expect("done before the deadline");
    });
}

fn update() -> ConfigUpdate {
    ConfigUpdate {
        version: 7,
        config: Bytes::from_static(b"{\"ingress\":[]}"),
    }
}

/// Pushes a configuration, to which the connector answers with this.
async fn pushed(
    connection: &Connection,
    connector: &mut Connector,
    status: u16,
    answer: Bytes,
) -> (Request<()>, Bytes, Result<ConfigApplied, CallError>) {
    let (connection, update) = (connection.clone(), update());
    let pushing = spawn_local(async move { connection.push(&update).await });
    let (request, mut respond): (_, SendResponse<Bytes>) = connector.accept().await.unwrap().unwrap();
    let (parts, mut body) = request.into_parts();
    let answering = async {
        let mut received = Vec::new();
        while let Some(data) = body.data().await {
            received.extend_from_slice(&data.unwrap());
        }
        let head = Response::builder().status(status).body(()).unwrap();
        respond
            .send_response(head, false)
            .unwrap()
            .send_data(answer, true)
            .unwrap();
        received
    };
    let received = tokio::select! {
        received = answering => received,
        _ = poll_fn(|cx| connector.poll_closed(cx)) => panic!("the edge has closed"),
    };
    let applied = tokio::select! {
        applied = pushing => applied.unwrap(),
        _ = poll_fn(|cx| connector.poll_closed(cx)) => panic!("the edge has closed"),
    };
    (Request::from_parts(parts, ()), received.into(), applied)
}

#[test]
fn a_configuration_is_pushed_and_its_answer_read() {
    with_connector(|connection, mut connector| async move {
        let answer = Bytes::from_static(b"{\"lastAppliedVersion\":7,\"err\":null}");
        let (request, body, applied) = pushed(&connection, &mut connector, 200, answer).await;
        assert_eq!(request.headers()[UPGRADE], UPDATE_CONFIGURATION);
        assert_eq!(body, update().to_json());
        let expected = ConfigApplied {
            latest_version: 7,
            error: String::new(),
        };
        assert_eq!(applied.unwrap(), expected);
    });
}

#[test]
fn answers_that_are_none_are_errors_and_cost_no_connection() {
    with_connector(|connection, mut connector| async move {
        for (status, answer) in [
            (502, Bytes::new()),
            (200, Bytes::new()),
            (200, Bytes::from_static(b"{}")),
            (200, Bytes::from(vec![b' '; 65 << 10])),
        ] {
            let (_, _, applied) = pushed(&connection, &mut connector, status, answer).await;
            assert!(applied.is_err());
        }
        assert!(!connection.is_closed());
    });
}

/// A visitor who reads nothing of very many small events costs the other exchanges of the connection nothing.
#[test]
fn small_pieces_that_nobody_reads_are_gathered() {
    const PIECES: usize = 100_000;
    with_connector(|connection, mut connector| async move {
        let (mut asking, request) = pipe(64 << 10);
        let (response, mut answer) = pipe(64 << 10);
        let head = [
            Entry::new(HTTP_METHOD, "GET"),
            Entry::new(HTTP_HOST, "app.example.test"),
        ];
        let head = encode_request(b"http://app.example.test/", ConnectionType::Http, &head).unwrap();
        asking.write(head).await.unwrap();
        asking.finish();
        spawn_local(exchange::carry(connection.clone(), request, response));
        let (_, mut respond): (_, SendResponse<Bytes>) = connector.accept().await.unwrap().unwrap();
        let head = Response::builder()
            .header(RESPONSE_META, ResponseMeta::Origin.as_str())
            .header(RESPONSE_HEADERS, "");
        let mut body = respond.send_response(head.body(()).unwrap(), false).unwrap();
        for _ in 0..PIECES {
            body.send_data(Bytes::from_static(b"x"), false).unwrap();
        }
        body.send_data(Bytes::new(), true).unwrap();
        let serving = spawn_local(async move { while connector.accept().await.is_some() {} });
        // A turn of both sides moves what fits the stream between them: all of it arrives while nobody reads.
        for _ in 0..1_000 {
            yield_now().await;
        }
        let mut bytes = 0;
        while let Some(chunk) = answer.read().await.unwrap() {
            bytes += chunk.iter().filter(|byte| **byte == b'x').count();
        }
        assert_eq!(bytes, PIECES);
        assert!(!connection.is_closed());
        serving.abort();
    });
}

#[test]
fn a_connector_that_falls_silent_is_given_up() {
    with_connector(|connection, connector| async move {
        // Nobody polls it any more: it reads nothing and answers nothing.
        assert_eq!(connection.closed().await, Lost::Silent);
        assert!(connection.is_closed());
        drop(connector);
    });
}

#[test]
fn a_connector_that_leaves_or_is_closed_is_told_apart() {
    with_connector(|connection, connector| async move {
        drop(connector);
        // Which of them depends on whether something was left to be written.
        let lost = connection.closed().await;
        assert!(matches!(lost, Lost::ByConnector | Lost::Failed(_)), "{lost}");
    });
    with_connector(|connection, mut connector| async move {
        connection.close("first");
        connection.close("second");
        assert!(connection.is_closed());
        assert!(connector.accept().await.is_none_or(|accepted| accepted.is_err()));
        assert_eq!(connection.closed().await, Lost::Closed("first"));
    });
}
