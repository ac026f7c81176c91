//! Maps and sets whose copies cost next to nothing: a copy shares what it does not change.
//!
//! Control's facts and the snapshots planned from them are kept in these, and so is the snapshot of an edge.
//! A write changes O(log n) nodes of the tree and leaves the rest to both versions. Iteration is in the order
//! of the keys. The trees are those of `rpds` (docs/decisions/0027).

use rpds::{RedBlackTreeMapSync, RedBlackTreeSetSync};

/// An ordered map. `clone` is O(1); a change is O(log n) and leaves copies as they were.
pub type PersistentMap<K, V> = RedBlackTreeMapSync<K, V>;

/// An ordered set. `clone` is O(1); a change is O(log n) and leaves copies as they were.
pub type PersistentSet<T> = RedBlackTreeSetSync<T>;
