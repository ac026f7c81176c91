//! Floods of frames end their connection with a word about it, and no other.

use adit_proto::exchange::error_code::ErrorCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::lab::{Lab, Script, connect_h2, full, run};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// ENHANCE_YOUR_CALM, as GOAWAY has it.
const CALM: [u8; 4] = [0, 0, 0, 0xb];

/// What is sent next of a flood, by its number.
type Frames = fn(u32) -> Vec<u8>;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = size[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn head(stream: u32) -> Vec<u8> {
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "app.example"),
    ];
    head_of(stream, &fields)
}

/// A request of literal fields without names in any table (RFC 7541 §6.2.2).
pub(super) fn head_of(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    frame(1, 5, stream, &block)
}

/// Sends the flood until the connection ends; what the visitor read at last.
async fn flooded(lab: &Lab, mut next: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    let visitor = lab.visitor();
    let (mut reader, mut writer) = tokio::io::split(visitor);
    let writing = async move {
        writer.write_all(PREFACE).await.unwrap();
        writer.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        let mut number = 0;
        // The test's deadline ends a flood that nobody ends.
        while writer.write_all(&next(number)).await.is_ok() {
            number += 1;
        }
    };
    let mut read = Vec::new();
    let reading = async {
        // The connection may be torn down after the last word.
        while matches!(reader.read_buf(&mut read).await, Ok(1..)) {}
    };
    tokio::join!(writing, reading);
    read
}

#[test]
fn every_flood_is_told_to_be_calm_and_hits_nobody_else() {
    let floods: [(&str, Frames); 4] = [
        ("ping", |_| frame(6, 0, 0, &[0; 8])),
        ("settings", |_| frame(4, 0, 0, &[])),
        ("window", |_| frame(8, 0, 0, &[0, 0, 0, 1])),
        ("reset", |number| {
            let stream = 2 * number + 1;
            [head(stream), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
        }),
    ];
    for (name, flood) in floods {
        run(async move {
            let lab = Lab::start();
            lab.connector(1, Script::Echo);
            let mut other = connect_h2(&lab).await;
            let read = flooded(&lab, flood).await;
            assert!(read.windows(4).any(|part| part == CALM), "{name}: {read:?}");
            // Resets of streams that nobody has looked at yet are h2's to end.
            if name != "reset" {
                assert_eq!(lab.core.metrics.floods_ended.get(), 1, "{name}");
            }
            let metrics = &lab.core.metrics;
            assert_eq!(metrics.errors[ErrorCode::BadRequest.index()].get(), 1, "{name}");
            // ENHANCE_YOUR_CALM by its number.
            assert_eq!(metrics.http2_goaways_sent[11].get(), 1, "{name}");
            let request = hyper::Request::get("http://app.example/").body(full("")).unwrap();
            let response = other.send_request(request).await.unwrap();
            assert_eq!(response.status().as_u16(), 200, "{name}");
        });
    }
}
