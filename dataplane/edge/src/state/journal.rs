//! Records of a file that only grows, each with a checksum.
//!
//! ```text
//! | length of the body, u32 | CRC-32 of length and body, u32 | body |     integers little-endian
//! ```
//! A process that is killed, or a disk that is full, leaves a cut record at the end. It and what follows do
//! not count; what is before it does.
//!
//! Pure: bytes in, bytes out.

/// Length and checksum.
const HEAD_BYTES: usize = 8;

/// Longest body that is believed; a delta has at most a mebibyte.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Appends a record. Bodies above 16 MiB are not read again, so nobody may write one.
pub(super) fn encode(body: &[u8], out: &mut Vec<u8>) {
    debug_assert!(body.len() <= BODY_BYTES_MAX, "its writer is bounded");
    let length = (body.len() as u32).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(&length, body).to_le_bytes());
    out.extend_from_slice(body);
}

/// The whole records, in order.
pub(super) struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    pub(super) const fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is left: nothing if the last record was whole.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let size = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let body = rest.get(..size).filter(|_| size <= BODY_BYTES_MAX)?;
        if checksum(length, body) != u32::from_le_bytes(*sum) {
            return None;
        }
        self.rest = self.rest.get(HEAD_BYTES + size..)?;
        Some(body)
    }
}

fn checksum(length: &[u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_up_to_the_first_cut_or_spoilt_record() {
        let bodies: [&[u8]; 4] = [b"one", b"", b"three", &[7; 300]];
        let mut file = Vec::new();
        let mut ends = vec![0];
        for body in bodies {
            encode(body, &mut file);
            ends.push(file.len());
        }
        for cut in 0..=file.len() {
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            let mut records = Records::of(&file[..cut]);
            assert!(
                records.by_ref().eq(bodies[..whole].iter().copied()),
                "cut at {cut}"
            );
            assert_eq!(records.rest().len(), cut - ends[whole]);
        }
        for at in 0..file.len() {
            let mut spoilt = file.clone();
            spoilt[at] ^= 0x10;
            let whole = ends.iter().filter(|end| **end <= at).count() - 1;
            assert_eq!(Records::of(&spoilt).count(), whole, "spoilt at {at}");
        }
    }
}
