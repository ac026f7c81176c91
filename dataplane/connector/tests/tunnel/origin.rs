//! HTTP origins on plain threads, over TCP, TLS and a Unix socket.
//!
//! They say hello, echo bodies, echo bytes after an upgrade, and break off in the ways that origins do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::PrivateKeyDer;

/// Name in the TLS origin's certificate.
pub(crate) const TLS_NAME: &str = "origin.test";

/// Connections of `/hang` that the other side has closed.
static HUNG_UP: AtomicUsize = AtomicUsize::new(0);

/// Starts one over TCP; its threads end with the test.
pub(crate) fn start() -> SocketAddr {
    let (listener, address) = listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            spawn(stream);
        }
    });
    address
}

/// Starts one over TLS and returns its certificate as PEM.
pub(crate) fn start_tls() -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(vec![TLS_NAME.into()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let (listener, address) = listen();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = rustls::ServerConnection::new(config.clone()).unwrap();
            spawn(rustls::StreamOwned::new(tls, stream.unwrap()));
        }
    });
    (address, made.cert.pem())
}

/// Starts one on a Unix socket.
pub(crate) fn start_unix(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            spawn(stream.unwrap());
        }
    });
}

fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn spawn(stream: impl Read + Write + Send + 'static) {
    // A connection that breaks off is a case of the test.
    thread::spawn(move || serve(&mut BufReader::new(stream)).ok());
}

fn serve<S: Read + Write>(stream: &mut BufReader<S>) -> std::io::Result<()> {
    for served in 0.. {
        let Some(head) = read_head(stream)? else {
            return Ok(());
        };
        // Reads no body and answers nothing.
        while head[0].contains(" /deaf ") {
            thread::park();
        }
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        match head[0].split(' ').nth(1).unwrap() {
            "/echo" => answer(stream, &body)?,
            "/host" => answer(stream, header(&head, "host").unwrap().as_bytes())?,
            "/ws" => {
                assert_eq!(header(&head, "upgrade").as_deref(), Some("websocket"));
                let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                                Connection: Upgrade\r\n\r\nfirst:";
                stream.get_mut().write_all(switched.as_bytes())?;
                return echo(stream);
            }
            // Promises more than it gives.
            "/broken" => {
                let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
                return stream.get_mut().write_all(half);
            }
            "/trailers" => {
                let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                               5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n";
                stream.get_mut().write_all(chunked.as_bytes())?;
            }
            // Closes a kept-alive connection just when it is used again.
            "/fickle" if served > 0 => return Ok(()),
            "/hang" => {
                let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n";
                stream.get_mut().write_all(head)?;
                let _ended = stream.fill_buf();
                HUNG_UP.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            "/hung-up" => answer(stream, HUNG_UP.load(Ordering::SeqCst).to_string().as_bytes())?,
            _ => answer(stream, b"hello")?,
        }
    }
    Ok(())
}

fn read_head<S: Read>(stream: &mut BufReader<S>) -> std::io::Result<Option<Vec<String>>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            return Ok(Some(head));
        }
        head.push(line.trim_end().to_owned());
    }
}

fn echo<S: Read + Write>(stream: &mut BufReader<S>) -> std::io::Result<()> {
    loop {
        let read = stream.fill_buf()?.to_vec();
        if read.is_empty() {
            return Ok(());
        }
        stream.consume(read.len());
        stream.get_mut().write_all(&read)?;
    }
}

fn answer<S: Read + Write>(stream: &mut BufReader<S>, body: &[u8]) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX-Origin: yes\r\nKeep-Alive: timeout=5\r\n\r\n",
        body.len()
    );
    stream.get_mut().write_all(&[head.as_bytes(), body].concat())?;
    stream.get_mut().flush()
}

fn header(head: &[String], name: &str) -> Option<String> {
    head.iter().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
