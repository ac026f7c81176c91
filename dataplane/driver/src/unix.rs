//! Dials Unix stream sockets of origin services on the same machine.
//!
//! Connecting to one never waits for a network, only for room in the listener's queue. So the attempt is
//! a plain non-blocking `connect`, repeated after a short growing pause while the queue is full.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixStream;

use crate::kernel::IoMode;
use crate::ring;
use crate::ring::stream::{RingStream, Transport};
use crate::stream::Stream;
use crate::stream::portable::PortableStream;

/// Pauses between attempts while the listener's queue is full: from about the time an accept takes, to
/// about what a visitor notices.
const FULL_QUEUE_PAUSE_MIN: Duration = Duration::from_millis(1);
const FULL_QUEUE_PAUSE_MAX: Duration = Duration::from_millis(50);

/// Connects to the socket at `path`. Must run inside a core's runtime.
///
/// # Errors
/// `TimedOut` if the listener's queue stays full for `timeout`; what `connect` says, such as `NotFound`
/// for a missing file and `ConnectionRefused` for one nobody listens on.
pub async fn dial(io: IoMode, path: &Path, timeout: Duration) -> io::Result<Stream> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    crate::time::timeout(timeout, connect(&socket, &address))
        .await
        .map_err(io::Error::from)??;
    match io {
        IoMode::Uring => {
            let socket = ring::socket::Socket::new(socket.into())?;
            Ok(Stream::from_ring(RingStream::new(
                Rc::new(socket),
                Transport::Unix,
            )))
        }
        IoMode::Portable => {
            let stream = UnixStream::from_std(OwnedFd::from(socket).into())?;
            Ok(Stream::from_portable(PortableStream::Unix(stream)))
        }
    }
}

async fn connect(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    let mut pause = FULL_QUEUE_PAUSE_MIN;
    loop {
        match socket.connect(address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                crate::time::sleep(pause).await;
                pause = (pause * 2).min(FULL_QUEUE_PAUSE_MAX);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
