//! A visitor's plain TCP connection, byte by byte: for bodies that trickle, answers that must arrive
//! piecewise, and requests that no tool would send.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// The connection; bytes that came beyond what a test waited for are kept for its next wait.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
    kept: Vec<u8>,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("a TCP option");
        Self {
            stream,
            kept: Vec::new(),
        }
    }

    /// Sends bytes.
    ///
    /// # Panics
    /// When the peer has closed.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .expect("the peer takes bytes");
    }

    /// Sends bytes unless the peer has closed; whether it took them.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Reads until `end` has come and returns everything up to and with it.
    ///
    /// # Panics
    /// When it does not come within `limit`; the message has what came.
    #[track_caller]
    pub fn read_until(&mut self, end: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(at) = find(&self.kept, end.as_bytes()) {
                let rest = self.kept.split_off(at + end.len());
                let found = std::mem::replace(&mut self.kept, rest);
                return String::from_utf8_lossy(&found).into_owned();
            }
            let came = self.more(deadline);
            let kept = String::from_utf8_lossy(&self.kept);
            assert!(
                came,
                "{end:?} did not come within {limit:?} (or the peer closed); what came: {kept:?}"
            );
        }
    }

    /// Reads exactly `count` bytes.
    ///
    /// # Panics
    /// When they do not come within `limit`.
    #[track_caller]
    pub fn read_exactly(&mut self, count: usize, limit: Duration) -> Vec<u8> {
        let deadline = Instant::now() + limit;
        while self.kept.len() < count {
            let came = self.more(deadline);
            assert!(came, "{} of {count} bytes came within {limit:?}", self.kept.len());
        }
        let rest = self.kept.split_off(count);
        std::mem::replace(&mut self.kept, rest)
    }

    /// Reads to the end of the connection; `None` when the peer has not closed it within `limit`.
    pub fn read_to_end(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + limit;
        while self.more(deadline) {}
        (Instant::now() < deadline).then(|| std::mem::take(&mut self.kept))
    }

    /// The same connection for a thread that sends while another reads.
    ///
    /// # Panics
    /// When the system has no more handles.
    pub fn sender(&self) -> Self {
        Self {
            stream: self.stream.try_clone().expect("a handle"),
            kept: Vec::new(),
        }
    }

    /// Ends the sending side only.
    pub fn finish(&self) {
        // The peer may have closed already.
        self.stream.shutdown(Shutdown::Write).ok();
    }

    /// Reads once; whether anything came before `deadline`.
    fn more(&mut self, deadline: Instant) -> bool {
        let Some(left) = deadline
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
        else {
            return false;
        };
        self.stream.set_read_timeout(Some(left)).expect("a socket option");
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) | Err(_) => false,
            Ok(n) => {
                self.kept.extend_from_slice(&chunk[..n]);
                true
            }
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
