//! How the addresses of one origin are used: the keys of `originRequest` about several addresses and limits.
//!
//! [`PoolText`] is what a document says, layer by layer. [`PoolSettings`] is what holds, complete and
//! checked.

use std::sync::Arc;
use std::time::Duration;

use crate::ingress::IngressError;
use crate::ingress::address::OriginAddress;
use crate::ingress::service::OriginService;

/// Most addresses of one origin: choosing looks at each of them.
pub const ADDRESSES_MAX: usize = 64;

/// Most exchanges that may wait for one origin.
pub const PENDING_MAX: u64 = 65_536;

/// Exchanges that may wait unless `maxPending` says otherwise.
const PENDING_DEFAULT: usize = 128;

/// How long they wait unless `pendingTimeout` says otherwise.
const PENDING_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Failures in a row that take an address out unless `maxFails` says otherwise.
const FAILS_DEFAULT: u32 = 3;

/// How long it is out unless `failTimeout` says otherwise.
const FAIL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Range of every duration here.
const DURATION_MIN: Duration = Duration::from_millis(100);
const DURATION_MAX: Duration = Duration::from_secs(3600);

/// Unless `healthCheck` says otherwise.
const CHECK_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
const CHECK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Which of several addresses is next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Balancing {
    /// The one with the fewest exchanges under way; equals take turns.
    #[default]
    LeastConnections,
    /// Each in its turn.
    RoundRobin,
    /// The one with fewer exchanges of two random ones.
    RandomTwo,
}

/// What counts as a failure of an address; each includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum FailOn {
    /// It cannot be connected to.
    Connect,
    /// It hangs up without an answer.
    #[default]
    NoAnswer,
    /// It answers with a status of 500 or above.
    ServerError,
}

/// How an address is asked whether it works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked for; `None` where connecting is all, as at TCP services.
    pub path: Option<Box<str>>,
    /// Time between two checks of an address.
    pub interval: Duration,
    /// Time for one.
    pub timeout: Duration,
    /// Statuses of a good answer: first and last of each range.
    pub expected: Box<[(u16, u16)]>,
}

/// What holds for the addresses of one origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// The service's own first; never empty.
    pub addresses: Vec<Arc<OriginAddress>>,
    /// Which one is next.
    pub balancing: Balancing,
    /// Failures in a row that take an address out.
    pub fails_max: u32,
    /// How long it is out the first time.
    pub fail_timeout: Duration,
    /// What a failure is.
    pub fail_on: FailOn,
    /// Exchanges with one address at once.
    pub connections_max: Option<u32>,
    /// Exchanges with all addresses together at once.
    pub requests_max: Option<u32>,
    /// Exchanges that may wait.
    pub pending_max: usize,
    /// How long one may wait.
    pub pending_timeout: Duration,
    /// How addresses are checked, if they are.
    pub check: Option<HealthCheck>,
}

/// `circuitBreaker` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BreakerText {
    /// See [`PoolSettings::requests_max`]; 0 for no limit.
    pub max_requests: Option<u64>,
    /// See [`PoolSettings::pending_max`].
    pub max_pending: Option<u64>,
    /// See [`PoolSettings::pending_timeout`].
    pub pending_timeout: Option<Duration>,
}

/// `healthCheck` as written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckText {
    /// See [`HealthCheck::path`].
    pub path: Option<String>,
    /// See [`HealthCheck::interval`].
    pub interval: Option<Duration>,
    /// See [`HealthCheck::timeout`].
    pub timeout: Option<Duration>,
    /// Statuses and ranges between commas.
    pub expected_status: Option<String>,
}

