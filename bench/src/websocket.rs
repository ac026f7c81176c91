//! The little of WebSocket that an echo needs: an upgrade, and whole unfragmented binary messages.
//!
//! The key of the upgrade and the mask of the frames are constants. They protect caches on the way (RFC 6455
//! §10.3), and there are none here.

use anyhow::{Context as _, Result, bail, ensure};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tungstenite::handshake::derive_accept_key;

/// Longest message that is read.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

const KEY: &str = "YmVuY2htYXJrIHVwZ3JhZA==";

const MASK: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];

const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Which end of a connection speaks: a client masks its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Masks.
    Client,
    /// Does not.
    Server,
}

/// Adds what asks for an upgrade.
pub(crate) fn ask(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static(KEY));
}

/// Adds what grants the upgrade that `asked` asks for; false when it asks for none.
pub(crate) fn grant(asked: &HeaderMap, headers: &mut HeaderMap) -> bool {
    let Some(key) = asked.get(SEC_WEBSOCKET_KEY) else {
        return false;
    };
    let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) else {
        return false;
    };
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    true
}

/// Sends one message in one frame.
pub(crate) async fn send(io: &mut (impl AsyncWrite + Unpin), end: End, payload: &[u8]) -> Result<()> {
    io.write_all(&frame(end, payload)).await?;
    io.flush().await.context("cannot send a message")
}

fn frame(end: End, payload: &[u8]) -> Vec<u8> {
    let masked = if end == End::Client { MASKED } else { 0 };
    let mut frame = Vec::with_capacity(payload.len() + 14);
    frame.push(FINAL | BINARY);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => frame.push(masked | short),
        (_, Ok(middle)) => {
            frame.push(masked | 126);
            frame.extend(middle.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(masked | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    if end == End::Client {
        frame.extend(MASK);
        frame.extend(
            payload
                .iter()
                .zip(MASK.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
    } else {
        frame.extend(payload);
    }
    frame
}

/// Reads the next message; `None` when the other end closes.
pub(crate) async fn receive(io: &mut (impl AsyncRead + Unpin)) -> Result<Option<Vec<u8>>> {
    loop {
        let mut head = [0; 2];
        if io.read(&mut head[..1]).await? == 0 {
            return Ok(None);
        }
        io.read_exact(&mut head[1..]).await?;
        let size = match head[1] & !MASKED {
            126 => usize::from(io.read_u16().await?),
            127 => usize::try_from(io.read_u64().await?)?,
            short => usize::from(short),
        };
        ensure!(size <= MESSAGE_BYTES_MAX, "a message of {size} bytes");
        let mut mask = [0; 4];
        if head[1] & MASKED != 0 {
            io.read_exact(&mut mask).await?;
        }
        let mut payload = vec![0; size];
        io.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        match (head[0] & FINAL != 0, head[0] & 0xf) {
            (true, BINARY) => return Ok(Some(payload)),
            (true, CLOSE) => return Ok(None),
            // Proxies send pings to watch idle connections. These connections are not idle, so pings may go
            // unanswered.
            (true, 0x9 | 0xa) => {}
            (is_final, opcode) => bail!("an unexpected frame (opcode {opcode}, final {is_final})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(end: End, size: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let payload: Vec<u8> = (0..size).map(|index| index as u8).collect();
            let bytes = frame(end, &payload);
            let mut reader = bytes.as_slice();
            assert_eq!(receive(&mut reader).await.unwrap(), Some(payload));
            assert_eq!(receive(&mut reader).await.unwrap(), None);
        });
    }

    #[test]
    fn messages_of_every_length_form_survive() {
        for end in [End::Client, End::Server] {
            for size in [0, 1, 125, 126, 65_535, 65_536] {
                round_trip(end, size);
            }
        }
    }

    #[test]
    fn an_upgrade_is_granted_to_who_asks_for_it() {
        let (mut asked, mut granted) = (HeaderMap::new(), HeaderMap::new());
        assert!(!grant(&asked, &mut granted));
        ask(&mut asked);
        assert!(grant(&asked, &mut granted));
        assert_eq!(
            granted[SEC_WEBSOCKET_ACCEPT],
            derive_accept_key(KEY.as_bytes()).as_str()
        );
    }
}
