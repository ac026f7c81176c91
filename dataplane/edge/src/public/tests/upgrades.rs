//! WebSockets over HTTP/1.1 and HTTP/2.

use bytes::Bytes;
use hyper::Request;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::lab::{IntoStatus as _, Lab, Script, connect_h2, full, read_until, run};

const ASK: &[u8] =
    b"GET /chat HTTP/1.1\r\nhost: app.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly";

#[test]
fn bytes_flow_both_ways_after_an_upgrade_and_early_ones_are_kept() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Upgrade);
        let mut visitor = lab.visitor();
        visitor.write_all(ASK).await.unwrap();
        let head = read_until(&mut visitor, b"early").await;
        let head = String::from_utf8(head).unwrap();
        assert!(
            head.starts_with("HTTP/1.1 101") && head.contains("sec-websocket-accept: proof"),
            "{head}"
        );
        visitor.write_all(b"later").await.unwrap();
        read_until(&mut visitor, b"later").await;
        assert_eq!(lab.core.metrics.exchanges_in_flight.get(), 1);
    });
}

#[test]
fn the_end_of_the_visitors_side_is_held_back_while_the_origin_speaks() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut visitor = lab.visitor();
        visitor.write_all(ASK).await.unwrap();
        let mut exchange = held.recv().await.unwrap();
        exchange.answer(&[("HttpStatus", "101")]).await;
        read_until(&mut visitor, b"\r\n\r\n").await;
        assert_eq!(exchange.request.read().await.unwrap().unwrap(), "early");
        visitor.shutdown().await.unwrap();
        exchange.response.write(Bytes::from("last words")).await.unwrap();
        read_until(&mut visitor, b"last words").await;
        exchange.response.finish();
        assert_eq!(visitor.read(&mut [0; 1]).await.unwrap(), 0);
        assert!(
            exchange.request.read().await.unwrap().is_none(),
            "the exchange ends in order"
        );
    });
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut visitor = lab.visitor();
        visitor.write_all(ASK).await.unwrap();
        let mut exchange = held.recv().await.unwrap();
        exchange
            .answer(&[("HttpStatus", "403"), ("HttpHeader:Content-Length", "2")])
            .await;
        exchange.response.write(Bytes::from("no")).await.unwrap();
        exchange.response.finish();
        let answer = String::from_utf8(read_until(&mut visitor, b"\r\n\r\nno").await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    });
}

#[test]
fn a_websocket_works_over_http2_beside_other_streams() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Upgrade);
        let mut h2 = connect_h2(&lab).await;
        // The peer's SETTINGS must have arrived before extended CONNECT may be used.
        h2.ready().await.unwrap();
        let unknown = Request::get("http://other.example/").body(full("")).unwrap();
        assert_eq!(
            h2.send_request(unknown).await.unwrap().status(),
            404.into_status()
        );
        let mut request = Request::connect("http://app.example/chat")
            .body(full(""))
            .unwrap();
        request
            .extensions_mut()
            .insert(Protocol::from_static("websocket"));
        let response = h2.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200.into_status());
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(b"over h2").await.unwrap();
        let mut echoed = [0; 7];
        stream.read_exact(&mut echoed).await.unwrap();
        assert_eq!(&echoed, b"over h2");
        assert!(
            lab.heads()[0]
                .metadata
                .iter()
                .any(|(key, _)| key == b"HttpHeader:Sec-WebSocket-Key")
        );
    });
}
