//! What the command line and the environment say.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use adit_driver::cpus::Cpus;
use adit_driver::kernel::IoChoice;
use adit_proto::ingress::settings::OriginOverrides;

use super::identity::Identity;

/// A tunnel that was made on the spot.
#[derive(Clone)]
pub struct QuickTunnel {
    /// Where visitors reach it.
    pub hostname: String,
    /// The proof that we may run it.
    pub identity: Identity,
    /// Where to dial if nobody says otherwise, as `host:port`.
    pub edges: Vec<String>,
    /// Certificates that may sign an edge's, in PEM, besides those of `cacert`.
    pub ca: Option<String>,
}

/// Flags of `tunnel run` by their names; `None` or empty where nobody said anything.
///
/// Each field has the meaning of cloudflared's flag of that name unless it says otherwise. Not `Debug`,
/// because a token is among them.
#[derive(Clone, Default)]
pub struct Flags {
    /// A quick tunnel to run; with it everything else that names a tunnel is left aside.
    pub quick: Option<QuickTunnel>,
    /// The tunnel to run, by name or id: the command's argument.
    pub tunnel: Option<String>,
    /// Path of `config.yml`.
    pub config: Option<PathBuf>,
    /// Path of `cert.pem`; credentials files are searched beside it.
    pub origincert: Option<PathBuf>,
    /// A tunnel token.
    pub token: Option<String>,
    /// A file with a tunnel token.
    pub token_file: Option<PathBuf>,
    /// The text of a credentials file.
    pub credentials_contents: Option<String>,
    /// A credentials file.
    pub credentials_file: Option<PathBuf>,
    /// Origin to serve.
    pub url: Option<String>,
    /// Serve the built-in page.
    pub hello_world: Option<bool>,
    /// Unix socket of the origin.
    pub unix_socket: Option<String>,
    /// Let the visitor choose the destination.
    pub bastion: Option<bool>,
    /// Speak SOCKS5 inside of the TCP service of `url`.
    pub socks5: Option<bool>,
    /// How the origin of `url` and its like is spoken to: the `proxy-…` flags and their kin.
    pub origin: OriginOverrides,
    /// Edge addresses `host:port`.
    pub edge: Vec<String>,
    /// PEM file with who may sign an edge's certificate, besides the system's roots.
    pub cacert: Option<PathBuf>,
    /// Local address of connections to the edge.
    pub edge_bind_address: Option<IpAddr>,
    /// Which addresses of an edge's name are used: `4`, `6` or `auto`.
    pub edge_ip_version: Option<String>,
    /// The proxy through which edges are reached, with user and password (ours).
    pub edge_proxy: Option<String>,
    /// The value of `HTTPS_PROXY`, used if `edge_proxy` is not given.
    pub environment_proxy: Option<String>,
    /// The value of `NO_PROXY`: what it is not used for.
    pub no_proxy: Option<String>,
    /// `quic`, `http2`, or `auto` for QUIC where it gets through and HTTP/2 elsewhere.
    pub protocol: Option<String>,
    /// Dials over QUIC that fail in a row before HTTP/2 is tried.
    pub max_edge_addr_retries: Option<u32>,
    /// Connections wanted.
    pub ha_connections: Option<usize>,
    /// Connections from which on `/ready` says yes.
    pub ready_connections: Option<usize>,
    /// Locations of edges among them, from which on it does.
    pub ready_locations: Option<usize>,
    /// Doublings of the wait between attempts.
    pub retries: Option<u32>,
    /// Limit of one call to an edge.
    pub rpc_timeout: Option<Duration>,
    /// How long exchanges may go on after a drain began.
    pub grace_period: Option<Duration>,
    /// Interval of PINGs on an idle connection to an edge of ours.
    pub idle_ping_interval: Option<Duration>,
    /// Reload the configuration when its file changes (ours).
    pub config_watch: Option<bool>,
    /// Take commands from standard input.
    pub stdin_control: Option<bool>,
    /// `NAME=VALUE` told to origins.
    pub tag: Vec<String>,
    /// Additional features offered to the edge.
    pub features: Vec<String>,
    /// Offer only key exchanges that resist quantum computers.
    pub post_quantum: Option<bool>,
    /// Where metrics are served.
    pub metrics: Option<String>,
    /// Level of the log: only told to the edge here.
    pub loglevel: Option<String>,
    /// Requests for this host are for the management service.
    pub management_hostname: Option<String>,
    /// `host:port` whose way tells the address of this host.
    pub service_op_ip: Option<String>,
    /// Name of this replica in place of the host's.
    pub label: Option<String>,
    /// Where the log is also written: told to `tunnel diag`.
    pub log_file: Option<PathBuf>,
    /// Written after the first registration.
    pub pidfile: Option<PathBuf>,
    /// Written with the addresses listened on (ours).
    pub addresses_file: Option<PathBuf>,
    /// How the kernel is asked (ours).
    pub io: Option<IoChoice>,
    /// Cores to use (ours).
    pub cores: Option<usize>,
    /// CPUs to pin them to (ours).
    pub cpus: Option<Cpus>,
}
