//! Files values under hostname patterns and finds the one filed most specifically for a name.
//!
//! An exact name wins over every wildcard, a longer wildcard over a shorter one. A look-up hashes the name
//! once per label at most and allocates nothing, so it may stand in the path of every request.
//!
//! Does not: parse names, or know what the values mean. Routes and a replica's ingress are filed this way.

use std::collections::HashMap;

use adit_wire::{HostPattern, Hostname};

mod sharded;

pub use self::sharded::ShardedHostMap;

/// Values by hostname pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMap<T> {
    exact: HashMap<Hostname, T>,
    /// By the suffix after `*.`.
    wildcards: HashMap<Hostname, T>,
}

impl<T> Default for HostMap<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcards: HashMap::new(),
        }
    }
}

impl<T> HostMap<T> {
    /// Files `value` under `pattern` and returns what was filed there before.
    pub fn insert(&mut self, pattern: HostPattern, value: T) -> Option<T> {
        match pattern {
            HostPattern::Exact(name) => self.exact.insert(name, value),
            HostPattern::Wildcard(suffix) => self.wildcards.insert(suffix, value),
        }
    }

    /// Takes away what is filed under `pattern` and returns it.
    pub fn remove(&mut self, pattern: &HostPattern) -> Option<T> {
        match pattern {
            HostPattern::Exact(name) => self.exact.remove(name),
            HostPattern::Wildcard(suffix) => self.wildcards.remove(suffix),
        }
    }

    /// The value of the most specific pattern that matches `name`.
    #[must_use]
    pub fn get(&self, name: &Hostname) -> Option<&T> {
        self.exact.get(name).or_else(|| {
            if self.wildcards.is_empty() {
                return None;
            }
            name.parents().find_map(|suffix| self.wildcards.get(suffix))
        })
    }

    /// How many patterns are filed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }

    /// Whether none is filed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty()
    }
}

impl<T> FromIterator<(HostPattern, T)> for HostMap<T> {
    fn from_iter<I: IntoIterator<Item = (HostPattern, T)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (pattern, value) in entries {
            map.insert(pattern, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_pattern_wins() {
        let patterns = ["b.test", "*.b.test", "*.a.b.test", "x.a.b.test"];
        let map: HostMap<&str> = patterns
            .iter()
            .map(|text| (text.parse().unwrap(), *text))
            .collect();
        assert_eq!(map.len(), 4);
        for (name, expected) in [
            ("b.test", Some("b.test")),
            ("a.b.test", Some("*.b.test")),
            ("x.a.b.test", Some("x.a.b.test")),
            ("y.a.b.test", Some("*.a.b.test")),
            ("z.y.a.b.test", Some("*.a.b.test")),
            ("ab.test", None),
            ("test", None),
        ] {
            assert_eq!(map.get(&name.parse().unwrap()).copied(), expected, "{name}");
        }
    }

    #[test]
    fn a_second_value_under_a_pattern_replaces_the_first() {
        let mut map = HostMap::default();
        assert!(map.is_empty());
        assert_eq!(map.insert("*.a.test".parse().unwrap(), 1), None);
        assert_eq!(map.insert("*.a.test".parse().unwrap(), 2), Some(1));
        assert_eq!(map.get(&"b.a.test".parse().unwrap()), Some(&2));
    }
}
