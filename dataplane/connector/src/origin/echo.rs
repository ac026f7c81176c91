//! The `/ws` of `hello_world`: a WebSocket that says back what it hears, without any origin.

use adit_proto::exchange::connector::echo::Echo;
use bytes::Bytes;

use super::websocket::End;
use crate::edge_stream::{FromEdge, ToEdge};

/// Where it is.
const PATH: &str = "/ws";

/// Whether a request for `target`, a path with its query, is for the echo.
pub(crate) fn is_at(target: &str) -> bool {
    target.split('?').next() == Some(PATH)
}

/// Echoes until the visitor closes or goes; `first` came along with the request.
pub(crate) async fn serve(first: Bytes, send: &mut impl ToEdge, recv: &mut impl FromEdge) -> End {
    let mut echo = Echo::default();
    let mut chunk = first;
    loop {
        let answer = echo.handle_bytes(&chunk);
        if !answer.is_empty() && send.write(answer).await.is_err() {
            return End::Gone;
        }
        if echo.is_closed() {
            return End::Finished;
        }
        chunk = match recv.read_chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return End::Finished,
            Err(_) => return End::Gone,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_path_is_its() {
        assert!(is_at("/ws") && is_at("/ws?a=/b"));
        assert!(!is_at("/") && !is_at("/ws/") && !is_at("/wsx") && !is_at("/?/ws"));
    }
}
