//! The section `quick-tunnels` of `control.yml`.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use adit_control_api::Hostname;
use serde::Deserialize;
use serde_json::Value;

use super::{ConfigError, Fields};

/// Keys of the section.
pub(super) const KEYS: [&str; 7] = [
    "domain",
    "edges",
    "expires-after",
    "idle-after",
    "max",
    "per-address",
    "trusted-proxies",
];

const EXPIRES_AFTER_DEFAULT: Duration = Duration::from_secs(24 * 3600);
const IDLE_AFTER_DEFAULT: Duration = Duration::from_secs(3600);
const TUNNELS_MAX_DEFAULT: u32 = 1_000;
const PER_ADDRESS_DEFAULT: u32 = 10;

/// Shortest and longest life in seconds: for more, a named tunnel is meant.
const LIFETIME: std::ops::RangeInclusive<u64> = 1..=31 * 24 * 3600;

/// How quick tunnels are offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuickTunnels {
    /// Their hostnames lie below it.
    pub domain: Hostname,
    /// How long one lives.
    pub expires_after: Duration,
    /// How long one may be without a connection.
    pub idle_after: Duration,
    /// How many there may be.
    pub tunnels_max: usize,
    /// How many one address may create in an hour.
    pub per_address: u32,
    /// Who may say on whose behalf it asks.
    pub trusted_proxies: Vec<IpAddr>,
    /// Told to connectors that know no edge.
    pub edges: Vec<String>,
}

/// The section as written.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Section {
    domain: Option<Value>,
    expires_after: Option<Value>,
    idle_after: Option<Value>,
    max: Option<Value>,
    per_address: Option<Value>,
    trusted_proxies: Option<Value>,
    edges: Option<Value>,
}

impl Fields<'_> {
    pub(super) fn quick_tunnels(
        &self,
        written: Option<Section>,
    ) -> Result<Option<QuickTunnels>, ConfigError> {
        let Some(written) = written else {
            return Ok(None);
        };
        let domain = written.domain.unwrap_or(Value::Null);
        let parsed = domain.as_str().and_then(|text| text.parse().ok());
        let expires_after = self.lifetime(
            "quick-tunnels.expires-after",
            written.expires_after,
            EXPIRES_AFTER_DEFAULT,
        )?;
        Ok(Some(QuickTunnels {
            domain: parsed.ok_or_else(|| {
                let reason = format!("{domain} is not a domain; write it as try.example.com");
                self.bad("quick-tunnels.domain", reason)
            })?,
            expires_after,
            idle_after: self.lifetime("quick-tunnels.idle-after", written.idle_after, IDLE_AFTER_DEFAULT)?,
            tunnels_max: self.count("quick-tunnels.max", written.max, TUNNELS_MAX_DEFAULT)? as usize,
            per_address: self.count(
                "quick-tunnels.per-address",
                written.per_address,
                PER_ADDRESS_DEFAULT,
            )?,
            trusted_proxies: self.texts(
                "quick-tunnels.trusted-proxies",
                "addresses",
                written.trusted_proxies,
                |text| text.parse().ok(),
            )?,
            edges: self.texts("quick-tunnels.edges", "HOST:PORT", written.edges, |text| {
                let (host, port) = text.rsplit_once(':')?;
                (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| text.to_owned())
            })?,
        }))
    }

    fn lifetime(
        &self,
        key: &'static str,
        value: Option<Value>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(value) = value else {
            return Ok(default);
        };
        value
            .as_str()
            .and_then(seconds)
            .filter(|seconds| LIFETIME.contains(seconds))
            .map(Duration::from_secs)
            .ok_or_else(|| {
                let written = value.to_string();
                let digits = written.trim_matches('"');
                let reason = if digits.parse::<u64>().is_ok() {
                    format!("{value} has no unit; write {digits}s, {digits}m, {digits}h or {digits}d")
                } else {
                    format!("{value} is not a time from 1s to 31d, such as 24h")
                };
                self.bad(key, reason)
            })
    }

    fn count(&self, key: &'static str, value: Option<Value>, default: u32) -> Result<u32, ConfigError> {
        let Some(value) = value else {
            return Ok(default);
        };
        value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .filter(|number| (1..=10_000).contains(number))
            .ok_or_else(|| self.bad(key, format!("{value} is not a number from 1 to 10000")))
    }

    fn texts<T>(
        &self,
        key: &'static str,
        kind: &str,
        value: Option<Value>,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ConfigError> {
        let value = value.unwrap_or_else(|| Value::Array(Vec::new()));
        let items = value.as_array().into_iter().flatten();
        let parsed: Option<Vec<T>> = items.map(|item| item.as_str().and_then(&parse)).collect();
        parsed
            .filter(|_| value.is_array())
            .ok_or_else(|| self.bad(key, format!("{value} is not a list of {kind}")))
    }
}

