//! Holds what replicas say of their own origins, by hostname. Their health checks know of a failure before
//! any exchange has failed.
//!
//! An edge knows the rules of a replica by hostname, not by path. So a hostname is down when any rule that
//! could serve one of its exchanges is down. Another replica then serves the whole hostname. The replica is
//! asked only when no other one is left.
//!
//! Source: `wire/src/registration/origin_health.rs`.

use std::fmt;
use std::sync::Arc;

use adit_wire::{HostPattern, Hostname};

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
    has_path: bool,
    is_down: bool,
}

impl ToldHealth {
    /// Reads rules as (hostname, whether it takes only some paths, whether it is down). An empty or `*`
    /// hostname means every name. A `revision` of 0 is newer than no other.
    pub fn new<'a>(revision: u64, rules: impl IntoIterator<Item = (&'a str, bool, bool)>) -> Self {
        let rule = |(hostname, has_path, is_down): (&str, bool, bool)| {
            let hostname = match hostname {
                "" | "*" => None,
                // A name that cannot be parsed cannot be asked for either.
                name => Some(name.parse().ok()?),
            };
            Some(Rule {
                hostname,
                has_path,
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

    /// Whether an exchange for `host` may come to an origin that is down.
    #[must_use]
    pub fn is_down(&self, host: &Hostname) -> bool {
        self.rules.as_deref().is_some_and(|rules| is_down(rules, host))
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

fn is_down(rules: &[Rule], host: &Hostname) -> bool {
    for rule in rules {
        let is_meant = rule.hostname.as_ref().is_none_or(|pattern| pattern.matches(host));
        if is_meant && rule.is_down {
            return true;
        }
        // It takes every path, so no exchange comes to what follows.
        if is_meant && !rule.has_path {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn down(rules: &[(&str, bool, bool)], host: &str) -> bool {
        ToldHealth::new(1, rules.iter().copied()).is_down(&host.parse().unwrap())
    }

    #[test]
    fn the_first_rule_that_takes_every_path_decides() {
        let rules = [
            ("a.test", false, false),
            ("*.test", false, true),
            ("", false, false),
        ];
        assert!(!down(&rules, "a.test"));
        assert!(down(&rules, "b.test"));
        assert!(!down(&rules, "b.example"));
        assert!(down(&[("*", false, true)], "b.example"));
    }

    #[test]
    fn a_rule_for_some_paths_makes_the_whole_name_down_and_hides_nothing() {
        assert!(down(
            &[("a.test", true, true), ("a.test", false, false)],
            "a.test"
        ));
        assert!(down(
            &[("a.test", true, false), ("a.test", false, true)],
            "a.test"
        ));
        assert!(!down(&[("a.test", true, true)], "b.test"));
    }

    #[test]
    fn a_list_without_anything_down_is_no_list() {
        assert!(ToldHealth::new(4, [("a.test", false, false)]).is_all_well());
        assert!(ToldHealth::new(4, [("not a name", false, true)]).is_all_well());
        let told = ToldHealth::new(
            4,
            [
                ("a.test", false, true),
                ("b.test", false, false),
                ("", false, true),
            ],
        );
        assert!(!told.is_all_well());
        assert_eq!(told.to_string(), "a.test, *");
    }
}
