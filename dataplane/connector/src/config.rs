//! The configuration of a connector: flags and `config.yml` merged, checked and complete.
//!
//! ```text
//! Flags (command line, environment) ─┐
//! config.yml ────────────────────────┴─► resolve ─► Config ─► run
//! ```
//! Precedence: flag, environment, file, default. Files are read here, once; nothing is dialled or resolved.
//!
//! Source: cloudflared `cmd/cloudflared/tunnel/configuration.go`, `config/configuration.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit_driver::core::{CORES_MAX, default_count};
use adit_driver::cpus::Cpus;
use adit_driver::kernel::IoChoice;
use adit_proto::flow_policy::FlowPolicy;
use adit_proto::ingress::Ingress;
use adit_proto::ingress::service::OriginService;
use adit_proto::ingress::settings::OriginSettings;
use adit_proto::limits::{IDLE_PING_INTERVAL, IDLE_PING_INTERVAL_MAX};
use adit_proto::supervisor::Transport;
use adit_wire::Hostname;
use adit_wire::registration::feature;
use http::{HeaderName, HeaderValue};
use rustls::RootCertStore;

use self::file::File;
use self::keys::Oddity;
use self::source::Source;
use self::transport::IpVersion;

pub(crate) mod duration;
mod error;
mod file;
mod flags;
mod flows;
mod identity;
pub mod ingress_file;
mod keys;
mod management;
mod proxy;
pub(crate) mod remote;
mod rules;
pub(crate) mod source;
pub(crate) mod transport;
pub(crate) mod trust;

use crate::edge_proxy::EdgeProxy;

pub use error::ConfigError;
pub use flags::{Flags, QuickTunnel};
pub use identity::Identity;
pub(crate) use management::ManagementSettings;
use management::{HOSTNAME, SERVICE_ADDRESS};

/// Longest grace period.
pub const GRACE_PERIOD_MAX: Duration = Duration::from_secs(3 * 60);

/// Grace period when nobody says otherwise.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// Shortest interval of PINGs on an idle connection: what stock connectors do.
const IDLE_PING_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Connections when nobody says otherwise.
const CONNECTIONS: usize = 4;

/// Doublings of the wait between attempts when nobody says otherwise.
const RETRIES: u32 = 5;

/// Limit of one call to an edge when nobody says otherwise.
const RPC_TIMEOUT: Duration = Duration::from_secs(5);

/// Features that need what this connector does not do, even if somebody asks to offer them.
const UNSUPPORTED_FEATURES: &[&str] = &[
    feature::DATAGRAM_V2,
    feature::DATAGRAM_V3,
    "support_datagram_v3",
    "support_datagram_v3_1",
];

/// A complete configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub(crate) identity: Identity,
    /// Where visitors reach a quick tunnel.
    pub(crate) quick_hostname: Option<String>,
    pub(crate) ingress: Ingress,
    /// Whether anybody said what `ingress` is.
    pub(crate) has_rules: bool,
    /// What edges may have dialled by naming it.
    pub(crate) flows: FlowPolicy,
    /// `host:port` in the given order.
    pub(crate) edges: Vec<String>,
    /// Through which they are reached.
    pub(crate) proxy: Option<EdgeProxy>,
    pub(crate) cacert: Option<PathBuf>,
    /// More of the same, in PEM.
    pub(crate) quick_ca: Option<String>,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) ip_version: IpVersion,
    pub(crate) transport: Transport,
    pub(crate) dial_failures_max: u32,
    pub(crate) connections: usize,
    pub(crate) readiness: Readiness,
    pub(crate) retries: u32,
    pub(crate) rpc_timeout: Duration,
    pub(crate) grace_period: Duration,
    pub(crate) idle_ping_interval: Duration,
    pub(crate) features: Vec<String>,
    pub(crate) tags: Vec<(HeaderName, HeaderValue)>,
    pub(crate) is_post_quantum: bool,
    pub(crate) management: ManagementSettings,
    /// `None` for the default ports.
    pub(crate) metrics: Option<String>,
    pub(crate) pidfile: Option<PathBuf>,
    pub(crate) log_file: Option<PathBuf>,
    pub(crate) addresses_file: Option<PathBuf>,
    pub(crate) io: IoChoice,
    /// `None` for one on each of `cpus`.
    pub(crate) cores: Option<usize>,
    /// `None` for those this process may use.
    pub(crate) cpus: Option<Cpus>,
    pub(crate) reported_flags: BTreeMap<&'static str, String>,
    /// Reload when the file changes.
    pub(crate) is_watched: bool,
    /// Take commands from standard input.
    pub(crate) has_stdin_control: bool,
    source: Source,
    warnings: Vec<String>,
    /// Unknown keys for which known ones are meant.
    slips: Vec<String>,
}