/// A number with a unit: `90s`, `30m`, `24h` or `7d`.
fn seconds(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return None,
    })
}

/// The section as YAML.
impl fmt::Display for QuickTunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proxies: Vec<String> = self.trusted_proxies.iter().map(IpAddr::to_string).collect();
        writeln!(f, "quick-tunnels:")?;
        writeln!(f, "  domain: {}", Value::String(self.domain.to_string()))?;
        writeln!(f, "  expires-after: {}s", self.expires_after.as_secs())?;
        writeln!(f, "  idle-after: {}s", self.idle_after.as_secs())?;
        writeln!(f, "  max: {}", self.tunnels_max)?;
        writeln!(f, "  per-address: {}", self.per_address)?;
        writeln!(f, "  trusted-proxies: {}", serde_json::json!(proxies))?;
        writeln!(f, "  edges: {}", serde_json::json!(self.edges))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/adit/control.yml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_domain_is_enough_and_a_resolved_section_reads_back_the_same() {
        let config = parse("quick-tunnels: {domain: Try.Example.Test}").unwrap();
        let quick = config.quick_tunnels.clone().unwrap();
        assert_eq!(quick.domain.to_string(), "try.example.test");
        assert_eq!(quick.expires_after.as_secs(), 86400);
        assert_eq!(parse(&config.to_string()), Ok(config));
        let full = "quick-tunnels: {domain: a.test, expires-after: 7d, idle-after: 90s, max: 5, per-address: 2, \
                    trusted-proxies: ['::1'], edges: ['[::1]:7844', 'edge.test:443']}";
        let config = parse(full).unwrap();
        assert_eq!(config.quick_tunnels.as_ref().unwrap().edges.len(), 2);
        assert_eq!(parse(&config.to_string()), Ok(config));
    }

    #[test]
    fn bad_values_name_their_key() {
        for (inner, key) in [
            ("max: 3", "quick-tunnels.domain: "),
            ("domain: 'not a domain'", "quick-tunnels.domain: "),
            (
                "domain: a.test, expires-after: 24",
                "quick-tunnels.expires-after: 24 has no unit; write 24s",
            ),
            (
                "domain: a.test, expires-after: 1y",
                "quick-tunnels.expires-after: ",
            ),
            ("domain: a.test, idle-after: 0s", "quick-tunnels.idle-after: "),
            ("domain: a.test, max: 0", "quick-tunnels.max: "),
            ("domain: a.test, per-address: many", "quick-tunnels.per-address: "),
            (
                "domain: a.test, trusted-proxies: ['10.0.0.0/8']",
                "quick-tunnels.trusted-proxies: ",
            ),
            ("domain: a.test, edges: 'e:1'", "quick-tunnels.edges: "),
            ("domain: a.test, edges: [e]", "quick-tunnels.edges: "),
            ("domian: a.test", "did you mean \"domain\"?"),
        ] {
            let error = parse(&format!("quick-tunnels: {{{inner}}}")).unwrap_err();
            assert!(error.contains(key), "{inner}: {error}");
        }
        assert!(
            parse("quick-tunnels: try.example.test")
                .unwrap_err()
                .contains("quick-tunnels: write it as")
        );
    }
}
