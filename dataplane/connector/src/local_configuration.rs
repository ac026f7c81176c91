//! The configuration as others read it: what an edge is told of a local one, and what `/config` shows.
//!
//! Durations are whole seconds, as in configurations pushed by an edge. Values of headers that requests get
//! are often credentials for the origin, so only their names leave this process.
//!
//! Source: cloudflared `ingress/config.go`, `orchestration/orchestrator.go`.

use std::collections::BTreeMap;
use std::time::Duration;

use adit_proto::ingress::access::AccessSettings;
use adit_proto::ingress::edits::HeaderEditsText;
use adit_proto::ingress::ip_rules::IpRuleText;
use adit_proto::ingress::settings::OriginSettings;
use adit_proto::ingress::{Ingress, Rule};
use adit_proto::origin_pool::settings::{BreakerText, CheckText, PoolText};
use serde_json::{Map, Value, json};

use crate::ingress_state::{IngressState, hostname};

/// Stands for what is not told.
const REDACTED: &str = "[redacted]";

/// The body of `updateLocalConfiguration`: rules with the settings that differ from the defaults.
pub(crate) fn render(ingress: &Ingress, flags: &BTreeMap<&'static str, String>) -> Vec<u8> {
    let mut document = Map::new();
    if !flags.is_empty() {
        document.insert("__configuration_flags".to_owned(), json!(flags));
    }
    let rules: Vec<Value> = ingress.rules().iter().map(told_rule).collect();
    document.insert("ingress".to_owned(), rules.into());
    document.insert("warp-routing".to_owned(), json!({}));
    Value::from(document).to_string().into_bytes()
}

/// The body of `/config`: the ingress in force with every setting.
pub(crate) fn describe(state: &IngressState) -> Value {
    let rule = |rule: &Rule| {
        json!({
            "hostname": hostname(rule),
            "path": rule.path.as_ref().map(|path| path.as_str()),
            "service": rule.service.to_string(),
            "Handlers": null,
            "originRequest": all(&rule.settings),
        })
    };
    let rules: Vec<Value> = state.ingress.rules().iter().map(rule).collect();
    json!({
        "version": state.version,
        "config": {
            "ingress": rules,
            "warp-routing": {},
            "originRequest": all(&OriginSettings::default()),
        },
    })
}

fn told_rule(rule: &Rule) -> Value {
    let mut told = Map::new();
    let hostname = hostname(rule);
    if !hostname.is_empty() {
        told.insert("hostname".to_owned(), hostname.into());
    }
    if let Some(path) = &rule.path {
        told.insert("path".to_owned(), path.as_str().into());
    }
    told.insert("service".to_owned(), rule.service.to_string().into());
    let defaults = all(&OriginSettings::default());
    let mut settings = all(&rule.settings);
    settings.retain(|key, value| defaults.get(key) != Some(value));
    told.insert("originRequest".to_owned(), settings.into());
    told.into()
}

fn all(settings: &OriginSettings) -> Map<String, Value> {
    let seconds = |duration: Duration| Value::from(duration.as_secs());
    let ca_pool = settings.ca_pool.as_ref().map(|path| path.display().to_string());
    [
        ("connectTimeout", seconds(settings.connect_timeout)),
        ("tlsTimeout", seconds(settings.tls_timeout)),
        ("tcpKeepAlive", seconds(settings.tcp_keep_alive)),
        ("noHappyEyeballs", settings.no_happy_eyeballs.into()),
        ("keepAliveConnections", settings.keep_alive_connections.into()),
        ("keepAliveTimeout", seconds(settings.keep_alive_timeout)),
        ("httpHostHeader", settings.http_host_header.as_str().into()),
        ("originServerName", settings.origin_server_name.as_str().into()),
        ("matchSNItoHost", settings.match_sni_to_host.into()),
        ("caPool", ca_pool.unwrap_or_default().into()),
        ("noTLSVerify", settings.no_tls_verify.into()),
        ("disableChunkedEncoding", settings.disable_chunked_encoding.into()),
        ("http2Origin", settings.http2_origin.into()),
        ("h2cOrigin", settings.h2c_origin.into()),
        ("bastionMode", settings.bastion_mode.into()),
        ("proxyType", settings.proxy_type.as_str().into()),
        ("access", access(settings.access.as_deref())),
        ("ipRules", settings.ip_rules.iter().map(ip_rule).collect()),
    ]
    .into_iter()
    .chain(ours(settings))
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Keys that cloudflared does not know, as far as they say something.
fn ours(settings: &OriginSettings) -> impl Iterator<Item = (&'static str, Value)> {
    let edits = &settings.edits;
    let pairs = |pairs: &[(String, String)]| -> Map<String, Value> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.as_str().into()))
            .collect()
    };
    let headers = |text: &HeaderEditsText| json!({"set": pairs(&text.set), "add": pairs(&text.add), "remove": text.remove});
    let hidden = |text: &HeaderEditsText| {
        let hide = |pairs: &[(String, String)]| -> Map<String, Value> {
            let names = pairs.iter().map(|(name, _)| name.clone());
            names.map(|name| (name, REDACTED.into())).collect()
        };
        json!({"set": hide(&text.set), "add": hide(&text.add), "remove": text.remove})
    };
    let rewrite = edits.path_rewrite.as_ref();
    [
        ("stripPrefix", edits.strip_prefix.as_deref().map(Value::from)),
        (
            "pathRewrite",
            rewrite.map(|(pattern, replacement)| json!({"match": pattern, "replace": replacement})),
        ),
        ("requestHeaders", edits.request_headers.as_deref().map(hidden)),
        ("responseHeaders", edits.response_headers.as_deref().map(headers)),
        (
            "proxyProtocol",
            settings.proxy_protocol.map(|version| version.as_str().into()),
        ),
    ]
    .into_iter()
    .chain(pool(&settings.pool))
    .filter_map(|(key, value)| Some((key, value?)))
}

