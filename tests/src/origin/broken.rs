//! Origins that answer wrongly: bytes that are no HTTP, certificates that nobody should accept, or nothing at
//! all.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What comes after the request head was read.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// These bytes in packets of one, then the end.
    ByteByByte(Vec<u8>),
    /// The first bytes once, the second ones until nobody listens.
    Endless(Vec<u8>, Vec<u8>),
    /// These bytes, then nothing until the other side ends.
    Hang(Vec<u8>),
    /// The end, before anything is read.
    Close,
}

/// A running origin.
#[derive(Debug)]
pub struct Broken {
    /// Where it listens.
    pub address: SocketAddr,
    left: Arc<AtomicU64>,
}

impl Broken {
    /// Starts one on a port of its own.
    ///
    /// # Panics
    /// When no loopback port can be had.
    pub fn start(answer: Answer) -> Self {
        Self::serve(move |stream| respond(&mut BufReader::new(stream.try_clone()?), stream, &answer))
    }

    /// Starts one that speaks TLS with this certificate, and answers `fine`.
    ///
    /// # Panics
    /// When the certificate cannot be used.
    pub fn tls(certificate: &Issued) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificate.key.serialize_der()));
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions of TLS")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.certificate.der().clone()], key)
            .expect("a certificate and its key");
        let config = Arc::new(config);
        Self::serve(move |stream| {
            let session =
                rustls::ServerConnection::new(Arc::clone(&config)).map_err(std::io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(session, stream.try_clone()?);
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                head.extend_from_slice(&byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine")?;
            stream.conn.send_close_notify();
            stream.flush()
        })
    }

    fn serve(serve: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (serve, left) = (Arc::new(serve), Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&left);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (serve, counter) = (Arc::clone(&serve), Arc::clone(&counter));
                thread::spawn(move || {
                    // Whoever turns away from a broken origin does right.
                    serve(&mut stream).ok();
                    counter.fetch_add(1, Relaxed);
                });
            }
        });
        Self { address, left }
    }

    /// Connections that are over.
    pub fn left(&self) -> u64 {
        self.left.load(Relaxed)
    }
}

fn respond(
    reader: &mut BufReader<TcpStream>,
    stream: &mut TcpStream,
    answer: &Answer,
) -> std::io::Result<()> {
    if matches!(answer, Answer::Close) {
        return Ok(());
    }
    stream.set_nodelay(true)?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
    }
    match answer {
        Answer::Close => {}
        Answer::Bytes(bytes) => stream.write_all(bytes)?,
        Answer::ByteByByte(bytes) => {
            for byte in bytes {
                stream.write_all(std::slice::from_ref(byte))?;
            }
        }
        Answer::Endless(first, then) => {
            stream.write_all(first)?;
            loop {
                stream.write_all(then)?;
            }
        }
        Answer::Hang(bytes) => {
            stream.write_all(bytes)?;
            while reader.read(&mut [0; 1024])? > 0 {}
        }
    }
    Ok(())
}

/// A certificate, its key, and the file by which it may be trusted.
#[derive(Debug)]
pub struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
    /// PEM.
    pub file: PathBuf,
}

impl Issued {
    /// Self-signed, for `name`, and valid until the end of `year`.
    ///
    /// # Panics
    /// When `name` is no DNS name or the file cannot be written.
    pub fn new(folder: &Path, name: &str, year: i32) -> Self {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a DNS name");
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = folder.join(format!("{name}-{year}.pem"));
        std::fs::write(&file, certificate.pem()).expect("a fresh file");
        Self {
            certificate,
            key,
            file,
        }
    }
}
