//! What visitors see when a connector, its connection or the edge itself fails, and what is tried before.

use std::time::Duration;

use adit_proto::exchange::error_code::ErrorCode;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::lab::{
    Held, IntoStatus as _, Lab, Script, body_of, connect_h1, connect_h2, full, header, read_until, run,
};

async fn ask(lab: &Lab, method: &str, host: &str) -> (u16, String) {
    let mut visitor = connect_h1(lab).await;
    let request = Request::builder().method(method).uri("/").header("host", host);
    let request = request
        .header("accept", "application/json")
        .body(full("body"))
        .unwrap();
    let response = visitor.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let value: serde_json::Value = serde_json::from_str(&body_of(response).await).unwrap_or_default();
    (status, value["error"]["code"].as_str().unwrap_or("").to_owned())
}

#[test]
fn every_failure_has_its_own_status_and_code() {
    let cases = [
        (Some(Script::Lose), "POST", "app.example", 502, "tunnel-lost"),
        (Some(Script::Lose), "GET", "app.example", 502, "tunnel-lost"),
        (
            Some(Script::Refuse),
            "GET",
            "app.example",
            502,
            "origin-unreachable",
        ),
        (
            Some(Script::Babble),
            "GET",
            "app.example",
            502,
            "origin-bad-response",
        ),
        (Some(Script::Silent), "GET", "app.example", 504, "origin-timeout"),
        (None, "GET", "app.example", 503, "tunnel-no-connection"),
        (None, "GET", "other.example", 404, "hostname-unknown"),
        (None, "GET", "newer.example", 503, "needs-newer-edge"),
        (None, "GET", "a b", 400, "bad-request"),
        (Some(Script::Echo), "GET", "app.example", 200, ""),
    ];
    for (script, method, host, status, code) in cases {
        run(async move {
            let mut lab = Lab::start();
            lab.edit(|config| config.limits.response_head_timeout = Duration::from_millis(50));
            if let Some(script) = script {
                lab.connector(1, script);
            }
            assert_eq!(
                ask(&lab, method, host).await,
                (status, code.to_owned()),
                "{method} {host} {code}"
            );
            assert_eq!(lab.core.metrics.exchanges_in_flight.get(), 0);
            assert_eq!(lab.core.metrics.memory_bytes.get(), 0);
        });
    }
}

#[test]
fn a_request_moves_on_when_that_does_no_harm() {
    // Failing connectors beside one that works; what a GET and a POST get, whichever is asked first.
    let cases = [
        (Script::Gone, "POST", [200, 200]),
        (Script::Gone, "GET", [200, 200]),
        (Script::Lose, "GET", [200, 200]),
        (Script::Refuse, "GET", [200, 200]),
        (Script::Lose, "POST", [200, 502]),
        (Script::Refuse, "POST", [200, 502]),
    ];
    for (script, method, allowed) in cases {
        run(async move {
            let lab = Lab::start();
            lab.connector(1, script);
            lab.connector(2, Script::Echo);
            let mut failed = 0;
            for _ in 0..20 {
                let (status, _) = ask(&lab, method, "app.example").await;
                assert!(allowed.contains(&status), "{method}: {status}");
                failed += u32::from(status == 502);
            }
            let has_moved = lab.core.metrics.retries.get() > 0;
            assert!(has_moved || failed > 0, "the failing connection was never chosen");
        });
    }
}

#[test]
fn a_response_that_breaks_off_is_seen_to_be_broken() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut visitor = lab.visitor();
        visitor
            .write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n")
            .await
            .unwrap();
        let mut exchange = begin(&mut held).await;
        read_until(&mut visitor, b"part\r\n").await;
        exchange.response.abort(0);
        let mut rest = Vec::new();
        visitor.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));

        let mut h2 = connect_h2(&lab).await;
        let request = Request::get("http://app.example/").body(full("")).unwrap();
        let asked = tokio::task::spawn_local(h2.send_request(request));
        let mut exchange = begin(&mut held).await;
        let mut body = asked.await.unwrap().unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "part");
        exchange.response.abort(0);
        assert!(body.frame().await.unwrap().is_err());
        assert_eq!(
            lab.core.metrics.errors[ErrorCode::ResponseAborted.index()].get(),
            2
        );
    });
}

async fn begin(held: &mut mpsc::Receiver<Held>) -> Held {
    let mut exchange = held.recv().await.unwrap();
    exchange.answer(&[("HttpStatus", "200")]).await;
    exchange.response.write(Bytes::from("part")).await.unwrap();
    exchange
}

#[test]
fn a_visitor_that_leaves_ends_the_exchange_in_both_directions() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut visitor = lab.visitor();
        visitor
            .write_all(b"POST / HTTP/1.1\r\nhost: app.example\r\ncontent-length: 9\r\n\r\npart")
            .await
            .unwrap();
        let mut exchange = held.recv().await.unwrap();
        drop(visitor);
        while let Ok(Some(_)) = exchange.request.read().await {}
        exchange.response.closed().await;
        assert_eq!(lab.core.metrics.exchanges_in_flight.get(), 0);
    });
}

#[test]
fn work_above_the_memory_budget_is_shed() {
    run(async {
        let mut lab = Lab::start();
        // Less than this process has.
        lab.edit(|config| config.limits.memory_bytes = 4 * crate::shares::EXCHANGE_BYTES);
        lab.connector(1, Script::Echo);
        assert_eq!(
            ask(&lab, "GET", "app.example").await,
            (503, "overloaded".to_owned())
        );
        assert_eq!(lab.core.metrics.errors[ErrorCode::Overloaded.index()].get(), 1);
        assert_eq!(lab.core.metrics.memory_bytes.get(), 0);
        lab.edit(|config| config.limits.memory_bytes = u64::MAX);
        assert_eq!(ask(&lab, "GET", "app.example").await.0, 200);
    });
}

