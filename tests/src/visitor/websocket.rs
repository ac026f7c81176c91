//! A WebSocket visitor, plain or over TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::client::Response;
use tungstenite::{HandshakeError, Message, WebSocket};

/// How long one read or write may take.
const STEP_MAX: Duration = Duration::from_secs(20);

/// Reads and writes of either kind of connection.
trait Duplex: Read + Write + std::fmt::Debug {}

impl<T: Read + Write + std::fmt::Debug> Duplex for T {}

/// An open WebSocket.
#[derive(Debug)]
pub struct Client {
    socket: WebSocket<Box<dyn Duplex>>,
    /// The answer to the handshake.
    pub response: Response,
}

impl Client {
    /// Opens `ws://<host><path>` at `address`, offering `protocol` unless empty.
    ///
    /// # Errors
    /// The status with which the upgrade was refused.
    ///
    /// # Panics
    /// When the peer does not answer in HTTP.
    #[track_caller]
    pub fn open(address: SocketAddr, host: &str, path: &str, protocol: &str) -> Result<Self, u16> {
        let stream = connect(address);
        let offered = [("Sec-WebSocket-Protocol", protocol)];
        let headers = if protocol.is_empty() { &[][..] } else { &offered };
        Self::handshake(Box::new(stream), &format!("ws://{host}{path}"), headers)
    }

    /// The same with these headers.
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Panics
    /// As [`Self::open`].
    #[track_caller]
    pub fn open_with(
        address: SocketAddr,
        host: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let stream = connect(address);
        Self::handshake(Box::new(stream), &format!("ws://{host}{path}"), headers)
    }

    /// The same as `wss://` over TLS (ALPN `http/1.1`), trusting only the certificates in `root`.
    ///
    /// # Errors
    /// As [`Self::open`].
    ///
    /// # Panics
    /// As [`Self::open`], and when TLS fails.
    #[track_caller]
    pub fn open_tls(address: SocketAddr, host: &str, path: &str, root: &Path) -> Result<Self, u16> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(root).expect("a PEM file") {
            roots.add(certificate.expect("a certificate")).expect("a root");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config
            .expect("the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = ServerName::try_from(host.to_owned()).expect("a DNS name");
        let session = rustls::ClientConnection::new(Arc::new(config), name).expect("a client session");
        let stream = rustls::StreamOwned::new(session, connect(address));
        Self::handshake(Box::new(stream), &format!("wss://{host}{path}"), &[])
    }

    /// Sends a text.
    ///
    /// # Panics
    /// When the connection is gone.
    #[track_caller]
    pub fn send(&mut self, text: &str) {
        self.socket
            .send(Message::text(text))
            .expect("the WebSocket takes a message");
    }

    /// Sends bytes in one message.
    ///
    /// # Panics
    /// When the connection is gone.
    #[track_caller]
    pub fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.socket
            .send(Message::binary(bytes))
            .expect("the WebSocket takes a message");
    }

    /// Receives the next text or binary message.
    ///
    /// # Panics
    /// When none comes within 20 seconds or the connection ends.
    #[track_caller]
    pub fn receive(&mut self) -> Vec<u8> {
        loop {
            match self.socket.read().expect("a message") {
                Message::Text(text) => return text.as_bytes().to_vec(),
                Message::Binary(bytes) => return bytes.to_vec(),
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Sends a ping.
    ///
    /// # Panics
    /// When the connection is gone.
    #[track_caller]
    pub fn ping(&mut self, payload: &[u8]) {
        let ping = Message::Ping(payload.to_vec().into());
        self.socket.send(ping).expect("the WebSocket takes a ping");
    }

    /// Receives so many bytes, in as many messages as they come.
    ///
    /// # Panics
    /// When they do not come or more come, as [`Self::receive`].
    #[track_caller]
    pub fn receive_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < count {
            bytes.extend(self.receive());
        }
        assert_eq!(bytes.len(), count);
        bytes
    }

    /// Says goodbye and returns what the other side still says before it does.
    pub fn close_and_hear(mut self) -> Vec<u8> {
        self.socket.close(None).ok();
        let mut bytes = Vec::new();
        while let Ok(message) = self.socket.read() {
            if let Message::Binary(part) = message {
                bytes.extend_from_slice(&part);
            }
        }
        bytes
    }

    /// Says goodbye and waits for the other side's, or for the end of the connection.
    pub fn close(mut self) {
        // Either side may be the first to close the connection below.
        self.socket.close(None).ok();
        while self.socket.read().is_ok() {}
    }

    /// Whether the connection has ended, waiting for it at most `limit`.
    pub fn ends(mut self) -> bool {
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(tungstenite::Error::Io(error)) => return error.kind() != std::io::ErrorKind::WouldBlock,
                Err(_) => return true,
            }
        }
    }

    #[track_caller]
    fn handshake(stream: Box<dyn Duplex>, url: &str, headers: &[(&'static str, &str)]) -> Result<Self, u16> {
        let mut request = url.into_client_request().expect("a URL");
        for (name, value) in headers {
            let value = value.parse().expect("a header value");
            request.headers_mut().insert(*name, value);
        }
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => Ok(Self { socket, response }),
            Err(HandshakeError::Failure(tungstenite::Error::Http(refusal))) => Err(refusal.status().as_u16()),
            Err(error) => panic!("{url}: {error}"),
        }
    }
}

#[track_caller]
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    stream.set_nodelay(true).expect("a TCP option");
    stream.set_read_timeout(Some(STEP_MAX)).expect("a socket option");
    stream.set_write_timeout(Some(STEP_MAX)).expect("a socket option");
    stream
}
