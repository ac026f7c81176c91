//! How much of what a core has one visitor or one tunnel may take. Pure: numbers in, a verdict out.
//!
//! A share is a part of what the others leave: of what is free and what its taker holds itself. So the first
//! to come may take the most and each further one takes less. Something is free for a newcomer however many
//! there are:
//!
//! ```text
//! share 50 %   one taker: 1/2   two: 1/3 each   three: 1/4 each   …   free: as much as each of them has
//! share 75 %   one taker: 3/4   two: 3/7 each   three: 3/10 each  …   free: a third of what each of them has
//! ```
//!
//! Does not: count who holds what (the edge's cores do).

use std::net::IpAddr;

/// Whose requests are counted together: an IPv4 address, or the /64 of IPv6 that a single host has to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressBlock {
    /// One address.
    V4([u8; 4]),
    /// The upper half.
    V6([u8; 8]),
}

impl AddressBlock {
    /// That of an address; one that is mapped counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// A share in percent, 1 to 100; 100 bounds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(u8);

impl Share {
    /// `None` outside of 1 to 100.
    pub const fn percent(percent: u8) -> Option<Self> {
        match percent {
            1..=100 => Some(Self(percent)),
            _ => None,
        }
    }

    /// The number of percent.
    pub const fn as_percent(self) -> u8 {
        self.0
    }

    /// Whether somebody may hold `held` while `free` is left beside.
    pub fn allows(self, held: u64, free: u64) -> bool {
        let (held, free, percent) = (u128::from(held), u128::from(free), u128::from(self.0));
        held * 100 <= percent * (held + free)
    }
}

/// How scarce something is that many share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scarcity {
    /// Less than half is taken: nobody is asked to hurry.
    Plenty,
    /// More than half: whoever holds without need is to leave.
    Tight,
    /// More than three quarters: whoever holds without doing anything is to leave.
    Scarce,
}

impl Scarcity {
    /// Of `most`, `taken` are taken.
    pub fn of(taken: u64, most: u64) -> Self {
        let (taken, most) = (u128::from(taken), u128::from(most));
        if taken * 2 <= most {
            Self::Plenty
        } else if taken * 4 <= most * 3 {
            Self::Tight
        } else {
            Self::Scarce
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_block_whatever_it_calls_itself() {
        let block = |text: &str| AddressBlock::of(text.parse().unwrap());
        assert_eq!(block("192.0.2.1"), block("::ffff:192.0.2.1"));
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
        assert_eq!(block("2001:db8:0:1::1"), block("2001:db8:0:1:ffff::2"));
        assert_ne!(block("2001:db8:0:1::1"), block("2001:db8:0:2::1"));
        assert_ne!(block("0.0.0.1"), block("::1"));
    }

    #[test]
    fn shares_are_one_to_a_hundred_percent() {
        assert_eq!(
            (Share::percent(0), Share::percent(101), Share::percent(255)),
            (None, None, None)
        );
        assert_eq!(Share::percent(100).map(Share::as_percent), Some(100));
    }

    /// Lets `takers` take one unit each in turn until none may.
    fn fill(percent: u8, takers: usize, most: u64) -> (Vec<u64>, u64) {
        let share = Share::percent(percent).unwrap();
        let (mut held, mut free) = (vec![0; takers], most);
        loop {
            let before = free;
            for taker in &mut held {
                if free > 0 && share.allows(*taker + 1, free - 1) {
                    *taker += 1;
                    free -= 1;
                }
            }
            if free == before {
                return (held, free);
            }
        }
    }

    #[test]
    fn takers_get_alike_and_leave_room_for_another() {
        for (percent, takers, each, left) in [
            (50, 1, 500, 500),
            (50, 2, 333, 334),
            (50, 3, 250, 250),
            (75, 1, 750, 250),
            (75, 2, 428, 143),
            (100, 1, 1_000, 0),
        ] {
            let (held, free) = fill(percent, takers, 1_000);
            for taken in &held {
                assert!(taken.abs_diff(each) <= 1, "{percent} {takers}: {held:?}");
            }
            assert!(free.abs_diff(left) <= 3, "{percent} {takers}: {free}");
        }
        let (held, free) = fill(50, 24, 10_000);
        assert!(
            held.iter().all(|taken| *taken >= 399) && free >= 399,
            "{held:?} {free}"
        );
    }

    #[test]
    fn a_late_comer_gets_its_share_of_what_is_left() {
        let share = Share::percent(50).unwrap();
        assert!(share.allows(250, 250) && !share.allows(251, 249));
        assert!(!share.allows(1, 0) && share.allows(0, 0));
        assert!(share.allows(u64::MAX, u64::MAX));
    }

    #[test]
    fn scarcity_begins_at_half() {
        for (taken, wanted) in [
            (0, Scarcity::Plenty),
            (50, Scarcity::Plenty),
            (51, Scarcity::Tight),
            (75, Scarcity::Tight),
            (76, Scarcity::Scarce),
            (200, Scarcity::Scarce),
        ] {
            assert_eq!(Scarcity::of(taken, 100), wanted, "{taken}");
        }
    }
}
