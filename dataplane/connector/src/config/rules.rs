//! Ingress rules and origin settings of a document, in a file or from an edge.
//!
//! Keys that nobody knows are warned about.

use std::sync::Arc;

use adit_proto::ingress::access::AccessSettings;
use adit_proto::ingress::edits::{EditsText, HeaderEditsText};
use adit_proto::ingress::ip_rules::IpRuleText;
use adit_proto::ingress::settings::{OriginOverrides, OriginSettings};
use adit_proto::ingress::{Ingress, RuleText};
use adit_proto::origin_pool::settings::{BreakerText, CheckText, PoolText};
use adit_proto::proxy_protocol::Version;

use super::ConfigError;
use super::keys::{Keys, Oddity};

/// Keys of `originRequest`.
const ORIGIN_REQUEST: &[&str] = &[
    "connectTimeout",
    "tlsTimeout",
    "tcpKeepAlive",
    "noHappyEyeballs",
    "keepAliveConnections",
    "keepAliveTimeout",
    "httpHostHeader",
    "originServerName",
    "matchSNItoHost",
    "caPool",
    "noTLSVerify",
    "disableChunkedEncoding",
    "bastionMode",
    "proxyAddress",
    "proxyPort",
    "proxyType",
    "ipRules",
    "http2Origin",
    "h2cOrigin",
    "access",
    "stripPrefix",
    "pathRewrite",
    "requestHeaders",
    "responseHeaders",
    "proxyProtocol",
    "originAddresses",
    "loadBalancing",
    "maxFails",
    "failTimeout",
    "failOn",
    "maxConnections",
    "circuitBreaker",
    "healthCheck",
];

/// Keys of `circuitBreaker`.
const CIRCUIT_BREAKER: &[&str] = &["maxRequests", "maxPending", "pendingTimeout"];

/// Keys of `healthCheck`.
const HEALTH_CHECK: &[&str] = &["path", "interval", "timeout", "expectedStatus"];

/// Keys of `pathRewrite`.
const PATH_REWRITE: &[&str] = &["match", "replace"];

/// Keys of `requestHeaders` and `responseHeaders`.
const HEADERS: &[&str] = &["set", "add", "remove"];

/// Keys of one of the `ipRules`.
const IP_RULE: &[&str] = &["prefix", "ports", "allow"];

/// Keys of `access`.
const ACCESS: &[&str] = &[
    "required",
    "teamName",
    "audTag",
    "environment",
    "issuer",
    "certsUrl",
];

/// Keys of a rule.
const RULE: &[&str] = &["hostname", "path", "service", "originRequest"];

/// The rules of a document; `None` if it has none. `flags` are a layer below the document's own defaults.
pub(crate) fn read(
    document: Keys<'_>,
    flags: &OriginOverrides,
    warnings: &mut Vec<Oddity>,
) -> Result<Option<Ingress>, ConfigError> {
    let global = overrides(document, warnings)?;
    let defaults = OriginSettings::default().with(flags).with(&global);
    let mut rules = Vec::new();
    for rule in document.levels("ingress")? {
        warnings.extend(rule.unknown(RULE));
        rules.push(RuleText {
            hostname: rule.text("hostname")?.unwrap_or_default(),
            path: rule.text("path")?.unwrap_or_default(),
            service: rule.text("service")?.unwrap_or_default(),
            settings: defaults.clone().with(&overrides(rule, warnings)?),
        });
    }
    if rules.is_empty() {
        return Ok(None);
    }
    Ok(Some(Ingress::parse(&rules)?))
}

