//! `edge.yml`: as written, then checked and resolved. Only [`Config`] travels.
//!
//! Every error names the file, the key and what would be right; an unknown key names the nearest known
//! one. `docs/configuration-edge.md` describes each key.

mod control;
mod ejection;
mod file;
mod listeners;
mod live;
mod management;
mod passthrough;
mod resolve;
mod shares;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_driver::core::{CORES_MAX, default_count};
use adit_driver::cpus::Cpus;
use adit_driver::kernel::IoChoice;
use adit_proto::ejection::Settings as Ejection;
use adit_proto::exchange::edge::Cidr;
use adit_proto::proxy_protocol::Version;
use adit_wire::Hostname;

pub(crate) use control::ControlAddress;
pub(crate) use live::{Current, LiveConfig};
pub(crate) use management::Names;
pub(crate) use passthrough::Passthrough;
pub(crate) use shares::ShareLimits;

/// Largest configuration file; a larger one is some other file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many cores to run, if that was said; see [`Config::core_count`].
    pub cores: Option<usize>,
    /// Which CPUs to pin them to, if that was said.
    pub cpus: Option<Cpus>,
    /// How the kernel is asked.
    pub io: IoChoice,
    /// The file it came from.
    pub(crate) file: PathBuf,
    /// Unique name of this edge.
    pub(crate) name: String,
    /// The site.
    pub(crate) colo: String,
    /// The failure domain.
    pub(crate) region: String,
    /// What connectors show as their location.
    pub(crate) location: String,
    pub(crate) listeners: Listeners,
    /// For visitors; empty for a throw-away one.
    pub(crate) certificates: Vec<CertificateFiles>,
    pub(crate) control: ControlAddress,
    pub(crate) state_dir: PathBuf,
    pub(crate) limits: Limits,
    /// When replicas whose origins fail are left out.
    pub(crate) ejection: Ejection,
    /// Where the management service of connectors is reached.
    pub(crate) management: Names,
    /// Names whose TLS ends at their origins.
    pub(crate) passthrough: Passthrough,
    /// Whether connectors over HTTP/2 are taken on the listeners for HTTPS too.
    pub(crate) tunnels_on_https: bool,
    pub(crate) trusted_proxies: Vec<Cidr>,
    /// Absent for no access log.
    pub(crate) access_log: Option<PathBuf>,
    /// Longest time running exchanges may take to end when the edge stops.
    pub(crate) grace_period: Duration,
    /// As the file has it, by key; to tell what has changed when it is read again.
    written: BTreeMap<String, serde_json::Value>,
}

/// Where the edge listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listeners {
    /// Over UDP.
    pub(crate) tunnel: SocketAddr,
    /// Over TCP; one that is equal to `tunnel` gets the same port also if any will do.
    pub(crate) tunnel_http2: Vec<SocketAddr>,
    pub(crate) http: Vec<HttpEntry>,
    pub(crate) https: Vec<HttpEntry>,
    pub(crate) tcp: Vec<TcpEntry>,
    pub(crate) admin: SocketAddr,
}

/// A port for HTTP, in clear or over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HttpEntry {
    pub(crate) listen: SocketAddr,
    /// Trusted proxies begin with a PROXY header.
    pub(crate) accepts_proxy: bool,
}

/// A port whose bytes go to the tunnel of one hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpEntry {
    pub(crate) listen: SocketAddr,
    pub(crate) hostname: Hostname,
    /// Trusted proxies begin with a PROXY header.
    pub(crate) accepts_proxy: bool,
    /// Origins are told the visitor's address by such a header.
    pub(crate) sends_proxy: Option<Version>,
}

