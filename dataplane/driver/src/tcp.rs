//! Opens TCP streams: listeners that share a port between cores, and dialling with a deadline.
//!
//! | operation | io_uring | portable |
//! |---|---|---|
//! | accept | one operation, TCP_NODELAY, the peer's address | 1 wait, `accept4`, TCP_NODELAY |
//! | dial | socket, options, one operation | socket, options, `connect`, 1 wait, SO_ERROR |
//!
//! An accept that fails because descriptors or memory ran out is repeated after a growing pause; the
//! connections stay in the kernel's queue meanwhile. One that fails because its peer has gone is skipped.
//!
//! Does not: limit connections (the public side does), choose addresses, or retry a dial.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::kernel::IoMode;
use crate::ring;
use crate::sockopt;
use crate::stream::Stream;
use crate::stream::portable::PortableStream;

/// First and longest pause while descriptors or memory are short. Short enough that a visitor hardly
/// notices, long enough that a core with nothing left does not spin.
const SHORTAGE_PAUSE_MIN: Duration = Duration::from_millis(10);
const SHORTAGE_PAUSE_MAX: Duration = Duration::from_secs(1);

/// Binds one listener per core to the same address; the kernel spreads connections over them.
///
/// Port 0 is resolved by the first listener. All `n` listen when this returns.
///
/// # Errors
/// `InvalidInput` if `n` is 0; what `socket`, `bind` and `listen` say.
pub fn bind_group(addr: SocketAddr, n: usize) -> io::Result<Vec<std::net::TcpListener>> {
    if n == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a group has at least one listener",
        ));
    }
    let mut listeners: Vec<std::net::TcpListener> = Vec::with_capacity(n);
    let mut bound = addr;
    if addr.port() == 0 {
        // Chosen for a listener that shares, the port could be one that another group of this user has.
        bound = std::net::TcpListener::bind(addr)?.local_addr()?;
    }
    for _ in 0..n {
        let listener = std::net::TcpListener::from(sockopt::listener(bound)?);
        bound = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// One core's listener. One task accepts from it; any task of the core may close it.
pub struct Listener {
    inner: Inner,
    is_closed: Cell<bool>,
    /// The last pause of a shortage that has not ended.
    shortage_pause: Cell<Option<Duration>>,
}

enum Inner {
    Ring(ring::accept::RingListener),
    Portable(tokio::net::TcpListener),
}

impl Listener {
    /// Takes over a listening socket. Must run inside a core's runtime.
    ///
    /// # Errors
    /// If the socket cannot be put in the mode's blocking state, or registered with the reactor.
    pub fn from_std(listener: std::net::TcpListener, io: IoMode) -> io::Result<Self> {
        let inner = match io {
            IoMode::Uring => {
                let socket = ring::socket::Socket::new(listener.into())?;
                Inner::Ring(ring::accept::RingListener::new(socket))
            }
            IoMode::Portable => {
                listener.set_nonblocking(true)?;
                Inner::Portable(tokio::net::TcpListener::from_std(listener)?)
            }
        };
        Ok(Self {
            inner,
            is_closed: Cell::new(false),
            shortage_pause: Cell::new(None),
        })
    }

    /// The address this listener is bound to.
    ///
    /// # Errors
    /// What `getsockname` says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        internet_address(self.options().local_addr()?)
    }

    /// Waits for the next connection. Cancel-safe: a dropped future loses no connection.
    ///
    /// # Errors
    /// `NotConnected` after [`close`](Self::close); otherwise only what makes the listener unusable.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        loop {
            let error = match self.accept_once().await {
                Ok(accepted) => {
                    self.shortage_pause.set(None);
                    return Ok(accepted);
                }
                Err(_) if self.is_closed.get() => {
                    return Err(io::Error::new(
                        io::ErrorKind::NotConnected,
                        "the listener is closed",
                    ));
                }
                Err(error) => error,
            };
            match Failure::of(&error) {
                Failure::Connection => tracing::debug!(%error, "connection lost before it was accepted"),
                Failure::Shortage => self.pause(&error).await,
                Failure::Listener => return Err(error),
            }
        }
    }

    /// Stops listening. Waiting and later calls of [`accept`](Self::accept) fail, except that a connection
    /// already accepted by the kernel for a waiting call is still returned; those in the kernel's queue
    /// are reset. The port is free once the listener is dropped.
    pub fn close(&self) {
        self.is_closed.set(true);
        if let Err(error) = self.options().shutdown(Shutdown::Read) {
            tracing::debug!(%error, "listener was closed before");
        }
    }

    async fn accept_once(&self) -> io::Result<(Stream, SocketAddr)> {
        match &self.inner {
            Inner::Ring(listener) => {
                let stream = listener.accept().await?;
                sockopt::no_delay(stream.socket().options())?;
                let peer = internet_address(stream.socket().options().peer_addr()?)?;
                Ok((Stream::from_ring(stream), peer))
            }
            Inner::Portable(listener) => {
                let (stream, peer) = listener.accept().await?;
                sockopt::no_delay(SockRef::from(&stream))?;
                Ok((Stream::from_portable(PortableStream::Tcp(stream)), peer))
            }
        }
    }

    async fn pause(&self, error: &io::Error) {
        let pause = match self.shortage_pause.get() {
            Some(last) => (last * 2).min(SHORTAGE_PAUSE_MAX),
            None => {
                tracing::warn!(%error, "no resources to accept connections, pausing");
                SHORTAGE_PAUSE_MIN
            }
        };
        self.shortage_pause.set(Some(pause));
        crate::time::sleep(pause).await;
    }

    fn options(&self) -> SockRef<'_> {
        match &self.inner {
            Inner::Ring(listener) => listener.socket().options(),
            Inner::Portable(listener) => SockRef::from(listener),
        }
    }
}

