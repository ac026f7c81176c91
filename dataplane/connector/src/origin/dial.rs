//! Opens connections to origins: names are resolved, every address is tried, TLS is added where asked.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use adit_driver::kernel::IoMode;
use adit_driver::stream::Stream;
use adit_driver::tcp::{self, DialOptions};
use adit_driver::unix;

use super::OriginError;
use super::io_stream::OriginIo;
use super::tls::{TlsConfigs, TlsOptions};

/// Addresses of one name that are tried; a name with more is a misconfiguration or an attack.
const ADDRESSES_MAX: usize = 16;

/// Where an origin listens.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A host name or address, without brackets.
    Tcp { host: String, port: u16 },
    /// A Unix socket.
    Unix { path: PathBuf },
}

/// How an origin is reached.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// `None` for plain connections.
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) connect_timeout: Duration,
    pub(crate) tls_timeout: Duration,
    pub(crate) keep_alive: Option<Duration>,
}

impl Target {
    /// Connects, with `server_name` as the name in TLS.
    pub(crate) async fn dial(
        &self,
        io: IoMode,
        configs: &TlsConfigs,
        server_name: Option<&str>,
    ) -> Result<OriginIo, OriginError> {
        let stream = match &self.place {
            Place::Tcp { host, port } => self.dial_tcp(io, host, *port).await?,
            Place::Unix { path } => {
                let dialled = unix::dial(io, path, self.connect_timeout).await;
                dialled.map_err(|source| OriginError::Connect {
                    address: format!("unix {}", path.display()),
                    source,
                })?
            }
        };
        match &self.tls {
            None => Ok(OriginIo::Plain(stream)),
            Some(options) => {
                let name = server_name.unwrap_or("localhost");
                configs.connect(stream, options, name, self.tls_timeout).await
            }
        }
    }

    /// Tries the addresses in the resolver's order; the connect timeout covers the search as a whole.
    async fn dial_tcp(&self, io: IoMode, host: &str, port: u16) -> Result<Stream, OriginError> {
        let deadline = Instant::now() + self.connect_timeout;
        let mut failure = OriginError::Resolve {
            host: host.to_owned(),
            source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        };
        let found = resolve(host, port, self.connect_timeout).await;
        let addresses = found.map_err(|source| OriginError::Resolve {
            host: host.to_owned(),
            source,
        })?;
        for (left, address) in (1..=addresses.len()).rev().zip(&addresses) {
            // Each address gets its share, so that a silent one does not use up the time of its neighbours.
            let rest = deadline.saturating_duration_since(Instant::now());
            let options = DialOptions {
                connect_timeout: rest / u32::try_from(left).unwrap_or(1),
                keep_alive: self.keep_alive,
            };
            match tcp::dial(io, *address, &options).await {
                Ok(stream) => return Ok(stream),
                Err(source) => {
                    failure = OriginError::Connect {
                        address: address.to_string(),
                        source,
                    };
                }
            }
        }
        Err(failure)
    }
}

/// The addresses of a name, at most [`ADDRESSES_MAX`], in the resolver's order.
pub(crate) async fn resolve(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let resolving = adit_driver::time::timeout(limit, tokio::net::lookup_host((host, port)));
    let found = resolving
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    Ok(found?.take(ADDRESSES_MAX).collect())
}
