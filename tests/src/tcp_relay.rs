//! Passes TCP on, so that an address of a [`Relay`](crate::relay::Relay), which only knows UDP, has both transports.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

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
        let listener = TcpListener::bind(address)?;
        let has_ended = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&has_ended);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Relaxed) {
                    return;
                }
                // One that cannot be passed on ends.
                let _refused = stream.and_then(|stream| pass_on(&stream, target));
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

fn pass_on(client: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    for (from, to) in [(client, &server), (&server, client)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        std::thread::spawn(move || {
            // However it ends, the other side learns of it.
            let _passed = io::copy(&mut from, &mut to);
            let _told = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