/// What a failed accept concerns.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// One connection, which is gone: take the next.
    Connection,
    /// Descriptors or memory: the connection is still queued.
    Shortage,
    /// The listener itself.
    Listener,
}

impl Failure {
    /// accept(2) reports pending network errors of the new connection as its own on Linux.
    fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(
                libc::ECONNABORTED
                | libc::ECONNRESET
                | libc::ENOTCONN
                | libc::EINTR
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::EPERM
                | libc::ETIMEDOUT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET,
            ) => Self::Connection,
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Self::Shortage,
            _ => Self::Listener,
        }
    }
}

/// How to dial.
#[derive(Clone, Debug)]
pub struct DialOptions {
    /// Give up after this long.
    pub connect_timeout: Duration,
    /// Probe a silent peer this often; `None` leaves keep-alive off.
    pub keep_alive: Option<Duration>,
    /// Local address to connect from.
    pub bind: Option<IpAddr>,
}

impl Default for DialOptions {
    /// 30 seconds each, the values cloudflared documents for origins.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            keep_alive: Some(Duration::from_secs(30)),
            bind: None,
        }
    }
}

/// Connects to `addr`. Must run inside a core's runtime. Dropping the future abandons the attempt.
///
/// # Errors
/// `TimedOut` after the connect timeout; what `socket` and `connect` say.
pub async fn dial(io: IoMode, addr: SocketAddr, options: &DialOptions) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    sockopt::no_delay(SockRef::from(&socket))?;
    sockopt::few_unsent(SockRef::from(&socket))?;
    if let Some(period) = options.keep_alive {
        sockopt::keep_alive(SockRef::from(&socket), period)?;
    }
    if let Some(local) = options.bind {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    let connecting = connect(io, socket, addr);
    match crate::time::timeout(options.connect_timeout, connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            let text = format!("no connection within {:?}", options.connect_timeout);
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

async fn connect(io: IoMode, socket: Socket, addr: SocketAddr) -> io::Result<Stream> {
    match io {
        IoMode::Uring => {
            let socket = ring::socket::Socket::new(socket.into())?;
            ring::connect::Connecting::start(socket, addr.into())
                .await
                .map(Stream::from_ring)
        }
        IoMode::Portable => {
            socket.set_nonblocking(true)?;
            let stream = tokio::net::TcpSocket::from_std_stream(socket.into())
                .connect(addr)
                .await?;
            Ok(Stream::from_portable(PortableStream::Tcp(stream)))
        }
    }
}

fn internet_address(address: socket2::SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .ok_or_else(|| io::Error::other("the socket has no internet address"))
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("is_closed", &self.is_closed)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
