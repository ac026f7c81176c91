//! How often one address may ask. Pure: addresses and times in, verdicts out.
//!
//! Each address has an allowance that refills evenly over an hour. Only the moment at which it will be full
//! again is kept, so an entry whose moment has passed is dropped.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The time in which all turns of an address come back.
const PERIOD: Duration = Duration::from_secs(3600);

/// Addresses remembered: 1 MiB or so. Beyond it strangers wait.
const ADDRESSES_MAX: usize = 10_000;

/// Turns by address.
#[derive(Debug)]
pub(super) struct Rate {
    /// Time for one turn to come back.
    step: Duration,
    full_at: BTreeMap<IpAddr, Instant>,
}

/// No turn is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// For this address.
    TooOften { wait: Duration },
    /// To remember one more address.
    TooMany { wait: Duration },
}

impl Rate {
    /// So many turns an hour, which may be taken at once.
    pub(super) fn per_hour(turns: u32) -> Self {
        Self {
            step: PERIOD / turns.max(1),
            full_at: BTreeMap::new(),
        }
    }

    /// Takes one turn of an address.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), Refused> {
        let subscriber = subscriber(address);
        let full_at = self.full_at.get(&subscriber).copied().unwrap_or(now).max(now) + self.step;
        let used = full_at.saturating_duration_since(now);
        if used > PERIOD {
            return Err(Refused::TooOften {
                wait: used.saturating_sub(PERIOD),
            });
        }
        if !self.full_at.contains_key(&subscriber) && self.full_at.len() >= ADDRESSES_MAX {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= ADDRESSES_MAX {
                return Err(Refused::TooMany { wait: self.step });
            }
        }
        self.full_at.insert(subscriber, full_at);
        Ok(())
    }
}

/// Whom an address stands for: of IPv6 everybody has 2^64.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_back_evenly_and_addresses_do_not_share_them() {
        let (start, mut rate) = (Instant::now(), Rate::per_hour(4));
        let at = |seconds| start + Duration::from_secs(seconds);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert!((0..4).all(|_| rate.take(one, at(0)).is_ok()));
        let wait = Duration::from_secs(900);
        assert_eq!(rate.take(one, at(0)), Err(Refused::TooOften { wait }));
        assert_eq!(rate.take(two, at(0)), Ok(()));
        assert!(rate.take(one, at(899)).is_err());
        assert_eq!(rate.take(one, at(900)), Ok(()));
        assert!(rate.take(one, at(901)).is_err());
        assert!((0..4).all(|_| rate.take(one, at(9000)).is_ok()));
    }

    #[test]
    fn a_subscriber_of_ipv6_has_one_store() {
        let (now, mut rate) = (Instant::now(), Rate::per_hour(1));
        assert!(rate.take("2001:db8::1".parse().unwrap(), now).is_ok());
        assert!(rate.take("2001:db8::2".parse().unwrap(), now).is_err());
        assert!(rate.take("2001:db8:0:1::1".parse().unwrap(), now).is_ok());
    }

    #[test]
    fn the_memory_is_bounded_and_frees_itself() {
        let (now, mut rate) = (Instant::now(), Rate::per_hour(2));
        let address = |n: u32| IpAddr::V4(n.into());
        let remembered = u32::try_from(ADDRESSES_MAX).unwrap();
        assert!((0..remembered).all(|n| rate.take(address(n), now).is_ok()));
        assert!(matches!(
            rate.take(address(remembered), now),
            Err(Refused::TooMany { .. })
        ));
        assert_eq!(rate.take(address(0), now), Ok(()));
        let later = now + Duration::from_secs(1800);
        assert_eq!(rate.take(address(remembered), later), Ok(()));
        assert_eq!(rate.full_at.len(), 2);
    }
}
