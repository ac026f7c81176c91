//! Reads from a connector's running configuration which hostnames and paths it serves.
//!
//! Source: docs/protocol/rpc.md §8. Everything else in it is the connector's own business.

use adit_proto::directory::Served;
use serde::Deserialize;

/// The part of a running configuration that steering needs (docs/protocol/rpc.md §8).
#[derive(Deserialize)]
struct LocalConfiguration {
    #[serde(default)]
    ingress: Vec<LocalRule>,
}

#[derive(Deserialize)]
struct LocalRule {
    #[serde(default)]
    hostname: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    service: String,
}

/// Names and paths served by a configuration. The closing rule matches every name. When it only answers with
/// a status it serves nothing, and requests for other names are better sent to a replica that has them.
pub(super) fn served(config: &[u8]) -> Result<Served, serde_json::Error> {
    if !config.trim_ascii_start().starts_with(b"{") {
        // A list would pass for an object whose fields are all left out.
        return Err(serde::de::Error::custom("it is not a JSON object"));
    }
    let config: LocalConfiguration = serde_json::from_slice(config)?;
    let count = config.ingress.len();
    if count == 0 {
        return Ok(Served::from_rules([(None, None)]));
    }
    let rules = config.ingress.iter().enumerate().filter(|(index, rule)| {
        let is_closing = index + 1 == count && count > 1;
        !(is_closing && rule.service.starts_with("http_status:"))
    });
    let rules = rules.map(|(_, rule)| (rule.hostname.as_deref(), rule.path.as_deref()));
    Ok(Served::from_rules(rules))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(config: &str, host: &str) -> bool {
        served(config.as_bytes()).unwrap().serves(&host.parse().unwrap())
    }

    #[test]
    fn the_closing_status_rule_does_not_count_as_serving() {
        let config = r#"{"ingress":[{"hostname":"a.test","service":"http://127.0.0.1:1"},
            {"service":"http_status:404"}],"warp-routing":{}}"#;
        assert!(serves(config, "a.test"));
        assert!(!serves(config, "b.test"));
    }

    #[test]
    fn a_closing_rule_with_a_service_serves_everything() {
        let config = r#"{"ingress":[{"hostname":"a.test","service":"http://h:1"},{"service":"http://h:2"}]}"#;
        assert!(serves(config, "b.test"));
        assert!(serves(r#"{"ingress":[{"service":"http_status:503"}]}"#, "b.test"));
    }

    #[test]
    fn malformed_configurations_are_errors() {
        for bad in ["", "null", "[]", r#"{"ingress":7}"#, &"[".repeat(10_000)] {
            assert!(served(bad.as_bytes()).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
    }
}
