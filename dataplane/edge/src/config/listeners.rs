//! Resolves where the edge listens.

use std::net::SocketAddr;

use adit_proto::proxy_protocol::Version;

use super::resolve::Resolver;
use super::{ConfigError, HttpEntry, Listeners, TcpEntry, file};

const TUNNEL_DEFAULT: &str = "[::]:7844";
const HTTP_DEFAULT: &str = "[::]:80";
const HTTPS_DEFAULT: &str = "[::]:443";
/// On this machine only: metrics name tunnels' failures to whoever asks.
const ADMIN_DEFAULT: &str = "127.0.0.1:7845";
const LISTENERS_MAX: usize = 16;
/// Each is a socket per core.
const TCP_LISTENERS_MAX: usize = 256;

impl Resolver<'_> {
    pub(super) fn listeners(&self, written: file::Listeners) -> Result<Listeners, ConfigError> {
        let tunnel = written.tunnel.as_deref().unwrap_or(TUNNEL_DEFAULT);
        Ok(Listeners {
            tunnel: self.address("listeners.tunnel", tunnel)?,
            // A connector has one address for both ways.
            tunnel_http2: self.addresses("listeners.tunnel-http2", written.tunnel_http2, tunnel)?,
            http: self.entries("listeners.http", written.http, HTTP_DEFAULT)?,
            https: self.entries("listeners.https", written.https, HTTPS_DEFAULT)?,
            tcp: self.tcp(written.tcp.unwrap_or_default())?,
            admin: self.address(
                "listeners.admin",
                written.admin.as_deref().unwrap_or(ADMIN_DEFAULT),
            )?,
        })
    }

    fn tcp(&self, written: Vec<file::TcpEntry>) -> Result<Vec<TcpEntry>, ConfigError> {
        let key = "listeners.tcp";
        if written.len() > TCP_LISTENERS_MAX {
            return Err(self.refuse(
                key,
                format!("{} entries, at most {TCP_LISTENERS_MAX}", written.len()),
            ));
        }
        let mut entries: Vec<TcpEntry> = Vec::with_capacity(written.len());
        for entry in written {
            let listen = self.address(key, &entry.listen)?;
            if listen.port() != 0 && entries.iter().any(|other| other.listen == listen) {
                let reason = format!("{listen} is listed twice; one port leads to one hostname");
                return Err(self.refuse(key, reason));
            }
            let hostname = entry.hostname.parse().map_err(|error| {
                let reason = format!(
                    "hostname {:?}: {error}; write the name that is routed to the tunnel",
                    entry.hostname
                );
                self.refuse(key, reason)
            })?;
            entries.push(TcpEntry {
                listen,
                hostname,
                accepts_proxy: entry.accept_proxy,
                sends_proxy: self.send_proxy(key, entry.send_proxy.as_deref())?,
            });
        }
        Ok(entries)
    }

    fn address(&self, key: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
        text.parse().map_err(|_| {
            self.refuse(
                key,
                format!("{text:?} is not ADDRESS:PORT, such as \"0.0.0.0:443\" or \"[::]:443\""),
            )
        })
    }

    fn entries(
        &self,
        key: &'static str,
        written: Option<Vec<file::HttpEntry>>,
        default: &str,
    ) -> Result<Vec<HttpEntry>, ConfigError> {
        let written = written.unwrap_or_else(|| vec![file::HttpEntry::Address(default.to_owned())]);
        if written.len() > LISTENERS_MAX {
            let reason = format!("{} addresses, at most {LISTENERS_MAX}", written.len());
            return Err(self.refuse(key, reason));
        }
        let entry = |entry: &file::HttpEntry| {
            let (listen, accepts_proxy) = match entry {
                file::HttpEntry::Address(listen) => (listen, false),
                file::HttpEntry::Table(table) => (&table.listen, table.accept_proxy),
            };
            Ok(HttpEntry {
                listen: self.address(key, listen)?,
                accepts_proxy,
            })
        };
        written.iter().map(entry).collect()
    }

    pub(super) fn send_proxy(
        &self,
        key: &'static str,
        text: Option<&str>,
    ) -> Result<Option<Version>, ConfigError> {
        let Some(text) = text else { return Ok(None) };
        let version = Version::parse(text).ok_or_else(|| {
            let reason = format!("send-proxy: {text:?} is neither v1 nor v2; leave it out to send no header");
            self.refuse(key, reason)
        });
        version.map(Some)
    }

    fn addresses(
        &self,
        key: &'static str,
        texts: Option<Vec<String>>,
        default: &str,
    ) -> Result<Vec<SocketAddr>, ConfigError> {
        let texts = texts.unwrap_or_else(|| vec![default.to_owned()]);
        if texts.len() > LISTENERS_MAX {
            return Err(self.refuse(key, format!("{} addresses, at most {LISTENERS_MAX}", texts.len())));
        }
        texts.iter().map(|text| self.address(key, text)).collect()
    }
}

impl Listeners {
    /// A key under which PROXY headers are accepted.
    pub(super) fn accepting_proxies(&self) -> Option<&'static str> {
        let accepts = |entries: &[HttpEntry]| entries.iter().any(|entry| entry.accepts_proxy);
        [
            ("listeners.http", accepts(&self.http)),
            ("listeners.https", accepts(&self.https)),
            ("listeners.tcp", self.tcp.iter().any(|entry| entry.accepts_proxy)),
        ]
        .into_iter()
        .find_map(|(key, accepts)| accepts.then_some(key))
    }
}