/// A certificate chain and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What an operator may set of the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// A visitor's connection without a request is closed after this.
    pub(crate) idle_timeout: Duration,
    /// An origin must begin its answer within this.
    pub(crate) response_head_timeout: Duration,
    /// A visitor, or a connector, must take something of what it is sent within this.
    pub(crate) send_timeout: Duration,
    /// An exchange waits this long for a tunnel that has just lost its last connection.
    pub(crate) reconnect_wait: Duration,
    /// Bytes that the process may have resident, and exchanges hold, before new ones get 503.
    pub(crate) memory_bytes: u64,
    /// Visitors' connections at once; more are closed on arrival.
    pub(crate) visitor_connections: usize,
    /// Of all this, for one address, tunnel or connection.
    pub(crate) shares: ShareLimits,
}

/// The part of `limits.memory` that windows of streams may grow by, in what fast visitors make of it.
const WINDOWS_PART_OF_MEMORY: u64 = 4;

impl Limits {
    /// What windows of streams may grow by.
    pub(crate) fn windows_bytes(&self) -> u64 {
        self.memory_bytes / WINDOWS_PART_OF_MEMORY
    }
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The file is far too large.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes; is it the right file?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The file is not YAML, or a value has the wrong shape.
    #[error("{}: {reason}", file.display())]
    Yaml {
        /// The file.
        file: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{}:{line}: unknown key {key:?}; {hint}", file.display())]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// 1-based line.
        line: u64,
        /// The key as written.
        key: String,
        /// The nearest known key, or all of them.
        hint: String,
    },
    /// A value that does not fit its key.
    #[error("{}: {key}: {reason}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a file. Relative paths in it count from its folder.
    ///
    /// # Errors
    /// Any [`ConfigError`].
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read {
            file: file.to_owned(),
            source,
        };
        let size = std::fs::metadata(file).map_err(read)?.len();
        if size > FILE_BYTES_MAX {
            return Err(ConfigError::TooLarge {
                file: file.to_owned(),
            });
        }
        let text = std::fs::read_to_string(file).map_err(read)?;
        Self::parse(file, &text)
    }

    /// Checks that each core can have a CPU of its own among those that were named.
    pub(crate) fn check_cpus(&self) -> Result<(), ConfigError> {
        let checked = self.cpus.as_ref().map(|cpus| cpus.check(self.core_count()));
        checked.unwrap_or(Ok(())).map_err(|error| ConfigError::Value {
            file: self.file.clone(),
            key: "cpus",
            reason: error.to_string(),
        })
    }

    /// How many cores to run: as many as was said, else one on each CPU that was named, else on each that
    /// this process may use.
    pub fn core_count(&self) -> usize {
        let named = || self.cpus.as_ref().map(|cpus| cpus.len().min(CORES_MAX));
        self.cores.or_else(named).unwrap_or_else(default_count)
    }

    /// Checks a text as if it stood in `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config = resolve::resolve(file, file::parse(file, text)?)?;
        config.written = live::written(text);
        Ok(config)
    }
}

/// The resolved values as YAML; it holds no secret, only the paths of some.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "name: {:?}\ncolo: {:?}\nregion: {:?}",
            self.name, self.colo, self.region
        )?;
        writeln!(f, "location: {:?}\nlisteners:", self.location)?;
        writeln!(f, "  tunnel: {:?}", self.listeners.tunnel.to_string())?;
        let beside: Vec<_> = self
            .listeners
            .tunnel_http2
            .iter()
            .map(|address| format!("\"{address}\""))
            .collect();
        writeln!(f, "  tunnel-http2: [{}]", beside.join(", "))?;
        self.fmt_visitors(f)?;
        writeln!(
            f,
            "  admin: {:?}\ncertificates:",
            self.listeners.admin.to_string()
        )?;
        for files in &self.certificates {
            writeln!(
                f,
                "  - {{cert: {}, key: {}}}",
                quoted_path(&files.cert),
                quoted_path(&files.key)
            )?;
        }
        self.fmt_control(f)?;
        writeln!(
            f,
            "state-dir: {}\ncores: {}\nio: {}",
            quoted_path(&self.state_dir),
            self.core_count(),
            self.io
        )?;
        if let Some(cpus) = &self.cpus {
            writeln!(f, "cpus: \"{cpus}\"")?;
        }
        self.fmt_limits(f)?;
        ejection::show(f, &self.ejection)?;
        writeln!(f, "management:")?;
        if let Some(hostname) = &self.management.hostname {
            writeln!(f, "  hostname: \"{hostname}\"")?;
        }
        writeln!(f, "  connector-hostname: \"{}\"", self.management.connector)?;
        writeln!(f, "tunnels-on-https: {}", self.tunnels_on_https)?;
        writeln!(f, "passthrough:")?;
        for (pattern, sends) in self.passthrough.entries() {
            writeln!(f, "  - {{hostname: \"{pattern}\"{}}}", fmt_send(*sends))?;
        }
        let proxies: Vec<_> = self
            .trusted_proxies
            .iter()
            .map(|cidr| format!("\"{cidr}\""))
            .collect();
        writeln!(f, "trusted-proxies: [{}]", proxies.join(", "))?;
        if let Some(log) = &self.access_log {
            writeln!(f, "access-log: {}", quoted_path(log))?;
        }
        writeln!(f, "grace-period: {}", units::show(self.grace_period))
    }
}

