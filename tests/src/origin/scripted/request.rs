//! What the scripted origin reads: a request head and its body, in both framings.

use std::io::{self, BufRead, BufReader, Read, Take};
use std::net::TcpStream;

/// Longest request head it reads.
const HEAD_BYTES_MAX: u64 = 1024 * 1024;

/// A request head as it arrived.
#[derive(Debug)]
pub(super) struct Request {
    /// The whole head with its line ends, without the empty line.
    pub(super) head: String,
    pub(super) path: String,
    query: String,
}

/// A request body, read while it arrives.
pub(super) enum Body<'a> {
    Sized(Take<&'a mut BufReader<TcpStream>>),
    Chunked {
        reader: &'a mut BufReader<TcpStream>,
        left: u64,
        is_ended: bool,
    },
}

impl Request {
    /// Reads a head; `None` when the connection ended between requests.
    pub(super) fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Self>> {
        let mut head = Vec::new();
        let mut limited = reader.take(HEAD_BYTES_MAX);
        while !head.ends_with(b"\r\n\r\n") {
            if limited.read_until(b'\n', &mut head)? == 0 {
                return if head.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
        head.truncate(head.len() - 2);
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        Ok(Some(Self { head, path, query }))
    }

    /// The value of a header, if it came.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The value of a query parameter; an empty string when it has none, or is absent.
    pub(super) fn query(&self, name: &str) -> &str {
        self.pair(name).unwrap_or_default()
    }

    /// Whether a query parameter is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.pair(name).is_some()
    }

    /// A query parameter as a number, 0 when absent.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.query(name).parse().unwrap_or_default()
    }

    pub(super) fn is_chunked(&self) -> bool {
        self.header("transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    /// The body that follows on `reader`.
    pub(super) fn body<'a>(&self, reader: &'a mut BufReader<TcpStream>) -> Body<'a> {
        if self.is_chunked() {
            return Body::Chunked {
                reader,
                left: 0,
                is_ended: false,
            };
        }
        let length = self
            .header("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        Body::Sized(reader.take(length))
    }

    fn pair(&self, name: &str) -> Option<&str> {
        let pairs = self
            .query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    }
}

impl Read for Body<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Body::Sized(rest) => {
                let n = rest.read(buffer)?;
                if n == 0 && rest.limit() > 0 && !buffer.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(n)
            }
            Body::Chunked { is_ended: true, .. } => Ok(0),
            Body::Chunked {
                reader,
                left,
                is_ended,
            } => {
                if *left == 0 {
                    let mut line = String::new();
                    reader.read_line(&mut line)?;
                    let size = line.trim().split(';').next().unwrap_or_default();
                    *left = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
                    if *left == 0 {
                        skip_trailers(reader)?;
                        *is_ended = true;
                        return Ok(0);
                    }
                }
                let n = reader.take(*left).read(buffer)?;
                if n == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                *left -= n as u64;
                if *left == 0 {
                    reader.read_line(&mut String::new())?;
                }
                Ok(n)
            }
        }
    }
}

fn skip_trailers(reader: &mut BufReader<TcpStream>) -> io::Result<()> {
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && !line.trim().is_empty() {
        line.clear();
    }
    Ok(())
}
