//! The management service inside of the connector: who it is, and its log as it is written.
//!
//! | path | answer |
//! |---|---|
//! | `/ping` | 200 |
//! | `/host_details` | connector id, host name and the local address towards the network, as JSON |
//! | `/logs` | a WebSocket that streams log lines ([`log_socket`]) |
//!
//! It answers requests whose host is `management-hostname`, ahead of the ingress rules. Every request brings
//! a token, which is only read here: the edge has verified it ([`token`]).
//!
//! Source: cloudflared `management/service.go`, `management/middleware.go`.

use std::net::{IpAddr, SocketAddr};

use adit_proto::exchange::connector::RequestHead;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::UdpSocket;

use crate::config::ManagementSettings;
use crate::origin::builtin::{self, Answer, AnswerBody};
use crate::origin::handshake;
use crate::settings::Settings;
use token::{Claims, TokenError};

pub(crate) mod live_log;
pub(crate) mod log_stream;
pub(crate) mod log_socket;
mod token;

pub use live_log::{LiveLog, LogLine};
pub use log_stream::{LogEvent, LogLevel};

/// The service, as all cores share it.
pub(crate) struct Management {
    pub(crate) settings: ManagementSettings,
    pub(crate) live_log: LiveLog,
}

/// What becomes of a request.
pub(crate) enum Reply {
    /// This answer.
    Answer(Answer),
    /// A 101 with these headers, and then the log lines for this actor.
    Logs(HeaderMap, String),
}

impl Management {
    /// Whether a request for `host`, as its Host says it, is for the service.
    pub(crate) fn is_meant(&self, host: &str) -> bool {
        self.settings.hostname == host
    }

    /// Decides about a request.
    pub(crate) async fn reply(&self, settings: &Settings, head: &RequestHead) -> Reply {
        let (path, query) = head
            .target()
            .split_once('?')
            .unwrap_or_else(|| (head.target(), ""));
        let claims = match Claims::of_query(query) {
            Ok(claims) => claims,
            Err(error) => return Reply::Answer(refusal(error)),
        };
        if *head.method() != Method::GET && *head.method() != Method::HEAD {
            return Reply::Answer(builtin::status(StatusCode::METHOD_NOT_ALLOWED));
        }
        // A page of somebody else's must not use what a browser can reach (RFC 6455 §10.2).
        if head.header(&ORIGIN).is_some() {
            return Reply::Answer(builtin::status(StatusCode::FORBIDDEN));
        }
        match path {
            "/ping" => Reply::Answer(builtin::status(StatusCode::OK)),
            "/host_details" => Reply::Answer(json_answer(StatusCode::OK, &self.host_details(settings).await)),
            "/logs" if !head.is_websocket() => Reply::Answer(builtin::status(StatusCode::UPGRADE_REQUIRED)),
            "/logs" => match handshake::accept(head.header(&SEC_WEBSOCKET_KEY)) {
                Some(headers) => Reply::Logs(headers, claims.actor),
                None => Reply::Answer(builtin::no_websocket()),
            },
            _ => Reply::Answer(builtin::status(StatusCode::NOT_FOUND)),
        }
    }

    async fn host_details(&self, settings: &Settings) -> Value {
        let hostname = match &self.settings.label {
            Some(label) => format!("custom:{label}"),
            None => host_name(),
        };
        let mut details = json!({
            "connector_id": settings.client.connector_id,
            "hostname": hostname,
        });
        if let Some(ip) = self.local_address().await {
            details["ip"] = ip.to_string().into();
        }
        details
    }

    /// This host's address towards the network.
    async fn local_address(&self) -> Option<IpAddr> {
        let service = self.settings.service_address.parse();
        for address in service.into_iter().chain(self.settings.edges.iter().copied()) {
            if let Some(ip) = address_towards(address).await {
                return Some(ip);
            }
        }
        None
    }
}

/// The local address from which `address` would be reached. Connecting a datagram socket asks the routing
/// table and sends nothing.
async fn address_towards(address: SocketAddr) -> Option<IpAddr> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(address).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// The host's name as the kernel knows it.
pub(crate) fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn refusal(error: TokenError) -> Answer {
    let body = json!({"errors": [{"code": error.code(), "message": error.to_string()}]});
    json_answer(StatusCode::BAD_REQUEST, &body)
}

fn json_answer(status: StatusCode, body: &Value) -> Answer {
    answer(status, "application/json", body.to_string())
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, body.len().into());
    Answer {
        status,
        headers,
        body: AnswerBody::Full(Bytes::from(body)),
    }
}
