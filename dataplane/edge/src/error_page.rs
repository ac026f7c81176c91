//! What a visitor sees when the origin's own answer cannot be had: status, code, request id.
//!
//! A small HTML page for people or JSON for API clients, chosen by `Accept`. For gRPC a status in gRPC's own
//! form. Never an internal message.

use std::time::SystemTime;

use adit_proto::exchange::edge::{RequestId, is_grpc};
use adit_proto::exchange::error_code::ErrorCode;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Response, StatusCode};

use crate::exchange_task::body::PublicBody;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// When a visitor may try again after a temporary failure; connectors come back within seconds.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// The form of an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Html,
    Json,
    /// A call that has failed before its first message.
    Grpc,
    /// The status alone, for HEAD.
    Empty,
}

impl Form {
    /// Chooses by what the visitor accepts; whoever does not name JSON gets HTML.
    pub(crate) fn for_request(method: &Method, headers: &HeaderMap) -> Self {
        if *method == Method::HEAD {
            return Self::Empty;
        }
        if is_grpc(headers) {
            return Self::Grpc;
        }
        let accept = headers
            .get(http::header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let position = |wanted: &str| accept.find(wanted).unwrap_or(usize::MAX);
        let json = position("application/json").min(position("+json"));
        if json < position("text/html") {
            Self::Json
        } else {
            Self::Html
        }
    }
}

/// Renders the page.
pub(crate) fn render(code: ErrorCode, id: RequestId, form: Form) -> Response<PublicBody> {
    let (kind, text) = match form {
        Form::Grpc => ("application/grpc", String::new()),
        Form::Html => ("text/html; charset=utf-8", html(code, id)),
        Form::Json => ("application/json", json(code, id)),
        Form::Empty => ("text/html; charset=utf-8", String::new()),
    };
    let mut response = Response::new(PublicBody::full(Bytes::from(text)));
    *response.status_mut() = code.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, value);
    }
    if code.is_temporary() {
        headers.insert(RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if form == Form::Grpc {
        // A status other than 200 would be all that a client looks at.
        *response.status_mut() = StatusCode::OK;
        put_grpc_status(response.headers_mut(), code);
    }
    response
}

/// The whole answer as HTTP/1.1 writes it, for a visitor whose request nobody has read. It ends the
/// connection.
pub(crate) fn whole(code: ErrorCode, id: RequestId, is_head: bool) -> Vec<u8> {
    let page = html(code, id);
    let (status, date) = (code.status(), httpdate::fmt_http_date(SystemTime::now()));
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/html; charset=utf-8\r\ncache-control: no-store\r\n\
         x-request-id: {id}\r\ncontent-length: {}\r\nconnection: close\r\ndate: {date}\r\n\r\n",
        page.len()
    );
    let page = if is_head { "" } else { page.as_str() };
    [head.as_str(), page].concat().into_bytes()
}

/// How the call went, where trailers would say it if there were any before them.
fn put_grpc_status(headers: &mut HeaderMap, code: ErrorCode) {
    headers.insert(GRPC_STATUS, grpc_status(code.status()).into());
    let message = format!("{}: {}", code.as_str(), code.text());
    // Of visible characters without a percent sign, and so it needs no escapes.
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// The gRPC status that its clients see in an HTTP status, where that is not `UNKNOWN`.
fn grpc_status(status: StatusCode) -> u16 {
    const INTERNAL: u16 = 13;
    const UNIMPLEMENTED: u16 = 12;
    const UNAVAILABLE: u16 = 14;
    match status {
        StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => UNIMPLEMENTED,
        StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS => UNAVAILABLE,
        _ => INTERNAL,
    }
}

fn html(code: ErrorCode, id: RequestId) -> String {
    let (status, title, text) = (code.status().as_u16(), code.title(), code.text());
    let code = code.as_str();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{status} {title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:34em;padding:0 1em}}\
         code{{color:#666}}</style></head>\n\
         <body><h1>{status} {title}</h1><p>{text}</p>\n\
         <p><code>{code}</code><br><code>request {id}</code></p></body></html>\n"
    )
}

fn json(code: ErrorCode, id: RequestId) -> String {
    let value = serde_json::json!({
        "error": {
            "status": code.status().as_u16(),
            "code": code.as_str(),
            "message": code.text(),
            "request_id": id.to_string(),
        }
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_follows_accept() {
        let cases = [
            (Method::GET, "", Form::Html),
            (Method::GET, "*/*", Form::Html),
            (Method::GET, "application/json", Form::Json),
            (Method::GET, "application/problem+json, */*", Form::Json),
            (Method::GET, "text/html,application/json;q=0.9", Form::Html),
            (Method::HEAD, "application/json", Form::Empty),
        ];
        for (method, accept, wanted) in cases {
            let mut headers = HeaderMap::new();
            headers.insert("accept", HeaderValue::from_static(accept));
            assert_eq!(Form::for_request(&method, &headers), wanted, "{method} {accept}");
        }
    }

    #[test]
    fn grpc_is_told_in_its_own_words() {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))]);
        let form = Form::for_request(&Method::POST, &headers);
        for (code, status) in [
            (ErrorCode::TrailersNotCarried, "12"),
            (ErrorCode::HostnameUnknown, "12"),
            (ErrorCode::TunnelNoConnection, "14"),
            (ErrorCode::OriginUnreachable, "14"),
            (ErrorCode::VisitorShare, "14"),
            (ErrorCode::BadRequest, "13"),
        ] {
            let response = render(code, RequestId(7), form);
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert_eq!(response.headers()["grpc-status"], status);
            let message = response.headers()["grpc-message"].to_str().unwrap();
            assert!(
                message.starts_with(code.as_str()) && !message.contains('%'),
                "{message}"
            );
        }
    }

    #[test]
    fn pages_carry_status_code_and_request_id() {
        for code in ErrorCode::all() {
            let (page, id) = (html(code, RequestId(7)), RequestId(7).to_string());
            assert!(page.contains(code.as_str()) && page.contains(&id), "{page}");
            let value: serde_json::Value = serde_json::from_str(&json(code, RequestId(7))).unwrap();
            assert_eq!(value["error"]["code"], code.as_str());
            let response = render(code, RequestId(7), Form::Json);
            assert_eq!(response.status(), code.status());
            assert_eq!(response.headers()["x-request-id"], id.as_str());
        }
    }
}
