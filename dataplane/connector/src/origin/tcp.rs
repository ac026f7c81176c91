//! TCP services: where the bytes go that a visitor carries in a WebSocket.
//!
//! | service | destination |
//! |---|---|
//! | `tcp://`, `ssh://`, … | the rule's |
//! | `bastion` | what the header `Cf-Access-Jump-Destination` says |
//! | `socks-proxy` | what the visitor asks for by SOCKS5, if the rule's `ipRules` allow it |
//!
//! With `proxyType: socks` the visitor of the first two speaks SOCKS5 as well; its wish does not count.
//!
//! Source: cloudflared `ingress/origin_proxy.go`, `carrier/carrier.go`, `socks/*.go`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use adit_driver::kernel::IoMode;
use adit_driver::stream::Stream;
use adit_driver::tcp::{self, DialOptions};
use adit_proto::exchange::connector::RequestHead;
use adit_proto::ingress::Rule;
use adit_proto::ingress::ip_rules::IpRules;
use adit_proto::ingress::service::OriginService;
use adit_proto::origin_pool::health::Outcome;
use adit_proto::proxy_protocol::Version;
use adit_proto::socks;
use http::uri::Authority;

use super::dial::{self, DialParameters, Place, Target};
use super::group::{Group, Permit};
use super::io_stream::OriginIo;
use super::tls::Alpn;
use super::{CoreOrigins, OriginError};

pub(crate) mod carry;
pub(crate) mod conversation;

/// The header in which a visitor of a bastion says where to.
pub(crate) const JUMP_DESTINATION: http::HeaderName =
    http::HeaderName::from_static("cf-access-jump-destination");

/// The TCP service of a rule.
pub(crate) struct TcpOrigin {
    destination: Destination,
    /// Whether SOCKS5 is spoken before the bytes of a destination that is known without it.
    pub(crate) is_socks: bool,
    connect_timeout: Duration,
    keep_alive: Option<Duration>,
    happy_eyeballs: bool,
    proxy_protocol: Option<Version>,
    /// The addresses of a fixed destination, if there are several or limits.
    group: Option<Arc<Group>>,
}

enum Destination {
    /// Host and port; a scheme without a port of its own may lack one.
    Fixed { host: String, port: Option<u16> },
    /// Each visitor's.
    Bastion,
    /// Each visitor's, within these rules.
    Socks(IpRules),
}

/// Why there is no destination to dial.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DestinationError {
    #[error(
        "Did not receive final destination from client. The --destination flag is likely not set on the client side"
    )]
    Missing,
    #[error("{0:?} is no destination: a host and a port are needed")]
    Invalid(String),
    #[error("{0} has no port")]
    NoPort(String),
}

impl TcpOrigin {
    /// Of a rule whose service is a TCP service.
    pub(crate) fn of(rule: &Rule, group: Option<Arc<Group>>) -> Self {
        let settings = &rule.settings;
        let destination = match &rule.service {
            OriginService::Bastion => Destination::Bastion,
            OriginService::SocksProxy => Destination::Socks(rule.ip_rules.clone()),
            service @ (OriginService::Tcp { .. }
            | OriginService::Http { .. }
            | OriginService::Unix { .. }
            | OriginService::Status(_)
            | OriginService::HelloWorld) => Destination::Fixed {
                host: service.host().unwrap_or_default().to_owned(),
                port: service.port(),
            },
        };
        Self {
            destination,
            is_socks: settings.is_socks(),
            connect_timeout: settings.connect_timeout,
            keep_alive: (!settings.tcp_keep_alive.is_zero()).then_some(settings.tcp_keep_alive),
            happy_eyeballs: !settings.no_happy_eyeballs,
            proxy_protocol: settings.proxy_protocol,
            group,
        }
    }

    /// Whether a visitor's request says where to.
    pub(crate) fn is_bastion(&self) -> bool {
        matches!(self.destination, Destination::Bastion)
    }

    /// The group, if there is one.
    pub(crate) fn group(&self) -> Option<&Arc<Group>> {
        self.group.as_ref()
    }

