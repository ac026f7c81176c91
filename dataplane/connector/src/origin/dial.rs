//! Opens connections to origins: names are resolved, every address is tried, TLS is added where asked.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use adit_driver::kernel::IoMode;
use adit_driver::stream::Stream;
use adit_driver::tcp::{self, DialOptions};
use adit_driver::unix;
use adit_proto::exchange::connector::RequestHead;
use adit_proto::ingress::address::OriginAddress;
use adit_proto::proxy_protocol::{self, Ends, Said, Version};
use http::HeaderName;
use tokio::io::AsyncWriteExt as _;

use super::OriginError;
use super::interim::Interim;
use super::io_stream::OriginIo;
use super::race::{HEAD_START, by_family, race};
use super::tls::{Alpn, TlsConfigs, TlsOptions};

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

impl From<&OriginAddress> for Place {
    fn from(address: &OriginAddress) -> Self {
        match address {
            OriginAddress::Tcp { host, port } => Self::Tcp {
                host: host.as_ref().to_owned(),
                port: *port,
            },
            OriginAddress::Unix { path } => Self::Unix { path: path.clone() },
        }
    }
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
    /// IPv4 and IPv6 race.
    pub(crate) happy_eyeballs: bool,
    /// The origin is told whom each connection is for, so no two visitors share one.
    pub(crate) proxy_protocol: Option<Version>,
}

/// For whom, and how, a connection to an origin is opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct DialParameters {
    /// Name in TLS.
    pub(crate) server_name: Option<String>,
    /// Told by the PROXY protocol.
    pub(crate) visitor: Option<IpAddr>,
    /// Hears of interim answers.
    pub(crate) interim: Option<Interim>,
}

/// Where the edge says who the visitor is.
const VISITOR: HeaderName = HeaderName::from_static("cf-connecting-ip");

impl Target {
    /// The visitor's address, if the origin wants to know it.
    pub(crate) fn visitor(&self, head: &RequestHead) -> Option<IpAddr> {
        self.proxy_protocol?;
        visitor(head)
    }

