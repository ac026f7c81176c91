//! A body in frames, so that trailers can follow it on a data stream.
//!
//! ```text
//! | length: u32 > 0 | so many bytes | length | bytes | … | 0: u32 | head of an answer: the trailers | FIN
//! ```
//! Lengths are in network byte order. A frame holds what one write took, so framing delays nothing. FIN
//! between two frames ends a body without trailers. FIN anywhere else is an error. Trailers are encoded as
//! the headers of a data stream's head ([`adit_wire::connect`]), with its limits of size and number.
//!
//! A body is in frames only if both sides have agreed (`docs/decisions/0011`). All others are plain bytes.
//!
//! Does not: hold data back or join it. Trailers are kept until FIN, bounded by [`TRAILERS_BYTES_MAX`].

use adit_wire::connect::{Entry, HEAD_BYTES_MAX, HeadError, PREAMBLE_SIZE, decode_response, encode_response};
use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::edge::response::is_internal;
use super::names;

/// Largest block of trailers: what a head may have.
pub const TRAILERS_BYTES_MAX: usize = PREAMBLE_SIZE + HEAD_BYTES_MAX;

/// Bytes before each frame.
const LENGTH_SIZE: usize = 4;

/// Largest frame that is written; more than any read gives, so that one read is one frame.
const FRAME_BYTES_MAX: usize = 1 << 24;

/// Fields that may not be trailers: about the connection, the framing or the routing of a message, or how to
/// read its body (RFC 9110 §6.5.1).
const FORBIDDEN: [HeaderName; 14] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HOST,
    CONTENT_LENGTH,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    CONTENT_RANGE,
];

/// Bytes are no body in frames.
#[derive(Debug, thiserror::Error)]
pub enum FramedBodyError {
    /// FIN within a frame, or within the trailers.
    #[error("the body ends within a frame")]
    Cut,
    /// More than [`TRAILERS_BYTES_MAX`], or anything behind the trailers.
    #[error("the trailers are larger than {TRAILERS_BYTES_MAX} bytes, or something follows them")]
    TooLarge,
    /// They are no head.
    #[error("the trailers are not valid")]
    Trailers(#[from] HeadError),
    /// A name or value that HTTP does not allow.
    #[error("a trailer is not valid")]
    Field,
}

/// Takes one frame off the front of `rest`, which is not empty: its length, and its bytes.
#[must_use]
pub fn data_frame(rest: &mut Bytes) -> [Bytes; 2] {
    debug_assert!(!rest.is_empty(), "an empty frame would end the body");
    let part = rest.split_to(rest.len().min(FRAME_BYTES_MAX));
    let length = part.len() as u32;
    [Bytes::copy_from_slice(&length.to_be_bytes()), part]
}

/// The end of a body with trailers: the mark that ends the frames, and the trailers.
///
/// # Errors
/// [`HeadError`] if they are larger than a head may be.
pub fn trailers_frame(trailers: &HeaderMap) -> Result<[Bytes; 2], HeadError> {
    let entries: Vec<_> = trailers
        .iter()
        .filter(|(name, _)| !is_forbidden(name))
        .map(|(name, value)| Entry::header(name.as_str(), value))
        .collect();
    Ok([
        Bytes::from_static(&[0; LENGTH_SIZE]),
        encode_response(b"", &entries)?,
    ])
}

/// Removes what no trailer may be.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    for name in &FORBIDDEN {
        trailers.remove(name);
    }
    while let Some(name) = trailers.keys().find(|name| is_forbidden(name)).cloned() {
        trailers.remove(name);
    }
}

/// See [`FORBIDDEN`]. What is between edge and connector is no trailer either.
fn is_forbidden(name: &HeaderName) -> bool {
    FORBIDDEN.contains(name) || is_internal(name.as_str())
}

/// Reads a body in frames, incrementally.
#[derive(Debug)]
pub struct FramedBody(State);

#[derive(Debug)]
enum State {
    /// Within a length, of which so many bytes are here.
    Length { bytes: [u8; LENGTH_SIZE], have: usize },
    /// Within a frame.
    Data { left: usize },
    /// Behind the last frame.
    Trailers(BytesMut),
}

impl State {
    const BETWEEN: Self = Self::Length {
        bytes: [0; LENGTH_SIZE],
        have: 0,
    };
}

impl Default for FramedBody {
    fn default() -> Self {
        Self(State::BETWEEN)
    }
}

impl FramedBody {
    /// Takes the next bytes of the body from the front of `received`. Returns `None` once all of it was
    /// taken.
    ///
    /// # Errors
    /// [`FramedBodyError::TooLarge`]; the body is then of no use.
    pub fn handle_bytes(&mut self, received: &mut Bytes) -> Result<Option<Bytes>, FramedBodyError> {
        while !received.is_empty() {
            match &mut self.0 {
                State::Length { bytes, have } => {
                    let Some(place) = bytes.get_mut(*have) else {
                        let left = u32::from_be_bytes(*bytes) as usize;
                        self.0 = if left == 0 {
                            State::Trailers(BytesMut::new())
                        } else {
                            State::Data { left }
                        };
                        continue;
                    };
                    *place = received.get_u8();
                    *have += 1;
                }
                State::Data { left } => {
                    let data = received.split_to((*left).min(received.len()));
                    *left -= data.len();
                    if *left == 0 {
                        self.0 = State::BETWEEN;
                    }
                    return Ok(Some(data));
                }
                State::Trailers(block) => {
                    if block.len() + received.len() > TRAILERS_BYTES_MAX {
                        return Err(FramedBodyError::TooLarge);
                    }
                    block.extend_from_slice(received);
                    received.clear();
                }
            }
        }
        Ok(None)
    }

