//! `config.yml`: found, read, and laid under the flags.
//!
//! Any flag's name may be a key. A flag or its environment variable wins over the file.
//!
//! Source: cloudflared `config/configuration.go`, `cmd/cloudflared/cliutil/handler.go`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use adit_driver::cpus::{Cpus, CpusError};
use serde_json::{Map, Value};
use serde_saphyr::UserMessageFormatter;

use super::keys::{Durations, Keys, Oddity};
use super::{ConfigError, Flags};

/// Names of the file in a default directory.
const NAMES: [&str; 2] = ["config.yml", "config.yaml"];

/// Where cloudflared keeps its files; `~` is the user's home.
const DIRECTORIES: [&str; 5] = [
    "~/.cloudflared",
    "~/.cloudflare-warp",
    "~/cloudflare-warp",
    "/etc/cloudflared",
    "/usr/local/etc/cloudflared",
];

/// Largest configuration, credentials or token file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Most values that the aliases of a file stand for in all, some hundred rules' worth. Without it a file of
/// 400 bytes takes 50 MiB to read.
const ALIAS_EVENTS_MAX: usize = 10_000;

/// Top-level keys that a connector reads, then those that others read or that have no effect here.
const TOP_LEVEL: &[&str] = &[
    "tunnel",
    "credentials-file",
    "cred-file",
    "credentials-contents",
    "token",
    "token-file",
    "origincert",
    "ingress",
    "originRequest",
    "warp-routing",
    "url",
    "hello-world",
    "unix-socket",
    "bastion",
    "socks5",
    "proxy-connect-timeout",
    "proxy-tls-timeout",
    "proxy-tcp-keepalive",
    "proxy-keepalive-timeout",
    "proxy-keepalive-connections",
    "http-host-header",
    "origin-server-name",
    "origin-ca-pool",
    "no-tls-verify",
    "no-chunked-encoding",
    "edge",
    "cacert",
    "edge-bind-address",
    "edge-ip-version",
    "edge-proxy",
    "protocol",
    "max-edge-addr-retries",
    "ha-connections",
    "ready-connections",
    "ready-locations",
    "retries",
    "rpc-timeout",
    "grace-period",
    "idle-ping-interval",
    "config-watch",
    "tag",
    "features",
    "post-quantum",
    "metrics",
    "pidfile",
    "addresses-file",
    "io",
    "cores",
    "cpus",
    "loglevel",
    "api-url",
    "autoupdate-freq",
    "dial-edge-timeout",
    "hostname",
    "http2-origin",
    "label",
    "log-directory",
    "logfile",
    "max-active-flows",
    "metrics-update-freq",
    "name",
    "no-autoupdate",
    "no-prechecks",
    "output",
    "proxy-address",
    "proxy-no-happy-eyeballs",
    "proxy-port",
    "quick-service",
    "quic-connection-level-flow-control-limit",
    "quic-disable-pmtu-discovery",
    "quic-stream-level-flow-control-limit",
    "region",
    "transport-loglevel",
    "stdin-control",
    "management-hostname",
    "service-op-ip",
    "management-diagnostics",
    "trace-output",
    "compression-quality",
    "heartbeat-interval",
    "heartbeat-count",
    "use-reconnect-token",
    "proxy-dns",
    "is-autoupdated",
    "overwrite-dns",
    "max-fetch-size",
    "lb-pool",
    "api-key",
    "api-email",
    "api-ca-key",
    "proxy-connection-timeout",
    "proxy-expect-continue-timeout",
    "local-ssh-port",
    "ssh-idle-timeout",
    "ssh-max-timeout",
    "bucket-name",
    "region-name",
    "secret-id",
    "access-key-id",
    "session-token",
    "s3-url-host",
    "host-key-path",
    "ssh-server",
    "ui",
    "icmpv4-src",
    "icmpv6-src",
    "dns-resolver-addrs",
    "proto-loglevel",
    "pq",
    "write-stream-timeout",
];

/// The file's content; empty without a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct File {
    pub(crate) path: Option<PathBuf>,
    map: Map<String, Value>,
}