#[test]
fn a_head_above_the_limits_over_http1_is_refused_and_counted() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Echo);
        let mut visitor = lab.visitor();
        let long = format!(
            "GET / HTTP/1.1\r\nhost: app.example\r\nx: {}\r\n\r\n",
            "a".repeat(33 << 10)
        );
        visitor.write_all(long.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        visitor.read_to_end(&mut all).await.unwrap();
        assert!(
            all.starts_with(b"HTTP/1.1 431"),
            "{}",
            String::from_utf8_lossy(&all)
        );
        assert_eq!(lab.core.metrics.errors[ErrorCode::HeadTooLarge.index()].get(), 1);
    });
}

#[test]
fn heads_above_the_limits_are_refused_and_the_connection_survives_over_http2() {
    run(async {
        let lab = Lab::start();
        lab.connector(1, Script::Echo);
        let mut h2 = connect_h2(&lab).await;
        let mut request = Request::get("http://app.example/").body(full("")).unwrap();
        for index in 0..101 {
            let name = http::HeaderName::from_bytes(format!("x-{index}").as_bytes()).unwrap();
            request
                .headers_mut()
                .insert(name, http::HeaderValue::from_static("1"));
        }
        let response = h2.send_request(request).await.unwrap();
        assert_eq!(response.status(), 431.into_status());
        assert_eq!(header(&response, "content-type"), "text/html; charset=utf-8");
        let request = Request::get("http://app.example/").body(full("")).unwrap();
        assert_eq!(
            h2.send_request(request).await.unwrap().status(),
            200.into_status()
        );
    });
}

#[test]
fn a_request_waits_for_a_tunnel_that_was_just_lost() {
    run(async {
        let lab = Lab::start_with(Duration::from_secs(15));
        let waits = |lab: &Lab| lab.core.tunnels.absent.waiting();
        // An edge that has just started expects every tunnel. One that drains does not wait any longer.
        let asked = async { ask(&lab, "POST", "app.example").await };
        let joins = async {
            until(|| waits(&lab) == 1).await;
            lab.connector(1, Script::Lose);
        };
        assert_eq!(tokio::join!(asked, joins).0, (502, "tunnel-lost".to_owned()));
        // The connection is lost with the request on it: a GET goes on with the next one.
        let asked = async { ask(&lab, "GET", "app.example").await };
        let joins = async {
            until(|| waits(&lab) == 1).await;
            lab.connector(2, Script::Echo);
        };
        assert_eq!(tokio::join!(asked, joins).0.0, 200);
        assert_eq!((waits(&lab), lab.core.metrics.exchanges_waited.get()), (0, 2));
        lab.disconnect(1);
        lab.disconnect(2);
        let asked = async { ask(&lab, "GET", "app.example").await };
        let drains = async {
            until(|| waits(&lab) == 1).await;
            lab.core.drain.begin();
        };
        let answer = tokio::join!(asked, drains).0;
        assert_eq!(answer, (503, "tunnel-no-connection".to_owned()));
    });
}

#[test]
fn a_wait_for_a_tunnel_ends() {
    run(async {
        let lab = Lab::start_with(Duration::from_millis(50));
        let answer = ask(&lab, "GET", "app.example").await;
        assert_eq!(answer, (503, "tunnel-no-connection".to_owned()));
        // Nobody waits for a tunnel that has been away for so long, whoever has waited before.
        assert!(!lab.core.tunnels.absent.returned(super::lab::TUNNEL).await);
        assert_eq!(lab.core.tunnels.absent.waiting(), 0);
    });
}

async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_request_behind_a_body_that_nobody_read_is_answered() {
    /// Of an error's JSON.
    const END: &[u8] = b"}}\n";
    let body = "x".repeat(100_000);
    let small = [
        format!("content-length: 100000\r\n\r\n{body}"),
        format!("transfer-encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"),
    ];
    for framed in small {
        run(async move {
            let lab = Lab::start();
            let mut visitor = lab.visitor();
            let request =
                format!("POST / HTTP/1.1\r\nhost: other.example\r\naccept: application/json\r\n{framed}");
            for _ in 0..3 {
                visitor.write_all(request.as_bytes()).await.unwrap();
                let answer = read_until(&mut visitor, END).await;
                let answer = String::from_utf8(answer).unwrap();
                assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
                assert!(!answer.contains("connection: close"), "{answer}");
            }
            visitor
                .write_all(b"GET / HTTP/1.1\r\nhost: other.example\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            let mut rest = Vec::new();
            visitor.read_to_end(&mut rest).await.unwrap();
            let rest = String::from_utf8_lossy(&rest);
            assert_eq!(rest.matches("HTTP/1.1 404").count(), 1, "{rest}");
        });
    }
}

#[test]
fn a_connection_that_ends_with_a_body_nobody_reads_says_so() {
    for lines in [
        "content-length: 8388608\r\n\r\nsome",
        // Such a visitor may never send it, and is not asked to.
        "content-length: 9\r\nexpect: 100-continue\r\n\r\n",
    ] {
        run(async move {
            let lab = Lab::start();
            let mut visitor = lab.visitor();
            let request = format!("POST / HTTP/1.1\r\nhost: other.example\r\n{lines}");
            visitor.write_all(request.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            visitor.read_to_end(&mut answer).await.unwrap();
            let answer = String::from_utf8_lossy(&answer);
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            assert!(answer.contains("connection: close\r\n"), "{answer}");
        });
    }
}
