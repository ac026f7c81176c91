//! Listens to streams of events and measures how late each event comes: from its making at the origin to its
//! arrival.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use http_body_util::BodyExt as _;
use tokio::task::LocalSet;

use crate::args::Events;
use crate::origin::stamp;
use crate::process::Meter;
use crate::report;
use crate::sender::Connection;
use crate::tally::Tally;
use crate::target::Target;

/// Runs `events` and prints its report, in which an event is a request.
pub(crate) fn run(events: &Events) -> Result<()> {
    let target = Target::resolve(&events.to)?.below(&format!("/events/{}", events.every.as_millis().max(1)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start a runtime")?;
    let connections = runtime.block_on(async {
        let mut connections = Vec::new();
        for _ in 0..events.connections {
            connections.push(Connection::open(target.clone()).await?);
        }
        anyhow::Ok(connections)
    })?;
    let meter = Meter::start(&events.watch)?;
    let begin = Instant::now();
    let tally = Rc::new(RefCell::new(Tally::new()?));
    let set = LocalSet::new();
    for connection in connections {
        let tally = Rc::clone(&tally);
        set.spawn_local(async move {
            if let Err(error) = listen(&connection, &tally).await {
                let now = Instant::now();
                tally.borrow_mut().count(now, now, Err(format!("{error:#}")));
            }
        });
    }
    runtime.block_on(async {
        // The streams have no end of their own.
        let _ended = tokio::time::timeout(events.duration, set).await;
    });
    let tally = tally.replace(Tally::new()?);
    let report = tally.report(None, None, begin.elapsed().as_secs_f64(), meter.stop());
    report::print_load(&report, events.watch.json)?;
    ensure!(report.answered > 0, "no event came");
    Ok(())
}

async fn listen(connection: &Connection, tally: &RefCell<Tally>) -> Result<()> {
    let mut response = connection.begin(Method::GET).await?;
    let status = response.status().as_u16();
    ensure!(status == 200, "the stream was answered with status {status}");
    let mut text = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let (now, now_us) = (Instant::now(), stamp());
        text.extend_from_slice(&data);
        while let Some(made_us) = next(&mut text)? {
            let late = Duration::from_micros(now_us.saturating_sub(made_us));
            let made = now
                .checked_sub(late)
                .context("an event from before the machine started")?;
            tally.borrow_mut().count(made, made, Ok(status));
        }
    }
    anyhow::bail!("the stream ended")
}

/// Takes the next whole event off the front of `text`: when it was made.
fn next(text: &mut Vec<u8>) -> Result<Option<u64>> {
    let Some(end) = text.windows(2).position(|pair| pair == b"\n\n") else {
        return Ok(None);
    };
    let event: Vec<u8> = text.drain(..end + 2).collect();
    let line = std::str::from_utf8(&event).context("an event is no text")?;
    let made = line
        .trim_end()
        .strip_prefix("data: ")
        .and_then(|made| made.parse().ok());
    made.map(Some).context("an event without its time")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_found_however_they_are_cut() {
        let mut text = b"data: 12\n\ndata: 3".to_vec();
        assert_eq!(next(&mut text).unwrap(), Some(12));
        assert_eq!(next(&mut text).unwrap(), None);
        text.extend_from_slice(b"4\n\n");
        assert_eq!(next(&mut text).unwrap(), Some(34));
        assert!(text.is_empty());
        assert!(next(&mut b"nonsense\n\n".to_vec()).is_err());
    }
}
