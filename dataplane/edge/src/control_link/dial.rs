//! Opens the byte stream to control: a Unix socket, or TCP with mutual TLS.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_control_api::edge_link::{ALPN, CONTROL_TLS_NAME};
use adit_driver::pem::{self, PemError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::ControlAddress;
use crate::validity;

/// Time for connecting and the TLS handshake together.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);

impl ControlAddress {
    /// Reads the files it names, or says which of them cannot be used at `now`, and why.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), String> {
        let Self::Remote { ca, cert, key, .. } = self else {
            return Ok(());
        };
        connector(ca, cert, key).map_err(|error| error.to_string())?;
        for file in [ca, cert] {
            let complaint = validity::of_file(file).map(|validity| validity.complaint(now));
            if let Err(complaint) | Ok(Some(complaint)) = complaint {
                return Err(format!("{}: {complaint}", file.display()));
            }
        }
        Ok(())
    }
}

/// A stream of either kind.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> ByteStream for T {}

/// Why control could not be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("{path}: {source}")]
    Socket { path: PathBuf, source: io::Error },
    #[error("{address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("{path}: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("TLS configuration: {0}")]
    Tls(#[from] rustls::Error),
    #[error("{address} did not answer within {DIAL_DEADLINE:?}")]
    Timeout { address: String },
}

/// Connects once.
pub(super) async fn dial(control: &ControlAddress) -> Result<Box<dyn ByteStream>, DialError> {
    match control {
        ControlAddress::Socket(path) => match UnixStream::connect(path).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => Err(DialError::Socket {
                path: path.clone(),
                source,
            }),
        },
        ControlAddress::Remote {
            address,
            ca,
            cert,
            key,
        } => {
            let connector = connector(ca, cert, key)?;
            let connecting = async {
                let tcp = TcpStream::connect(address.as_str()).await?;
                tcp.set_nodelay(true)?;
                let name = ServerName::try_from(CONTROL_TLS_NAME).expect("a constant DNS name");
                connector.connect(name, tcp).await
            };
            match timeout(DIAL_DEADLINE, connecting).await {
                Ok(Ok(stream)) => Ok(Box::new(stream)),
                Ok(Err(source)) => Err(DialError::Connect {
                    address: address.clone(),
                    source,
                }),
                Err(_) => Err(DialError::Timeout {
                    address: address.clone(),
                }),
            }
        }
    }
}

fn connector(ca: &PathBuf, cert: &PathBuf, key: &PathBuf) -> Result<TlsConnector, DialError> {
    let file = |path: &PathBuf, error: PemError| DialError::File {
        path: path.clone(),
        reason: error.to_string(),
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in pem::certificates(ca).map_err(|error| file(ca, error))? {
        roots.add(root)?;
    }
    let chain = pem::certificates(cert).map_err(|error| file(cert, error))?;
    let key_der = pem::private_key(key).map_err(|error| file(key, error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key_der)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
