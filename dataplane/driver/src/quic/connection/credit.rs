//! Keeps a peer's window of the connection from being used up by streams that its applications do not read.
//!
//! Peers of ours do not bind anything by that window. A stock connector begins with 768 KiB, the windows of
//! two unread streams. It announces reads only in quarters: of a stream's window for that stream, and of the
//! connection's window for all streams. So a sender is held back by how many of its bytes are not known to be
//! read.
//!
//! ```text
//! unread of the connection's window   0 ────────────── 7/16 ──────── 11/16 ─────────── 1
//! a stream with much unread           goes on            │ waits
//! a stream with little unread         goes on ───────────┴─ the less, the longer ─┤ waits
//! the first bytes of a stream         go on ──────────────────────────────────────────────┤
//! ```
//! More than a quarter is left for streams that are read. Without it the peer would never announce a read.

/// Above this a window is none: what a stalled stream holds makes no difference to it.
const UNBOUNDED_BYTES: u64 = 1 << 40;

/// So much unread is much.
const MUCH_BYTES: u64 = 64 << 10;

/// The first write of a stream, which is the head of a request or an answer, is not held back up to this.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What is known of a peer's window of the connection.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    /// The largest it was found to be. Windows do not shrink, so it is at least this.
    window_bytes: u64,
}

/// What is known of the peer's window of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamCredit {
    window_bytes: u64,
    has_begun: bool,
}

impl Credit {
    /// How many of `wanted` bytes may be written to a stream, if the peer allows `connection` bytes on all
    /// streams and `own` bytes on this one.
    pub(crate) fn room(
        &mut self,
        stream: &mut StreamCredit,
        connection: u64,
        own: u64,
        wanted: usize,
    ) -> usize {
        if connection >= UNBOUNDED_BYTES {
            return wanted;
        }
        self.window_bytes = self.window_bytes.max(connection);
        stream.window_bytes = stream.window_bytes.max(own);
        if !std::mem::replace(&mut stream.has_begun, true) && wanted <= HEAD_BYTES_MAX {
            return wanted;
        }
        let unread = self.window_bytes - connection;
        let own_unread = (stream.window_bytes - own).min(MUCH_BYTES);
        let part = self.window_bytes / 16;
        let limit = 11 * part - 4 * part * own_unread / MUCH_BYTES;
        usize::try_from(limit.saturating_sub(unread)).map_or(wanted, |room| room.min(wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that reads what it is told to, and tells it by the quarter, as quic-go does.
    struct Peer {
        window: u64,
        sent: u64,
        read: u64,
        told: u64,
        credit: Credit,
    }

    struct Stream {
        window: u64,
        sent: u64,
        read: u64,
        told: u64,
        credit: StreamCredit,
    }

    impl Peer {
        fn new(window: u64) -> Self {
            Self {
                window,
                sent: 0,
                read: 0,
                told: window,
                credit: Credit::default(),
            }
        }

        fn stream() -> Stream {
            let window = 512 << 10;
            Stream {
                window,
                sent: 0,
                read: 0,
                told: window,
                credit: StreamCredit::default(),
            }
        }

        /// Sends as much as goes in writes of `size`; returns how much that is.
        fn send(&mut self, stream: &mut Stream, size: usize, most: u64) -> u64 {
            let before = stream.sent;
            while stream.sent - before < most {
                let (connection, own) = (self.told - self.sent, stream.told - stream.sent);
                let room = self.credit.room(&mut stream.credit, connection, own, size) as u64;
                let room = room.min(connection).min(own);
                if room == 0 {
                    break;
                }
                stream.sent += room;
                self.sent += room;
            }
            stream.sent - before
        }

        fn read(&mut self, stream: &mut Stream) {
            self.read += stream.sent - stream.read;
            stream.read = stream.sent;
            if self.told - self.read <= self.window * 3 / 4 {
                self.told = self.read + self.window;
            }
            if stream.told - stream.read <= stream.window * 3 / 4 {
                stream.told = stream.read + stream.window;
            }
        }
    }

    #[test]
    fn small_requests_pass_whatever_stands_still() {
        for stalled in [1, 2, 10, 300, 1_000] {
            let mut peer = Peer::new(768 << 10);
            let mut streams: Vec<_> = (0..stalled).map(|_| Peer::stream()).collect();
            for stream in &mut streams {
                // Heads are read, bodies are not.
                assert_eq!(peer.send(stream, 500, 500), 500);
                peer.read(stream);
            }
            for _ in 0..3 {
                for stream in &mut streams {
                    peer.send(stream, 16 << 10, u64::MAX);
                }
            }
            for number in 0..10_000 {
                let mut small = Peer::stream();
                assert_eq!(
                    peer.send(&mut small, 1_000, 1_000),
                    1_000,
                    "request {number} beside {stalled}"
                );
                peer.read(&mut small);
            }
        }
    }

    #[test]
    fn uploads_that_are_read_never_stand_still() {
        for beside in [1, 2, 3, 8, 100] {
            let mut peer = Peer::new(768 << 10);
            let mut streams: Vec<_> = (0..beside).map(|_| Peer::stream()).collect();
            for _ in 0..1_000 {
                let mut sent = 0;
                for stream in &mut streams {
                    sent += peer.send(stream, 16 << 10, u64::MAX);
                    peer.read(stream);
                }
                assert!(sent > 0, "{beside} uploads");
            }
        }
    }

    #[test]
    fn a_window_without_bounds_holds_nobody_back() {
        let (mut credit, mut stream) = (Credit::default(), StreamCredit::default());
        for _ in 0..10 {
            assert_eq!(credit.room(&mut stream, 1 << 61, 5, 1 << 20), 1 << 20);
        }
    }
}
