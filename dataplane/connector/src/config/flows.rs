//! `warp-routing`: whether edges may name addresses to dial, and which.
//!
//! Only the connector's own file says so. What an edge pushes cannot: it would allow itself.

use adit_proto::flow_policy::{ALSO_ALLOW_MAX, FlowPolicy};

use super::keys::{Keys, Oddity};
use super::{ConfigError, invalid};

/// Keys of `warp-routing`; the last three are cloudflared's and have no effect here.
const WARP_ROUTING: &[&str] = &[
    "enabled",
    "also-allow",
    "connectTimeout",
    "maxActiveFlows",
    "tcpKeepAlive",
];

/// Reads the policy of a file; without the key nothing is allowed.
pub(super) fn read(keys: Keys<'_>, ignored: &mut Vec<Oddity>) -> Result<FlowPolicy, ConfigError> {
    let Some(keys) = keys.level("warp-routing")? else {
        return Ok(FlowPolicy::default());
    };
    ignored.extend(keys.unknown(WARP_ROUTING));
    let texts = keys.texts("also-allow")?;
    if texts.len() > ALSO_ALLOW_MAX {
        let why = format!("at most {ALSO_ALLOW_MAX} networks are taken");
        return Err(invalid("warp-routing.also-allow", &texts.len().to_string(), &why));
    }
    let network = |text: &String| {
        let parsed = text.parse();
        parsed.map_err(|error| invalid("warp-routing.also-allow", text, &format!("{error}")))
    };
    Ok(FlowPolicy {
        is_enabled: keys.switch("enabled")?.unwrap_or(false),
        also_allow: texts.iter().map(network).collect::<Result<_, ConfigError>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::Durations;

    fn parse(text: &str) -> Result<(FlowPolicy, Vec<Oddity>), ConfigError> {
        let map = serde_json::from_str(text).unwrap();
        let mut warnings = Vec::new();
        let policy = read(Keys::new(&map, Durations::Text), &mut warnings)?;
        Ok((policy, warnings))
    }

    #[test]
    fn nothing_is_allowed_without_the_key_or_without_enabled() {
        for text in [
            "{}",
            r#"{"warp-routing": {}}"#,
            r#"{"warp-routing": {"maxActiveFlows": 3}}"#,
        ] {
            let (policy, warnings) = parse(text).unwrap();
            assert!(!policy.is_enabled && warnings.is_empty(), "{text}");
        }
    }

    #[test]
    fn networks_are_read_and_slips_are_named() {
        let (policy, _) =
            parse(r#"{"warp-routing": {"enabled": true, "also-allow": ["127.0.0.0/8"]}}"#).unwrap();
        assert!(policy.is_enabled);
        assert_eq!(policy.also_allow, ["127.0.0.0/8".parse().unwrap()]);
        let error = parse(r#"{"warp-routing": {"also-allow": ["lo"]}}"#).unwrap_err();
        assert!(error.to_string().contains("warp-routing.also-allow"), "{error}");
        let (_, warnings) = parse(r#"{"warp-routing": {"alow": ["10.0.0.0/8"]}}"#).unwrap();
        assert_eq!(warnings.len(), 1);
    }
}