impl Config {
    /// Reads the file that `flags` name, or a default one, and checks everything.
    ///
    /// # Errors
    /// [`ConfigError`], the first one found.
    pub fn resolve(flags: Flags) -> Result<Self, ConfigError> {
        let file = File::find(flags.config.as_deref())?;
        Self::usable(&file, flags)
    }

    /// Checks a text as if it stood in `file`, together with `flags`. Does not open the certificates it
    /// names.
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn parse(file: &Path, text: &str, flags: Flags) -> Result<Self, ConfigError> {
        Self::complete(&File::parse(file, text)?, flags)
    }

    /// With every certificate that exchanges will need.
    fn usable(file: &File, flags: Flags) -> Result<Self, ConfigError> {
        let config = Self::complete(file, flags)?;
        check_pools(&config.ingress)?;
        Ok(config)
    }

    fn complete(file: &File, flags: Flags) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let mut slips = Vec::new();
        let source = Source {
            flags: flags.clone(),
            file: file.clone(),
        };
        let flags = file.complete(flags).map_err(|error| file.blame(error))?;
        // What runs comes before where it goes: a wrong token is told also where no edge is named yet.
        let identity = Identity::find(&flags)?;
        let edges = edges(&flags)?;
        let transport = transport::transport(flags.protocol.as_deref(), &mut warnings)?;
        let (proxy, transport) = proxy::find(&flags, &edges, transport, &mut warnings)?;
        let flows = flows(file, &mut warnings, &mut slips)?;
        let ingress = ingress(file, &flags, &mut warnings, &mut slips)?;
        Ok(Self {
            identity,
            has_rules: ingress.is_some(),
            ingress: ingress.unwrap_or_else(remote::default_ingress),
            flows,
            edges,
            proxy,
            cacert: flags.cacert.as_deref().map(file::expand),
            quick_ca: flags.quick.as_ref().and_then(|quick| quick.ca.clone()),
            quick_hostname: flags.quick.as_ref().map(|quick| quick.hostname.clone()),
            bind: flags.edge_bind_address,
            ip_version: transport::ip_version(flags.edge_ip_version.as_deref(), flags.edge_bind_address)?,
            transport,
            dial_failures_max: transport::dial_failures(flags.max_edge_addr_retries),
            connections: at_least_one("ha-connections", flags.ha_connections)?.unwrap_or(CONNECTIONS),
            readiness: Readiness {
                connections: at_least_one("ready-connections", flags.ready_connections)?.unwrap_or(1),
                locations: at_least_one("ready-locations", flags.ready_locations)?.unwrap_or(1),
            },
            retries: flags.retries.unwrap_or(RETRIES),
            rpc_timeout: flags.rpc_timeout.unwrap_or(RPC_TIMEOUT),
            grace_period: grace_period(flags.grace_period)?,
            idle_ping_interval: idle_ping_interval(flags.idle_ping_interval)?,
            features: features(&flags),
            tags: flags
                .tag
                .iter()
                .map(|tag| tag_header(tag))
                .collect::<Result<_, _>>()?,
            is_post_quantum: flags.post_quantum == Some(true),
            reported_flags: reported(&flags),
            management: management(&flags)?,
            metrics: flags.metrics,
            pidfile: flags.pidfile.as_deref().map(file::expand),
            log_file: flags.log_file,
            addresses_file: flags.addresses_file,
            io: flags.io.unwrap_or(IoChoice::Auto),
            cores: at_least_one("cores", flags.cores)?.map(|count| count.min(CORES_MAX)),
            cpus: flags.cpus,
            is_watched: flags.config_watch.unwrap_or(true),
            has_stdin_control: flags.stdin_control == Some(true),
            source,
            warnings,
            slips,
        })
    }

    /// Checks what only [`run`](crate::run) reads otherwise. Refuses a slip about which `run` would only
    /// warn.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.slips.is_empty() {
            let error = ConfigError::Misspelled {
                keys: self.slips.join(", "),
            };
            return Err(self.source.file.blame(error));
        }
        self.roots().map(drop)
    }

    /// Who may sign an edge's certificate.
    pub(crate) fn roots(&self) -> Result<RootCertStore, ConfigError> {
        let mut roots = trust::roots(self.cacert.as_deref())?;
        if let Some(pem) = &self.quick_ca {
            trust::add_pem(&mut roots, pem)?;
        }
        Ok(roots)
    }

    /// How many cores are wanted: as many as was said, else one on each CPU that was named, else on each that
    /// this process may use.
    pub(crate) fn core_count(&self) -> usize {
        let named = || self.cpus.as_ref().map(|cpus| cpus.len().min(CORES_MAX));
        self.cores.or_else(named).unwrap_or_else(default_count)
    }

    /// What is odd but does not stop the connector, one text each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