/// What one layer of a document says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolText {
    /// Addresses beside the service's own.
    pub addresses: Option<Arc<[String]>>,
    /// See [`PoolSettings::balancing`].
    pub balancing: Option<String>,
    /// See [`PoolSettings::fails_max`].
    pub max_fails: Option<u64>,
    /// See [`PoolSettings::fail_timeout`].
    pub fail_timeout: Option<Duration>,
    /// See [`PoolSettings::fail_on`].
    pub fail_on: Option<String>,
    /// See [`PoolSettings::connections_max`]; 0 for no limit.
    pub max_connections: Option<u64>,
    /// Replaced as a whole.
    pub breaker: Option<Arc<BreakerText>>,
    /// Replaced as a whole.
    pub check: Option<Arc<CheckText>>,
}

impl PoolText {
    /// These keys where `layer` says nothing, and `layer` where it says something.
    #[must_use]
    pub fn with(self, layer: &Self) -> Self {
        let layer = layer.clone();
        Self {
            addresses: layer.addresses.or(self.addresses),
            balancing: layer.balancing.or(self.balancing),
            max_fails: layer.max_fails.or(self.max_fails),
            fail_timeout: layer.fail_timeout.or(self.fail_timeout),
            fail_on: layer.fail_on.or(self.fail_on),
            max_connections: layer.max_connections.or(self.max_connections),
            breaker: layer.breaker.or(self.breaker),
            check: layer.check.or(self.check),
        }
    }

    /// Whether anything asks for more than one address without limits.
    fn is_used(&self) -> bool {
        self.addresses
            .as_ref()
            .is_some_and(|addresses| !addresses.is_empty())
            || self.max_connections.is_some_and(|max| max > 0)
            || self.breaker.is_some()
            || self.check.is_some()
    }
}

impl PoolSettings {
    /// The settings of a rule; `None` if it does without, or if its service has no address.
    ///
    /// # Errors
    /// [`IngressError::Pool`], which names the key.
    pub fn parse(text: &PoolText, service: &OriginService) -> Result<Option<Self>, IngressError> {
        if !text.is_used() {
            return Ok(None);
        }
        let Some(own) = OriginAddress::of(service) else {
            return Ok(None);
        };
        let breaker = text.breaker.as_deref().cloned().unwrap_or_default();
        let pending_max = match breaker.max_pending {
            None => PENDING_DEFAULT,
            Some(count) if count <= PENDING_MAX => usize::try_from(count).unwrap_or(PENDING_DEFAULT),
            Some(count) => {
                let why = format!("at most {PENDING_MAX} may wait");
                return Err(invalid("circuitBreaker.maxPending", count, why));
            }
        };
        let check = text.check.as_deref();
        Ok(Some(Self {
            addresses: addresses(own, text.addresses.as_deref().unwrap_or_default())?,
            balancing: balancing(text.balancing.as_deref())?,
            fails_max: fails_max(text.max_fails)?,
            fail_timeout: duration("failTimeout", text.fail_timeout, FAIL_TIMEOUT_DEFAULT)?,
            fail_on: fail_on(text.fail_on.as_deref())?,
            connections_max: limit("maxConnections", text.max_connections)?,
            requests_max: limit("circuitBreaker.maxRequests", breaker.max_requests)?,
            pending_max,
            pending_timeout: duration(
                "circuitBreaker.pendingTimeout",
                breaker.pending_timeout,
                PENDING_TIMEOUT_DEFAULT,
            )?,
            check: check.map(|text| health_check(text, service)).transpose()?,
        }))
    }
}

fn invalid(key: &'static str, value: impl ToString, why: impl Into<String>) -> IngressError {
    IngressError::Pool {
        key,
        value: value.to_string(),
        why: why.into(),
    }
}

fn addresses(own: OriginAddress, texts: &[String]) -> Result<Vec<Arc<OriginAddress>>, IngressError> {
    const KEY: &str = "originAddresses";
    let mut addresses = vec![Arc::new(own)];
    for text in texts {
        let address = OriginAddress::parse(text).ok_or_else(|| {
            invalid(
                KEY,
                text,
                "host:port or unix:/path is needed; the scheme is the service's",
            )
        })?;
        if addresses.iter().any(|known| **known == address) {
            return Err(invalid(KEY, text, "it is listed twice, or the service's own"));
        }
        if addresses.len() >= ADDRESSES_MAX {
            let why = format!("{ADDRESSES_MAX} addresses with the service's own are the most");
            return Err(invalid(KEY, text, why));
        }
        addresses.push(Arc::new(address));
    }
    Ok(addresses)
}