/// The `originRequest` below a level.
pub(crate) fn overrides(level: Keys<'_>, warnings: &mut Vec<Oddity>) -> Result<OriginOverrides, ConfigError> {
    let Some(keys) = level.level("originRequest")? else {
        return Ok(OriginOverrides::default());
    };
    warnings.extend(keys.unknown(ORIGIN_REQUEST));
    let proxy_type = keys.text("proxyType")?;
    if let Some(other) = proxy_type.as_deref()
        && !matches!(other, "" | "socks")
    {
        let text = format!("proxyType: {other} (only socks has a meaning)");
        warnings.push(Oddity::note(text));
    }
    let count = keys.number("keepAliveConnections")?;
    Ok(OriginOverrides {
        connect_timeout: keys.duration("connectTimeout")?,
        tls_timeout: keys.duration("tlsTimeout")?,
        tcp_keep_alive: keys.duration("tcpKeepAlive")?,
        no_happy_eyeballs: keys.switch("noHappyEyeballs")?,
        keep_alive_connections: count.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
        keep_alive_timeout: keys.duration("keepAliveTimeout")?,
        http_host_header: keys.text("httpHostHeader")?,
        origin_server_name: keys.text("originServerName")?,
        match_sni_to_host: keys.switch("matchSNItoHost")?,
        ca_pool: keys.text("caPool")?,
        no_tls_verify: keys.switch("noTLSVerify")?,
        disable_chunked_encoding: keys.switch("disableChunkedEncoding")?,
        http2_origin: keys.switch("http2Origin")?,
        h2c_origin: keys.switch("h2cOrigin")?,
        bastion_mode: keys.switch("bastionMode")?,
        proxy_type,
        ip_rules: ip_rules(keys, warnings)?,
        access: access(keys, warnings)?,
        edits: edits(keys, warnings)?,
        proxy_protocol: proxy_protocol(keys)?,
        pool: pool(keys, warnings)?,
    })
}

fn ip_rules(keys: Keys<'_>, warnings: &mut Vec<Oddity>) -> Result<Option<Arc<[IpRuleText]>>, ConfigError> {
    let mut rules = Vec::new();
    for rule in keys.levels("ipRules")? {
        warnings.extend(rule.unknown(IP_RULE));
        rules.push(IpRuleText {
            prefix: rule.text("prefix")?.unwrap_or_default(),
            ports: rule.numbers("ports")?,
            allow: rule.switch("allow")?.unwrap_or(false),
        });
    }
    Ok((!rules.is_empty()).then(|| rules.into()))
}

fn edits(keys: Keys<'_>, warnings: &mut Vec<Oddity>) -> Result<EditsText, ConfigError> {
    let path_rewrite = match keys.level("pathRewrite")? {
        Some(rewrite) => {
            warnings.extend(rewrite.unknown(PATH_REWRITE));
            Some((
                rewrite.text("match")?.unwrap_or_default(),
                rewrite.text("replace")?.unwrap_or_default(),
            ))
        }
        None => None,
    };
    Ok(EditsText {
        strip_prefix: keys.text("stripPrefix")?,
        path_rewrite,
        request_headers: headers(keys, "requestHeaders", warnings)?,
        response_headers: headers(keys, "responseHeaders", warnings)?,
    })
}

fn headers(
    keys: Keys<'_>,
    key: &str,
    warnings: &mut Vec<Oddity>,
) -> Result<Option<Arc<HeaderEditsText>>, ConfigError> {
    let Some(keys) = keys.level(key)? else {
        return Ok(None);
    };
    warnings.extend(keys.unknown(HEADERS));
    Ok(Some(Arc::new(HeaderEditsText {
        set: keys.pairs("set")?,
        add: keys.pairs("add")?,
        remove: keys.texts("remove")?,
    })))
}

