//! Finds the end of a chunked body without holding any of it (RFC 9112 §7.1).
//!
//! ```text
//! size [;extension] CRLF data CRLF … 0 CRLF [trailer CRLF …] CRLF
//! ```
//! Takes what hyper takes, byte for byte. Extensions and trailers above hyper's limits pass here, and hyper
//! then ends the connection.

/// Bytes that are no chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request body is not chunked as it should be")]
pub struct NotChunked;

/// What is expected next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The first digit of a size.
    Size,
    /// Another digit, or what ends the size.
    Digits,
    /// Spaces behind a size.
    Spaces,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The end, or a trailer.
    Last,
    Trailer,
    TrailerLf,
    LastLf,
}

/// A body on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkedBody {
    place: Place,
    /// Of the chunk: its size as far as it was read, or what is left of its data.
    left: u64,
}

impl Default for ChunkedBody {
    fn default() -> Self {
        Self {
            place: Place::Size,
            left: 0,
        }
    }
}

impl ChunkedBody {
    /// Takes the next bytes; tells how many of them belong to the body once it has ended.
    ///
    /// # Errors
    /// [`NotChunked`].
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<Option<usize>, NotChunked> {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.place == Place::Data {
                let here = (bytes.len() - at) as u64;
                let count = self.left.min(here);
                self.left -= count;
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
                at += usize::try_from(count).unwrap_or(usize::MAX);
                continue;
            }
            at += 1;
            if self.place == Place::LastLf {
                return if *byte == b'\n' {
                    Ok(Some(at))
                } else {
                    Err(NotChunked)
                };
            }
            self.place = self.after(*byte)?;
        }
        Ok(None)
    }

    fn after(&mut self, byte: u8) -> Result<Place, NotChunked> {
        let digit = char::from(byte).to_digit(16).map(u64::from);
        Ok(match (self.place, byte) {
            (Place::Size | Place::Digits, _) if digit.is_some() => {
                let so_far = if self.place == Place::Size { 0 } else { self.left };
                let size = so_far.checked_mul(16).and_then(|size| size.checked_add(digit?));
                self.left = size.ok_or(NotChunked)?;
                Place::Digits
            }
            (Place::Digits | Place::Spaces, b' ' | b'\t') => Place::Spaces,
            (Place::Digits | Place::Spaces, b';') => Place::Extension,
            (Place::Digits | Place::Spaces | Place::Extension, b'\r') => Place::SizeLf,
            (Place::Extension, byte) if byte != b'\n' => Place::Extension,
            (Place::SizeLf, b'\n') if self.left == 0 => Place::Last,
            (Place::SizeLf, b'\n') => Place::Data,
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size,
            (Place::Last, b'\r') => Place::LastLf,
            (Place::Trailer, b'\r') => Place::TrailerLf,
            (Place::Last | Place::Trailer, _) => Place::Trailer,
            (Place::TrailerLf, b'\n') => Place::Last,
            _ => return Err(NotChunked),
        })
    }
}
