//! Reads a socket's error queue: which peers the network says are not reachable (ip(7), IP_RECVERR).
//!
//! The kernel queues what ICMP says of datagrams that this socket has sent, and fails one later call on the
//! socket to say that there is something to read, whichever peer that call was for. So a send that fails this
//! way is made again.
//!
//! ICMP is neither encrypted nor complete: what it says is a reason to ask, never one to end anything.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

/// Errors read per turn of the pump; the rest stays for the next one.
const ERRORS_PER_TURN_MAX: usize = 64;

/// Room for the error itself, behind all else that is told of a datagram: time, local address, ECN mark.
const CONTROL_BYTES: usize = 512;

/// What the network says of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreachable {
    /// Its host has nobody at that port.
    Port,
    /// No way to it: host, network or a filter.
    Path,
}

/// Has the kernel keep errors. Where it will not, peers are found by silence, as before.
pub(crate) fn enable(socket: &UdpSocket) {
    let v4 = setsockopt(socket, sockopt::Ipv4RecvErr, &true);
    // An IPv6 socket serves IPv4 as well and wants both; an IPv4 socket refuses this one.
    let v6 = setsockopt(socket, sockopt::Ipv6RecvErr, &true);
    if v4.is_err() && v6.is_err() {
        tracing::debug!("the kernel keeps no errors of this UDP socket");
    }
}

/// Whether a call failed only to say that the error queue has something.
pub(crate) fn is_queued(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    ) || error.raw_os_error() == Some(libc::EACCES)
}

/// Passes what the network says of peers to `sink`; returns whether more may be waiting.
pub(crate) fn read(socket: &UdpSocket, sink: &mut dyn FnMut(SocketAddr, Unreachable)) -> bool {
    for _ in 0..ERRORS_PER_TURN_MAX {
        match next(socket) {
            Ok(Some((peer, what))) => sink(peer, what),
            // Something else, such as a probe of the path's MTU that did not fit.
            Ok(None) => {}
            Err(_) => return false,
        }
    }
    true
}

fn next(socket: &UdpSocket) -> Result<Option<(SocketAddr, Unreachable)>, Errno> {
    let mut control = vec![0; CONTROL_BYTES];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    // The datagram itself comes along; nobody needs it.
    let mut nothing = [];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut nothing, Some(&mut control), flags)?;
    let Some(peer) = message.address.as_ref().and_then(address) else {
        return Ok(None);
    };
    let what = message.cmsgs()?.find_map(|control| {
        let (ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _)) =
            control
        else {
            return None;
        };
        meaning(&error)
    });
    Ok(what.map(|what| (peer, what)))
}

fn meaning(error: &libc::sock_extended_err) -> Option<Unreachable> {
    if !matches!(
        error.ee_origin,
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
    ) {
        return None;
    }
    match error.ee_errno.cast_signed() {
        libc::ECONNREFUSED => Some(Unreachable::Port),
        libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES => Some(Unreachable::Path),
        _ => None,
    }
}

fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_port_without_anybody_is_told_with_its_address_and_others_are_not_disturbed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        enable(&socket);
        let living = UdpSocket::bind("127.0.0.1:0").unwrap();
        living.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        socket.send_to(b"anybody?", gone).unwrap();
        let mut told = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while told.is_empty() && Instant::now() < end {
            read(&socket, &mut |peer, what| told.push((peer, what)));
        }
        assert_eq!(told, [(gone, Unreachable::Port)]);
        let send = || socket.send_to(b"you", living.local_addr().unwrap());
        match send() {
            Err(error) if is_queued(&error) => drop(send().unwrap()),
            other => drop(other.unwrap()),
        }
        let mut buffer = [0; 8];
        assert_eq!(living.recv(&mut buffer).unwrap(), 3);
    }
}
