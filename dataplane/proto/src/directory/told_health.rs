//! Holds what replicas say of their own origins, by hostname. Their health checks know of a failure before
//! any exchange has failed.
//!
//! The rule that takes an exchange decides. Where a rule's paths are not known, any rule that could take one
//! of a hostname's exchanges decides, and another replica then serves the whole hostname. The replica is
//! asked only when no other one is left.
//!
//! Source: `wire/src/registration/origin_health.rs`.

use std::fmt;
use std::sync::Arc;

use adit_wire::{HostPattern, Hostname};

use super::RulePath;

/// The health of one replica's origins; by default nothing is known, which counts as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldHealth {
    revision: u64,
    /// In the order of the ingress, up to the last one that is down. Shared, because every core keeps it.
    rules: Option<Arc<[Rule]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// `None` for every name.
    hostname: Option<HostPattern>,
    path: RulePath,
    is_down: bool,
}

impl ToldHealth {
    /// Reads rules as (hostname, the paths it takes, whether it is down). An empty or `*`
    /// hostname means every name. A `revision` of 0 is newer than no other.
    pub fn new<'a>(revision: u64, rules: impl IntoIterator<Item = (&'a str, RulePath, bool)>) -> Self {
        let rule = |(hostname, path, is_down): (&str, RulePath, bool)| {
            let hostname = match hostname {
                "" | "*" => None,
                // A name that cannot be parsed cannot be asked for either.
                name => Some(name.parse().ok()?),
            };
            Some(Rule {
                hostname,
                path,
                is_down,
            })
        };
        let rules: Arc<[Rule]> = rules.into_iter().filter_map(rule).collect();
        Self {
            revision,
            rules: rules.iter().any(|rule| rule.is_down).then_some(rules),
        }
    }

    /// Whether this is newer than `other`.
    #[must_use]
    pub fn follows(&self, other: &Self) -> bool {
        self.revision > other.revision
    }

    /// Whether no origin is down.
    #[must_use]
    pub fn is_all_well(&self) -> bool {
        self.rules.is_none()
    }

    /// Whether an exchange for `host` that the rule `by` takes may come to an origin that is down.
    #[must_use]
    pub fn is_down(&self, host: &Hostname, by: RulePath) -> bool {
        self.rules
            .as_deref()
            .is_some_and(|rules| is_down(rules, host, by))
    }
}

/// The hostnames of rules that are down, with `*` for every name, for logs.
impl fmt::Display for ToldHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules = self.rules.as_deref().unwrap_or_default();
        for (index, rule) in rules.iter().filter(|rule| rule.is_down).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            match &rule.hostname {
                Some(name) => write!(f, "{separator}{name}")?,
                None => write!(f, "{separator}*")?,
            }
        }
        Ok(())
    }
}

fn is_down(rules: &[Rule], host: &Hostname, by: RulePath) -> bool {
    for rule in rules {
        let is_meant = rule.hostname.as_ref().is_none_or(|pattern| pattern.matches(host));
        if !is_meant {
            continue;
        }
        // A rule for every path leaves no exchange to what follows it.
        if rule.path == RulePath::EVERY || (rule.path == by && by != RulePath::UNKNOWN) {
            return rule.is_down;
        }
        let may_take = rule.path == RulePath::UNKNOWN || by == RulePath::UNKNOWN;
        if may_take && rule.is_down {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: RulePath = RulePath::EVERY;
    const UNKNOWN: RulePath = RulePath::UNKNOWN;

    fn down(rules: &[(&str, RulePath, bool)], host: &str, by: RulePath) -> bool {
        ToldHealth::new(1, rules.iter().copied()).is_down(&host.parse().unwrap(), by)
    }

    #[test]
    fn the_first_rule_that_takes_every_path_decides() {
        let rules = [
            ("a.test", EVERY, false),
            ("*.test", EVERY, true),
            ("", EVERY, false),
        ];
        for by in [EVERY, UNKNOWN] {
            assert!(!down(&rules, "a.test", by));
            assert!(down(&rules, "b.test", by));
            assert!(!down(&rules, "b.example", by));
            assert!(down(&[("*", EVERY, true)], "b.example", by));
        }
    }

    #[test]
    fn a_rule_for_some_paths_is_down_for_these_alone() {
        let (api, other) = (RulePath::of("/api"), RulePath::of("/other"));
        let api_down = [("a.test", api, true), ("a.test", EVERY, false)];
        assert!(down(&api_down, "a.test", api));
        assert!(!down(&api_down, "a.test", EVERY));
        assert!(!down(&api_down, "b.test", api));
        let rest_down = [("a.test", api, false), ("a.test", EVERY, true)];
        assert!(!down(&rest_down, "a.test", api));
        assert!(down(&rest_down, "a.test", EVERY));
        assert!(
            down(&rest_down, "a.test", other),
            "the list is of another configuration"
        );
    }

    #[test]
    fn where_paths_are_unknown_a_rule_counts_for_its_whole_name_and_hides_nothing() {
        for path in [UNKNOWN, RulePath::of("/api")] {
            assert!(down(
                &[("a.test", path, true), ("a.test", EVERY, false)],
                "a.test",
                UNKNOWN
            ));
            assert!(down(
                &[("a.test", path, false), ("a.test", EVERY, true)],
                "a.test",
                UNKNOWN
            ));
            assert!(!down(&[("a.test", path, true)], "b.test", UNKNOWN));
        }
        assert!(down(&[("a.test", UNKNOWN, true)], "a.test", EVERY));
    }

    #[test]
    fn a_list_without_anything_down_is_no_list() {
        assert!(ToldHealth::new(4, [("a.test", EVERY, false)]).is_all_well());
        assert!(ToldHealth::new(4, [("not a name", EVERY, true)]).is_all_well());
        let told = ToldHealth::new(
            4,
            [
                ("a.test", EVERY, true),
                ("b.test", EVERY, false),
                ("", EVERY, true),
            ],
        );
        assert!(!told.is_all_well());
        assert_eq!(told.to_string(), "a.test, *");
    }
}