/// Whether every `caPool` can be used.
fn check_pools(ingress: &Ingress) -> Result<(), ConfigError> {
    let pools = ingress
        .rules()
        .iter()
        .filter_map(|rule| rule.settings.ca_pool.as_deref());
    let distinct: BTreeSet<&Path> = pools.collect();
    distinct
        .into_iter()
        .try_for_each(|pool| trust::add(&mut RootCertStore::empty(), pool))
}

/// What edges may have dialled by naming it.
fn flows(
    file: &File,
    warnings: &mut Vec<String>,
    slips: &mut Vec<String>,
) -> Result<FlowPolicy, ConfigError> {
    let mut ignored_keys = Vec::new();
    let flows = flows::read(file.keys(), &mut ignored_keys).map_err(|error| file.blame(error))?;
    note(
        warnings,
        slips,
        "key of warp-routing without effect",
        ignored_keys,
    );
    Ok(flows)
}

/// What is served, if anybody said it.
fn ingress(
    file: &File,
    flags: &Flags,
    warnings: &mut Vec<String>,
    slips: &mut Vec<String>,
) -> Result<Option<Ingress>, ConfigError> {
    note(
        warnings,
        slips,
        "unknown key in the configuration file",
        file.unknown(),
    );
    let mut ignored_keys = Vec::new();
    let from_file =
        rules::read(file.keys(), &flags.origin, &mut ignored_keys).map_err(|error| file.blame(error))?;
    note(
        warnings,
        slips,
        "key of an ingress rule without effect",
        ignored_keys,
    );
    match from_file {
        Some(ingress) => Ok(Some(ingress)),
        None => ingress_of_flags(flags, warnings),
    }
}

/// Files oddities under what is told at the start, and slips also under what fails a check.
fn note(warnings: &mut Vec<String>, slips: &mut Vec<String>, what: &str, oddities: Vec<Oddity>) {
    for oddity in oddities {
        warnings.push(format!("{what}: {}", oddity.text));
        if oddity.is_slip {
            slips.push(oddity.text);
        }
    }
}

/// What is served when no file has rules, if anybody said it.
fn ingress_of_flags(flags: &Flags, warnings: &mut Vec<String>) -> Result<Option<Ingress>, ConfigError> {
    let mut settings = OriginSettings::default().with(&flags.origin);
    if flags.socks5 == Some(true) {
        "socks".clone_into(&mut settings.proxy_type);
    }
    if flags.hello_world == Some(true) {
        return Ok(Some(Ingress::single(OriginService::HelloWorld, settings)));
    }
    if flags.bastion == Some(true) {
        return Ok(Some(Ingress::single(OriginService::Bastion, settings)));
    }
    if let Some(url) = &flags.url {
        let service = OriginService::parse_flag(url).map_err(ConfigError::OriginUrl)?;
        return Ok(Some(Ingress::single(service, settings)));
    }
    if let Some(path) = &flags.unix_socket {
        let service = format!("unix:{}", path.strip_prefix("unix:").unwrap_or(path));
        let service = OriginService::parse(&service).map_err(|source| ConfigError::Origin {
            key: "unix-socket",
            source,
        })?;
        return Ok(Some(Ingress::single(service, settings)));
    }
    // With a token, rules usually come from the edge.
    if flags.token.is_none() && flags.token_file.is_none() {
        let text = "No ingress rules were defined in provided config (if any) nor from the cli, the connector will return 503 for all incoming HTTP requests";
        warnings.push(text.to_owned());
    }
    Ok(None)
}

