//! The less loaded of two random connections. It spreads load nearly as well as a comparison of all loads,
//! and does not send everybody to the same one.

use std::cmp::Ordering;

use super::Policy;
use crate::directory::Live;

/// Keeps two random offers (reservoir sampling).
pub(super) struct LessLoadedOfTwo<'a, T> {
    seen: u64,
    state: u64,
    first: Option<&'a Live<T>>,
    second: Option<&'a Live<T>>,
}

impl<'a, T> Policy<'a, T> for LessLoadedOfTwo<'a, T> {
    fn new(seed: u64) -> Self {
        Self {
            seen: 0,
            state: seed,
            first: None,
            second: None,
        }
    }

    fn offer(&mut self, live: &'a Live<T>, _: impl Fn(&T) -> u32) {
        self.seen += 1;
        if self.first.is_none() {
            self.first = Some(live);
        } else if self.second.is_none() {
            self.second = Some(live);
        } else {
            match self.below(self.seen) {
                0 => self.first = Some(live),
                1 => self.second = Some(live),
                _ => {}
            }
        }
    }

    /// The less loaded; a random one of two equals, so that idle connections share the work.
    fn pick(mut self, load: impl Fn(&T) -> u32) -> Option<&'a Live<T>> {
        let (Some(first), Some(second)) = (self.first, self.second) else {
            return self.first;
        };
        match load(&first.handle).cmp(&load(&second.handle)) {
            Ordering::Less => Some(first),
            Ordering::Greater => Some(second),
            Ordering::Equal if self.random().is_multiple_of(2) => Some(first),
            Ordering::Equal => Some(second),
        }
    }
}

impl<T> LessLoadedOfTwo<'_, T> {
    /// A number below `limit`, by a multiplication: this is asked for nearly every candidate.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.random()) * u128::from(limit)) >> 64) as u64
    }

    /// SplitMix64: enough to spread choices, and reproducible.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
