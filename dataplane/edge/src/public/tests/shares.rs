//! What one visitor may take, what is accounted to an exchange, and how slow a body may be.

use adit_proto::exchange::error_code::ErrorCode;
use bytes::Bytes;
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::lab::{Lab, Script, body_of, connect_h1, full, read_until, run};
use crate::shares::EXCHANGE_BYTES;

const ANSWER: [(&str, &str); 1] = [("HttpStatus", "204")];

/// The head of a request whose body is to follow.
async fn post(lab: &Lab, lines: &str) -> DuplexStream {
    let mut visitor = lab.visitor();
    let head = format!("POST / HTTP/1.1\r\nhost: app.example\r\naccept: application/json\r\n{lines}\r\n\r\n");
    visitor.write_all(head.as_bytes()).await.unwrap();
    visitor
}

const CHUNKED: &str = "transfer-encoding: chunked";

async fn code_of(visitor: &mut DuplexStream) -> String {
    let answer = read_until(visitor, b"}}\n").await;
    let answer = String::from_utf8(answer).unwrap();
    let (_, code) = answer.split_once("\"code\":\"").unwrap();
    code.split('"').next().unwrap().to_owned()
}

#[test]
fn an_address_has_so_many_exchanges_at_once_and_the_next_is_told() {
    run(async {
        let mut lab = Lab::start();
        lab.edit(|config| config.limits.shares.exchanges_per_address = 2);
        let mut held = lab.connector(1, Script::Hold);
        let first = post(&lab, CHUNKED).await;
        let mut first_held = held.recv().await.unwrap();
        let second = post(&lab, CHUNKED).await;
        let second_held = held.recv().await.unwrap();
        let mut third = post(&lab, CHUNKED).await;
        assert_eq!(code_of(&mut third).await, "visitor-share");
        assert_eq!(lab.core.metrics.errors[ErrorCode::VisitorShare.index()].get(), 1);
        drop((second, second_held));
        first_held.answer(&ANSWER).await;
        first_held.response.finish();
        drop((first, third));
        until(|| lab.core.shares.entries() == 0).await;
        assert_eq!(lab.core.metrics.memory_bytes.get(), 0);
    });
}

#[test]
fn another_address_has_its_own_share() {
    run(async {
        let mut lab = Lab::start();
        lab.edit(|config| config.limits.shares.exchanges_per_address = 1);
        let mut held = lab.connector(1, Script::Hold);
        let _first = post(&lab, CHUNKED).await;
        let _first_held = held.recv().await.unwrap();
        let mut other = lab.visitor_from([192, 0, 2, 2]);
        other
            .write_all(b"GET / HTTP/1.1\r\nhost: app.example\r\n\r\n")
            .await
            .unwrap();
        let mut exchange = held.recv().await.unwrap();
        exchange.answer(&ANSWER).await;
        exchange.response.finish();
        read_until(&mut other, b"\r\n\r\n").await;
    });
}

#[test]
fn one_tunnel_leaves_memory_to_the_others() {
    run(async {
        let mut lab = Lab::start();
        lab.edit(|config| {
            config.limits.shares.tunnel_share = adit_proto::shares::Share::percent(1).unwrap();
        });
        lab.connector(1, Script::Echo);
        let room = lab.core.memory_free();
        // As if others held all but a little.
        lab.core.hold(room - 4 * EXCHANGE_BYTES);
        let mut visitor = post(&lab, CHUNKED).await;
        assert_eq!(code_of(&mut visitor).await, "tunnel-share");
        lab.core.release(room - 4 * EXCHANGE_BYTES);
        let mut visitor = connect_h1(&lab).await;
        let request = hyper::Request::get("/").header("host", "app.example");
        let response = visitor
            .send_request(request.body(full("")).unwrap())
            .await
            .unwrap();
        assert_eq!(
            (response.status().as_u16(), body_of(response).await),
            (200, String::new())
        );
    });
}

