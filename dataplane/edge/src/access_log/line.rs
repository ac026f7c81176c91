//! What the access log says about one exchange, and how.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use adit_driver::core::CoreId;
use adit_proto::exchange::edge::RequestId;
use adit_proto::exchange::error_code::ErrorCode;
use adit_wire::{ConnIndex, ConnectorId, Hostname, TunnelId};
use http::{Method, StatusCode, Version};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::tunnels::connection::Transport;

/// Longest path logged; the rest is cut off.
const PATH_BYTES_MAX: usize = 2_048;

/// What a visitor spoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP.
    Http(Version),
    /// Bytes on a port of their own.
    Tcp,
    /// TLS that is not ours to end.
    Tls,
}

/// The tunnel connection that an exchange took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Via {
    pub(crate) replica: ConnectorId,
    pub(crate) index: ConnIndex,
    pub(crate) core: CoreId,
    pub(crate) transport: Transport,
}

/// One exchange, finished.
#[derive(Clone, Debug)]
pub(crate) struct AccessRecord {
    pub(crate) began: SystemTime,
    pub(crate) id: RequestId,
    pub(crate) client: IpAddr,
    /// Absent, as the path is, for a flow of bytes.
    pub(crate) method: Option<Method>,
    pub(crate) host: Option<Hostname>,
    pub(crate) path: Option<String>,
    pub(crate) protocol: Protocol,
    pub(crate) tunnel: Option<TunnelId>,
    /// The connection of the last attempt.
    pub(crate) connection: Option<Via>,
    pub(crate) attempts: u32,
    /// The core the visitor is on.
    pub(crate) core: CoreId,
    pub(crate) status: StatusCode,
    pub(crate) code: Option<ErrorCode>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) until_head: Option<Duration>,
    pub(crate) duration: Duration,
}

/// The names of the fields are a contract; see docs/configuration-edge.md.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: String,
    client: IpAddr,
    method: Option<&'a str>,
    host: Option<&'a str>,
    path: Option<&'a str>,
    protocol: &'a str,
    tunnel: Option<String>,
    replica: Option<String>,
    conn_index: Option<u8>,
    tunnel_core: Option<u16>,
    transport: Option<&'a str>,
    core: u16,
    attempts: u32,
    status: u16,
    error: Option<&'a str>,
    bytes_in: u64,
    bytes_out: u64,
    head_us: Option<u64>,
    duration_us: u64,
}

impl AccessRecord {
    /// Appends the JSON line.
    pub(super) fn write_line(&self, out: &mut Vec<u8>) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let line = Line {
            time: OffsetDateTime::from(self.began)
                .format(&Rfc3339)
                .unwrap_or_default(),
            request_id: self.id.to_string(),
            client: self.client,
            method: self.method.as_ref().map(Method::as_str),
            host: self.host.as_ref().map(Hostname::as_str),
            path: self.path.as_deref().map(cut),
            protocol: self.protocol.as_str(),
            tunnel: self.tunnel.map(|id| id.to_string()),
            replica: self.connection.map(|via| via.replica.to_string()),
            conn_index: self.connection.map(|via| via.index.0),
            tunnel_core: self.connection.map(|via| via.core.0),
            transport: self.connection.map(|via| via.transport.as_str()),
            core: self.core.0,
            attempts: self.attempts,
            status: self.status.as_u16(),
            error: self.code.map(ErrorCode::as_str),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            head_us: self.until_head.map(micros),
            duration_us: micros(self.duration),
        };
        let before = out.len();
        if serde_json::to_writer(&mut *out, &line).is_err() {
            // Memory takes every write and every field is text or a number; a cut line would spoil two.
            out.truncate(before);
            return;
        }
        out.push(b'\n');
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Self {
            began: SystemTime::UNIX_EPOCH,
            id: RequestId(1),
            client: [192, 0, 2, 1].into(),
            method: Some(Method::GET),
            host: "a.example".parse().ok(),
            path: Some("/a?b=\"c\"".into()),
            protocol: Protocol::Http(Version::HTTP_2),
            tunnel: None,
            connection: None,
            attempts: 0,
            core: CoreId(1),
            status: StatusCode::NOT_FOUND,
            code: Some(ErrorCode::HostnameUnknown),
            bytes_in: 0,
            bytes_out: 7,
            until_head: None,
            duration: Duration::from_micros(1_500),
        }
    }
}

impl Protocol {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http(Version::HTTP_2) => "h2",
            Self::Http(Version::HTTP_10) => "http/1.0",
            Self::Http(_) => "http/1.1",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// The path as far as it is logged.
fn cut(path: &str) -> &str {
    let end = (0..=PATH_BYTES_MAX.min(path.len()))
        .rev()
        .find(|at| path.is_char_boundary(*at));
    path.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object() {
        let mut out = Vec::new();
        AccessRecord::example().write_line(&mut out);
        assert_eq!(out.pop(), Some(b'\n'));
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["time"], "1970-01-01T00:00:00Z");
        assert_eq!(value["path"], "/a?b=\"c\"");
        assert_eq!(value["status"], 404);
        assert_eq!(value["error"], "hostname-unknown");
        assert_eq!(value["duration_us"], 1_500);
        assert_eq!(value["request_id"], "00000000000000000000000000000001");
    }

    #[test]
    fn a_line_names_the_connection_and_how_it_came() {
        let via = Via {
            replica: ConnectorId(uuid::Uuid::from_u128(7)),
            index: ConnIndex(3),
            core: CoreId(2),
            transport: Transport::Http2,
        };
        let record = AccessRecord {
            connection: Some(via),
            ..AccessRecord::example()
        };
        let mut out = Vec::new();
        record.write_line(&mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["replica"], "00000000-0000-0000-0000-000000000007");
        assert_eq!(
            (&value["conn_index"], &value["tunnel_core"]),
            (&3.into(), &2.into())
        );
        assert_eq!(value["transport"], "http2");
    }

    #[test]
    fn a_flow_has_no_method_and_no_path() {
        let record = AccessRecord {
            method: None,
            path: None,
            protocol: Protocol::Tcp,
            ..AccessRecord::example()
        };
        let mut out = Vec::new();
        record.write_line(&mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["protocol"], "tcp");
        assert!(value["method"].is_null() && value["path"].is_null());
    }

    #[test]
    fn a_long_path_is_cut_between_characters() {
        let mut record = AccessRecord::example();
        record.path = Some(format!("/{}", "ü".repeat(PATH_BYTES_MAX)));
        let mut out = Vec::new();
        record.write_line(&mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["path"].as_str().unwrap().len(), PATH_BYTES_MAX - 1);
    }
}
