//! What of a hostname a replica's ingress serves: which names, and by which rule each of their paths.
//!
//! ```text
//! rules in order:  a.test /api   a.test   *.b.test /static   (closing: http_status:404)
//! a.test/api/x   ─► the rule for /api        x.b.test/static ─► the rule for /static
//! a.test/        ─► a rule for every path    x.b.test/       ─► none: the closing rule answers
//! ```
//! Most replicas have no rule with a path, and then nothing of this is looked at. Paths are known as long as
//! there are at most [`SERVED_PATHS_MAX`] such rules, their expressions are small, and the path that is asked
//! for is short. What is not known counts for the whole hostname.
//!
//! Source: docs/protocol/ingress-config.md.

use std::sync::Arc;

use adit_wire::{HostPattern, Hostname};
use regex::{Regex, RegexBuilder};

use super::ServedHosts;
use crate::ingress::path;
use crate::limits::{MATCHED_PATH_BYTES_MAX, SERVED_PATHS_MAX};

/// Most bytes that one compiled expression takes, and most that its matching keeps on a core.
const PROGRAM_BYTES_MAX: usize = 32 << 10;

/// Rules are compared with a path one after another, as far as the last one with a path.
const RULES_MAX: usize = 256;

/// The rule of a replica that takes an exchange, as far as paths tell it from other rules for the hostname.
///
/// A hash of its expression, so that rules with the same expression are one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RulePath(u64);

impl RulePath {
    /// It is not known which rules of the hostname have paths.
    pub const UNKNOWN: Self = Self(0);

    /// It takes every path.
    pub const EVERY: Self = Self(1);

    /// The rule with this expression; empty for every path.
    #[must_use]
    pub fn of(expression: &str) -> Self {
        if expression.is_empty() {
            return Self::EVERY;
        }
        // FNV-1a. Two expressions that meet in it share their health, which costs a choice, not an answer.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = expression.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        // Two values are taken.
        Self(hash.max(2))
    }
}

/// Names and paths that one replica serves; by default every name, and nothing is known of paths. Shared by
/// the replicas of a core that serve the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served(Option<Arc<Known>>);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    hosts: ServedHosts,
    paths: Paths,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Paths {
    #[default]
    Unknown,
    /// No rule has one.
    None,
    Some(PathRules),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PathRules {
    /// In order, up to the last one with a path.
    rules: Vec<PathRule>,
    /// Names that rules without a path serve.
    without_path: ServedHosts,
}

#[derive(Clone, Debug)]
struct PathRule {
    /// `None` for every name.
    hostname: Option<HostPattern>,
    path: Option<Regex>,
    name: RulePath,
}

/// What a replica does with one path of a hostname that it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) by: RulePath,
    /// False if only a closing rule without a service is left for it.
    pub(super) is_served: bool,
}

impl Served {
    /// Reads the `hostname` and `path` fields of ingress rules in their order. An absent, empty or `*`
    /// hostname matches every name, an absent or empty path every path.
    ///
    /// The last rule always matches everything, so a rule that only answers with a status must not be passed
    /// in: it would make each replica serve everything.
    pub fn from_rules<'a>(rules: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Self {
        let rules: Vec<_> = rules.into_iter().collect();
        Self(Some(Arc::new(Known {
            hosts: ServedHosts::from_rules(rules.iter().map(|(hostname, _)| *hostname)),
            paths: Paths::of(&rules),
        })))
    }

    /// Whether a request for `host` may go to this replica.
    #[must_use]
    pub fn serves(&self, host: &Hostname) -> bool {
        self.0.as_ref().is_none_or(|known| known.hosts.serves(host))
    }

    /// Which rule takes `path` of `host`, a name that is served.
    pub(super) fn take(&self, host: &Hostname, path: &str) -> Taken {
        let taken = |by, is_served| Taken { by, is_served };
        let Some(known) = &self.0 else {
            return taken(RulePath::UNKNOWN, true);
        };
        match &known.paths {
            Paths::Unknown => taken(RulePath::UNKNOWN, true),
            Paths::None => taken(RulePath::EVERY, true),
            Paths::Some(_) if path.len() > MATCHED_PATH_BYTES_MAX => taken(RulePath::UNKNOWN, true),
            Paths::Some(known) => match known.find(host, path) {
                Some(rule) => taken(rule.name, true),
                None => taken(RulePath::EVERY, known.without_path.serves(host)),
            },
        }
    }

    /// Whether both are one and the same; equal ones need not be.
    pub(super) fn is_shared_with(&self, other: &Self) -> bool {
        self.0.as_ref().map(Arc::as_ptr) == other.0.as_ref().map(Arc::as_ptr)
    }

    /// The same with expressions that only this core uses: what matching needs is kept per core, and would be
    /// handed around under a lock.
    pub(super) fn of_this_core(mut self) -> Self {
        if let Some(known) = &mut self.0
            && matches!(known.paths, Paths::Some(_))
        {
            *known = Arc::new(Known::clone(known));
        }
        self
    }
}

/// Nothing is known of paths.
impl From<ServedHosts> for Served {
    fn from(hosts: ServedHosts) -> Self {
        Self(Some(Arc::new(Known {
            hosts,
            paths: Paths::Unknown,
        })))
    }
}