    /// Connects, with an offer to speak `alpn`.
    pub(crate) async fn dial(
        &self,
        io: IoMode,
        configs: &TlsConfigs,
        asked: &DialParameters,
        alpn: Alpn,
    ) -> Result<OriginIo, OriginError> {
        let (mut stream, address) = match &self.place {
            Place::Tcp { host, port } => self.dial_tcp(io, host, *port).await?,
            Place::Unix { path } => {
                let dialled = unix::dial(io, path, self.connect_timeout).await;
                let stream = dialled.map_err(|source| OriginError::Connect {
                    address: format!("unix {}", path.display()),
                    source,
                })?;
                (stream, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))
            }
        };
        if let Some(version) = self.proxy_protocol {
            // Nobody knows the visitor's port.
            let said = asked.visitor.map_or(Said::Nobody, |visitor| {
                Said::Visitor(Ends {
                    source: SocketAddr::new(visitor, 0),
                    destination: address,
                })
            });
            let header = proxy_protocol::encode(version, &said);
            let written = stream.write_all(&header).await;
            written.map_err(|source| OriginError::Connect {
                address: address.to_string(),
                source,
            })?;
        }
        match &self.tls {
            None => Ok(OriginIo::Plain(stream)),
            Some(options) => {
                let name = asked.server_name.as_deref().unwrap_or("localhost");
                configs
                    .connect(stream, (options, alpn), name, self.tls_timeout)
                    .await
            }
        }
    }

    /// Tries the addresses in the resolver's order, the second family a little later if they may race; the
    /// connect timeout covers the search as a whole.
    async fn dial_tcp(&self, io: IoMode, host: &str, port: u16) -> Result<(Stream, SocketAddr), OriginError> {
        let deadline = Instant::now() + self.connect_timeout;
        let found = resolve(host, port, self.connect_timeout).await;
        let addresses = found.map_err(|source| OriginError::Resolve {
            host: host.to_owned(),
            source,
        })?;
        if addresses.is_empty() {
            return Err(OriginError::Resolve {
                host: host.to_owned(),
                source: io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
            });
        }
        self.dial_any(io, addresses, deadline).await
    }

    /// Connects to the first address that answers.
    async fn dial_any(
        &self,
        io: IoMode,
        addresses: Vec<SocketAddr>,
        deadline: Instant,
    ) -> Result<(Stream, SocketAddr), OriginError> {
        if !self.happy_eyeballs {
            return self.dial_each(io, &addresses, deadline).await;
        }
        let (first, second) = by_family(addresses);
        let first = self.dial_each(io, &first, deadline);
        if second.is_empty() {
            return first.await;
        }
        race(first, self.dial_each(io, &second, deadline), HEAD_START).await
    }

    /// Tries one address after the other.
    async fn dial_each(
        &self,
        io: IoMode,
        addresses: &[SocketAddr],
        deadline: Instant,
    ) -> Result<(Stream, SocketAddr), OriginError> {
        let mut failure = None;
        for (left, address) in (1..=addresses.len()).rev().zip(addresses) {
            // Each address gets its share, so that a silent one does not use up the time of its neighbours.
            let rest = deadline.saturating_duration_since(Instant::now());
            let options = DialOptions {
                connect_timeout: rest / u32::try_from(left).unwrap_or(1),
                keep_alive: self.keep_alive,
                ..DialOptions::default()
            };
            match tcp::dial(io, *address, &options).await {
                Ok(stream) => return Ok((stream, *address)),
                Err(source) => {
                    failure = Some(OriginError::Connect {
                        address: address.to_string(),
                        source,
                    });
                }
            }
        }
        Err(failure.unwrap_or_else(|| OriginError::Connect {
            address: "no address".to_owned(),
            source: io::ErrorKind::NotFound.into(),
        }))
    }
}

/// The visitor's address, as the edge says.
pub(crate) fn visitor(head: &RequestHead) -> Option<IpAddr> {
    head.header(&VISITOR)?.to_str().ok()?.parse().ok()
}

/// The addresses of a name, at most [`ADDRESSES_MAX`], in the resolver's order.
pub(crate) async fn resolve(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let resolving = adit_driver::time::timeout(limit, tokio::net::lookup_host((host, port)));
    let found = resolving
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    Ok(found?.take(ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpStream};

    use socket2::{Domain, Socket, Type};

    use super::*;

    /// A listener that does not answer any more, with what keeps it busy.
    fn silent() -> io::Result<(SocketAddr, Socket, Vec<TcpStream>)> {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into())?;
        socket.listen(0)?;
        let address = socket.local_addr()?.as_socket().expect("an internet address");
        let mut waiting = Vec::new();
        // The queue of connections that nobody accepts is full when one more gets no answer.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            waiting.push(stream);
        }
        Ok((address, socket, waiting))
    }

    #[tokio::test]
    async fn a_silent_family_does_not_hold_up_the_other() {
        let Ok((silent, _socket, _waiting)) = silent() else {
            // No IPv6 here.
            return;
        };
        let origin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut target = Target {
            place: Place::Unix { path: PathBuf::new() },
            tls: None,
            connect_timeout: Duration::from_secs(2),
            tls_timeout: Duration::ZERO,
            keep_alive: None,
            happy_eyeballs: true,
            proxy_protocol: None,
        };
        let dial = async |target: &Target| {
            let start = Instant::now();
            let addresses = vec![silent, origin.local_addr().unwrap()];
            let deadline = start + target.connect_timeout;
            let dialled = target.dial_any(IoMode::Portable, addresses, deadline).await;
            assert!(dialled.is_ok());
            start.elapsed()
        };
        assert!(dial(&target).await < Duration::from_millis(900));
        target.happy_eyeballs = false;
        assert!(dial(&target).await >= Duration::from_millis(900));
    }
}
