//! A large host map of which a changed copy shares all but what was changed.
//!
//! Patterns are spread over [`SHARDS`] small maps by a hash of their name. A copy takes the list of shards
//! and no shard; a change copies the one shard that it falls into. So one change beside 100,000 patterns
//! copies some 400 of them, while a look-up costs one hash and one step more than in one large map. A tree
//! that shares its nodes copies less, and takes twice as long to be asked (docs/decisions/0027).

use std::hash::Hasher;
use std::sync::Arc;

use adit_wire::{HostPattern, Hostname};
use rustc_hash::FxHasher;

use super::HostMap;

/// Shards of one map. An empty one takes 96 bytes.
const SHARDS: usize = 256;

/// Values by hostname pattern, in shards that copies have in common.
#[derive(Clone, Debug)]
pub struct ShardedHostMap<T> {
    shards: Box<[Arc<HostMap<T>>]>,
    wildcards: usize,
    len: usize,
}

impl<T> Default for ShardedHostMap<T> {
    fn default() -> Self {
        let empty = Arc::new(HostMap::default());
        Self {
            shards: vec![empty; SHARDS].into(),
            wildcards: 0,
            len: 0,
        }
    }
}

impl<T> ShardedHostMap<T> {
    /// The value of the most specific pattern that matches `name`.
    #[must_use]
    pub fn get(&self, name: &Hostname) -> Option<&T> {
        let exact = self.shards[shard(name.as_str())].exact.get(name);
        if exact.is_some() || self.wildcards == 0 {
            return exact;
        }
        name.parents()
            .find_map(|suffix| self.shards[shard(suffix)].wildcards.get(suffix))
    }

    /// How many patterns are filed.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none is filed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: Clone> ShardedHostMap<T> {
    /// Files `value` under `pattern`. Copies made before do not see it.
    pub fn insert(&mut self, pattern: HostPattern, value: T) {
        let is_wildcard = matches!(pattern, HostPattern::Wildcard(_));
        if self.shard_of(&pattern).insert(pattern, value).is_none() {
            self.len += 1;
            self.wildcards += usize::from(is_wildcard);
        }
    }

    /// Takes away what is filed under `pattern`. Copies made before keep it.
    pub fn remove(&mut self, pattern: &HostPattern) {
        if self.shard_of(pattern).remove(pattern).is_some() {
            self.len -= 1;
            self.wildcards -= usize::from(matches!(pattern, HostPattern::Wildcard(_)));
        }
    }

    fn shard_of(&mut self, pattern: &HostPattern) -> &mut HostMap<T> {
        let (HostPattern::Exact(name) | HostPattern::Wildcard(name)) = pattern;
        Arc::make_mut(&mut self.shards[shard(name.as_str())])
    }
}

impl<T: Clone> FromIterator<(HostPattern, T)> for ShardedHostMap<T> {
    fn from_iter<I: IntoIterator<Item = (HostPattern, T)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (pattern, value) in entries {
            map.insert(pattern, value);
        }
        map
    }
}

/// The same name is in the same shard everywhere; it is no secret which.
fn shard(name: &str) -> usize {
    let mut hasher = FxHasher::default();
    hasher.write(name.as_bytes());
    // The remainder is below the number of shards.
    (hasher.finish() % SHARDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: usize) -> String {
        format!("app{n}.team{}.example.com", n % 7)
    }

    #[test]
    fn it_answers_what_one_map_does_and_copies_keep_what_they_had() {
        let patterns = ["b.test", "*.b.test", "*.a.b.test", "x.a.b.test", "*.test"];
        let names = [
            "b.test",
            "a.b.test",
            "x.a.b.test",
            "z.y.a.b.test",
            "ab.test",
            "test",
        ];
        let names = names.map(|name| name.parse::<Hostname>().unwrap());
        let mut sharded = ShardedHostMap::default();
        // Each combination of patterns, as a walk that files or takes away one at a time.
        let mut copies = vec![(sharded.clone(), HostMap::default())];
        for step in 1_u32..64 {
            let place = step.trailing_zeros() as usize % patterns.len();
            let pattern: HostPattern = patterns[place].parse().unwrap();
            let mut single = copies.last().unwrap().1.clone();
            if single.remove(&pattern).is_some() {
                sharded.remove(&pattern);
            } else {
                single.insert(pattern.clone(), step);
                sharded.insert(pattern, step);
            }
            copies.push((sharded.clone(), single));
        }
        for (sharded, single) in &copies {
            assert_eq!(
                (sharded.len(), sharded.is_empty()),
                (single.len(), single.is_empty())
            );
            for name in &names {
                assert_eq!(sharded.get(name), single.get(name), "{name}");
            }
        }
    }

    #[test]
    fn a_change_copies_one_shard_and_shards_are_of_one_size() {
        const NAMES: usize = 25_600;
        let mut map: ShardedHostMap<usize> = (0..NAMES).map(|n| (host(n).parse().unwrap(), n)).collect();
        let before = map.clone();
        map.insert("new.example.com".parse().unwrap(), 1);
        let shards = map.shards.iter().zip(&before.shards);
        assert_eq!(shards.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
        let sizes: Vec<_> = before.shards.iter().map(|shard| shard.len()).collect();
        let most = sizes.iter().max().unwrap();
        assert!(*most < 2 * NAMES / SHARDS, "{sizes:?}");
    }
}