    /// The trailers, if there are any, of a stream that has ended.
    ///
    /// # Errors
    /// [`FramedBodyError`] if that was no place for an end, or what is there are no trailers.
    pub fn finish(self) -> Result<Option<HeaderMap>, FramedBodyError> {
        let block = match self.0 {
            State::Length { have: 0, .. } => return Ok(None),
            // The mark of the end may be all there is.
            State::Length { .. } | State::Data { .. } => return Err(FramedBodyError::Cut),
            State::Trailers(block) => block,
        };
        let mut block = block.freeze();
        let head = decode_response(&mut block)?.ok_or(FramedBodyError::Cut)?;
        if !block.is_empty() {
            return Err(FramedBodyError::TooLarge);
        }
        let mut trailers = HeaderMap::with_capacity(head.metadata.len());
        for (key, value) in head.metadata.iter() {
            let name = names::header(key).map_err(|_| FramedBodyError::Field)?;
            // Other keys are meant for edges with features this one lacks.
            let Some(name) = name else { continue };
            let value = HeaderValue::from_maybe_shared(head.metadata.share(value));
            trailers
                .try_append(name, value.map_err(|_| FramedBodyError::Field)?)
                .map_err(|_| FramedBodyError::Field)?;
        }
        clean_trailers(&mut trailers);
        Ok(Some(trailers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trailers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        pairs.collect()
    }

    /// A body of these chunks, and how it ends.
    fn written(chunks: &[&'static [u8]], trailers: Option<&HeaderMap>) -> Vec<u8> {
        let mut all = Vec::new();
        for chunk in chunks {
            data_frame(&mut Bytes::from_static(chunk))
                .iter()
                .for_each(|part| all.extend_from_slice(part));
        }
        if let Some(trailers) = trailers {
            trailers_frame(trailers)
                .unwrap()
                .iter()
                .for_each(|part| all.extend_from_slice(part));
        }
        all
    }

    fn read(bytes: &[u8], step: usize) -> Result<(Vec<u8>, Option<HeaderMap>), FramedBodyError> {
        let (mut body, mut data) = (FramedBody::default(), Vec::new());
        for part in bytes.chunks(step) {
            let mut part = Bytes::copy_from_slice(part);
            while let Some(piece) = body.handle_bytes(&mut part)? {
                assert!(!piece.is_empty());
                data.extend_from_slice(&piece);
            }
            assert!(part.is_empty());
        }
        Ok((data, body.finish()?))
    }

    #[test]
    fn bodies_and_trailers_survive_however_they_are_cut() {
        let status = trailers(&[
            ("grpc-status", "0"),
            ("grpc-message", "fine"),
            ("x-more-bin", "AAE="),
        ]);
        for ending in [None, Some(&trailers(&[])), Some(&status)] {
            for chunks in [&[][..], &[&b"a"[..]], &[b"hello ", b"world", b"!"]] {
                let bytes = written(chunks, ending);
                for step in [1, 2, 3, 7, 1_000] {
                    let (data, found) = read(&bytes, step).unwrap();
                    assert_eq!(data, chunks.concat());
                    assert_eq!(found.as_ref(), ending);
                }
            }
        }
    }

    #[test]
    fn an_end_within_a_frame_is_a_break() {
        let bytes = written(&[b"hello ", b"world"], Some(&trailers(&[("grpc-status", "0")])));
        let between = [0, 10, 19];
        for end in 0..bytes.len() {
            let cut = read(&bytes[..end], 5);
            assert_eq!(cut.is_ok(), between.contains(&end), "{end}: {cut:?}");
        }
    }

    #[test]
    fn what_steers_a_message_is_no_trailer() {
        let mut given = trailers(&[
            ("content-length", "7"),
            ("connection", "x-a"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("host", "other.test"),
            ("grpc-status", "5"),
        ]);
        let wanted = trailers(&[("grpc-status", "5")]);
        // Written by somebody else.
        let entries: Vec<_> = given
            .iter()
            .map(|(name, value)| Entry::header(name.as_str(), value))
            .collect();
        let foreign = [&[0; 4], &encode_response(b"", &entries).unwrap()[..]].concat();
        for bytes in [written(&[], Some(&given)), foreign] {
            assert_eq!(read(&bytes, 9).unwrap().1.as_ref(), Some(&wanted));
        }
        clean_trailers(&mut given);
        assert_eq!(given, wanted);
    }

    #[test]
    fn hostile_trailers_are_refused() {
        let of = |entries: &[Entry<'_>]| [&[0; 4], &encode_response(b"", entries).unwrap()[..]].concat();
        let whole = of(&[Entry::header("a", "b")]);
        for bytes in [
            of(&[Entry::header("a", "b\r\nc: d")]),
            of(&[Entry::header("a b", "c")]),
            of(&[Entry::new("HttpHeader", "c")]),
            [&whole[..], b"x"].concat(),
            [&[0; 4], &[b'x'; 100][..]].concat(),
            [&[0; 4], &vec![b'x'; TRAILERS_BYTES_MAX + 1][..]].concat(),
        ] {
            assert!(read(&bytes, 4_096).is_err());
        }
        let unknown = of(&[Entry::new("Else", "c"), Entry::header("a", "b")]);
        assert_eq!(read(&unknown, 64).unwrap().1, Some(trailers(&[("a", "b")])));
    }

    #[test]
    fn trailers_above_the_limit_are_not_written() {
        let long = HeaderValue::from_bytes(&vec![b'a'; HEAD_BYTES_MAX]).unwrap();
        let large = HeaderMap::from_iter([(HeaderName::from_static("a"), long)]);
        assert!(trailers_frame(&large).is_err());
    }
}