impl Config {
    fn fmt_limits(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "limits:")?;
        writeln!(f, "  idle-timeout: {}", units::show(self.limits.idle_timeout))?;
        writeln!(
            f,
            "  response-head-timeout: {}",
            units::show(self.limits.response_head_timeout)
        )?;
        writeln!(f, "  send-timeout: {}", units::show(self.limits.send_timeout))?;
        writeln!(f, "  reconnect-wait: {}", units::show(self.limits.reconnect_wait))?;
        writeln!(f, "  memory: {:?}", self.limits.memory_bytes.to_string())?;
        writeln!(f, "  visitor-connections: {}", self.limits.visitor_connections)?;
        self.fmt_shares(f)
    }

    fn fmt_visitors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listeners { http, https, tcp, .. } = &self.listeners;
        for (key, entries) in [("http", http), ("https", https)] {
            let entries: Vec<_> = entries
                .iter()
                .map(|entry| {
                    format!(
                        "{{listen: \"{}\", accept-proxy: {}}}",
                        entry.listen, entry.accepts_proxy
                    )
                })
                .collect();
            writeln!(f, "  {key}: [{}]", entries.join(", "))?;
        }
        writeln!(f, "  tcp:")?;
        for entry in tcp {
            writeln!(
                f,
                "    - {{listen: \"{}\", hostname: \"{}\", accept-proxy: {}{}}}",
                entry.listen,
                entry.hostname,
                entry.accepts_proxy,
                fmt_send(entry.sends_proxy)
            )?;
        }
        Ok(())
    }

    fn fmt_shares(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = &self.limits.shares;
        let (address, tunnel) = (shares.address_share, shares.tunnel_share);
        writeln!(f, "  exchanges-per-address: {}", shares.exchanges_per_address)?;
        writeln!(f, "  connections-per-address: {}", shares.connections_per_address)?;
        writeln!(f, "  streams-per-connection: {}", shares.streams_per_connection)?;
        writeln!(f, "  address-share: {}", address.as_percent())?;
        writeln!(f, "  tunnel-share: {}", tunnel.as_percent())
    }

    fn fmt_control(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "control:")?;
        match &self.control {
            ControlAddress::Socket(socket) => writeln!(f, "  socket: {}", quoted_path(socket)),
            ControlAddress::Remote {
                address,
                ca,
                cert,
                key,
            } => {
                writeln!(f, "  address: {}", quoted(address))?;
                for (name, path) in [("ca", ca), ("cert", cert), ("key", key)] {
                    writeln!(f, "  {name}: {}", quoted_path(path))?;
                }
                Ok(())
            }
        }
    }
}

fn fmt_send(version: Option<Version>) -> String {
    version.map_or_else(String::new, |version| {
        format!(", send-proxy: {}", version.as_str())
    })
}

/// A JSON string is a YAML string, whatever is in it.
fn quoted(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

fn quoted_path(path: &Path) -> serde_json::Value {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests;
