//! Transfers and requests over a bad network between connector and edge, several of them in turn.

use std::time::Duration;

use adit_tests::relay::{Impairment, Link};
use anyhow::{Context as _, Result};

use super::Bench;
use super::bulk::{self, BulkShape};
use super::options::Settings;
use super::requests::{self, RequestShape};
use super::scenario::Measured;
use super::series::Figure;
use super::subject::{Origin, Running, Through};

/// One network.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Network {
    round_trip_ms: u64,
    loss_percent: f64,
    is_narrow: bool,
}

/// Payload that the narrow link carries per second: 300 Mbit/s.
pub(super) const NARROW_BYTES_PER_SECOND: u64 = 300_000_000 / 8;

/// The narrow link, with a queue of `queue`.
pub(super) const fn narrow(queue: Duration) -> Link {
    Link {
        bytes_per_second: NARROW_BYTES_PER_SECOND,
        queue,
    }
}

impl Network {
    const fn new(round_trip_ms: u64, loss_percent: f64) -> Self {
        Self {
            round_trip_ms,
            loss_percent,
            is_narrow: false,
        }
    }

    /// A link of 300 Mbit/s.
    const fn narrow(round_trip_ms: u64) -> Self {
        Self {
            is_narrow: true,
            ..Self::new(round_trip_ms, 0.0)
        }
    }

    /// As figures name it.
    fn name(self) -> String {
        let link = if self.is_narrow { " 300 Mbit/s" } else { "" };
        format!("{} ms {} %{link}", self.round_trip_ms, self.loss_percent)
    }

    fn impairment(self) -> Impairment {
        Impairment {
            delay: Duration::from_millis(self.round_trip_ms) / 2,
            loss: self.loss_percent / 100.0,
            // A queue of one round trip, as routers have.
            link: self
                .is_narrow
                .then(|| narrow(Duration::from_millis(self.round_trip_ms))),
            ..Impairment::default()
        }
    }

    /// Bytes of a transfer that lasts some seconds: loss and a long way make it slow.
    fn bytes(self, settings: &Settings) -> u64 {
        let whole = if settings.quick { 30_000_000 } else { 150_000_000 };
        if self.is_narrow {
            // Long enough that the beginning does not count.
            whole * 4
        } else if self.loss_percent >= 1.0 {
            whole / 60
        } else if self.loss_percent > 0.0 {
            whole / 10
        } else {
            whole
        }
    }
}

/// Those without loss first: what a connection has learnt of a lossy way slows it down on the next one.
const ALL: [Network; 7] = [
    Network::narrow(100),
    Network::new(20, 0.0),
    Network::new(100, 0.0),
    Network::new(20, 0.1),
    Network::new(100, 0.1),
    Network::new(20, 1.0),
    Network::new(100, 1.0),
];

/// The networks of a short run: the corners.
const FEW: [Network; 3] = [
    Network::new(100, 0.0),
    Network::new(20, 0.1),
    Network::new(100, 1.0),
];

/// Slowest transfer that is waited for, in bytes per second.
const RATE_MIN: u64 = 20_000;

/// One round of one subject through every network.
pub(crate) fn measure(bench: &Bench, origin: &Origin, running: &Running) -> Result<Measured> {
    let Through::Relay(relay) = &running.through else {
        anyhow::bail!("the subject was started without a relay");
    };
    let networks: &[Network] = if bench.settings.quick { &FEW } else { &ALL };
    let mut all = Measured::default();
    for network in networks {
        relay.set(network.impairment());
        let measured = one(bench, *network, origin, running);
        relay.set(Impairment::default());
        let name = network.name();
        all.absorb(&name, measured.with_context(|| name.clone())?);
    }
    Ok(all)
}

fn one(bench: &Bench, network: Network, origin: &Origin, running: &Running) -> Result<Measured> {
    let shape = BulkShape {
        bytes: network.bytes(&bench.settings),
        rate_min: RATE_MIN,
        ..BulkShape::one()
    };
    let mut measured = bulk::measure(bench, &shape, origin, running)?;
    if network.is_narrow {
        let unused = |figure: &Figure| {
            let way = figure.key.name.strip_suffix(".mb_per_s")?;
            let used = figure.value * 1e6 / NARROW_BYTES_PER_SECOND as f64;
            Some(Figure::new(format!("{way}.unused_percent"), 100.0 * (1.0 - used)))
        };
        let unused: Vec<Figure> = measured.figures.iter().filter_map(unused).collect();
        measured.figures.extend(unused);
    }
    let requests = RequestShape::FAR;
    let rate = requests.rate().unwrap_or(1);
    let times = requests::measure(bench, &requests, origin, running, rate)?;
    measured.absorb("", times);
    // What a core spends is the matter of other scenarios; here it is the time that counts.
    measured
        .figures
        .retain(|figure| figure.key.process.is_empty() && !figure.key.name.contains("others"));
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_the_round_trip_is_spent_each_way() {
        let impairment = Network::new(100, 0.1).impairment();
        assert_eq!(impairment.delay, Duration::from_millis(50));
        assert!((impairment.loss - 0.001).abs() < 1e-12);
        assert_eq!(Network::new(20, 0.1).name(), "20 ms 0.1 %");
        assert_eq!(Network::narrow(100).name(), "100 ms 0 % 300 Mbit/s");
    }
}
