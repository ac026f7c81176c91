//! Origins to serve through a tunnel: a real nginx, and a scripted one that misbehaves on request.

pub mod nginx;
pub mod scripted;
pub mod broken;
pub mod tcp;
pub mod ssh;
pub mod redis;
pub mod postgres;
pub mod samba;
pub mod python;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// An address on which nobody listens: dialling it is refused.
///
/// # Panics
/// When no loopback port can be had.
pub fn refused_address() -> SocketAddr {
    // Bound and closed again without ever listening to anybody, so that the kernel gives it to nobody else soon.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("a bound socket has an address")
}
