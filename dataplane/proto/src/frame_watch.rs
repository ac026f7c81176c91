//! Watches the frames of an HTTP/2 peer for floods: frames that cost us work and carry no request on. Pure:
//! bytes and time in, a verdict out.
//!
//! Reads the nine bytes before each frame and skips the rest. It costs some nanoseconds per frame and holds
//! nothing. The HTTP/2 library decides what frames mean and whether they are lawful. This only counts:
//!
//! ```text
//! PING, SETTINGS, PRIORITY,         ─► idle frames: 1,000 at once, then 100 per second,
//! WINDOW_UPDATE, empty DATA, others    and more for streams opened and bytes sent
//! RST_STREAM                        ─► resets: 100 at once, then 10 per second,
//!                                      and one for every second stream that is opened
//! ```
//! Honest peers answer what they get: a WINDOW_UPDATE or PING for some of our data, PRIORITY for a stream of
//! theirs. So our data and their streams pay for frames. A peer that resets less than half of its streams is
//! never ended.
//!
//! Source: RFC 9113 §10.5; CVE-2019-9512 to 9518, CVE-2023-44487.

use std::time::Instant;

/// What a client says first (RFC 9113 §3.4). No frame.
const PREFACE_BYTES: usize = 24;

const HEAD_BYTES: usize = 9;

/// Idle frames at once: some clients send a few hundred with the first requests.
const IDLE_BURST: u32 = 1_000;
const IDLE_PER_SECOND: u32 = 100;
/// Idle frames that a new stream pays for.
const IDLE_PER_STREAM: u32 = 4;
/// Sent bytes that pay for an idle frame. A short message of a stream is as long, with its frame's head.
const BYTES_PER_IDLE: u32 = 64;
/// SETTINGS cost more than others: each is applied to all streams and acknowledged.
const SETTINGS_COST: u32 = 10;

/// Resets at once. Leaving a page cancels all that it still loads.
const RESET_BURST: u32 = 100;
const RESET_PER_SECOND: u32 = 10;

/// Parts of a token, so that a stream can pay for half a reset.
const PARTS: u32 = 2;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;

const END_STREAM: u8 = 1;

/// What came too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// Frames without a purpose.
    #[error("more frames without data or requests than an honest peer sends")]
    IdleFrames,
    /// Streams that are opened and given up.
    #[error("more than half of the streams are reset")]
    Resets,
}

/// Tokens that come back with time.
#[derive(Debug)]
struct Bucket {
    parts: u32,
    parts_max: u32,
    parts_per_second: u32,
    filled_at: Instant,
}

impl Bucket {
    fn full(burst: u32, per_second: u32, now: Instant) -> Self {
        Self {
            parts: burst * PARTS,
            parts_max: burst * PARTS,
            parts_per_second: per_second * PARTS,
            filled_at: now,
        }
    }

    fn add(&mut self, parts: u32) {
        self.parts = self.parts.saturating_add(parts).min(self.parts_max);
    }

    /// Takes some; false when they are not there.
    fn take(&mut self, parts: u32, now: Instant) -> bool {
        if self.parts < parts {
            self.fill(now);
        }
        match self.parts.checked_sub(parts) {
            Some(left) => {
                self.parts = left;
                true
            }
            None => false,
        }
    }

    /// Looked at only when it runs dry, so a quiet connection costs no arithmetic.
    fn fill(&mut self, now: Instant) {
        let elapsed_ms = now.saturating_duration_since(self.filled_at).as_millis();
        let parts = elapsed_ms * u128::from(self.parts_per_second) / 1_000;
        if parts > 0 {
            self.add(u32::try_from(parts).unwrap_or(u32::MAX));
            self.filled_at = now;
        }
    }
}

/// Where in the peer's bytes we are.
#[derive(Debug)]
enum Place {
    Preface {
        left: usize,
    },
    /// Between the bytes of a frame's head.
    Head {
        bytes: [u8; HEAD_BYTES],
        count: usize,
    },
    Payload {
        left: usize,
    },
}

const NO_HEAD: Place = Place::Head {
    bytes: [0; HEAD_BYTES],
    count: 0,
};

