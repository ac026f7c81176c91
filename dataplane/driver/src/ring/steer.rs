//! Attaches the classic BPF program that steers datagrams of a SO_REUSEPORT group to the core named in
//! their destination connection id.
//!
//! The program sees the UDP payload from its first byte. Short headers carry the id from byte 1, long
//! headers from byte 6; the core byte lies [`CORE_OFFSET`] into the id. The value modulo the number of
//! sockets is the index of a socket in bind order. A datagram too short for the load goes to socket 0.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use crate::quic::cid::CORE_OFFSET;

/// Steers the group that `socket` belongs to; call once, after all `n` sockets are bound.
pub(crate) fn attach(socket: &UdpSocket, n: usize) -> io::Result<()> {
    let modulus = u32::try_from(n).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut program = program(modulus);
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `filter` and the `program` it points to live on this stack frame for the whole call, and the
    // kernel copies both before it returns.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn program(modulus: u32) -> [libc::sock_filter; 7] {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_BITS: u16 = 0x45;
    const JUMP: u16 = 0x05;
    const MODULO: u16 = 0x94;
    const RETURN_A: u16 = 0x16;
    let op = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let offset = CORE_OFFSET as u32;
    [
        op(LOAD_BYTE, 0, 0, 0),
        op(JUMP_IF_BITS, 0, 2, 0x80),
        op(LOAD_BYTE, 0, 0, 6 + offset),
        op(JUMP, 0, 0, 1),
        op(LOAD_BYTE, 0, 0, 1 + offset),
        op(MODULO, 0, 0, modulus),
        op(RETURN_A, 0, 0, 0),
    ]
}
