//! Origins to serve through a tunnel: a real nginx, and a scripted one that misbehaves on request.

pub mod nginx;
pub mod scripted;
pub mod broken;
pub mod handmade;
pub mod tcp;
pub mod ssh;
pub mod redis;
pub mod postgres;
pub mod samba;
pub mod python;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, getsockname, socket};

/// An address on which nobody listens, for as long as this process lives: dialling it is refused.
///
/// # Panics
/// When no loopback port can be had.
pub fn refused_address() -> SocketAddr {
    let (family, any) = (AddressFamily::Inet, SockaddrIn::new(127, 0, 0, 1, 0));
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(socket.as_raw_fd(), &any).expect("a loopback port");
    let bound: SockaddrIn = getsockname(socket.as_raw_fd()).expect("a bound socket has an address");
    // Kept, or the kernel may give the port to somebody who does listen.
    std::mem::forget(socket);
    SocketAddr::from((bound.ip(), bound.port()))
}

/// An address for a program that has to be told one.
///
/// # Panics
/// When no loopback port can be had.
pub fn free_address() -> SocketAddr {
    // Bound and closed again without ever listening, so that the kernel gives the port to nobody else soon.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("a bound socket has an address")
}