fn balancing(text: Option<&str>) -> Result<Balancing, IngressError> {
    match text {
        None | Some("" | "least-connections") => Ok(Balancing::LeastConnections),
        Some("round-robin") => Ok(Balancing::RoundRobin),
        Some("random-two") => Ok(Balancing::RandomTwo),
        Some(other) => {
            let why = "it must be least-connections, round-robin or random-two";
            Err(invalid("loadBalancing", other, why))
        }
    }
}

fn fail_on(text: Option<&str>) -> Result<FailOn, IngressError> {
    match text {
        None | Some("" | "no-answer") => Ok(FailOn::NoAnswer),
        Some("connect") => Ok(FailOn::Connect),
        Some("5xx") => Ok(FailOn::ServerError),
        Some(other) => Err(invalid("failOn", other, "it must be connect, no-answer or 5xx")),
    }
}

fn fails_max(count: Option<u64>) -> Result<u32, IngressError> {
    match count {
        None => Ok(FAILS_DEFAULT),
        // Never: what nginx means by 0.
        Some(0) => Ok(u32::MAX),
        Some(count) => u32::try_from(count).map_err(|_| invalid("maxFails", count, "it is too large")),
    }
}

fn limit(key: &'static str, count: Option<u64>) -> Result<Option<u32>, IngressError> {
    match count {
        None | Some(0) => Ok(None),
        Some(count) => match u32::try_from(count) {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(invalid(key, count, "it is too large")),
        },
    }
}

fn duration(key: &'static str, given: Option<Duration>, default: Duration) -> Result<Duration, IngressError> {
    match given {
        None => Ok(default),
        Some(given) if (DURATION_MIN..=DURATION_MAX).contains(&given) => Ok(given),
        Some(given) => Err(invalid(key, format!("{given:?}"), "it must be from 100ms to 1h")),
    }
}

fn health_check(text: &CheckText, service: &OriginService) -> Result<HealthCheck, IngressError> {
    let is_http = match service {
        OriginService::Http { .. } | OriginService::Unix { .. } => true,
        OriginService::Tcp { .. }
        | OriginService::Bastion
        | OriginService::SocksProxy
        | OriginService::Status(_)
        | OriginService::HelloWorld => false,
    };
    let path = text.path.as_deref().unwrap_or("/");
    let is_path = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
    if is_http && !is_path {
        return Err(invalid(
            "healthCheck.path",
            path,
            "a path that begins with / is needed",
        ));
    }
    let expected = text.expected_status.as_deref().unwrap_or("200-399");
    Ok(HealthCheck {
        path: is_http.then(|| path.into()),
        interval: duration("healthCheck.interval", text.interval, CHECK_INTERVAL_DEFAULT)?,
        timeout: duration("healthCheck.timeout", text.timeout, CHECK_TIMEOUT_DEFAULT)?,
        expected: expected
            .split(',')
            .map(|part| statuses(part.trim()))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                let why = "statuses from 100 to 599 are needed, such as 200 or 200-299,404";
                invalid("healthCheck.expectedStatus", expected, why)
            })?,
    })
}

/// `204` or `200-299`.
fn statuses(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (100 <= first && first <= last && last <= 599).then_some((first, last))
}