fn pool(keys: Keys<'_>, warnings: &mut Vec<Oddity>) -> Result<PoolText, ConfigError> {
    let breaker = match keys.level("circuitBreaker")? {
        Some(breaker) => {
            warnings.extend(breaker.unknown(CIRCUIT_BREAKER));
            Some(Arc::new(BreakerText {
                max_requests: breaker.number("maxRequests")?,
                max_pending: breaker.number("maxPending")?,
                pending_timeout: breaker.duration("pendingTimeout")?,
            }))
        }
        None => None,
    };
    let check = match keys.level("healthCheck")? {
        Some(check) => {
            warnings.extend(check.unknown(HEALTH_CHECK));
            Some(Arc::new(CheckText {
                path: check.text("path")?,
                interval: check.duration("interval")?,
                timeout: check.duration("timeout")?,
                expected_status: check.numbers_or_texts("expectedStatus")?,
            }))
        }
        None => None,
    };
    let addresses = match keys.is_given("originAddresses") {
        true => Some(keys.texts("originAddresses")?.into()),
        false => None,
    };
    Ok(PoolText {
        addresses,
        balancing: keys.text("loadBalancing")?,
        max_fails: keys.number("maxFails")?,
        fail_timeout: keys.duration("failTimeout")?,
        fail_on: keys.text("failOn")?,
        max_connections: keys.number("maxConnections")?,
        breaker,
        check,
    })
}

fn proxy_protocol(keys: Keys<'_>) -> Result<Option<Option<Version>>, ConfigError> {
    let Some(text) = keys.text("proxyProtocol")? else {
        return Ok(None);
    };
    if text.is_empty() {
        return Ok(Some(None));
    }
    let version = Version::parse(&text).ok_or_else(|| ConfigError::Value {
        key: "proxyProtocol".to_owned(),
        value: text,
        why: "it must be v1 or v2, or empty for none".to_owned(),
    });
    version.map(|version| Some(Some(version)))
}

