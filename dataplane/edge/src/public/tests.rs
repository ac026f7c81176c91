//! Visitors over an in-memory stream, connectors played by the test at the other end of a core's mailbox:
//! the exchange goes the way of one whose connection lives on another core.

mod errors;
mod floods;
mod heads;
mod lab;
mod malformed;
mod shares;
mod trailers;
mod upgrades;

use adit_wire::connect::ConnectionType;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use lab::{IntoStatus as _, Lab, Script, body_of, connect_h1, connect_h2, full, header, run};

#[test]
fn requests_of_one_connection_are_answered_one_after_the_other() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Echo);
        let mut visitor = connect_h1(&lab).await;
        for count in 1..=3 {
            let request = Request::get("/a?b")
                .header("host", "app.example")
                .body(full(""))
                .unwrap();
            let response = visitor.send_request(request).await.unwrap();
            assert_eq!(
                (response.status(), header(&response, "x-seen")),
                (200.into_status(), "GET /a?b".into())
            );
            assert_eq!(body_of(response).await, "");
            assert_eq!(lab.core.metrics.exchanges_started.get(), count);
        }
        assert_eq!(lab.core.metrics.exchanges_in_flight.get(), 0);
    });
}

#[test]
fn bodies_stream_both_ways_over_both_versions() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Echo);
        let sent = "0123456789".repeat(100_000);
        let mut h1 = connect_h1(&lab).await;
        let mut h2 = connect_h2(&lab).await;
        for length_is_known in [true, false] {
            let body = || {
                if length_is_known {
                    full(&sent)
                } else {
                    lab::unsized_body(&sent)
                }
            };
            let request = Request::post("/")
                .header("host", "app.example")
                .body(body())
                .unwrap();
            let echoed = body_of(h1.send_request(request).await.unwrap()).await;
            assert!(echoed == sent, "h1, known: {length_is_known}");
            let request = Request::post("http://app.example/").body(body()).unwrap();
            let echoed = body_of(h2.send_request(request).await.unwrap()).await;
            assert!(echoed == sent, "h2, known: {length_is_known}");
        }
        let framing = lab.heads();
        let has = |index: usize, key: &str| framing[index].metadata.iter().any(|(k, _)| k == key.as_bytes());
        for (index, key) in [
            (0, "Content-Length"),
            (1, "Content-Length"),
            (2, "Transfer-Encoding"),
        ] {
            assert!(has(index, &format!("HttpHeader:{key}")), "{index} {key}");
        }
        assert!(has(3, "HttpHeader:Transfer-Encoding"));
        assert!(framing.iter().all(|head| head.kind == ConnectionType::Http));
    });
}

#[test]
fn a_response_is_passed_on_before_it_is_complete() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut visitor = connect_h1(&lab).await;
        let request = Request::get("/")
            .header("host", "app.example")
            .body(full(""))
            .unwrap();
        let asked = tokio::task::spawn_local(visitor.send_request(request));
        let mut exchange = held.recv().await.unwrap();
        exchange.answer(&[("HttpStatus", "200")]).await;
        let mut response = asked.await.unwrap().unwrap();
        for word in ["one", "two"] {
            exchange.response.write(Bytes::from(word)).await.unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), word);
        }
        exchange.response.finish();
        assert!(response.body_mut().frame().await.is_none());
    });
}

#[test]
fn expect_is_answered_here_and_never_reaches_the_connector() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Echo);
        let mut visitor = lab.visitor();
        visitor
            .write_all(
                b"POST / HTTP/1.1\r\nhost: app.example\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n",
            )
            .await
            .unwrap();
        let mut told = [0; 25];
        visitor.read_exact(&mut told).await.unwrap();
        assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
        visitor.write_all(b"hello").await.unwrap();
        let answer = lab::read_until(&mut visitor, b"0\r\n\r\n").await;
        assert!(String::from_utf8_lossy(&answer).contains("hello"));
        assert!(
            lab.heads()[0]
                .metadata
                .iter()
                .all(|(key, _)| key != b"HttpHeader:expect")
        );
    });
}

#[test]
fn a_draining_core_lets_requests_end_and_idle_visitors_go() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut busy = lab.visitor();
        busy.write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n")
            .await
            .unwrap();
        let mut exchange = held.recv().await.unwrap();
        let mut idle = lab.visitor();
        tokio::task::yield_now().await;
        lab.core.drain.begin();
        assert_eq!(
            idle.read(&mut [0; 1]).await.unwrap(),
            0,
            "an idle visitor is sent away"
        );
        exchange
            .answer(&[("HttpStatus", "200"), ("HttpHeader:Content-Length", "2")])
            .await;
        exchange.response.write(Bytes::from("ok")).await.unwrap();
        exchange.response.finish();
        let mut all = Vec::new();
        busy.read_to_end(&mut all).await.unwrap();
        let text = String::from_utf8(all).unwrap();
        assert!(
            text.contains("connection: close") && text.ends_with("ok"),
            "{text}"
        );
    });
}

#[test]
fn an_idle_visitor_is_closed_in_time() {
    run(async {
        let mut lab = Lab::start();
        lab.edit(|config| config.limits.idle_timeout = std::time::Duration::from_millis(50));
        lab.connector(1, Script::Echo);
        let mut visitor = lab.visitor();
        visitor
            .write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n")
            .await
            .unwrap();
        let mut all = Vec::new();
        visitor.read_to_end(&mut all).await.unwrap();
        assert!(all.starts_with(b"HTTP/1.1 200"));
        assert_eq!(lab.core.metrics.heads_timed_out.get(), 0);
    });
}
