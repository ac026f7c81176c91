//! Asks the kernel for the MTU of the route of a connected socket.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Bytes of one frame on the route to the peer that `socket` is connected to.
pub(crate) fn route_mtu(socket: &UdpSocket, is_ipv6: bool) -> Option<u32> {
    let (level, option) = if is_ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU)
    };
    let mut mtu: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both pointers are to locals that live for the whole call, and `length` is the size of `mtu`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw mut mtu).cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(mtu)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_an_mtu() {
        for address in ["127.0.0.1:9", "[::1]:9"] {
            let is_ipv6 = address.starts_with('[');
            let socket = UdpSocket::bind((if is_ipv6 { "::" } else { "0.0.0.0" }, 0)).expect("binds");
            if socket.connect(address).is_err() {
                println!("skipped: no route to {address}");
                continue;
            }
            assert!(route_mtu(&socket, is_ipv6).expect("known") >= 1280);
        }
    }
}
