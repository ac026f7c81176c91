//! `edge.yml` as written. Absent keys stay absent here; [`super::resolve`] knows the defaults.

use std::path::Path;

use serde::Deserialize;

use super::ConfigError;

/// A known key is suggested when it is at least this alike (Jaro-Winkler, 0 to 1).
const ALIKE_MIN: f64 = 0.75;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: Option<String>,
    pub(super) colo: Option<String>,
    pub(super) region: Option<String>,
    pub(super) location: Option<String>,
    pub(super) listeners: Option<Listeners>,
    pub(super) certificates: Option<Vec<Certificate>>,
    pub(super) control: Option<Control>,
    pub(super) state_dir: Option<String>,
    pub(super) cores: Option<usize>,
    pub(super) cpus: Option<Cpus>,
    pub(super) io: Option<String>,
    pub(super) limits: Option<Limits>,
    pub(super) ejection: Option<Ejection>,
    pub(super) management: Option<Management>,
    pub(super) passthrough: Option<Vec<Passthrough>>,
    pub(super) tunnels_on_https: Option<bool>,
    pub(super) trusted_proxies: Option<Vec<String>>,
    pub(super) access_log: Option<String>,
    pub(super) grace_period: Option<String>,
}

/// `management:`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Management {
    pub(super) hostname: Option<String>,
    pub(super) connector_hostname: Option<String>,
}

/// `cpus:`, one or several.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "cpus must be a CPU, a text such as \"0-3,8\", or a list of such"
)]
pub(super) enum Cpus {
    Part(CpuPart),
    List(Vec<CpuPart>),
}

/// A CPU, or a text of several.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum CpuPart {
    Number(u64),
    Text(String),
}

impl CpuPart {
    /// As it would stand in a text.
    pub(super) fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

/// `listeners:`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Listeners {
    pub(super) tunnel: Option<String>,
    pub(super) tunnel_http2: Option<Vec<String>>,
    pub(super) http: Option<Vec<HttpEntry>>,
    pub(super) https: Option<Vec<HttpEntry>>,
    pub(super) tcp: Option<Vec<TcpEntry>>,
    pub(super) admin: Option<String>,
}

/// One entry of `listeners.tcp`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct TcpEntry {
    pub(super) listen: String,
    pub(super) hostname: String,
    #[serde(default)]
    pub(super) accept_proxy: bool,
    pub(super) send_proxy: Option<String>,
}

/// One entry of `listeners.http` or `listeners.https`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an entry must be an address such as \"[::]:443\", or {listen: ADDRESS, accept-proxy: true}"
)]
pub(super) enum HttpEntry {
    Address(String),
    Table(HttpTable),
}

/// Such an entry with settings.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct HttpTable {
    pub(super) listen: String,
    #[serde(default)]
    pub(super) accept_proxy: bool,
}

/// One entry of `passthrough`.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "an entry must be a hostname, or {hostname: NAME, send-proxy: v2}"
)]
pub(super) enum Passthrough {
    Name(String),
    Table(PassthroughTable),
}

/// Such an entry with settings.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct PassthroughTable {
    pub(super) hostname: String,
    pub(super) send_proxy: Option<String>,
}

/// One entry of `certificates:`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Certificate {
    pub(super) cert: String,
    pub(super) key: String,
}

/// `control:`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Control {
    pub(super) socket: Option<String>,
    pub(super) address: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) cert: Option<String>,
    pub(super) key: Option<String>,
}

/// `limits:`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) idle_timeout: Option<String>,
    pub(super) response_head_timeout: Option<String>,
    pub(super) send_timeout: Option<String>,
    pub(super) reconnect_wait: Option<String>,
    pub(super) memory: Option<String>,
    pub(super) visitor_connections: Option<usize>,
    pub(super) exchanges_per_address: Option<usize>,
    pub(super) connections_per_address: Option<usize>,
    pub(super) streams_per_connection: Option<u32>,
    pub(super) address_share: Option<u8>,
    pub(super) tunnel_share: Option<u8>,
}

/// `ejection:`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Ejection {
    pub(super) failures_in_a_row: Option<u32>,
    pub(super) failure_percent: Option<u32>,
    pub(super) share_percent: Option<u32>,
    pub(super) time: Option<String>,
    pub(super) time_max: Option<String>,
    pub(super) slow_start: Option<String>,
}

/// Reads the text of a file; an empty one is valid.
pub(super) fn parse(file: &Path, text: &str) -> Result<File, ConfigError> {
    // The parser would call an empty file an unexpected end; it only lacks everything.
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
    {
        return Ok(File::default());
    }
    let mut place = None;
    let read = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        serde_path_to_error::deserialize(deserializer).map_err(|error| {
            place = Some(error.path().to_string());
            error.into_inner()
        })
    });
    read.map_err(|error| refuse(file, place.as_deref(), &error))
}

/// `place` is the path of the key that was being read.
fn refuse(file: &Path, place: Option<&str>, error: &serde_saphyr::Error) -> ConfigError {
    let file = file.to_owned();
    let bare = error.without_snippet();
    if let serde_saphyr::Error::SerdeUnknownField {
        field,
        expected,
        location,
    } = bare
    {
        let hint = hint(field, expected);
        return ConfigError::UnknownKey {
            file,
            line: location.line(),
            key: field.clone(),
            hint,
        };
    }
    let told = if let serde_saphyr::Error::InvalidScalar { ty, location } = bare {
        format!("{} is needed at line {}", kind(ty), location.line())
    } else {
        bare.render_with_formatter(&serde_saphyr::UserMessageFormatter)
    };
    let reason = match place {
        // "." is the file as a whole, and "?" is within a key.
        Some(place) if !matches!(place, "." | "?") => format!("{place}: {told}"),
        Some(_) | None => told,
    };
    ConfigError::Yaml { file, reason }
}

/// What a type of ours is called in a file.
fn kind(rust: &str) -> &str {
    match rust {
        "u64" | "usize" | "u32" | "u16" => "a whole number",
        "bool" => "true or false",
        other => other,
    }
}

fn hint(key: &str, known: &[&'static str]) -> String {
    let alike = |name: &&str| strsim::jaro_winkler(key, name);
    let nearest = known.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest {
        Some(name) if alike(&name) >= ALIKE_MIN => format!("did you mean {name:?}?"),
        _ => format!("known keys here: {}", known.join(", ")),
    }
}