fn access(keys: Keys<'_>, warnings: &mut Vec<Oddity>) -> Result<Option<Arc<AccessSettings>>, ConfigError> {
    let Some(keys) = keys.level("access")? else {
        return Ok(None);
    };
    warnings.extend(keys.unknown(ACCESS));
    Ok(Some(Arc::new(AccessSettings {
        is_required: keys.switch("required")?.unwrap_or(false),
        team_name: keys.text("teamName")?.unwrap_or_default(),
        environment: keys.text("environment")?.unwrap_or_default(),
        audiences: keys.texts("audTag")?,
        issuer: keys.text("issuer")?.unwrap_or_default(),
        certs_url: keys.text("certsUrl")?.unwrap_or_default(),
    })))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Map, Value};

    use super::super::keys::Durations;
    use super::*;

    fn check(text: &str) -> (Result<Option<Ingress>, String>, Vec<String>) {
        let map: Map<String, Value> = serde_json::from_str(text).unwrap();
        let mut warnings = Vec::new();
        let keys = Keys::new(&map, Durations::Seconds);
        let ingress = read(keys, &OriginOverrides::default(), &mut warnings);
        let warnings = warnings.into_iter().map(|oddity: Oddity| oddity.text).collect();
        (ingress.map_err(|error| error.to_string()), warnings)
    }

    #[test]
    fn a_rule_inherits_what_it_does_not_say() {
        let (ingress, warnings) = check(
            r#"{"originRequest": {"connectTimeout": 5, "noTLSVerify": true},
                "ingress": [{"service": "http://a", "originRequest": {"connectTimeout": 7}}]}"#,
        );
        let ingress = ingress.unwrap().unwrap();
        let settings = &ingress.find("x", "/").1.settings;
        assert_eq!(settings.connect_timeout, Duration::from_secs(7));
        assert!(settings.no_tls_verify);
        assert!(warnings.is_empty());
    }

    #[test]
    fn access_is_replaced_as_a_whole() {
        let (ingress, warnings) = check(
            r#"{"originRequest": {"access": {"required": true, "teamName": "t", "audTag": ["a"]}}, "ingress": [
                {"hostname": "a", "service": "http://a", "originRequest": {"access": {"required": false}}},
                {"hostname": "b", "service": "http://a", "originRequest": {"access": {"required": true, "aud": 1}}},
                {"service": "http://a"}]}"#,
        );
        let ingress = ingress.unwrap().unwrap();
        let is_required = |host: &str| {
            let settings = ingress.find(host, "/").1.settings.access.clone().unwrap();
            (settings.is_required, settings.issuer().is_some())
        };
        assert_eq!(
            ["a", "b", "c"].map(is_required),
            [(false, false), (true, false), (true, true)]
        );
        assert_eq!(warnings, ["aud (did you mean audTag?)"]);
        let rule = r#"{"ingress":[{"service":"http://a","originRequest":{"access":{"required":true,"audTag":["a"]}}}]}"#;
        assert_eq!(
            check(rule).0.unwrap_err(),
            "access.TeamName cannot be blank when access.audTags are present (rule #1)"
        );
    }

    #[test]
    fn tcp_services_have_keys_of_their_own() {
        let (ingress, warnings) = check(
            r#"{"originRequest": {"proxyType": "socks"}, "ingress": [
                {"hostname": "a", "service": "tcp://db:1", "originRequest": {"bastionMode": true, "proxyType": "x"}},
                {"service": "socks-proxy", "originRequest": {"ipRules": [
                    {"prefix": "10.0.0.0/8", "ports": [22], "allow": true}, {"prefix": "::/0", "alow": true}]}}]}"#,
        );
        let ingress = ingress.unwrap().unwrap();
        let [bastion, socks] = ingress.rules() else {
            panic!("two rules were written");
        };
        assert_eq!(bastion.service.to_string(), "bastion");
        assert!(!bastion.settings.is_socks() && socks.settings.is_socks());
        assert!(socks.ip_rules.allow("10.0.0.1:22".parse().unwrap()));
        assert!(!socks.ip_rules.allow("[::1]:22".parse().unwrap()));
        assert_eq!(
            warnings,
            [
                "proxyType: x (only socks has a meaning)",
                "alow (did you mean allow?)"
            ]
        );
        let (refused, _) = check(
            r#"{"ingress": [{"service": "socks-proxy", "originRequest": {"ipRules": [{"prefix": "10.0.0.1"}]}}]}"#,
        );
        let refused = refused.unwrap_err();
        assert!(
            refused.ends_with(
                "unable to create ip rule for socks-proxy: unable to parse cidr: 10.0.0.1 (rule #1)"
            ),
            "{refused}"
        );
    }

    #[test]
    fn addresses_and_limits_are_read() {
        let (ingress, warnings) = check(
            r#"{"originRequest": {"maxFails": 2, "healthCheck": {"path": "/up", "expectedStatus": 204}}, "ingress": [
                {"hostname": "a", "service": "http://a", "originRequest": {
                    "originAddresses": ["b:81", "unix:/c"], "loadBalancing": "round-robin", "failTimeout": 7,
                    "circuitBreaker": {"maxRequests": 3, "maxPendin": 4}}},
                {"service": "http_status:404"}]}"#,
        );
        let ingress = ingress.unwrap().unwrap();
        let pool = ingress.find("a", "/").1.pool.clone().unwrap();
        assert_eq!(
            (pool.addresses.len(), pool.fails_max, pool.requests_max),
            (3, 2, Some(3))
        );
        assert!(pool.check.as_ref().is_some_and(|check| check.expects(204)));
        assert!(ingress.find("b", "/").1.pool.is_none());
        assert_eq!(warnings, ["maxPendin (did you mean maxPending?)"]);
        let bad = r#"{"ingress": [{"service": "http://a", "originRequest": {"originAddresses": "b"}}]}"#;
        let refused = check(bad).0.unwrap_err();
        assert_eq!(
            refused,
            "originAddresses \"b\": host:port or unix:/path is needed; the scheme is the service's (rule #1)"
        );
    }

    #[test]
    fn unknown_keys_are_warnings() {
        let rule = r#"{"ingress":[{"service":"http://a","host":1,"originRequest":{"noTlsVerify":true}}]}"#;
        let (ingress, warnings) = check(rule);
        assert!(ingress.is_ok());
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings.contains(&"noTlsVerify (did you mean noTLSVerify?)".to_owned()));
    }
}
