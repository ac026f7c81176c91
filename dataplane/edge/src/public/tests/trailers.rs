//! Bodies of announced length that trailers follow.

use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::framed_body::{data_frame, trailers_frame};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt as _;
use hyper::Request;

use super::lab::{Lab, Script, body_of, connect_h1, connect_h2, full, run};

/// What a connector sends after the head: the bytes in frames of `size`, and a sum.
fn framed(text: &str, size: usize) -> Vec<Bytes> {
    let sum = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-sum"),
        HeaderValue::from_static("7"),
    )]);
    let frames = text
        .as_bytes()
        .chunks(size)
        .flat_map(|piece| data_frame(&mut Bytes::copy_from_slice(piece)));
    frames
        .chain(trailers_frame(&sum).expect("a short frame"))
        .collect()
}

#[test]
fn an_answer_with_a_length_and_trailers_ends_complete() {
    for (size, at_once) in [(11, true), (11, false), (1, true), (4, false)] {
        run(async move {
            let lab = Lab::start();
            let mut held = lab.connector(1, Script::Hold);
            let (mut h1, mut h2) = (connect_h1(&lab).await, connect_h2(&lab).await);
            for is_http2 in [true, false] {
                let request = Request::get(if is_http2 { "http://app.example/" } else { "/" })
                    .header("host", "app.example")
                    .header("te", "trailers")
                    .body(full(""))
                    .unwrap();
                let asked = if is_http2 {
                    tokio::task::spawn_local(h2.send_request(request))
                } else {
                    tokio::task::spawn_local(h1.send_request(request))
                };
                let mut exchange = held.recv().await.unwrap();
                let head = [
                    ("HttpStatus", "200"),
                    ("AditTrailers", "true"),
                    ("HttpHeader:Content-Length", "11"),
                ];
                exchange.answer(&head).await;
                let frames = framed("hello world", size);
                let pieces = if at_once {
                    vec![Bytes::from(frames.concat())]
                } else {
                    frames
                };
                for piece in pieces {
                    // Nobody reads what is behind the last announced byte of HTTP/1.1.
                    let _ = exchange.response.write(piece).await;
                }
                exchange.response.finish();
                let response = asked.await.unwrap().unwrap();
                if is_http2 {
                    let whole = response.into_body().collect().await.unwrap();
                    assert_eq!(whole.trailers().unwrap().get("x-sum").unwrap(), "7");
                    assert_eq!(whole.to_bytes(), "hello world");
                } else {
                    assert_eq!(body_of(response).await, "hello world");
                }
            }
            for code in [ErrorCode::VisitorGone, ErrorCode::ResponseAborted] {
                assert_eq!(lab.core.metrics.errors[code.index()].get(), 0, "{size} {code:?}");
            }
            while lab.core.metrics.exchanges_in_flight.get() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}