impl File {
    /// Reads the given file, or else the first default one there is, or else nothing.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self, ConfigError> {
        match given.map(expand).or_else(|| find(&NAMES)) {
            None => Ok(Self::default()),
            Some(path) => Self::parse(&path, &read(&path)?),
        }
    }

    /// Takes a text as if it stood in the file at `path`.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let limits = serde_saphyr::options! {
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: ALIAS_EVENTS_MAX },
        };
        let document: Option<Map<String, Value>> = serde_saphyr::from_str_with_options(text, limits)
            .map_err(|error| ConfigError::Yaml {
                path: path.to_owned(),
                reason: error
                    .without_snippet()
                    .render_with_formatter(&UserMessageFormatter),
            })?;
        if document.is_none() {
            tracing::error!(path = %path.display(), "Configuration file was empty");
        }
        Ok(Self {
            path: Some(path.to_owned()),
            map: document.unwrap_or_default(),
        })
    }

    /// Names the file in an error about what is in it.
    pub(crate) fn blame(&self, source: ConfigError) -> ConfigError {
        match &self.path {
            Some(path) => source.in_file(path),
            None => source,
        }
    }

    /// The top level.
    pub(crate) fn keys(&self) -> Keys<'_> {
        Keys::new(&self.map, Durations::Text)
    }

    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Keys of the top level whose values are not those of `other`.
    pub(super) fn differing(&self, other: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.map.keys().chain(other.map.keys()).collect();
        let differing = keys
            .into_iter()
            .filter(|key| self.map.get(*key) != other.map.get(*key));
        differing.cloned().collect()
    }

    /// Keys that nobody knows.
    pub(crate) fn unknown(&self) -> Vec<Oddity> {
        self.keys().unknown(TOP_LEVEL)
    }

    /// Fills what `flags` leave open from the file.
    pub(crate) fn complete(&self, mut flags: Flags) -> Result<Flags, ConfigError> {
        let keys = self.keys();
        fill(&mut flags.tunnel, keys.text("tunnel")?);
        fill_path(&mut flags.origincert, keys.text("origincert")?);
        fill(&mut flags.token, keys.text("token")?);
        fill_path(&mut flags.token_file, keys.text("token-file")?);
        fill(
            &mut flags.credentials_contents,
            keys.text("credentials-contents")?,
        );
        fill_path(&mut flags.credentials_file, keys.text("credentials-file")?);
        fill_path(&mut flags.credentials_file, keys.text("cred-file")?);
        fill_path(&mut flags.cacert, keys.text("cacert")?);
        fill_path(&mut flags.pidfile, keys.text("pidfile")?);
        fill_path(&mut flags.addresses_file, keys.text("addresses-file")?);
        fill(&mut flags.edge_bind_address, parsed(keys, "edge-bind-address")?);
        // As a number, 4 and 6 need no quotes.
        fill(
            &mut flags.edge_ip_version,
            keys.numbers_or_texts("edge-ip-version")?,
        );
        fill(&mut flags.protocol, keys.text("protocol")?);
        fill(&mut flags.edge_proxy, keys.text("edge-proxy")?);
        fill(
            &mut flags.max_edge_addr_retries,
            count(keys, "max-edge-addr-retries")?,
        );
        fill(&mut flags.ha_connections, count(keys, "ha-connections")?);
        fill(&mut flags.ready_connections, count(keys, "ready-connections")?);
        fill(&mut flags.ready_locations, count(keys, "ready-locations")?);
        fill(&mut flags.retries, count(keys, "retries")?);
        fill(&mut flags.rpc_timeout, keys.duration("rpc-timeout")?);
        fill(&mut flags.grace_period, keys.duration("grace-period")?);
        fill(
            &mut flags.idle_ping_interval,
            keys.duration("idle-ping-interval")?,
        );
        fill(&mut flags.stdin_control, keys.switch("stdin-control")?);
        fill(&mut flags.config_watch, keys.switch("config-watch")?);
        fill(&mut flags.post_quantum, keys.switch("post-quantum")?);
        fill(&mut flags.metrics, keys.text("metrics")?);
        fill(&mut flags.loglevel, keys.text("loglevel")?);
        fill(&mut flags.management_hostname, keys.text("management-hostname")?);
        fill(&mut flags.service_op_ip, keys.text("service-op-ip")?);
        fill(&mut flags.label, keys.text("label")?);
        fill(&mut flags.io, parsed(keys, "io")?);
        fill(&mut flags.cores, count(keys, "cores")?);
        fill(&mut flags.cpus, cpus(keys)?);
        fill_list(&mut flags.edge, keys.texts("edge")?);
        fill_list(&mut flags.tag, keys.texts("tag")?);
        fill_list(&mut flags.features, keys.texts("features")?);
        complete_origin(&mut flags, keys)?;
        Ok(flags)
    }
}

