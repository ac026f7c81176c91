//! Heads over HTTP/2 that are malformed (RFC 9113 §8.1.1): what of them ends the stream, and what more.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::floods::{PREFACE, frame, head_of};
use super::lab::{Lab, Script, run};

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "app.example");

/// PROTOCOL_ERROR as the edge counts it.
const PROTOCOL_ERROR: usize = 1;

/// Sends `heads` on streams of one connection, and a sound one after them.
async fn send(lab: &Lab, heads: &[&[(&str, &str)]]) -> tokio::io::DuplexStream {
    let mut visitor = lab.visitor();
    let mut sent = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let sound: &[(&str, &str)] = &[METHOD, SCHEME, PATH, AUTHORITY];
    for (stream, head) in (1..).step_by(2).zip(heads.iter().chain([&sound])) {
        sent.extend(head_of(stream, head));
    }
    visitor.write_all(&sent).await.unwrap();
    visitor
}

#[test]
fn what_has_no_place_in_a_head_ends_its_stream_only() {
    run(async {
        let lab = Lab::start();
        let mut held = lab.connector(1, Script::Hold);
        let heads: [&[(&str, &str)]; 6] = [
            &[METHOD, SCHEME, PATH, AUTHORITY, ("connection", "x")],
            &[METHOD, SCHEME, PATH, AUTHORITY, ("transfer-encoding", "chunked")],
            &[METHOD, SCHEME, PATH, AUTHORITY, ("te", "gzip")],
            &[METHOD, SCHEME, PATH, ("x-first", "1"), AUTHORITY],
            &[METHOD, METHOD, SCHEME, PATH, AUTHORITY],
            &[METHOD, SCHEME, AUTHORITY],
        ];
        let _visitor = send(&lab, &heads).await;
        // The sound one comes to a connector.
        held.recv().await.unwrap();
        let metrics = &lab.core.metrics;
        assert_eq!(metrics.http2_goaways_sent[PROTOCOL_ERROR].get(), 0);
        assert_eq!(metrics.exchanges_started.get(), 1);
    });
}

/// RFC 9113 would have it end the stream. The HTTP/2 library cannot read on.
#[test]
fn a_name_or_value_that_is_none_ends_the_connection_with_a_word() {
    for bad in [("X-Upper", "1"), ("x-bad", "a\rb"), (":unknown", "1")] {
        run(async move {
            let lab = Lab::start();
            lab.connector(1, Script::Echo);
            let heads: &[(&str, &str)] = &[METHOD, SCHEME, PATH, AUTHORITY, bad];
            let mut visitor = send(&lab, &[heads]).await;
            let mut read = Vec::new();
            // The connection may be torn down after the last word.
            while matches!(visitor.read_buf(&mut read).await, Ok(1..)) {}
            let goaways = lab.core.metrics.http2_goaways_sent[PROTOCOL_ERROR].get();
            assert_eq!(goaways, 1, "{bad:?}");
        });
    }
}
