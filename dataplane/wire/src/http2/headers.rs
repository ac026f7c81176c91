//! An origin's headers in one header's value.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::connect::{HEAD_BYTES_MAX, METADATA_ENTRIES_MAX};

/// Largest value: what a head may hold, in base64, which is a third longer.
const VALUE_BYTES_MAX: usize = HEAD_BYTES_MAX / 3 * 4;

/// Writers pad nothing; what is padded is read all the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a value holds no headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    /// The value is too large.
    #[error("serialised headers have {size} bytes, more than {VALUE_BYTES_MAX}")]
    TooLarge {
        /// Bytes that came.
        size: usize,
    },
    /// There are more than a head may have.
    #[error("more than {METADATA_ENTRIES_MAX} serialised headers")]
    TooMany,
    /// A pair is not two texts with a colon between.
    #[error("a serialised header is not a name and a value")]
    Pair,
    /// A text is not in base64.
    #[error("a serialised header is not in base64")]
    Base64,
}

/// An origin's headers, in their order and in its spelling; names may repeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// Names and values, one after the other.
    texts: Vec<u8>,
    /// Where each name and each value ends.
    ends: Vec<(usize, usize)>,
}

impl Headers {
    /// Reads a header's value. An empty one has none, and empty items are passed over.
    ///
    /// # Errors
    /// [`HeadersError`]. Takes no more memory than the value has bytes, and a place for each pair.
    pub fn decode(value: &[u8]) -> Result<Self, HeadersError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(HeadersError::TooLarge { size: value.len() });
        }
        let mut headers = Self {
            texts: Vec::with_capacity(value.len()),
            ends: Vec::new(),
        };
        for item in value.split(|byte| *byte == b';').filter(|item| !item.is_empty()) {
            if headers.ends.len() == METADATA_ENTRIES_MAX {
                return Err(HeadersError::TooMany);
            }
            let mut parts = item.split(|byte| *byte == b':');
            let (Some(name), Some(value), None) = (parts.next(), parts.next(), parts.next()) else {
                return Err(HeadersError::Pair);
            };
            let name_end = headers.put(name)?;
            let value_end = headers.put(value)?;
            headers.ends.push((name_end, value_end));
        }
        Ok(headers)
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(name_end, value_end)| {
            let name = self.texts.get(start..name_end).unwrap_or_default();
            let value = self.texts.get(name_end..value_end).unwrap_or_default();
            start = value_end;
            (name, value)
        })
    }

    /// How many pairs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds one text, which ends where it says.
    fn put(&mut self, text: &[u8]) -> Result<usize, HeadersError> {
        BASE64
            .decode_vec(text, &mut self.texts)
            .map_err(|_| HeadersError::Base64)?;
        Ok(self.texts.len())
    }
}

/// Writes a header's value that holds `headers`.
pub fn encode_headers<'a>(headers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> String {
    let mut value = String::new();
    for (name, text) in headers {
        if !value.is_empty() {
            value.push(';');
        }
        BASE64.encode_string(name, &mut value);
        value.push(':');
        BASE64.encode_string(text, &mut value);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair<'a> = (&'a [u8], &'a [u8]);

    #[test]
    fn headers_survive_a_round_trip() {
        let sets: [&[Pair<'_>]; 4] = [
            &[],
            &[(b"X-Origin", b"yes")],
            &[
                (b"Set-Cookie", b"a=1"),
                (b"Set-Cookie", b"b=2"),
                (b"X-Empty", b""),
            ],
            &[(b"X-Raw", b"\xe9;:\x01"), (b"A", b"BB"), (b"CCC", b"DDDD")],
        ];
        for set in sets {
            let value = encode_headers(set.iter().copied());
            let headers = Headers::decode(value.as_bytes()).unwrap();
            assert_eq!(headers.iter().collect::<Vec<_>>(), set);
            assert_eq!((headers.len(), headers.is_empty()), (set.len(), set.is_empty()));
        }
        assert_eq!(
            encode_headers([(&b"X-Origin"[..], &b"yes"[..])]),
            "WC1PcmlnaW4:eWVz"
        );
    }

    #[test]
    fn padding_and_empty_items_are_passed_over() {
        let headers = Headers::decode(b";WC1PcmlnaW4=:eWVz;;").unwrap();
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [(&b"X-Origin"[..], &b"yes"[..])]
        );
    }

    #[test]
    fn broken_values_are_refused() {
        for (value, expected) in [
            (&b"WC1PcmlnaW4"[..], HeadersError::Pair),
            (b"YQ:YQ:YQ", HeadersError::Pair),
            (b"Y Q:YQ", HeadersError::Base64),
            (b"YQ:Y_Q", HeadersError::Base64),
            (b"YQ:Y", HeadersError::Base64),
            (b"\xff:YQ", HeadersError::Base64),
        ] {
            assert_eq!(Headers::decode(value), Err(expected), "{value:?}");
        }
    }

    #[test]
    fn size_and_number_are_bounded() {
        let size = VALUE_BYTES_MAX + 1;
        assert_eq!(
            Headers::decode(&vec![b'A'; size]),
            Err(HeadersError::TooLarge { size })
        );
        let most = b"YQ:YQ;".repeat(METADATA_ENTRIES_MAX);
        assert_eq!(Headers::decode(&most).unwrap().len(), METADATA_ENTRIES_MAX);
        let more = [&most[..], b"YQ:YQ"].concat();
        assert_eq!(Headers::decode(&more), Err(HeadersError::TooMany));
    }
}
