//! Ingress rules that control holds for a tunnel.
//!
//! Only the shape is checked here, so that a slip is reported at once. A connector checks the rest when it
//! applies a version, and reports it.

use adit_control_api::configuration::CONFIGURATION_BYTES_MAX;
use adit_control_api::problem::{ApiError, Code};
use adit_control_api::{AccountTag, TunnelId};
use serde_json::Value;
use time::OffsetDateTime;

use super::{Decided, Decision, tunnels};
use crate::facts::{Change, Configuration, Facts};

/// Stores the next version of a tunnel's configuration, which makes the tunnel remotely managed.
///
/// # Errors
/// `Invalid` for a wrong shape, `TooLarge`, `NotFound` and `TunnelDeleted` for the tunnel.
pub fn put(
    facts: &Facts,
    account: &AccountTag,
    tunnel: TunnelId,
    config: Value,
    now: OffsetDateTime,
) -> Decided<Configuration> {
    tunnels::living(facts, account, tunnel)?;
    check_shape(&config)?;
    if config.to_string().len() > CONFIGURATION_BYTES_MAX {
        return Err(Code::TooLarge.error(format!(
            "the configuration is larger than {CONFIGURATION_BYTES_MAX} bytes"
        )));
    }
    let held = facts.configurations.get(&tunnel).map_or(0, |held| held.version);
    let version = held
        .checked_add(1)
        .ok_or_else(|| Code::LimitReached.error("the configuration has no further version number"))?;
    let configuration = Configuration {
        tunnel,
        version,
        config,
        written_at: now,
    };
    Ok(Decision {
        changes: vec![Change::PutConfiguration(configuration.clone())],
        answer: configuration,
    })
}

fn check_shape(config: &Value) -> Result<(), ApiError> {
    let invalid = |message: String| Err(Code::Invalid.error(message));
    let Some(object) = config.as_object() else {
        return invalid("config is not an object".into());
    };
    let rules = match object.get("ingress") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(rules)) => rules,
        Some(_) => return invalid("config.ingress is not a list".into()),
    };
    for (index, rule) in rules.iter().enumerate() {
        if !rule.get("service").is_some_and(Value::is_string) {
            return invalid(format!("config.ingress[{index}] has no service"));
        }
        let last = index + 1 == rules.len();
        if last != matches_all(rule) {
            return invalid(if last {
                "the last ingress rule must match every request: it has no hostname and no path".into()
            } else {
                format!("config.ingress[{index}] matches every request, so the rules after it are never used")
            });
        }
    }
    Ok(())
}

fn matches_all(rule: &Value) -> bool {
    let open = |key: &str, any: &[&str]| {
        rule.get(key)
            .is_none_or(|value| value.is_null() || value.as_str().is_some_and(|text| any.contains(&text)))
    };
    open("hostname", &["", "*"]) && open("path", &[""])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shapes_that_no_connector_takes_are_refused() {
        let all = json!({"service": "http_status:404"});
        let app = json!({"hostname": "app.test", "service": "http://127.0.0.1:1"});
        for (config, fine) in [
            (json!({}), true),
            (json!({"ingress": []}), true),
            (json!({"ingress": [all]}), true),
            (
                json!({"ingress": [app, all], "warp-routing": {"enabled": true}}),
                true,
            ),
            (json!({"ingress": [app]}), false),
            (json!({"ingress": [all, app, all]}), false),
            (json!({"ingress": [{"hostname": "app.test"}, all]}), false),
            (json!({"ingress": "x"}), false),
            (json!([]), false),
        ] {
            assert_eq!(check_shape(&config).is_ok(), fine, "{config}");
        }
    }
}
