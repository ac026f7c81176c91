//! The client's side of HTTP's CONNECT, up to the end of the answer's head.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};

use super::{ANSWER_BYTES_MAX, Credentials, Refused, Step, joined};

const HEAD_END: &[u8] = b"\r\n\r\n";

/// How every answer begins; its minor version follows.
const VERSION: &[u8] = b"HTTP/1.";

const WRONG: Refused = Refused::Protocol { kind: "HTTP" };

/// Waits for the answer.
#[derive(Debug)]
pub(super) struct Connect {
    had_credentials: bool,
}

impl Connect {
    pub(super) fn begin(
        credentials: Option<&Credentials>,
        host: &str,
        port: u16,
    ) -> Result<(Self, Bytes), Refused> {
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refused::Destination);
        }
        let target = joined(host, port);
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some(Credentials { user, password }) = credentials {
            let text = STANDARD.encode(format!("{user}:{password}"));
            request.push_str(&format!("Proxy-Authorization: Basic {text}\r\n"));
        }
        request.push_str("\r\n");
        let connect = Self {
            had_credentials: credentials.is_some(),
        };
        Ok((connect, request.into()))
    }

    pub(super) fn handle(&self, read: &mut BytesMut) -> Result<Step, Refused> {
        let begin = read.len().min(VERSION.len());
        if read.get(..begin) != VERSION.get(..begin) {
            return Err(WRONG);
        }
        let end = read.windows(HEAD_END.len()).position(|bytes| bytes == HEAD_END);
        let Some(end) = end else {
            return if read.len() < ANSWER_BYTES_MAX {
                Ok(Step::Read)
            } else {
                Err(WRONG)
            };
        };
        let size = end + HEAD_END.len();
        let status = read.get(..end).and_then(status).ok_or(WRONG)?;
        match status {
            200..=299 => {
                read.advance(size);
                Ok(Step::Through)
            }
            // 401 is meant for origins, but tinyproxy says it to whom it does not believe.
            407 | 401 => Err(Refused::Credentials {
                had_credentials: self.had_credentials,
            }),
            _ => Err(Refused::Status { status }),
        }
    }
}

/// The status of a head such as `HTTP/1.1 200 OK`.
fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|byte| *byte == b'\r').next()?;
    let digits = std::str::from_utf8(line.get(VERSION.len() + 1..)?)
        .ok()?
        .strip_prefix(' ')?;
    let code = digits.split(' ').next()?;
    (code.len() == 3).then(|| code.parse().ok())?
}
