//! Gets a TCP connection through a proxy: which proxy, for which destinations, and what is said to it.
//!
//! ```text
//! dial the proxy ─► send ─► read ─► … ─► the connection is the destination's
//!                   HTTP:   CONNECT host:port ─► 2xx
//!                   SOCKS5: methods ─► method ─► [user and password ─► yes] ─► CONNECT ─► reply
//! ```
//! The proxy gets the destination as it was given, so the proxy resolves names. At most [`ANSWER_BYTES_MAX`]
//! of an answer are held. Nothing may follow the last answer, because the dialling side speaks first.
//!
//! Does not: dial, or speak TLS with a proxy.
//!
//! Source: RFC 9110 §9.3.6, RFC 1928, RFC 1929.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use bytes::{Bytes, BytesMut};

use crate::cidr::Cidr;

mod connect;
mod socks;

/// Most bytes of an answer: heads of proxies that refuse are seldom longer than 2 KiB.
pub const ANSWER_BYTES_MAX: usize = 8 << 10;

/// Longest user or password, which SOCKS5 counts in one byte.
const CREDENTIAL_BYTES_MAX: usize = 255;

/// A proxy and how to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: Kind,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Socks5,
}

#[derive(Clone, PartialEq, Eq)]
struct Credentials {
    user: String,
    password: String,
}

/// Why a text names no proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// It has another scheme, or none.
    #[error("write it as http://HOST:PORT or socks5://HOST:PORT, with USER:PASSWORD@ before HOST if needed")]
    Form,
    /// TLS to the proxy itself.
    #[error(
        "a proxy that is spoken to over TLS is not supported: write http:// if it takes CONNECT in clear"
    )]
    Https,
    /// User or password.
    #[error("user and password have 1 to 255 bytes, and % only before two hexadecimal digits")]
    Credentials,
}

/// Why a proxy did not let us through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It wants to know who asks, or does not believe it.
    #[error("the proxy wants other credentials than {}", if *.had_credentials { "those given" } else { "none; write USER:PASSWORD@ before its host" })]
    Credentials {
        /// Whether it was told any.
        had_credentials: bool,
    },
    /// An HTTP proxy says no.
    #[error("the proxy answered CONNECT with status {status}")]
    Status {
        /// As it came.
        status: u16,
    },
    /// A SOCKS5 proxy says no.
    #[error("the proxy refused: {reason}")]
    Reply {
        /// In the words of RFC 1928.
        reason: &'static str,
    },
    /// It speaks something else.
    #[error("what answers is no {kind} proxy")]
    Protocol {
        /// What was expected.
        kind: &'static str,
    },
    /// The destination cannot be said to it.
    #[error("the destination cannot be told to a proxy")]
    Destination,
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read more, and call [`Traversal::handle`] again.
    Read,
    /// Send this, then read.
    Send(Bytes),
    /// The connection is the destination's.
    Through,
}

/// One conversation with a proxy.
#[derive(Debug)]
pub struct Traversal(Conversation);

#[derive(Debug)]
enum Conversation {
    Http(connect::Connect),
    Socks5(socks::Client),
}

impl Proxy {
    /// Its host: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Begins a conversation about reaching `host` and `port`. Returns what is said first.
    ///
    /// # Errors
    /// [`Refused::Destination`].
    pub fn begin(&self, host: &str, port: u16) -> Result<(Traversal, Bytes), Refused> {
        let (conversation, first) = match self.kind {
            Kind::Http => {
                let (connect, first) = connect::Connect::begin(self.credentials.as_ref(), host, port)?;
                (Conversation::Http(connect), first)
            }
            Kind::Socks5 => {
                let (client, first) = socks::Client::begin(self.credentials.clone(), host, port)?;
                (Conversation::Socks5(client), first)
            }
        };
        Ok((Traversal(conversation), first))
    }
}