fn edges(flags: &Flags) -> Result<Vec<String>, ConfigError> {
    let given = match &flags.quick {
        Some(quick) if flags.edge.is_empty() => &quick.edges,
        Some(_) | None => &flags.edge,
    };
    if given.is_empty() {
        return Err(ConfigError::NoEdge);
    }
    for edge in given {
        let port = edge.rsplit_once(':').filter(|(host, _)| !host.is_empty());
        if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(invalid(
                "edge",
                edge,
                "an address with a port is needed, such as edge.example.com:7844",
            ));
        }
    }
    Ok(given.clone())
}

fn grace_period(given: Option<Duration>) -> Result<Duration, ConfigError> {
    match given {
        Some(period) if period > GRACE_PERIOD_MAX => {
            let why = "grace-period must be equal or less than 3m0s";
            Err(invalid("grace-period", &format!("{period:?}"), why))
        }
        Some(period) => Ok(period),
        None => Ok(GRACE_PERIOD),
    }
}

/// What makes a connector ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness {
    /// Registered connections.
    pub(crate) connections: usize,
    /// Different locations that their edges name.
    pub(crate) locations: usize,
}

fn management(flags: &Flags) -> Result<ManagementSettings, ConfigError> {
    let hostname = flags.management_hostname.as_deref().unwrap_or(HOSTNAME);
    let parsed: Result<Hostname, _> = hostname.parse();
    let parsed = parsed.map_err(|error| invalid("management-hostname", hostname, &error.to_string()))?;
    Ok(ManagementSettings {
        hostname: parsed.as_str().to_owned(),
        label: flags.label.clone().filter(|label| !label.is_empty()),
        service_address: flags
            .service_op_ip
            .clone()
            .unwrap_or_else(|| SERVICE_ADDRESS.to_owned()),
        edges: Vec::new(),
    })
}

fn idle_ping_interval(given: Option<Duration>) -> Result<Duration, ConfigError> {
    match given {
        Some(interval) if !(IDLE_PING_INTERVAL_MIN..=IDLE_PING_INTERVAL_MAX).contains(&interval) => {
            Err(invalid(
                "idle-ping-interval",
                &format!("{interval:?}"),
                "it must be from 1s to 5m",
            ))
        }
        Some(interval) => Ok(interval),
        None => Ok(IDLE_PING_INTERVAL),
    }
}

fn at_least_one(flag: &str, given: Option<usize>) -> Result<Option<usize>, ConfigError> {
    match given {
        Some(0) => Err(invalid(flag, "0", "it must be at least 1")),
        Some(_) | None => Ok(given),
    }
}

fn features(flags: &Flags) -> Vec<String> {
    let mut features = vec![
        feature::ALLOW_REMOTE_CONFIG.to_owned(),
        feature::SERIALIZED_HEADERS.to_owned(),
        feature::QUIC_EOF.to_owned(),
        feature::MANAGEMENT_LOGS.to_owned(),
    ];
    if flags.post_quantum == Some(true) {
        features.push(feature::POST_QUANTUM.to_owned());
    }
    for extra in &flags.features {
        if !UNSUPPORTED_FEATURES.contains(&extra.as_str()) && !features.contains(extra) {
            features.push(extra.clone());
        }
    }
    features
}

fn tag_header(tag: &str) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let parsed = tag.split_once('=').and_then(|(name, value)| {
        let name = HeaderName::try_from(format!("cf-warp-tag-{}", name.trim())).ok()?;
        Some((name, HeaderValue::from_str(value.trim()).ok()?))
    });
    parsed.ok_or_else(|| invalid("tag", tag, "NAME=VALUE is needed, fit for a header"))
}

fn reported(flags: &Flags) -> BTreeMap<&'static str, String> {
    let path = |path: &Option<PathBuf>| path.as_deref().map(Path::display).map(|path| path.to_string());
    [
        ("retries", flags.retries.map(|retries| retries.to_string())),
        ("protocol", flags.protocol.clone()),
        ("loglevel", flags.loglevel.clone()),
        ("origincert", path(&flags.origincert)),
        ("metrics", flags.metrics.clone()),
        (
            "edge-bind-address",
            flags.edge_bind_address.map(|address| address.to_string()),
        ),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn invalid(key: &str, value: &str, why: &str) -> ConfigError {
    ConfigError::Value {
        key: key.to_owned(),
        value: value.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests;
