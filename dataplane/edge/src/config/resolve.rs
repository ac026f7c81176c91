//! Turns the file as written into a [`Config`]: defaults, ranges, paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_driver::core::CORES_MAX;
use adit_driver::cpus::{Cpus, CpusError};
use adit_driver::kernel::IoChoice;
use adit_proto::shares::Share;

use super::{CertificateFiles, Config, ConfigError, ControlAddress, Limits, ShareLimits, file, units};

const STATE_DIR_DEFAULT: &str = "/var/lib/adit/edge";
const COLO_DEFAULT: &str = "loc01";
const REGION_DEFAULT: &str = "local";
/// Longer than the keep-alive of common browsers and balancers, so that they close first.
const IDLE_TIMEOUT_DEFAULT: &str = "75s";
/// What visitors of such services are used to; a slower origin is taken for silent.
const RESPONSE_HEAD_TIMEOUT_DEFAULT: &str = "100s";
/// A connector of ours that an address translator has cut off is heard within 12.5 s. One that is restarted
/// is back sooner.
const RECONNECT_WAIT_DEFAULT: &str = "14s";
/// What visitors of such services are used to.
const SEND_TIMEOUT_DEFAULT: &str = "60s";
const GRACE_PERIOD_DEFAULT: &str = "30s";
/// When the machine does not say how much memory it has.
const MEMORY_BYTES_FALLBACK: u64 = 1 << 30;
/// Twice what an edge has resident that does nothing.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
const VISITOR_CONNECTIONS_DEFAULT: usize = 100_000;
/// As many as one connection of a tunnel carries: a quarter of what a replica does.
const EXCHANGES_PER_ADDRESS_DEFAULT: usize = 4_096;
/// An address may have this part of the visitors' connections unless said otherwise.
const CONNECTIONS_PER_ADDRESS_PART: usize = 10;
/// More than browsers use.
const STREAMS_PER_CONNECTION_DEFAULT: u32 = 256;
const STREAMS_PER_CONNECTION_MAX: u32 = 10_000;
/// Half of it is left for all others.
const ADDRESS_SHARE_DEFAULT: u8 = 50;
/// Many edges have one tunnel that matters.
const TUNNEL_SHARE_DEFAULT: u8 = 75;
/// A name travels in logs, metrics and certificates.
const NAME_BYTES_MAX: usize = 63;
const TIMEOUT_MIN: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3_600);
/// More would hold visitors for a tunnel that does not come back.
const RECONNECT_WAIT_MAX: Duration = Duration::from_secs(300);
const GRACE_PERIOD_MAX: Duration = Duration::from_secs(3_600);

/// Knows the file's name for errors and its folder for relative paths.
pub(super) struct Resolver<'a> {
    file: &'a Path,
}

