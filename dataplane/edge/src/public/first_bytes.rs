//! Reads what stands before or at the beginning of a visitor's own bytes: a PROXY header, the name in a
//! ClientHello.
//!
//! Both are bounded in bytes and, together with what follows, in time. Bytes that were read and belong to the
//! visitor are given back.

use std::io;
use std::net::SocketAddr;

use adit_driver::time::timeout;
use adit_proto::client_hello::{HELLO_BYTES_MAX, Hello};
use adit_proto::exchange::edge::{Scheme, Visitor};
use adit_proto::limits::HEAD_DEADLINE;
use adit_proto::proxy_protocol::{self, HEADER_BYTES_MAX, Said};
use adit_wire::Hostname;
use bytes::{Buf as _, BufMut as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Room for one read. Most first flights of TLS fit.
const READ_BYTES: usize = 2 << 10;

/// The two ends of a visitor's connection, as far as they are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// The visitor: who connected, or whom a trusted proxy names.
    pub(super) source: SocketAddr,
    /// What the visitor connected to, if a proxy says so.
    pub(super) destination: Option<SocketAddr>,
}

impl Peer {
    /// Who connected, unless a header says otherwise.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            source: canonical(address),
            destination: None,
        }
    }

    pub(super) fn visitor(self, scheme: Scheme) -> Visitor {
        Visitor {
            address: self.source.ip(),
            scheme,
        }
    }
}

/// Reads the PROXY header that a trusted proxy owes; what follows it stays in `ahead`, which begins empty.
///
/// # Errors
/// `InvalidData` without a lawful header, `TimedOut`, or what the stream says.
pub(super) async fn proxy_header<S>(stream: &mut S, ahead: &mut BytesMut, peer: Peer) -> io::Result<Peer>
where
    S: AsyncRead + Unpin,
{
    let reading = async {
        loop {
            let header = proxy_protocol::parse(ahead);
            match header.map_err(|unlawful| io::Error::new(io::ErrorKind::InvalidData, unlawful))? {
                Some(header) => break Ok::<_, io::Error>(header),
                None => more(stream, ahead, HEADER_BYTES_MAX).await?,
            }
        }
    };
    let header = timeout(HEAD_DEADLINE, reading)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    ahead.advance(header.size);
    Ok(match header.said {
        Said::Visitor(ends) => Peer {
            source: canonical(ends.source),
            destination: Some(canonical(ends.destination)),
        },
        Said::Nobody => peer,
    })
}

/// Reads as much as it takes to know for which name a TLS client came; all of it stays in `ahead`.
///
/// # Errors
/// `TimedOut`, or what the stream says.
pub(super) async fn server_name<S>(stream: &mut S, ahead: &mut BytesMut) -> io::Result<Option<Hostname>>
where
    S: AsyncRead + Unpin,
{
    let reading = async {
        loop {
            match adit_proto::client_hello::read(ahead) {
                Hello::Unfinished => more(stream, ahead, HELLO_BYTES_MAX).await?,
                Hello::Named(name) => break Ok(name.parse().ok()),
                Hello::Nameless => break Ok(None),
            }
        }
    };
    timeout(HEAD_DEADLINE, reading)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Reads once, so that `ahead` has no more than `most` bytes; the parsers give up before that.
async fn more<S: AsyncRead + Unpin>(stream: &mut S, ahead: &mut BytesMut, most: usize) -> io::Result<()> {
    let room = READ_BYTES.min(most.saturating_sub(ahead.len()));
    ahead.reserve(room);
    match stream.read_buf(&mut ahead.limit(room)).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test)
    }

    fn peer() -> Peer {
        Peer::new("[::ffff:192.0.2.9]:9".parse().unwrap())
    }

    #[test]
    fn what_follows_a_header_is_the_visitors() {
        let mut ahead = BytesMut::new();
        let mut stream = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /".as_slice();
        let told = run(proxy_header(&mut stream, &mut ahead, peer())).unwrap();
        assert_eq!(told.source, "192.0.2.1:1".parse().unwrap());
        assert_eq!(told.destination, "192.0.2.2:2".parse().ok());
        assert_eq!(ahead, "GET /");
        let mut ahead = BytesMut::new();
        let told = run(proxy_header(
            &mut b"PROXY UNKNOWN\r\n".as_slice(),
            &mut ahead,
            peer(),
        ))
        .unwrap();
        assert_eq!(told.source, "192.0.2.9:9".parse().unwrap());
    }

    #[test]
    fn what_is_no_header_is_an_error() {
        for (text, wanted) in [
            ("GET / HTTP/1.1\r\n", io::ErrorKind::InvalidData),
            ("PROXY TCP4", io::ErrorKind::UnexpectedEof),
        ] {
            let told = run(proxy_header(&mut text.as_bytes(), &mut BytesMut::new(), peer()));
            assert_eq!(told.unwrap_err().kind(), wanted, "{text}");
        }
    }

    #[test]
    fn a_hello_that_never_ends_is_not_collected_for_ever() {
        let mut endless = [&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0xf0][..], &[0; 64 << 10]].concat();
        endless[9..].fill(0xff);
        let mut ahead = BytesMut::new();
        let name = run(server_name(&mut endless.as_slice(), &mut ahead)).unwrap();
        assert_eq!(name, None);
        assert!(ahead.len() <= HELLO_BYTES_MAX);
    }
}
