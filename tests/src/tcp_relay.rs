//! Passes TCP on, so that an address of a [`Relay`](crate::relay::Relay), which only knows UDP, has both
//! transports.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use crate::deadline;

/// Longest head of a request for a tunnel.
const HEAD_BYTES_MAX: u64 = 8 << 10;

/// A running relay; dropped, it takes no more connections. Those it has end with their sides.
#[derive(Debug)]
pub struct TcpRelay {
    address: SocketAddr,
    has_ended: Arc<AtomicBool>,
}

impl TcpRelay {
    /// Listens on `address` for whoever wants to reach `target`.
    ///
    /// # Errors
    /// What `bind` says: a port that is free for UDP may be taken for TCP.
    pub fn start(address: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        Self::listen(address, move |client| pass_on(&client, target, None))
    }

    /// The same on any address, with at most so many bytes per second from whoever dials it.
    ///
    /// # Errors
    /// What `bind` says.
    pub fn slow(target: SocketAddr, bytes_per_second: u32) -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), move |client| {
            pass_on(&client, target, Some(bytes_per_second))
        })
    }

    /// An HTTP proxy that leads every CONNECT to `target`, whatever it asks for. It serves programs that use
    /// names and ports which no test can have.
    ///
    /// # Errors
    /// What `bind` says.
    pub fn proxy(target: SocketAddr) -> io::Result<Self> {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), move |client| {
            hear_connect(&client)?;
            pass_on(&client, target, None)
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn listen(
        address: SocketAddr,
        pass: impl Fn(TcpStream) -> io::Result<()> + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Relaxed) {
                    return;
                }
                // One that cannot be passed on ends.
                let _refused = stream.and_then(&pass);
            }
        });
        Ok(Self { address, has_ended })
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.has_ended.store(true, Relaxed);
        // Wakes the thread; a listener that is gone needs no waking.
        let _woken = TcpStream::connect(self.address);
    }
}

fn pass_on(client: &TcpStream, target: SocketAddr, bytes_per_second: Option<u32>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    for (from, to, rate) in [(client, &server, bytes_per_second), (&server, client, None)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || {
            // However it ends, the other side learns of it.
            let _passed = match rate {
                Some(rate) => trickle(&mut from, &mut to, rate),
                None => io::copy(&mut from, &mut to).map(drop),
            };
            let _told = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}

/// Copies in small parts, each followed by the time that a slow link would take for it.
fn trickle(from: &mut TcpStream, to: &mut TcpStream, bytes_per_second: u32) -> io::Result<()> {
    let mut part = [0; 16 << 10];
    loop {
        let count = from.read(&mut part)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&part[..count])?;
        std::thread::sleep(Duration::from_secs_f64(
            count as f64 / f64::from(bytes_per_second),
        ));
    }
}

/// Reads `CONNECT …` with its headers and agrees.
fn hear_connect(client: &TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(deadline::STEP))?;
    // Nothing follows the head before it is answered.
    let lines = BufReader::new(client).take(HEAD_BYTES_MAX).lines();
    for line in lines {
        if line?.is_empty() {
            client.set_read_timeout(None)?;
            return (&mut &*client).write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
