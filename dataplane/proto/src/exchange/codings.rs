//! Transfer codings of a message (RFC 9112 §6.1 and §7).
//!
//! A hop knows `chunked` and no other coding. It removes `chunked` and may apply it again. Any other coding
//! would stay in the bytes of the body, while nothing would announce it.

/// What the lines of `Transfer-Encoding` of one message say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Codings {
    /// Nothing.
    None,
    /// The one that is known.
    Chunked,
    /// `chunked`, more than once.
    ChunkedTwice,
    /// Another one.
    Unknown,
}

impl Codings {
    pub(crate) fn of<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut codings = Self::None;
        let named = lines.flat_map(|line| line.split(|byte| *byte == b','));
        for coding in named.map(<[u8]>::trim_ascii).filter(|coding| !coding.is_empty()) {
            codings = match codings {
                _ if !coding.eq_ignore_ascii_case(b"chunked") => return Self::Unknown,
                Self::None => Self::Chunked,
                Self::Chunked | Self::ChunkedTwice | Self::Unknown => Self::ChunkedTwice,
            };
        }
        codings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_once_is_all_that_is_known() {
        for (lines, expected) in [
            (&[][..], Codings::None),
            (&["chunked"], Codings::Chunked),
            (&[" Chunked ,"], Codings::Chunked),
            (&["chunked, chunked"], Codings::ChunkedTwice),
            (&["chunked", "chunked"], Codings::ChunkedTwice),
            (&["gzip, chunked"], Codings::Unknown),
            (&["gzip", "chunked"], Codings::Unknown),
            (&["chunked;q=1"], Codings::Unknown),
            (&["identity"], Codings::Unknown),
            (&["xchunked"], Codings::Unknown),
        ] {
            let lines = lines.iter().map(|line| line.as_bytes());
            assert_eq!(Codings::of(lines), expected);
        }
    }
}