impl Traversal {
    /// Takes what was read so far; what is understood is consumed.
    ///
    /// # Errors
    /// [`Refused`]; then the connection is of no use.
    pub fn handle(&mut self, read: &mut BytesMut) -> Result<Step, Refused> {
        match &mut self.0 {
            Conversation::Http(connect) => connect.handle(read),
            Conversation::Socks5(client) => client.handle(read),
        }
    }
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(ProxyError::Form)?;
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            "https" => return Err(ProxyError::Https),
            _ => return Err(ProxyError::Form),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (credentials, address) = match authority.rsplit_once('@') {
            Some((credentials, address)) => (Some(Credentials::parse(credentials)?), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address, default_port).ok_or(ProxyError::Form)?;
        Ok(Self {
            kind,
            host: host.to_owned(),
            port,
            credentials,
        })
    }
}

/// Without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Http => "http",
            Kind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", joined(&self.host, self.port))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Credentials {
    fn parse(text: &str) -> Result<Self, ProxyError> {
        let (user, password) = text.split_once(':').unwrap_or((text, ""));
        let credentials = Self {
            user: decode(user)?,
            password: decode(password)?,
        };
        let fits = |text: &str| text.len() <= CREDENTIAL_BYTES_MAX && !text.contains(char::is_control);
        // A colon in the user would end it for an HTTP proxy.
        let is_user = !credentials.user.is_empty() && !credentials.user.contains(':');
        if is_user && fits(&credentials.user) && fits(&credentials.password) {
            Ok(credentials)
        } else {
            Err(ProxyError::Credentials)
        }
    }
}

/// For which destinations no proxy is used: the value of `NO_PROXY`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Direct(Vec<Exception>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    All,
    Network(Cidr),
    /// A name and all below it, in lower case, and a port if only that is meant.
    Name(String, Option<u16>),
}

impl Direct {
    /// Reads a list; what is no name, address or network in it is left out.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        Self(entries.filter_map(Exception::parse).collect())
    }

    /// Whether a destination is reached without the proxy.
    pub fn covers(&self, host: &str, port: u16) -> bool {
        let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        self.0.iter().any(|exception| match exception {
            Exception::All => true,
            Exception::Network(network) => address.is_some_and(|address| network.contains(address)),
            Exception::Name(name, only) => {
                let is_below = host
                    .strip_suffix(name.as_str())
                    .is_some_and(|rest| rest.ends_with('.'));
                (host == *name || is_below) && only.is_none_or(|only| only == port)
            }
        })
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = bare(entry).parse() {
            return Some(Self::Network(network));
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let name = name.strip_prefix('*').unwrap_or(name);
        let name = name.strip_prefix('.').unwrap_or(name);
        (!name.is_empty()).then(|| Self::Name(name.to_ascii_lowercase(), port))
    }
}

/// Whether a host is this machine, which a proxy elsewhere cannot mean.
pub fn is_this_machine(host: &str) -> bool {
    let host = bare(host);
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Splits `host:port`, `host`, `[v6]:port` and `[v6]`; the host comes without brackets.
pub fn split_port(text: &str, default: u16) -> Option<(&str, u16)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && !port.contains(']') => (host, port.parse().ok()?),
        Some(("", _)) => return None,
        Some(_) | None => (text, default),
    };
    let is_plain = |host: &str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"[]/@:?#\"\\".contains(&byte))
    };
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok().then_some((inner, port)),
        None => is_plain(host).then_some((host, port)),
    }
}

/// `host:port`, with brackets where they belong.
fn joined(host: &str, port: u16) -> String {
    if host.parse::<Ipv6Addr>().is_ok() {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host)
}

/// Undoes percent encoding.
fn decode(text: &str) -> Result<String, ProxyError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(ProxyError::Credentials);
        };
        decoded.push(u8::try_from(high * 16 + low).map_err(|_| ProxyError::Credentials)?);
    }
    String::from_utf8(decoded).map_err(|_| ProxyError::Credentials)
}

#[cfg(test)]
mod tests;
