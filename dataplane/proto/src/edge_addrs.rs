//! Owns which edge address each slot of a connector dials.
//!
//! ```text
//! --edge values in order:   0        1        2        3     …
//! region:                   first    second   first    second
//! holder:                   slot 0   slot 1   –        –
//! ```
//! Positions are held, not addresses: the same address given twice may be held by two slots. A slot keeps
//! its position until its connection shows that the address is bad; then it moves to a free position with
//! another address, if there is one, and else stays where it is and lets its back-off do the waiting.
//!
//! Source: cloudflared `edgediscovery/allregions/`.

use std::net::SocketAddr;

use rand::{Rng, RngExt as _};

/// Regions that given addresses alternate between.
const REGIONS: usize = 2;

/// Most addresses one connector keeps.
pub const ADDRESSES_MAX: usize = 64;

/// The known edge addresses and who holds them.
#[derive(Debug, Clone)]
pub struct EdgeAddrs {
    places: Vec<Place>,
}

#[derive(Debug, Clone)]
struct Place {
    address: SocketAddr,
    holder: Option<usize>,
}

impl EdgeAddrs {
    /// Keeps the first [`ADDRESSES_MAX`] addresses.
    pub fn new(addresses: &[SocketAddr]) -> Self {
        let places = addresses.iter().take(ADDRESSES_MAX);
        Self {
            places: places
                .map(|&address| Place {
                    address,
                    holder: None,
                })
                .collect(),
        }
    }

    /// Positions, which is how many slots can hold one.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// The address `slot` holds, after giving it one if it held none; `None` if all are held by others.
    ///
    /// Prefers the region with more free positions, so that the slots of a replica spread over both.
    pub fn hold(&mut self, slot: usize, rng: &mut impl Rng) -> Option<SocketAddr> {
        if let Some(held) = self.place_of(slot) {
            return self.places.get(held).map(|place| place.address);
        }
        let fuller = self.fuller_region(rng);
        let chosen = self
            .pick(rng, |at, _| at % REGIONS == fuller)
            .or_else(|| self.pick(rng, |_, _| true))?;
        self.give(slot, chosen)
    }

    /// Moves `slot` away from its address after a failure of it; whether there was another to move to.
    ///
    /// Prefers the other region: what broke one address most likely broke its neighbours.
    pub fn leave(&mut self, slot: usize, rng: &mut impl Rng) -> bool {
        let Some(held) = self.place_of(slot) else {
            return false;
        };
        let Some(bad) = self.places.get(held).map(|place| place.address) else {
            return false;
        };
        let other_region = |at: usize, address: SocketAddr| address != bad && at % REGIONS != held % REGIONS;
        let chosen = self
            .pick(rng, other_region)
            .or_else(|| self.pick(rng, |_, address| address != bad));
        let Some(chosen) = chosen else { return false };
        self.release(slot);
        self.give(slot, chosen);
        true
    }

    /// Takes the position back from a slot that dials no more.
    pub fn release(&mut self, slot: usize) {
        for place in &mut self.places {
            if place.holder == Some(slot) {
                place.holder = None;
            }
        }
    }

    fn place_of(&self, slot: usize) -> Option<usize> {
        self.places.iter().position(|place| place.holder == Some(slot))
    }

    fn give(&mut self, slot: usize, at: usize) -> Option<SocketAddr> {
        let place = self.places.get_mut(at)?;
        place.holder = Some(slot);
        Some(place.address)
    }

    fn fuller_region(&self, rng: &mut impl Rng) -> usize {
        let mut free = [0_usize; REGIONS];
        for (at, place) in self.places.iter().enumerate() {
            free[at % REGIONS] += usize::from(place.holder.is_none());
        }
        match free[0].cmp(&free[1]) {
            std::cmp::Ordering::Greater => 0,
            std::cmp::Ordering::Less => 1,
            std::cmp::Ordering::Equal => rng.random_range(0..REGIONS),
        }
    }

    /// A random free position that `is_fit` for the purpose.
    fn pick(&self, rng: &mut impl Rng, is_fit: impl Fn(usize, SocketAddr) -> bool) -> Option<usize> {
        let free = |(at, place): (usize, &Place)| {
            (place.holder.is_none() && is_fit(at, place.address)).then_some(at)
        };
        let candidates: Vec<usize> = self.places.iter().enumerate().filter_map(free).collect();
        if candidates.is_empty() {
            return None;
        }
        candidates.get(rng.random_range(0..candidates.len())).copied()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn addresses(ports: &[u16]) -> EdgeAddrs {
        let all: Vec<SocketAddr> = ports.iter().map(|&port| ([127, 0, 0, 1], port).into()).collect();
        EdgeAddrs::new(&all)
    }

    #[test]
    fn slots_spread_over_regions_and_keep_their_address() {
        for seed in 0..100 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut edges = addresses(&[1, 2, 3, 4]);
            let first = edges.hold(0, &mut rng).unwrap().port();
            let second = edges.hold(1, &mut rng).unwrap().port();
            assert_ne!(first % 2, second % 2, "the same region twice");
            assert_eq!(edges.hold(0, &mut rng).unwrap().port(), first);
        }
    }

    #[test]
    fn a_bad_address_is_left_for_the_other_region() {
        for seed in 0..100 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut edges = addresses(&[1, 2, 3, 4]);
            let bad = edges.hold(0, &mut rng).unwrap().port();
            assert!(edges.leave(0, &mut rng));
            assert_ne!(edges.hold(0, &mut rng).unwrap().port() % 2, bad % 2);
        }
    }

    #[test]
    fn with_one_address_a_slot_stays() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut edges = addresses(&[9, 9, 9]);
        assert!(edges.hold(0, &mut rng).is_some() && edges.hold(1, &mut rng).is_some());
        assert!(!edges.leave(0, &mut rng));
        assert_eq!(edges.hold(0, &mut rng).unwrap().port(), 9);
        assert!(edges.hold(2, &mut rng).is_some());
        assert_eq!(edges.hold(3, &mut rng), None);
        edges.release(1);
        assert!(edges.hold(3, &mut rng).is_some());
    }
}
