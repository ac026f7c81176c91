//! The `hello_world` service: a page that shows a tunnel works, without any origin.
//!
//! | path | answer |
//! |---|---|
//! | `/_health` | 200, empty |
//! | `/uptime` | seconds since the connector started, as JSON |
//! | `/sse` | one event per second for as long as the visitor stays |
//! | `/ws` | a WebSocket that echoes ([`echo`](super::echo)); 400 to what asks for no WebSocket |
//! | anything else | the page |

use std::time::Duration;

use adit_proto::exchange::error_code::{ErrorCode, HEADER as ERROR_CODE};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Pause between the events of `/sse`.
pub(crate) const EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// Seconds after which a visitor of a busy origin should ask again.
const BUSY_RETRY_AFTER: &str = "5";

/// Longest part of the path shown on the page.
const SHOWN_PATH_CHARS_MAX: usize = 256;

/// Head of an answer and what follows it.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
}

/// What follows the head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AnswerBody {
    /// These bytes.
    Full(Bytes),
    /// An event per [`EVENT_INTERVAL`], made by [`event`].
    Events,
}

/// Answers for `http_status:N`: no headers, no body.
pub(crate) fn status(status: StatusCode) -> Answer {
    Answer {
        status,
        headers: HeaderMap::new(),
        body: AnswerBody::Full(Bytes::new()),
    }
}

/// Answers for an origin whose own answer cannot be had or passed on; edges of ours know why by the code.
pub(crate) fn failed(code: ErrorCode) -> Answer {
    let text = format!("{}\n", code.text());
    let headers = [
        (ERROR_CODE, HeaderValue::from_static(code.as_str())),
        (
            CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (CONTENT_LENGTH, text.len().into()),
    ];
    let mut headers = HeaderMap::from_iter(headers);
    if code.is_temporary() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(BUSY_RETRY_AFTER));
    }
    Answer {
        status: code.status(),
        headers,
        body: AnswerBody::Full(text.into()),
    }
}

/// Answers a request for `path` at time `now`, by a connector that has run for `uptime`.
pub(crate) fn hello(path: &str, is_head: bool, now: OffsetDateTime, uptime: Duration) -> Answer {
    let (content_type, body) = match path.split('?').next().unwrap_or_default() {
        "/_health" => return status(StatusCode::OK),
        "/ws" => return no_websocket(),
        "/uptime" => (
            "application/json",
            AnswerBody::Full(format!("{{\"uptime\":{}}}\n", uptime.as_secs()).into()),
        ),
        "/sse" => ("text/event-stream", AnswerBody::Events),
        _ => (
            "text/html; charset=utf-8",
            AnswerBody::Full(page(path, now).into()),
        ),
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let AnswerBody::Full(body) = &body {
        headers.insert(CONTENT_LENGTH, body.len().into());
    }
    Answer {
        status: StatusCode::OK,
        headers,
        body: if is_head {
            AnswerBody::Full(Bytes::new())
        } else {
            body
        },
    }
}

/// Answers what comes to the echo and is no handshake (RFC 6455 §4.4).
pub(crate) fn no_websocket() -> Answer {
    let mut answer = status(StatusCode::BAD_REQUEST);
    answer
        .headers
        .insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    answer
}

/// Answers what comes to a TCP service and is no WebSocket (RFC 9110 §15.5.22).
pub(crate) fn not_http() -> Answer {
    let text = "This hostname serves TCP: reach it with `adit access tcp --hostname`.\n";
    let mut headers = HeaderMap::new();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CONTENT_LENGTH, text.len().into());
    Answer {
        status: StatusCode::UPGRADE_REQUIRED,
        headers,
        body: AnswerBody::Full(Bytes::from_static(text.as_bytes())),
    }
}

/// The `number`-th event of `/sse`.
pub(crate) fn event(number: u64, now: OffsetDateTime) -> Bytes {
    format!("id: {number}\ndata: {}\n\n", shown(now)).into()
}

fn page(path: &str, now: OffsetDateTime) -> String {
    let path = escape(path);
    let now = shown(now);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hello from Adit</title>\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;max-width:36rem;padding:0 1rem}}\
         code{{background:#8882;border-radius:4px;padding:.1em .3em}}</style></head>\n\
         <body><h1>Hello from Adit</h1>\n\
         <p>Your tunnel works: this page came out of the connector itself.</p>\n\
         <p>You asked for <code>{path}</code> at <time>{now}</time>.</p>\n\
         <p>Point a rule at your own service with <code>service: http://127.0.0.1:PORT</code>.</p>\n\
         </body></html>\n"
    )
}

fn shown(now: OffsetDateTime) -> String {
    // Fails only for years that RFC 3339 cannot write.
    now.format(&Rfc3339).unwrap_or_default()
}

/// Makes visitor's text harmless in HTML.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars().take(SHOWN_PATH_CHARS_MAX) {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            char => out.push(char),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(path: &str) -> AnswerBody {
        hello(path, false, OffsetDateTime::UNIX_EPOCH, Duration::from_secs(7)).body
    }

    fn text(path: &str) -> String {
        match body(path) {
            AnswerBody::Full(bytes) => String::from_utf8(bytes.to_vec()).expect("the page is text"),
            AnswerBody::Events => panic!("{path} answers with events"),
        }
    }

    #[test]
    fn the_page_names_adit_the_path_and_the_time() {
        let page = text("/some/where?x=1");
        assert!(page.contains("Hello from Adit"));
        assert!(page.contains("/some/where?x=1"));
        assert!(page.contains("1970-01-01T00:00:00Z"));
    }

    #[test]
    fn a_path_cannot_write_html() {
        assert!(!text("/<script>alert(1)</script>").contains("<script>"));
    }

    #[test]
    fn service_paths_answer_as_documented() {
        assert_eq!(text("/_health"), "");
        assert_eq!(text("/uptime"), "{\"uptime\":7}\n");
        assert_eq!(body("/sse"), AnswerBody::Events);
        let answer = hello("/ws", false, OffsetDateTime::UNIX_EPOCH, Duration::ZERO);
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.headers[SEC_WEBSOCKET_VERSION], "13");
    }

    #[test]
    fn a_head_request_gets_the_length_and_no_body() {
        let answer = hello("/", true, OffsetDateTime::UNIX_EPOCH, Duration::ZERO);
        assert!(answer.headers.contains_key(CONTENT_LENGTH));
        assert_eq!(answer.body, AnswerBody::Full(Bytes::new()));
    }
}