/// Watches one connection, from its first byte.
#[derive(Debug)]
pub struct FrameWatch {
    place: Place,
    idle: Bucket,
    resets: Bucket,
    /// Sent bytes that have paid for nothing yet.
    sent_bytes: u32,
    last_stream: u32,
}

impl FrameWatch {
    /// For a client whose preface is still to come.
    pub fn new(now: Instant) -> Self {
        Self {
            place: Place::Preface { left: PREFACE_BYTES },
            idle: Bucket::full(IDLE_BURST, IDLE_PER_SECOND, now),
            resets: Bucket::full(RESET_BURST, RESET_PER_SECOND, now),
            sent_bytes: 0,
            last_stream: 0,
        }
    }

    /// The highest stream that the peer has opened.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Notes bytes that we have sent.
    pub fn handle_sent(&mut self, count: usize) {
        let sent = self
            .sent_bytes
            .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.idle.add((sent / BYTES_PER_IDLE).saturating_mul(PARTS));
        self.sent_bytes = sent % BYTES_PER_IDLE;
    }

    /// Notes what the peer has sent.
    ///
    /// # Errors
    /// [`Flood`] when it is time to end the connection.
    pub fn handle_bytes(&mut self, now: Instant, mut received: &[u8]) -> Result<(), Flood> {
        while !received.is_empty() {
            match &mut self.place {
                Place::Preface { left } | Place::Payload { left } => {
                    let count = (*left).min(received.len());
                    received = received.get(count..).unwrap_or_default();
                    *left -= count;
                    if *left == 0 {
                        self.place = NO_HEAD;
                    }
                }
                Place::Head { bytes, count } => {
                    let Some((byte, rest)) = received.split_first() else {
                        return Ok(());
                    };
                    received = rest;
                    if let Some(slot) = bytes.get_mut(*count) {
                        *slot = *byte;
                    }
                    *count += 1;
                    if *count == HEAD_BYTES {
                        let head = *bytes;
                        self.on_head(now, head)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn on_head(&mut self, now: Instant, head: [u8; HEAD_BYTES]) -> Result<(), Flood> {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = head;
        let size = u32::from_be_bytes([0, a, b, c]);
        self.place = match usize::try_from(size) {
            Ok(0) | Err(_) => NO_HEAD,
            Ok(left) => Place::Payload { left },
        };
        let cost = match kind {
            HEADERS => {
                let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
                // Trailers open nothing.
                if stream > self.last_stream {
                    self.last_stream = stream;
                    self.idle.add(IDLE_PER_STREAM * PARTS);
                    self.resets.add(1);
                }
                return Ok(());
            }
            RST_STREAM if self.resets.take(PARTS, now) => return Ok(()),
            RST_STREAM => return Err(Flood::Resets),
            DATA if size > 0 || flags & END_STREAM != 0 => return Ok(()),
            SETTINGS => SETTINGS_COST,
            // PING, PRIORITY, WINDOW_UPDATE, unknown frames, and CONTINUATION, of which an honest head has
            // few.
            _ => 1,
        };
        if self.idle.take(cost * PARTS, now) {
            Ok(())
        } else {
            Err(Flood::IdleFrames)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[expect(clippy::disallowed_methods, reason = "any moment will do to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    const CONTINUATION: u8 = 9;
    const PING: u8 = 6;
    const PRIORITY: u8 = 2;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, stream: u32, size: usize) -> Vec<u8> {
        let size_bytes = u32::try_from(size).unwrap().to_be_bytes();
        let mut frame = size_bytes[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.resize(HEAD_BYTES + size, 0);
        frame
    }

    fn watch(now: Instant) -> FrameWatch {
        let mut watch = FrameWatch::new(now);
        watch
            .handle_bytes(now, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        watch
    }

    /// How many of these frames pass within one moment.
    fn passing(frame: &[u8]) -> (usize, Flood) {
        let now = start();
        let mut watch = watch(now);
        for count in 0..1_000_000 {
            if let Err(flood) = watch.handle_bytes(now, frame) {
                return (count, flood);
            }
        }
        panic!("a flood without end");
    }

    #[test]
    fn floods_of_every_kind_end() {
        for (name, flood, most, kind) in [
            ("ping", frame(PING, 0, 0, 8), 1_000, Flood::IdleFrames),
            ("settings", frame(SETTINGS, 0, 0, 6), 100, Flood::IdleFrames),
            ("settings ack", frame(SETTINGS, 1, 0, 0), 100, Flood::IdleFrames),
            ("priority", frame(PRIORITY, 0, 3, 5), 1_000, Flood::IdleFrames),
            ("window", frame(WINDOW_UPDATE, 0, 0, 4), 1_000, Flood::IdleFrames),
            ("empty data", frame(DATA, 0, 1, 0), 1_000, Flood::IdleFrames),
            (
                "continuation",
                frame(CONTINUATION, 0, 1, 0),
                1_000,
                Flood::IdleFrames,
            ),
            ("unknown", frame(0xbb, 0, 0, 1), 1_000, Flood::IdleFrames),
            ("resets", frame(RST_STREAM, 0, 1, 4), 100, Flood::Resets),
        ] {
            assert_eq!(passing(&flood), (most, kind), "{name}");
        }
    }

    #[test]
    fn rapid_resets_end_and_half_of_the_streams_may_be_reset() {
        let now = start();
        let mut rapid = watch(now);
        let open = |watch: &mut FrameWatch, number: u32| {
            watch
                .handle_bytes(now, &frame(HEADERS, 5, 2 * number + 1, 20))
                .unwrap();
            watch.handle_bytes(now, &frame(RST_STREAM, 0, 2 * number + 1, 4))
        };
        let passed = (0..1_000)
            .take_while(|number| open(&mut rapid, *number).is_ok())
            .count();
        assert_eq!(passed, 199);
        let mut half = watch(now);
        for number in 0..10_000 {
            half.handle_bytes(now, &frame(HEADERS, 5, 4 * number + 1, 20))
                .unwrap();
            half.handle_bytes(now, &frame(HEADERS, 5, 4 * number + 3, 20))
                .unwrap();
            half.handle_bytes(now, &frame(RST_STREAM, 0, 4 * number + 3, 4))
                .unwrap();
        }
        assert_eq!(half.last_stream(), 39_999);
    }

    #[test]
    fn what_comes_back_for_data_is_no_flood() {
        let now = start();
        let mut watch = watch(now);
        for _ in 0..100_000 {
            // A short message of ours, and a window and a ping for it.
            watch.handle_sent(HEAD_BYTES + 120);
            watch.handle_bytes(now, &frame(WINDOW_UPDATE, 0, 1, 4)).unwrap();
            watch.handle_bytes(now, &frame(PING, 0, 0, 8)).unwrap();
        }
        // Bodies and their ends are none either.
        for _ in 0..10_000 {
            watch.handle_bytes(now, &frame(DATA, 0, 1, 1)).unwrap();
            watch.handle_bytes(now, &frame(DATA, END_STREAM, 1, 0)).unwrap();
        }
    }

    #[test]
    fn a_slow_trickle_goes_on_for_ever() {
        let mut now = start();
        let mut watch = watch(now);
        for _ in 0..10_000 {
            now += Duration::from_millis(100);
            for _ in 0..9 {
                watch.handle_bytes(now, &frame(PING, 0, 0, 8)).unwrap();
            }
            watch.handle_bytes(now, &frame(RST_STREAM, 0, 1, 4)).unwrap();
        }
    }

    #[test]
    fn it_makes_no_difference_where_reads_end() {
        let now = start();
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        for number in 0..150 {
            bytes.extend(frame(HEADERS, 4, 2 * number + 1, 300));
            bytes.extend(frame(DATA, 0, 2 * number + 1, 700));
            bytes.extend(frame(RST_STREAM, 0, 2 * number + 1, 4));
        }
        for size in [1, 7, 9, 10, 4_096, bytes.len()] {
            let mut watch = FrameWatch::new(now);
            for part in bytes.chunks(size) {
                watch.handle_bytes(now, part).unwrap();
            }
            assert_eq!(
                (watch.last_stream(), watch.resets.parts),
                (299, 200 + 150 - 300 - 1),
                "{size}"
            );
        }
    }
}