/// Checks and completes what the file says.
pub(super) fn resolve(file: &Path, written: file::File) -> Result<Config, ConfigError> {
    let at = Resolver { file };
    let colo = at.name("colo", written.colo, COLO_DEFAULT)?;
    let location = at.name("location", written.location, &colo)?;
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let state_dir = written.state_dir.unwrap_or_else(|| STATE_DIR_DEFAULT.into());
    if let Some(cores) = written.cores
        && !(1..=CORES_MAX).contains(&cores)
    {
        return Err(at.refuse("cores", format!("{cores} is not between 1 and {CORES_MAX}")));
    }
    let trusted = written.trusted_proxies.unwrap_or_default();
    let trusted_proxies = trusted
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|error| at.refuse("trusted-proxies", format!("{text:?}: {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let listeners = at.listeners(written.listeners.unwrap_or_default())?;
    if trusted_proxies.is_empty()
        && let Some(key) = listeners.accepting_proxies()
    {
        let reason = "accept-proxy believes only trusted-proxies, and none are listed; list the addresses of the proxies";
        return Err(at.refuse(key, reason.into()));
    }
    let passthrough = at.passthrough(written.passthrough.unwrap_or_default())?;
    if !passthrough.is_empty() && listeners.https.is_empty() {
        let reason = "listeners.https is empty, and its ports are where such names are asked for; add one";
        return Err(at.refuse("passthrough", reason.into()));
    }
    let grace = written.grace_period.as_deref().unwrap_or(GRACE_PERIOD_DEFAULT);
    Ok(Config {
        cores: written.cores,
        cpus: written.cpus.map(|cpus| at.cpus(cpus)).transpose()?,
        io: match written.io {
            Some(io) => io
                .parse::<IoChoice>()
                .map_err(|error| at.refuse("io", error.to_string()))?,
            None => IoChoice::Auto,
        },
        file: file.to_owned(),
        name: at.name("name", written.name, or_edge(host_name.trim()))?,
        region: at.name("region", written.region, REGION_DEFAULT)?,
        colo,
        location,
        listeners,
        certificates: written
            .certificates
            .unwrap_or_default()
            .into_iter()
            .map(|files| CertificateFiles {
                cert: at.path(&files.cert),
                key: at.path(&files.key),
            })
            .collect(),
        control: at.control(written.control.unwrap_or_default())?,
        state_dir: at.path(&state_dir),
        limits: at.limits(&written.limits.unwrap_or_default())?,
        ejection: at.ejection(&written.ejection.unwrap_or_default())?,
        management: at.management(written.management.unwrap_or_default())?,
        passthrough,
        tunnels_on_https: written.tunnels_on_https.unwrap_or(false),
        trusted_proxies,
        access_log: written.access_log.as_deref().map(|path| at.path(path)),
        grace_period: at.duration("grace-period", grace, Duration::ZERO, GRACE_PERIOD_MAX)?,
        written: BTreeMap::new(),
    })
}

fn or_edge(host_name: &str) -> &str {
    if host_name.is_empty() { "edge" } else { host_name }
}

impl Resolver<'_> {
    pub(super) fn refuse(&self, key: &'static str, reason: String) -> ConfigError {
        ConfigError::Value {
            file: self.file.to_owned(),
            key,
            reason,
        }
    }

    fn name(&self, key: &'static str, text: Option<String>, default: &str) -> Result<String, ConfigError> {
        let text = text.unwrap_or_else(|| default.to_owned());
        let is_fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(is_fit) {
            let reason = format!("{text:?} is not 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.'");
            return Err(self.refuse(key, reason));
        }
        Ok(text)
    }

    fn path(&self, text: &str) -> PathBuf {
        self.file.parent().unwrap_or_else(|| Path::new("")).join(text)
    }

    fn cpus(&self, written: file::Cpus) -> Result<Cpus, ConfigError> {
        let parts = match written {
            file::Cpus::Part(part) => vec![part],
            file::Cpus::List(parts) => parts,
        };
        let parts: Vec<String> = parts.into_iter().map(file::CpuPart::text).collect();
        let read = parts.join(",").parse();
        read.map_err(|error: CpusError| self.refuse("cpus", error.to_string()))
    }

    fn control(&self, written: file::Control) -> Result<ControlAddress, ConfigError> {
        match written {
            file::Control {
                socket: Some(socket),
                address: None,
                ca: None,
                cert: None,
                key: None,
            } => Ok(ControlAddress::Socket(self.path(&socket))),
            file::Control {
                socket: None,
                address: Some(address),
                ca: Some(ca),
                cert: Some(cert),
                key: Some(key),
            } => Ok(ControlAddress::Remote {
                address,
                ca: self.path(&ca),
                cert: self.path(&cert),
                key: self.path(&key),
            }),
            _ => Err(self.refuse(
                "control",
                "give either socket: PATH, or address: HOST:PORT with ca, cert and key \
                 (made by `adit control issue-edge`)"
                    .into(),
            )),
        }
    }

    fn limits(&self, written: &file::Limits) -> Result<Limits, ConfigError> {
        let idle = written.idle_timeout.as_deref().unwrap_or(IDLE_TIMEOUT_DEFAULT);
        let head = written
            .response_head_timeout
            .as_deref()
            .unwrap_or(RESPONSE_HEAD_TIMEOUT_DEFAULT);
        let memory_bytes = match &written.memory {
            Some(text) => units::size(text)
                .and_then(|bytes| units::at_least(text, bytes, MEMORY_BYTES_MIN))
                .map_err(|reason| self.refuse("limits.memory", reason))?,
            None => memory_bytes_default(),
        };
        let visitor_connections = written.visitor_connections.unwrap_or(VISITOR_CONNECTIONS_DEFAULT);
        if visitor_connections == 0 {
            return Err(self.refuse("limits.visitor-connections", "must be at least 1".into()));
        }
        Ok(Limits {
            idle_timeout: self.duration("limits.idle-timeout", idle, TIMEOUT_MIN, TIMEOUT_MAX)?,
            response_head_timeout: self.duration(
                "limits.response-head-timeout",
                head,
                TIMEOUT_MIN,
                TIMEOUT_MAX,
            )?,
            send_timeout: self.duration(
                "limits.send-timeout",
                written.send_timeout.as_deref().unwrap_or(SEND_TIMEOUT_DEFAULT),
                TIMEOUT_MIN,
                TIMEOUT_MAX,
            )?,
            reconnect_wait: self.duration(
                "limits.reconnect-wait",
                written
                    .reconnect_wait
                    .as_deref()
                    .unwrap_or(RECONNECT_WAIT_DEFAULT),
                Duration::ZERO,
                RECONNECT_WAIT_MAX,
            )?,
            memory_bytes,
            visitor_connections,
            shares: self.shares(written, visitor_connections)?,
        })
    }

    fn shares(&self, written: &file::Limits, visitors: usize) -> Result<ShareLimits, ConfigError> {
        let positive = |key, value: Option<usize>, default| match value.unwrap_or(default) {
            0 => Err(self.refuse(key, "must be at least 1".into())),
            value => Ok(value),
        };
        let share = |key, value: Option<u8>, default| {
            let percent = value.unwrap_or(default);
            let reason = || format!("{percent} is not a share of 1 to 100 percent");
            Share::percent(percent).ok_or_else(|| self.refuse(key, reason()))
        };
        let streams = written
            .streams_per_connection
            .unwrap_or(STREAMS_PER_CONNECTION_DEFAULT);
        if !(1..=STREAMS_PER_CONNECTION_MAX).contains(&streams) {
            let reason = format!("{streams} is not between 1 and {STREAMS_PER_CONNECTION_MAX}");
            return Err(self.refuse("limits.streams-per-connection", reason));
        }
        Ok(ShareLimits {
            exchanges_per_address: positive(
                "limits.exchanges-per-address",
                written.exchanges_per_address,
                EXCHANGES_PER_ADDRESS_DEFAULT,
            )?,
            connections_per_address: positive(
                "limits.connections-per-address",
                written.connections_per_address,
                visitors.div_ceil(CONNECTIONS_PER_ADDRESS_PART),
            )?,
            streams_per_connection: streams,
            address_share: share(
                "limits.address-share",
                written.address_share,
                ADDRESS_SHARE_DEFAULT,
            )?,
            tunnel_share: share("limits.tunnel-share", written.tunnel_share, TUNNEL_SHARE_DEFAULT)?,
        })
    }

    pub(super) fn duration(
        &self,
        key: &'static str,
        text: &str,
        min: Duration,
        max: Duration,
    ) -> Result<Duration, ConfigError> {
        let value = units::duration(text).map_err(|reason| self.refuse(key, reason))?;
        if (min..=max).contains(&value) {
            return Ok(value);
        }
        let (min, max) = (units::show(min), units::show(max));
        Err(self.refuse(key, format!("{text:?} is not from {min} to {max}")))
    }
}

/// Half of what this process may use: the rest is for the kernel's socket buffers and everybody else.
fn memory_bytes_default() -> u64 {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()?
            .checked_mul(1 << 10)
    });
    let smallest = [group, machine].into_iter().flatten().min();
    smallest.map_or(MEMORY_BYTES_FALLBACK, |bytes| (bytes / 2).max(MEMORY_BYTES_MIN))
}
