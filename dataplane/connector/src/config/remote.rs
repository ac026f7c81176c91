//! Configurations pushed by an edge: JSON, durations in whole seconds, unknown keys ignored.
//!
//! Source: cloudflared `orchestration/config.go`.

use adit_proto::ingress::Ingress;
use adit_proto::ingress::service::OriginService;
use adit_proto::ingress::settings::{OriginOverrides, OriginSettings};
use serde_json::{Map, Value};

use super::keys::{Durations, Keys};
use super::{ConfigError, rules};

/// What serves while nothing is configured.
pub(super) const DEFAULT_STATUS: u16 = 503;

/// Reads a pushed configuration; one without rules answers everything with 503.
pub(crate) fn parse(json: &[u8]) -> Result<Ingress, ConfigError> {
    let document: Map<String, Value> = serde_json::from_slice(json).map_err(ConfigError::Json)?;
    let mut ignored = Vec::new();
    let keys = Keys::new(&document, Durations::Seconds);
    let ingress = rules::read(keys, &OriginOverrides::default(), &mut ignored)?;
    Ok(ingress.unwrap_or_else(default_ingress))
}

/// The one rule that serves while nothing is configured.
pub(super) fn default_ingress() -> Ingress {
    Ingress::single(OriginService::Status(DEFAULT_STATUS), OriginSettings::default())
}

#[cfg(test)]
mod tests {
    use adit_proto::error_chain::chain;

    use super::*;

    #[test]
    fn a_push_without_rules_answers_503() {
        for text in [
            "{}",
            r#"{"ingress": []}"#,
            r#"{"ingress": null, "warp-routing": {"enabled": true}}"#,
        ] {
            let ingress = parse(text.as_bytes()).unwrap();
            assert_eq!(ingress.find("a", "/").1.service, OriginService::Status(503));
        }
    }

    #[test]
    fn a_bad_push_is_refused_with_its_reason() {
        assert!(chain(&parse(b"nope").unwrap_err()).starts_with("the configuration is not valid JSON: "));
        let text = r#"{"originRequest":{"connectTimeout":"5s"},"ingress":[{"service":"http://a"}]}"#;
        let error = parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "expected int found string for connectTimeout");
    }
}
