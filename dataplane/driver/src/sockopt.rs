//! The options our stream sockets and listeners carry, in one place.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections the kernel completes before we accept them. It lowers this to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Bytes that the kernel takes ahead of what the network lets through. Without a limit it takes megabytes:
/// memory of the machine for peers that do not read, and a queue in front of small frames of HTTP/2.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// The kernel counts keep-alive in whole seconds.
const KEEP_ALIVE_MIN: Duration = Duration::from_secs(1);

/// Makes a TCP listener on `address` that shares its port with the other cores' listeners.
pub(crate) fn listener(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a previous process in TIME-WAIT must not keep a restarted one from its port.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        // One socket of an IPv6 wildcard serves IPv4 as well, as operators expect of `[::]`.
        socket.set_only_v6(false)?;
    }
    // What is accepted inherits it.
    few_unsent(SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Sends small writes at once: every write of ours is a whole message, or the rest of one.
pub(crate) fn no_delay(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_nodelay(true)
}

/// Takes no more than can soon go.
pub(crate) fn few_unsent(socket: SockRef<'_>) -> io::Result<()> {
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

/// Probes a silent peer every `period`.
pub(crate) fn keep_alive(socket: SockRef<'_>, period: Duration) -> io::Result<()> {
    let period = period.max(KEEP_ALIVE_MIN);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(period).with_interval(period))
}
