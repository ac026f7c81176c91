//! Many transfers and small requests share one tunnel connection over one narrow link. Measures how much of
//! the link each gets, and how long the small ones wait.

use std::time::Duration;

use adit_tests::relay::Impairment;
use anyhow::{Result, anyhow, bail};

use super::Bench;
use super::bulk::{self, BulkShape, Ways};
use super::impaired::{NARROW_BYTES_PER_SECOND, narrow};
use super::requests::{self, RequestShape};
use super::scenario::Measured;
use super::series::Figure;
use super::subject::{Origin, Running, Through};

/// Between edge and connector.
const ROUND_TRIP: Duration = Duration::from_millis(20);

/// Transfers side by side.
const TRANSFERS: u32 = 64;

/// By which transfers outlast the requests beside them, at the link's rate.
const LONGER: Duration = Duration::from_secs(3);

/// One round of one subject: requests alone, beside downloads, beside uploads.
pub(crate) fn measure(bench: &Bench, origin: &Origin, running: &Running) -> Result<Measured> {
    let Through::Relay(relay) = &running.through else {
        bail!("the subject was started without a relay");
    };
    relay.set(Impairment {
        delay: ROUND_TRIP / 2,
        link: Some(narrow(ROUND_TRIP)),
        ..Impairment::default()
    });
    let mut all = Measured::default();
    let alone = requests(bench, origin, running)?;
    let alone_p99 = p99(&alone);
    all.absorb("alone", alone);
    for (way, name) in [(Ways::Down, "beside downloads"), (Ways::Up, "beside uploads")] {
        let mut measured = beside(bench, origin, running, way)?;
        if let (Some(beside), Some(alone)) = (p99(&measured), alone_p99) {
            let limit = 3.0 * alone + ROUND_TRIP.as_secs_f64() * 1e6;
            measured.figures.push(Figure::new("p99_to_limit", beside / limit));
        }
        all.absorb(name, measured);
    }
    // It is the time that counts here.
    all.figures
        .retain(|figure| figure.key.process.is_empty() && !figure.key.name.contains("others"));
    Ok(all)
}

fn requests(bench: &Bench, origin: &Origin, running: &Running) -> Result<Measured> {
    let shape = RequestShape::FAR;
    let rate = shape.rate().unwrap_or(1);
    requests::measure(bench, &shape, origin, running, rate)
}

/// Requests while the transfers run.
fn beside(bench: &Bench, origin: &Origin, running: &Running, ways: Ways) -> Result<Measured> {
    let seconds = (bench.settings.steady + LONGER).as_secs();
    let shape = BulkShape {
        parallel: TRANSFERS,
        bytes: NARROW_BYTES_PER_SECOND * seconds,
        rate_min: NARROW_BYTES_PER_SECOND / 10,
        ways,
        ..BulkShape::one()
    };
    let mut command = shape.command(bench, running);
    let (transfers, beside) = std::thread::scope(|scope| {
        let transfers = scope.spawn(|| shape.transfer(bench, &mut command));
        let beside = requests(bench, origin, running);
        (transfers.join(), beside)
    });
    let mut measured = beside?;
    for report in transfers.map_err(|_| anyhow!("the transfers panicked"))?? {
        measured.figures.extend(bulk::rates(&shape, &report));
    }
    Ok(measured)
}

fn p99(measured: &Measured) -> Option<f64> {
    let mut figures = measured.figures.iter();
    figures
        .find(|figure| figure.key.name == "steady.p99_us")
        .map(|figure| figure.value)
}