impl HealthCheck {
    /// Whether an answer with `status` is a good one.
    pub fn expects(&self, status: u16) -> bool {
        let mut ranges = self.expected.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> OriginService {
        OriginService::parse(text).unwrap()
    }

    fn parse(text: &PoolText) -> Result<Option<PoolSettings>, IngressError> {
        PoolSettings::parse(text, &service("http://app:8080"))
    }

    fn listed(addresses: &[&str]) -> PoolText {
        PoolText {
            addresses: Some(addresses.iter().map(ToString::to_string).collect()),
            ..PoolText::default()
        }
    }

    #[test]
    fn a_rule_without_these_keys_has_no_pool() {
        let idle = PoolText {
            balancing: Some("round-robin".to_owned()),
            max_fails: Some(1),
            max_connections: Some(0),
            ..listed(&[])
        };
        assert_eq!(parse(&idle), Ok(None));
        let status = PoolSettings::parse(&listed(&["a:1"]), &service("http_status:404"));
        assert_eq!(status, Ok(None));
    }

    #[test]
    fn the_services_own_address_comes_first() {
        let pool = parse(&listed(&["[::1]:81", "unix:/run/b.sock"]))
            .unwrap()
            .unwrap();
        let addresses: Vec<String> = pool.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["app:8080", "[::1]:81", "unix:/run/b.sock"]);
        assert_eq!((pool.fails_max, pool.pending_max), (3, 128));
    }

    /// Each of these is refused in these words.
    fn check(cases: impl IntoIterator<Item = (PoolText, &'static str)>) {
        for (text, wanted) in cases {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_with_addresses_is_told_with_its_key() {
        let many: Vec<String> = (1..=ADDRESSES_MAX).map(|port| format!("a:{port}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let balanced = |name: &str| PoolText {
            balancing: Some(name.to_owned()),
            ..listed(&["a:1"])
        };
        let failing = |name: &str| PoolText {
            fail_on: Some(name.to_owned()),
            ..listed(&["a:1"])
        };
        let soon = PoolText {
            fail_timeout: Some(Duration::ZERO),
            ..listed(&["a:1"])
        };
        check([
            (
                listed(&["http://a:1"]),
                "originAddresses \"http://a:1\": host:port",
            ),
            (
                listed(&["app:8080"]),
                "originAddresses \"app:8080\": it is listed twice",
            ),
            (listed(&["a"]), "originAddresses \"a\": "),
            (listed(&many), "originAddresses \"a:64\": 64 addresses"),
            (balanced("x"), "loadBalancing \"x\": it must be least-connections"),
            (failing("x"), "failOn \"x\": it must be connect"),
            (soon, "failTimeout \"0ns\": it must be from 100ms to 1h"),
        ]);
    }

    #[test]
    fn what_is_wrong_with_limits_is_told_with_its_key() {
        let limited = |max| PoolText {
            max_connections: Some(max),
            ..PoolText::default()
        };
        let pending = |max| PoolText {
            breaker: Some(Arc::new(BreakerText {
                max_pending: Some(max),
                ..BreakerText::default()
            })),
            ..PoolText::default()
        };
        let checked = |path: Option<&str>, status: Option<&str>| PoolText {
            check: Some(Arc::new(CheckText {
                path: path.map(str::to_owned),
                expected_status: status.map(str::to_owned),
                ..CheckText::default()
            })),
            ..PoolText::default()
        };
        check([
            (
                limited(u64::MAX),
                "maxConnections \"18446744073709551615\": it is too large",
            ),
            (
                pending(1 << 20),
                "circuitBreaker.maxPending \"1048576\": at most 65536",
            ),
            (checked(Some("x"), None), "healthCheck.path \"x\": "),
            (checked(None, Some("2xx")), "healthCheck.expectedStatus \"2xx\": "),
        ]);
    }

    #[test]
    fn statuses_are_numbers_and_ranges() {
        let text = CheckText {
            expected_status: Some("204, 300-399".to_owned()),
            ..CheckText::default()
        };
        let check = health_check(&text, &service("http://a")).unwrap();
        assert_eq!(
            [200, 204, 300, 399, 400].map(|status| check.expects(status)),
            [false, true, true, true, false]
        );
        assert_eq!(health_check(&text, &service("tcp://a:1")).unwrap().path, None);
    }
}
