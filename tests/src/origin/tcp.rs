//! TCP origins on plain threads: one echoes, one counts what it hears until the end, one greets and leaves.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What an origin does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Says back what it hears; ends when the other side does.
    Echo,
    /// Hears everything, then says `heard N bytes` and ends.
    Count,
    /// Says `hello` and ends.
    Greet,
}

/// Starts one on a port of its own; its threads end with the test.
///
/// # Panics
/// When no loopback port can be had.
pub fn start(manner: Manner) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A visitor may leave at any time.
            thread::spawn(move || serve(stream, manner).ok());
        }
    });
    address
}

fn serve(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 << 10];
    let mut heard = 0;
    if manner == Manner::Greet {
        return stream.write_all(b"hello");
    }
    loop {
        let count = stream.read(&mut buffer)?;
        heard += count;
        match manner {
            Manner::Echo if count > 0 => stream.write_all(&buffer[..count])?,
            Manner::Count if count == 0 => {
                return stream.write_all(format!("heard {heard} bytes").as_bytes());
            }
            Manner::Echo | Manner::Greet => return Ok(()),
            Manner::Count => {}
        }
    }
}