/// What is served without ingress rules, and how.
fn complete_origin(flags: &mut Flags, keys: Keys<'_>) -> Result<(), ConfigError> {
    fill(&mut flags.url, keys.text("url")?);
    fill(&mut flags.hello_world, keys.switch("hello-world")?);
    fill(&mut flags.unix_socket, keys.text("unix-socket")?);
    fill(&mut flags.bastion, keys.switch("bastion")?);
    fill(&mut flags.socks5, keys.switch("socks5")?);
    let origin = &mut flags.origin;
    fill(
        &mut origin.connect_timeout,
        keys.duration("proxy-connect-timeout")?,
    );
    fill(&mut origin.tls_timeout, keys.duration("proxy-tls-timeout")?);
    fill(&mut origin.tcp_keep_alive, keys.duration("proxy-tcp-keepalive")?);
    fill(
        &mut origin.keep_alive_timeout,
        keys.duration("proxy-keepalive-timeout")?,
    );
    fill(
        &mut origin.keep_alive_connections,
        count(keys, "proxy-keepalive-connections")?,
    );
    fill(&mut origin.http_host_header, keys.text("http-host-header")?);
    fill(&mut origin.origin_server_name, keys.text("origin-server-name")?);
    fill(&mut origin.ca_pool, keys.text("origin-ca-pool")?);
    fill(&mut origin.no_tls_verify, keys.switch("no-tls-verify")?);
    fill(
        &mut origin.disable_chunked_encoding,
        keys.switch("no-chunked-encoding")?,
    );
    fill(&mut origin.http2_origin, keys.switch("http2-origin")?);
    fill(
        &mut origin.no_happy_eyeballs,
        keys.switch("proxy-no-happy-eyeballs")?,
    );
    Ok(())
}

/// The first of `names` in the default directories.
fn find(names: &[&str]) -> Option<PathBuf> {
    let directories = default_directories();
    let places = directories
        .iter()
        .flat_map(|directory| names.iter().map(|name| directory.join(name)));
    places.into_iter().find(|path| path.is_file())
}

/// The default directories, those below the home only if there is one.
pub(super) fn default_directories() -> Vec<PathBuf> {
    let expanded = DIRECTORIES.iter().map(|directory| expand(Path::new(directory)));
    expanded.filter(|directory| !directory.starts_with("~")).collect()
}

/// Replaces a leading `~` by the user's home.
pub(super) fn expand(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        (Ok(_), None) | (Err(_), _) => path.to_owned(),
    }
}

/// Reads a small text file.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > FILE_BYTES_MAX {
        let text = format!("it is larger than {FILE_BYTES_MAX} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::FileTooLarge, text)));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn fill<T>(flag: &mut Option<T>, from_file: Option<T>) {
    if flag.is_none() {
        *flag = from_file;
    }
}

fn fill_path(flag: &mut Option<PathBuf>, from_file: Option<String>) {
    fill(flag, from_file.filter(|text| !text.is_empty()).map(PathBuf::from));
}

fn fill_list(flag: &mut Vec<String>, from_file: Vec<String>) {
    if flag.is_empty() {
        *flag = from_file;
    }
}

fn count<T: TryFrom<u64>>(keys: Keys<'_>, key: &str) -> Result<Option<T>, ConfigError> {
    let Some(number) = keys.number(key)? else {
        return Ok(None);
    };
    let too_large = |_| ConfigError::Value {
        key: key.to_owned(),
        value: number.to_string(),
        why: "it is too large".to_owned(),
    };
    T::try_from(number).map(Some).map_err(too_large)
}

/// `cpus`: a number, a text or a list of such.
fn cpus(keys: Keys<'_>) -> Result<Option<Cpus>, ConfigError> {
    let Some(text) = keys.numbers_or_texts("cpus")? else {
        return Ok(None);
    };
    let invalid = |error: CpusError| ConfigError::Value {
        key: "cpus".to_owned(),
        value: text.clone(),
        why: error.to_string(),
    };
    text.parse().map(Some).map_err(invalid)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(keys: Keys<'_>, key: &str) -> Result<Option<T>, ConfigError> {
    let Some(text) = keys.text(key)? else {
        return Ok(None);
    };
    let invalid = |error: T::Err| ConfigError::Value {
        key: key.to_owned(),
        value: text.clone(),
        why: error.to_string(),
    };
    text.parse().map(Some).map_err(invalid)
}
