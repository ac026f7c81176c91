//! What a connector of ours tells an edge of ours about the origins of its ingress, as its health checks find
//! them.
//!
//! ```text
//! rules in order:  a.test /api  up     a.test  down     *  up
//! ```
//! A rule is known by its hostname and by the expression of its paths, as steering knows it. The list ends
//! with the last rule that is down, so it is empty while all is well.
//!
//! Source: `schema/tunnelrpc.capnp`, `OriginHealthServer`. cloudflared has nothing of the kind.

use super::{RegistrationError, text};
use crate::hostname::HOSTNAME_BYTES_MAX;
use crate::tunnelrpc_capnp as schema;

/// Most rules that are told. Failing exchanges find what is down behind the others, as with other connectors.
pub const HEALTH_RULES_MAX: usize = 256;

/// Longest expression that is told. The paths of a longer one count as unknown.
pub const HEALTH_PATH_BYTES_MAX: usize = 1_024;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleHealth {
    /// Its hostname, possibly `*.` before a name; empty for every name.
    pub hostname: String,
    /// It takes only some paths.
    pub has_path: bool,
    /// The expression for these paths; empty if the connector does not say.
    pub path: String,
    /// Checks of every address of its origin fail.
    pub is_down: bool,
}

/// Parameters of `updateOriginHealth`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginHealth {
    /// Grows with every change; tells a late message from a new one.
    pub revision: u64,
    /// In the order of the ingress; at most [`HEALTH_RULES_MAX`].
    pub rules: Vec<RuleHealth>,
}

impl OriginHealth {
    /// Reads the parameters of a call.
    ///
    /// # Errors
    /// [`RegistrationError`] for more than [`HEALTH_RULES_MAX`] rules, for names that are too long, and for
    /// names that are no text.
    pub fn read(
        params: schema::origin_health_server::update_origin_health_params::Reader<'_>,
    ) -> Result<Self, RegistrationError> {
        let listed = params.get_rules()?;
        let count = listed.len() as usize;
        if count > HEALTH_RULES_MAX {
            return Err(RegistrationError::TooLarge {
                field: "rules",
                size: count,
                limit: HEALTH_RULES_MAX,
            });
        }
        let read = |rule: schema::rule_health::Reader<'_>| {
            Ok(RuleHealth {
                // Two bytes more for a wildcard.
                hostname: text("hostname", rule.get_hostname()?, HOSTNAME_BYTES_MAX + 2)?,
                has_path: rule.get_has_path(),
                path: text("path", rule.get_path()?, HEALTH_PATH_BYTES_MAX)?,
                is_down: rule.get_is_down(),
            })
        };
        Ok(Self {
            revision: params.get_revision(),
            rules: listed
                .iter()
                .map(read)
                .collect::<Result<_, RegistrationError>>()?,
        })
    }

    /// Writes the parameters of a call.
    pub fn write(&self, mut params: schema::origin_health_server::update_origin_health_params::Builder<'_>) {
        params.set_revision(self.revision);
        let rules = &self.rules[..self.rules.len().min(HEALTH_RULES_MAX)];
        // At most HEALTH_RULES_MAX, so the count fits.
        let mut listed = params.init_rules(rules.len() as u32);
        for (index, rule) in (0..).zip(rules) {
            let mut out = listed.reborrow().get(index);
            out.set_hostname(&*rule.hostname);
            out.set_has_path(rule.has_path);
            if rule.path.len() <= HEALTH_PATH_BYTES_MAX {
                out.set_path(&*rule.path);
            }
            out.set_is_down(rule.is_down);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(hostname: &str, is_down: bool) -> RuleHealth {
        RuleHealth {
            hostname: hostname.to_owned(),
            has_path: is_down,
            path: if is_down {
                "^/api".to_owned()
            } else {
                String::new()
            },
            is_down,
        }
    }

    fn through_the_wire(told: &OriginHealth) -> Result<OriginHealth, RegistrationError> {
        let mut message = capnp::message::Builder::new_default();
        told.write(message.init_root());
        let mut bytes = Vec::new();
        capnp::serialize::write_message(&mut bytes, &message).unwrap();
        let read = capnp::serialize::read_message(&*bytes, capnp::message::ReaderOptions::new()).unwrap();
        OriginHealth::read(read.get_root().unwrap())
    }

    #[test]
    fn what_is_written_is_read() {
        let told = OriginHealth {
            revision: u64::MAX,
            rules: vec![rule("a.test", false), rule("*.b.test", true), rule("", false)],
        };
        assert_eq!(through_the_wire(&told).unwrap(), told);
        assert_eq!(
            through_the_wire(&OriginHealth::default()).unwrap(),
            OriginHealth::default()
        );
    }

    #[test]
    fn names_that_are_too_long_are_refused_and_rules_above_the_limit_are_not_told() {
        let long = OriginHealth {
            revision: 1,
            rules: vec![rule(&"a".repeat(HOSTNAME_BYTES_MAX + 3), true)],
        };
        assert!(through_the_wire(&long).is_err());
        let many = OriginHealth {
            revision: 1,
            rules: vec![rule("a.test", true); HEALTH_RULES_MAX + 1],
        };
        assert_eq!(through_the_wire(&many).unwrap().rules.len(), HEALTH_RULES_MAX);
        // Somebody else may write more.
        let mut message = capnp::message::Builder::new_default();
        let mut params =
            message.init_root::<schema::origin_health_server::update_origin_health_params::Builder<'_>>();
        params.reborrow().init_rules(HEALTH_RULES_MAX as u32 + 1);
        let read = OriginHealth::read(params.into_reader());
        assert!(
            matches!(read, Err(RegistrationError::TooLarge { .. })),
            "{read:?}"
        );
    }
}