impl Paths {
    fn of(rules: &[(Option<&str>, Option<&str>)]) -> Self {
        let has_path = |(_, path): &(Option<&str>, Option<&str>)| path.is_some_and(|path| !path.is_empty());
        let Some(last) = rules.iter().rposition(has_path) else {
            return Self::None;
        };
        let count = rules.iter().filter(|rule| has_path(rule)).count();
        if count > SERVED_PATHS_MAX || last >= RULES_MAX {
            return Self::Unknown;
        }
        let with_path = rules.iter().take(last + 1);
        let parsed = with_path.filter_map(|(hostname, path)| PathRule::parse(*hostname, *path));
        let Ok(with_path) = parsed.collect() else {
            return Self::Unknown;
        };
        let without_path = rules.iter().filter(|rule| !has_path(rule));
        Self::Some(PathRules {
            rules: with_path,
            without_path: ServedHosts::from_rules(without_path.map(|(hostname, _)| *hostname)),
        })
    }
}

impl PathRules {
    fn find(&self, host: &Hostname, target: &str) -> Option<&PathRule> {
        let mut decoded = None;
        self.rules.iter().find(|rule| {
            let is_meant = rule.hostname.as_ref().is_none_or(|pattern| pattern.matches(host));
            is_meant
                && rule.path.as_ref().is_none_or(|expression| {
                    expression.is_match(decoded.get_or_insert_with(|| path::decode(target)))
                })
        })
    }
}

impl PathRule {
    /// `None` for a name that cannot be parsed, as it cannot be asked for either.
    fn parse(hostname: Option<&str>, path: Option<&str>) -> Option<Result<Self, regex::Error>> {
        let hostname = match hostname {
            None | Some("" | "*") => None,
            Some(name) => Some(name.parse().ok()?),
        };
        let path = path.unwrap_or_default();
        let expression = (!path.is_empty()).then(|| {
            let mut builder = RegexBuilder::new(path);
            builder.size_limit(PROGRAM_BYTES_MAX);
            builder.dfa_size_limit(PROGRAM_BYTES_MAX).build()
        });
        Some(expression.transpose().map(|expression| Self {
            hostname,
            path: expression,
            name: RulePath::of(path),
        }))
    }
}

/// Expressions are the same if their texts are.
impl PartialEq for PathRule {
    fn eq(&self, other: &Self) -> bool {
        let texts = [self, other].map(|rule| rule.path.as_ref().map(Regex::as_str));
        self.hostname == other.hostname && texts[0] == texts[1]
    }
}

impl Eq for PathRule {}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(served: &Served, host: &str, path: &str) -> (RulePath, bool) {
        let taken = served.take(&host.parse().unwrap(), path);
        (taken.by, taken.is_served)
    }

    #[test]
    fn the_first_rule_that_takes_name_and_path_is_the_one() {
        let served = Served::from_rules([
            (Some("a.test"), Some("^/api")),
            (Some("a.test"), None),
            (Some("*.b.test"), Some(r"\.png$")),
        ]);
        let (api, png) = (RulePath::of("^/api"), RulePath::of(r"\.png$"));
        assert_eq!(take(&served, "a.test", "/api/x"), (api, true));
        assert_eq!(take(&served, "a.test", "/%61pi"), (api, true), "decoded first");
        assert_eq!(take(&served, "a.test", "/x/api"), (RulePath::EVERY, true));
        assert_eq!(take(&served, "x.b.test", "/a.png"), (png, true));
        assert_eq!(take(&served, "x.b.test", "/a.gif"), (RulePath::EVERY, false));
        assert_ne!(api, png);
    }

    #[test]
    fn a_closing_rule_with_a_service_takes_what_is_left() {
        let served = Served::from_rules([(None, Some("/api")), (None, None)]);
        assert_eq!(take(&served, "a.test", "/"), (RulePath::EVERY, true));
        assert_eq!(take(&served, "a.test", "/api"), (RulePath::of("/api"), true));
        assert!(served.serves(&"b.test".parse().unwrap()));
    }

    #[test]
    fn what_is_too_much_is_not_known_and_counts_for_the_whole_name() {
        let unknown = (RulePath::UNKNOWN, true);
        assert_eq!(take(&Served::default(), "a.test", "/"), unknown);
        for bad in ["(", r"\w{400}"] {
            let served = Served::from_rules([(Some("a.test"), Some(bad))]);
            assert_eq!(take(&served, "a.test", "/"), unknown, "{bad}");
        }
        let many = vec![(Some("a.test"), Some("/x")); SERVED_PATHS_MAX + 1];
        assert_eq!(take(&Served::from_rules(many), "a.test", "/"), unknown);
        let late = vec![(Some("a.test"), None); RULES_MAX];
        let late = late.into_iter().chain([(Some("a.test"), Some("/x"))]);
        assert_eq!(take(&Served::from_rules(late), "a.test", "/"), unknown);
        let long = "/x".repeat(MATCHED_PATH_BYTES_MAX);
        let served = Served::from_rules([(Some("a.test"), Some("/x"))]);
        assert_eq!(take(&served, "a.test", &long), unknown);
        let none = Served::from_rules([(Some("a.test"), Some("")), (Some("b.test"), None)]);
        assert_eq!(take(&none, "a.test", &long), (RulePath::EVERY, true));
    }
}