#[test]
fn what_is_held_for_a_retry_is_accounted_until_it_is_let_go() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut visitor = post(&lab, CHUNKED).await;
        let mut exchange = held.recv().await.unwrap();
        visitor.write_all(b"2710\r\n").await.unwrap();
        visitor.write_all(&[b'x'; 10_000]).await.unwrap();
        let accounted = || lab.core.metrics.memory_bytes.get();
        let mut received = 0;
        while received < 10_000 {
            received += exchange.request.read().await.unwrap().unwrap().len();
        }
        assert_eq!(accounted(), EXCHANGE_BYTES + 10_000);
        // Nobody asks for it again once the answer has begun.
        exchange.answer(&[("HttpStatus", "200")]).await;
        exchange.response.write(Bytes::from_static(b"x")).await.unwrap();
        read_until(&mut visitor, b"1\r\nx\r\n").await;
        visitor.write_all(b"\r\n1\r\ny\r\n").await.unwrap();
        exchange.request.read().await.unwrap();
        until(|| accounted() == EXCHANGE_BYTES).await;
        exchange.response.finish();
        drop(visitor);
        until(|| accounted() == 0).await;
        assert_eq!(lab.core.shares.entries(), 0);
    });
}

#[test]
fn an_answer_that_is_not_read_is_accounted() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let visitor = post(&lab, CHUNKED).await;
        let mut exchange = held.recv().await.unwrap();
        exchange.answer(&[("HttpStatus", "200")]).await;
        // More than the visitor's stream takes, and hyper.
        let sending = async {
            while exchange
                .response
                .write(Bytes::from(vec![b'x'; 50_000]))
                .await
                .is_ok()
            {}
        };
        tokio::select! {
            () = sending => panic!("somebody reads"),
            () = until(|| lab.core.metrics.memory_bytes.get() >= EXCHANGE_BYTES + 50_000) => {}
        }
        drop(visitor);
        until(|| lab.core.metrics.memory_bytes.get() == 0).await;
    });
}

#[test]
fn a_body_of_unknown_length_may_pause_while_there_is_room() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let mut paused = post(&lab, CHUNKED).await;
        let mut exchange = held.recv().await.unwrap();
        // Begun later, and over by its slowness.
        let mut steady = post(&lab, "content-length: 10").await;
        let _steady_held = held.recv().await.unwrap();
        assert_eq!(code_of(&mut steady).await, "body-too-slow");
        paused.write_all(b"1\r\nx\r\n0\r\n\r\n").await.unwrap();
        while let Ok(Some(_)) = exchange.request.read().await {}
        exchange.answer(&ANSWER).await;
        exchange.response.finish();
        let answer = read_until(&mut paused, b"\r\n\r\n").await;
        assert!(answer.starts_with(b"HTTP/1.1 204"));
    });
}

#[test]
fn it_may_not_when_room_is_tight_and_conversations_may_longer() {
    run(async {
        let mut lab = Lab::start();
        // Two of three are tight, and one is not.
        lab.edit(|config| config.limits.shares.exchanges_per_address = 3);
        let mut held = lab.connector(1, Script::Hold);
        let mut call = post(
            &lab,
            "content-type: application/grpc\r\ntransfer-encoding: chunked",
        )
        .await;
        let mut call_held = held.recv().await.unwrap();
        let mut paused = post(&lab, CHUNKED).await;
        let _paused_held = held.recv().await.unwrap();
        assert_eq!(code_of(&mut paused).await, "body-too-slow");
        call.write_all(b"1\r\nx\r\n0\r\n\r\n").await.unwrap();
        while let Ok(Some(_)) = call_held.request.read().await {}
        call_held.answer(&ANSWER).await;
        call_held.response.finish();
        let answer = read_until(&mut call, b"\r\n\r\n").await;
        assert!(answer.starts_with(b"HTTP/1.1 204"));
    });
}

#[test]
fn nobody_pauses_when_room_is_scarce() {
    run(async {
        let mut lab = Lab::start();
        lab.edit(|config| config.limits.shares.exchanges_per_address = 1);
        let mut held = lab.connector(1, Script::Hold);
        let mut call = post(
            &lab,
            "content-type: application/grpc\r\ntransfer-encoding: chunked",
        )
        .await;
        let _call_held = held.recv().await.unwrap();
        let answer = read_until(&mut call, b"\r\n\r\n").await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("grpc-message: body-too-slow"), "{answer}");
    });
}

/// Lets the other tasks run until `holds`; the test's deadline ends it.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::task::yield_now().await;
    }
}
