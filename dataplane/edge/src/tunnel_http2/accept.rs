//! Accepts connectors over TCP: TLS with the tunnel certificate, then HTTP/2 without negotiation.
//!
//! Stock connectors offer no ALPN; one that offers it must know `h2`. Nobody is known before it has
//! registered. So those who have not are bounded on their own, and each has limited time for each step.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use adit_driver::tcp::Listener;
use adit_driver::time::timeout;
use adit_proto::limits::HEAD_DEADLINE;
use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Connection;
use crate::registration::{self, CoreState, Place, Places};

/// The TLS side of the tunnel listeners; shared by all cores.
#[derive(Clone)]
pub(crate) struct TunnelTls {
    acceptor: TlsAcceptor,
}

impl TunnelTls {
    /// Uses whatever certificate is current at each handshake.
    ///
    /// # Errors
    /// If the TLS library cannot be set up so.
    pub(crate) fn new(certificate: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        // All suites that this library has for TLS 1.2 are allowed for HTTP/2 (RFC 9113 §9.2.2).
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
        })
    }

    async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        timeout(HEAD_DEADLINE, self.acceptor.accept(stream))
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// Where connectors over HTTP/2 come in on one core, whichever listener accepted them.
pub(crate) struct Door {
    tls: TunnelTls,
    places: Places,
    core: Rc<CoreState>,
}

impl Door {
    pub(crate) fn new(tls: TunnelTls, core: Rc<CoreState>) -> Rc<Self> {
        Rc::new(Self {
            tls,
            places: Places::default(),
            core,
        })
    }

    /// Serves a connector in a task of its own if there is a place.
    pub(crate) fn admit<S>(self: &Rc<Self>, stream: S, remote: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        match self.places.take() {
            // Ends with the connection, or by a timeout.
            Some(places) => {
                spawn_local(serve(stream, remote, self.tls.clone(), places, self.core.clone()));
            }
            None => self.core.metrics.tunnel_http2_refused.add(1),
        }
    }
}

/// Accepts on one listener until the core drains, which `drained` waits for.
pub(crate) async fn run(listener: Listener, door: Rc<Door>, drained: impl Future<Output = ()>) {
    let mut drained = pin!(drained);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut drained => {
                listener.close();
                return;
            }
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(%error, "tunnel listener for HTTP/2 failed");
                return;
            }
        };
        door.admit(stream, remote);
    }
}

async fn serve<S>(
    stream: S,
    remote: SocketAddr,
    tls: TunnelTls,
    (place, unregistered): (Place, Place),
    core: Rc<CoreState>,
) where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
    // Boxed, because every future it moves through keeps room for it.
    let stream = match Box::pin(tls.accept(stream)).await {
        Ok(stream) => Box::new(stream),
        Err(error) => {
            core.metrics.tunnel_tls_failed.add(1);
            tracing::debug!(%remote, %error, "TLS handshake of a connector failed");
            return;
        }
    };
    match Connection::over(stream, remote, core.windows.clone()).await {
        Ok((connection, carried)) => {
            // Ends with the connection, which closes when it has been served.
            spawn_local(carried);
            registration::serve_http2(connection, unregistered, core).await;
        }
        Err(error) => tracing::debug!(%remote, %error, "connector left at once"),
    }
    drop(place);
}
