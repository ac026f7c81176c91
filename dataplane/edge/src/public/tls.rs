//! TLS for visitors: certificates by SNI, ALPN for HTTP/2 and HTTP/1.1, tickets that every core accepts.

use std::io;
use std::sync::Arc;

use adit_driver::time::timeout;
use adit_proto::limits::HEAD_DEADLINE;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(crate) use super::certificates::{Certificates, load as load_certificate};

/// The protocol a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alpn {
    Http1,
    Http2,
}

/// The TLS side of the public listeners; shared by all cores.
#[derive(Clone)]
pub(crate) struct PublicTls {
    acceptor: TlsAcceptor,
}

impl PublicTls {
    /// Uses whatever certificates are current at each handshake.
    pub(crate) fn new(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificates);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Tickets instead of a session table: a visitor resumes on whichever core it lands.
        config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new()?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// What TLS says, or `TimedOut`.
    pub(crate) async fn accept<S>(&self, stream: S) -> io::Result<(TlsStream<S>, Alpn)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = timeout(HEAD_DEADLINE, self.acceptor.accept(stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let alpn = match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Alpn::Http2,
            Some(_) | None => Alpn::Http1,
        };
        Ok((stream, alpn))
    }
}
