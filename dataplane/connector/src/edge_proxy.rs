//! Reaches edges through a proxy, and lets others reach what they dial through it.
//!
//! Does not: know what is said to a proxy (`adit_proto::traversal` does).

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use adit_driver::kernel::IoMode;
use adit_driver::stream::Stream;
use adit_driver::tcp::{self, DialOptions};
use adit_proto::traversal::{Direct, Proxy, Refused, Step, is_this_machine};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::origin::dial;

/// Room for one read of a proxy's answer.
const READ_BYTES: usize = 512;

/// The proxy for connections to edges, or to the control API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeProxy {
    proxy: Proxy,
    direct: Direct,
    is_from_environment: bool,
}

/// Why a proxy did not let us through.
#[derive(Debug, thiserror::Error)]
pub enum TraversalError {
    /// It has no address, or cannot be dialled.
    #[error("the proxy {proxy} cannot be reached")]
    Unreachable {
        /// Without its password.
        proxy: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection with it broke off.
    #[error("the connection to the proxy {proxy} broke off")]
    Broken {
        /// Without its password.
        proxy: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says no.
    #[error("the proxy {proxy} does not let us through")]
    Refused {
        /// Without its password.
        proxy: String,
        /// Why.
        #[source]
        source: Refused,
    },
}

impl EdgeProxy {
    /// A proxy for every destination.
    pub fn given(proxy: Proxy) -> Self {
        Self {
            proxy,
            direct: Direct::default(),
            is_from_environment: false,
        }
    }

    /// The proxy of `HTTPS_PROXY`, with the exceptions of `NO_PROXY`. This machine is always reached
    /// directly.
    pub fn of_environment(proxy: Proxy, no_proxy: Option<&str>) -> Self {
        Self {
            proxy,
            direct: no_proxy.map(Direct::parse).unwrap_or_default(),
            is_from_environment: true,
        }
    }

    /// Whether a destination is reached through it.
    pub fn is_for(&self, host: &str, port: u16) -> bool {
        let is_direct = self.is_from_environment && (is_this_machine(host) || self.direct.covers(host, port));
        !is_direct
    }

    /// Whether it is the environment's, which may mean other things than tunnels.
    pub fn is_from_environment(&self) -> bool {
        self.is_from_environment
    }

    /// The proxy itself.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Dials the proxy and has it dial `host` and `port`.
    pub(crate) async fn dial(
        &self,
        io: IoMode,
        bind: Option<IpAddr>,
        (host, port): (&str, u16),
        limit: Duration,
    ) -> Result<Stream, TraversalError> {
        let unreachable = |source| TraversalError::Unreachable {
            proxy: self.proxy.to_string(),
            source,
        };
        let found = dial::resolve(self.proxy.host(), self.proxy.port(), limit).await;
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
        for address in found.map_err(unreachable)? {
            let options = DialOptions {
                connect_timeout: limit,
                bind: bind.filter(|bind| bind.is_ipv6() == address.is_ipv6()),
                ..DialOptions::default()
            };
            let mut stream = match tcp::dial(io, address, &options).await {
                Ok(stream) => stream,
                Err(error) => {
                    failure = error;
                    continue;
                }
            };
            traverse(&mut stream, &self.proxy, host, port).await?;
            return Ok(stream);
        }
        Err(unreachable(failure))
    }
}

/// Has the proxy at the other end of `stream` dial `host` and `port`.
///
/// # Errors
/// [`TraversalError`]; then the stream is of no use.
pub async fn traverse<S>(stream: &mut S, proxy: &Proxy, host: &str, port: u16) -> Result<(), TraversalError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |source| TraversalError::Broken {
        proxy: proxy.to_string(),
        source,
    };
    let refused = |source| TraversalError::Refused {
        proxy: proxy.to_string(),
        source,
    };
    let (mut traversal, first) = proxy.begin(host, port).map_err(refused)?;
    let mut read = BytesMut::with_capacity(READ_BYTES);
    let mut step = Step::Send(first);
    loop {
        match step {
            Step::Send(bytes) => {
                stream.write_all(&bytes).await.map_err(broken)?;
                stream.flush().await.map_err(broken)?;
            }
            Step::Read => {}
            Step::Through if read.is_empty() => return Ok(()),
            Step::Through => {
                let text = "it sent more than its answer";
                return Err(broken(io::Error::new(io::ErrorKind::InvalidData, text)));
            }
        }
        if stream.read_buf(&mut read).await.map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        step = traversal.handle(&mut read).map_err(refused)?;
    }
}