    /// Connects to `place` as the rule says, or to the first address of the group that can be connected to.
    pub(crate) async fn dial(
        &self,
        core: &CoreOrigins,
        place: Place,
        asked: &DialParameters,
    ) -> Result<(OriginIo, Option<Permit>), OriginError> {
        let Some(group) = &self.group else {
            return Ok((self.dial_at(core, place, asked).await?, None));
        };
        let mut permit = group.admit().await?;
        loop {
            match self.dial_at(core, permit.address().as_ref().into(), asked).await {
                Ok(io) => {
                    permit.report(Outcome::Answered);
                    return Ok((io, Some(permit)));
                }
                Err(error) => {
                    permit.report(Outcome::Unconnected);
                    if !permit.move_on() {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Connects to `place` and nowhere else.
    pub(crate) async fn dial_at(
        &self,
        core: &CoreOrigins,
        place: Place,
        asked: &DialParameters,
    ) -> Result<OriginIo, OriginError> {
        let target = Target {
            place,
            tls: None,
            connect_timeout: self.connect_timeout,
            tls_timeout: Duration::ZERO,
            keep_alive: self.keep_alive,
            happy_eyeballs: self.happy_eyeballs,
            proxy_protocol: self.proxy_protocol,
        };
        target.dial(core.io_mode(), core.tls(), asked, Alpn::Http1).await
    }

    /// Whom a connection is for, if the origin wants to know it.
    pub(crate) fn visitor(&self, head: &RequestHead) -> Option<IpAddr> {
        self.proxy_protocol?;
        dial::visitor(head)
    }

    /// Where to, as far as the request says; `None` when the visitor says it later by SOCKS5.
    pub(crate) fn place(&self, jump: Option<&http::HeaderValue>) -> Result<Option<Place>, DestinationError> {
        let (host, port) = match &self.destination {
            Destination::Fixed { host, port } => {
                let port = port.ok_or_else(|| DestinationError::NoPort(host.clone()))?;
                (host.clone(), port)
            }
            Destination::Bastion => jump_destination(jump)?,
            Destination::Socks(_) => return Ok(None),
        };
        Ok(Some(Place::Tcp { host, port }))
    }

    /// Connects to what a SOCKS5 client asked for; the reply to it otherwise.
    pub(crate) async fn dial_asked(
        &self,
        io: IoMode,
        asked: socks::Destination,
    ) -> Result<Stream, socks::Reply> {
        let Destination::Socks(rules) = &self.destination else {
            return Err(socks::Reply::NotAllowed);
        };
        let addresses = match asked {
            socks::Destination::Address(address) => vec![address],
            socks::Destination::Name(name, port) => {
                let resolved = dial::resolve(&name, port, self.connect_timeout).await;
                resolved.map_err(|_| socks::Reply::NotAllowed)?
            }
        };
        // What was checked is what is dialled: the name is not resolved again.
        let allowed: Vec<SocketAddr> = addresses
            .into_iter()
            .filter(|address| rules.allow(*address))
            .collect();
        let mut failure = socks::Reply::NotAllowed;
        for address in &allowed {
            let options = DialOptions {
                connect_timeout: self.connect_timeout / u32::try_from(allowed.len()).unwrap_or(1),
                keep_alive: self.keep_alive,
                ..DialOptions::default()
            };
            match tcp::dial(io, *address, &options).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = reply(&error),
            }
        }
        Err(failure)
    }
}

/// What a SOCKS5 client is told of a failure to connect.
fn reply(error: &std::io::Error) -> socks::Reply {
    use std::io::ErrorKind;
    if error.kind() == ErrorKind::ConnectionRefused {
        socks::Reply::Refused
    } else if error.kind() == ErrorKind::NetworkUnreachable {
        socks::Reply::NetworkUnreachable
    } else {
        socks::Reply::HostUnreachable
    }
}

/// Host and port; a scheme and a path are taken off.
fn jump_destination(header: Option<&http::HeaderValue>) -> Result<(String, u16), DestinationError> {
    let header = header
        .filter(|header| !header.is_empty())
        .ok_or(DestinationError::Missing)?;
    let invalid = || DestinationError::Invalid(String::from_utf8_lossy(header.as_bytes()).into_owned());
    let text = header.to_str().map_err(|_| invalid())?;
    let place = text.split_once("://").map_or(text, |(_, place)| place);
    let place = place.split('/').next().unwrap_or_default();
    let place = place.rsplit_once('@').map_or(place, |(_, place)| place);
    let authority: Authority = place.parse().map_err(|_| invalid())?;
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority
        .port_u16()
        .filter(|_| !host.is_empty())
        .ok_or_else(invalid)?;
    Ok((host.to_owned(), port))
}

/// Limits of a flow that the edge itself addresses.
const FLOW_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FLOW_KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Connects to the `ip:port` of a flow, which no rule is asked about.
pub(crate) async fn dial_flow(io: IoMode, address: SocketAddr) -> Result<Stream, OriginError> {
    let options = DialOptions {
        connect_timeout: FLOW_CONNECT_TIMEOUT,
        keep_alive: Some(FLOW_KEEP_ALIVE),
        ..DialOptions::default()
    };
    let dialled = tcp::dial(io, address, &options).await;
    dialled.map_err(|source| OriginError::Connect {
        address: address.to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_jump_destination_needs_a_host_and_a_port() {
        for text in ["db:5432", "tcp://db:5432", "ssh://me@db:5432/x/y", "db:5432/"] {
            let found = jump_destination(Some(&HeaderValue::from_static(text))).unwrap();
            assert_eq!(found, ("db".to_owned(), 5432), "{text}");
        }
        let v6 = jump_destination(Some(&HeaderValue::from_static("[::1]:22"))).unwrap();
        assert_eq!(v6, ("::1".to_owned(), 22));
        for text in ["db", ":22", "tcp://", "a b:1", "db:99999", "db:22:22"] {
            let refused = jump_destination(Some(&HeaderValue::from_static(text)));
            assert!(matches!(refused, Err(DestinationError::Invalid(_))), "{text}");
        }
        let none = [None, Some(HeaderValue::from_static(""))];
        for header in none {
            let missing = jump_destination(header.as_ref()).unwrap_err().to_string();
            assert!(missing.starts_with("Did not receive final destination from client."));
        }
    }
}