/// Those about several addresses and limits.
fn pool(pool: &PoolText) -> impl Iterator<Item = (&'static str, Option<Value>)> {
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
    let breaker = |breaker: &BreakerText| {
        json!({
            "maxRequests": breaker.max_requests,
            "maxPending": breaker.max_pending,
            "pendingTimeout": seconds(breaker.pending_timeout),
        })
    };
    let check = |check: &CheckText| {
        json!({
            "path": check.path,
            "interval": seconds(check.interval),
            "timeout": seconds(check.timeout),
            "expectedStatus": check.expected_status,
        })
    };
    [
        (
            "originAddresses",
            pool.addresses.as_deref().map(|texts| json!(texts)),
        ),
        ("loadBalancing", pool.balancing.as_deref().map(Value::from)),
        ("maxFails", pool.max_fails.map(Value::from)),
        ("failTimeout", seconds(pool.fail_timeout).map(Value::from)),
        ("failOn", pool.fail_on.as_deref().map(Value::from)),
        ("maxConnections", pool.max_connections.map(Value::from)),
        ("circuitBreaker", pool.breaker.as_deref().map(breaker)),
        ("healthCheck", pool.check.as_deref().map(check)),
    ]
    .into_iter()
}

/// As cloudflared has it without any: an object that demands nothing.
fn access(settings: Option<&AccessSettings>) -> Value {
    let settings = settings.cloned().unwrap_or_default();
    let mut told = json!({"teamName": settings.team_name, "audTag": settings.audiences});
    let further = [
        ("environment", settings.environment.into()),
        ("issuer", settings.issuer.into()),
        ("certsUrl", settings.certs_url.into()),
        ("required", Value::from(settings.is_required)),
    ];
    for (key, value) in further {
        if !matches!(&value, Value::Bool(false)) && value != "" {
            told[key] = value;
        }
    }
    told
}

fn ip_rule(rule: &IpRuleText) -> Value {
    json!({"prefix": rule.prefix, "ports": rule.ports, "allow": rule.allow})
}

#[cfg(test)]
mod tests {
    use adit_proto::ingress::RuleText;
    use adit_proto::ingress::edits::EditsText;

    use std::sync::Arc;

    use super::*;
    use crate::origin::group::Groups;

    fn ingress() -> Ingress {
        let rule = |hostname: &str, path: &str, service: &str, settings| RuleText {
            hostname: hostname.to_owned(),
            path: path.to_owned(),
            service: service.to_owned(),
            settings,
        };
        let settings = OriginSettings {
            connect_timeout: Duration::from_secs(5),
            no_tls_verify: true,
            ..OriginSettings::default()
        };
        let rules = [
            rule("*.app.test", "^/a", "https://127.0.0.1:8003", settings),
            rule("", "", "http_status:404", OriginSettings::default()),
        ];
        Ingress::parse(&rules).unwrap()
    }

    #[test]
    fn the_edge_is_told_rules_and_what_differs_from_the_defaults() {
        let flags = BTreeMap::from([("protocol", "quic".to_owned())]);
        let told: Value = serde_json::from_slice(&render(&ingress(), &flags)).unwrap();
        let expected = json!({
            "__configuration_flags": {"protocol": "quic"},
            "ingress": [
                {"hostname": "*.app.test", "path": "^/a", "service": "https://127.0.0.1:8003",
                 "originRequest": {"connectTimeout": 5, "noTLSVerify": true}},
                {"service": "http_status:404", "originRequest": {}},
            ],
            "warp-routing": {},
        });
        assert_eq!(told, expected);
        let without: Value = serde_json::from_slice(&render(&ingress(), &BTreeMap::new())).unwrap();
        assert_eq!(without.get("__configuration_flags"), None);
    }

    #[test]
    fn values_of_request_headers_are_told_to_nobody() {
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let text = HeaderEditsText {
            set: pair("authorization", "Bearer hush"),
            add: pair("x-key", "hush"),
            remove: vec!["x-old".to_owned()],
        };
        let visible = HeaderEditsText {
            set: pair("x-frame-options", "DENY"),
            ..HeaderEditsText::default()
        };
        let edits = EditsText {
            request_headers: Some(text.into()),
            response_headers: Some(visible.into()),
            ..EditsText::default()
        };
        let settings = OriginSettings {
            edits,
            ..OriginSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
        let rule = RuleText {
            hostname: String::new(),
            path: String::new(),
            service: "http://127.0.0.1:1".to_owned(),
            settings,
        };
        let ingress = Ingress::parse(&[rule]).unwrap();
        assert!(!format!("{ingress:?}").contains("hush"), "{ingress:?}");
        let told = String::from_utf8(render(&ingress, &BTreeMap::new())).unwrap();
        let shown = describe(&IngressState::local(ingress, &Groups::new(Arc::default(), 7))).to_string();
        for text in [told, shown] {
            assert!(!text.contains("hush"), "{text}");
            assert!(text.contains("authorization") && text.contains("x-key") && text.contains("x-old"));
            assert!(text.contains("DENY"), "visitors see it anyway: {text}");
        }
    }

    #[test]
    fn the_description_has_every_setting_and_the_version() {
        let shown = describe(&IngressState::local(ingress(), &Groups::new(Arc::default(), 7)));
        assert_eq!(shown["version"], -1);
        assert_eq!(
            shown["config"]["ingress"][1]["originRequest"]["connectTimeout"],
            30
        );
        assert_eq!(shown["config"]["ingress"][1]["path"], Value::Null);
    }
}
