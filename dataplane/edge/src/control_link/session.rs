//! Dials control, attaches, and starts over when the link ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use adit_control_api::edge_link::{Disconnect, EdgeReceiver, Link, PING_INTERVAL};
use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::dial::dial;
use super::service::Service;

/// Pauses between attempts double from the first to the last; a random half is taken off each.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LAST: Duration = Duration::from_secs(5);

/// Control pings every [`PING_INTERVAL`]; after three missed ones the link is dead.
const SILENCE_MAX: Duration = PING_INTERVAL.saturating_mul(3);

/// Time for control to accept an attachment.
const ATTACH_DEADLINE: Duration = Duration::from_secs(10);

/// Why an attachment never came about, in words for the log.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// Nobody answers there, or somebody whose certificate is not of our authority.
    NotReached(String),
    /// Control, which verifies our certificate after we have verified its own, ends the link or says no.
    NotAttached(String),
}

impl Failure {
    /// At `warn` when it is news, or else at `debug`.
    fn log(&self, is_known: bool) {
        match (self, is_known) {
            (Self::NotReached(error), false) => {
                tracing::warn!(error, "control is not reachable; serving from the last snapshot");
            }
            (Self::NotReached(error), true) => tracing::debug!(error, "control is still not reachable"),
            (Self::NotAttached(error), false) => {
                tracing::warn!(
                    error,
                    "control does not let this edge attach; serving from the last snapshot"
                );
            }
            (Self::NotAttached(error), true) => {
                tracing::debug!(error, "control still does not let this edge attach");
            }
        }
    }
}

/// Runs for as long as the edge does.
pub(super) async fn keep(service: Rc<Service>) {
    let mut pause = PAUSE_FIRST;
    let mut told = None;
    loop {
        service.metrics.link_attempts.add(1);
        match once(&service).await {
            Ok(()) => {
                tracing::warn!("link to control lost; serving from the last snapshot");
                pause = PAUSE_FIRST;
                told = None;
            }
            Err(failure) => {
                failure.log(told.as_ref() == Some(&failure));
                told = Some(failure);
            }
        }
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_LAST);
    }
}

/// Between half of `pause` and all of it.
fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// One attachment from dial to loss; an error means that it never came about.
async fn once(service: &Rc<Service>) -> Result<(), Failure> {
    let stream = dial(&service.settings.control)
        .await
        .map_err(|error| Failure::NotReached(error.to_string()))?;
    let (reader, writer) = tokio::io::split(stream);
    let link = Link::over(reader.compat(), writer.compat_write());
    let driver = spawn_local(link.driver);
    let receiver = Receiver {
        service: service.clone(),
        heard: Rc::new(Cell::new(Instant::now())),
        has_gap: Rc::new(Notify::new()),
    };
    let (heard, has_gap) = (receiver.heard.clone(), receiver.has_gap.clone());
    let edge = service.edge_info();
    let attaching = timeout(ATTACH_DEADLINE, link.gate.attach(&edge, receiver));
    let session = match attaching.await {
        Ok(Ok(session)) => session,
        Ok(Err(error)) => {
            driver.abort();
            return Err(Failure::NotAttached(chain(&error)));
        }
        Err(_) => {
            driver.abort();
            return Err(Failure::NotAttached("no answer in time".into()));
        }
    };
    tracing::info!("attached to control");
    service.set_session(Some(session.clone()));
    let reporting = async {
        match session.report_connections(&service.living()).await {
            Ok(rejected) => reject(service, &rejected),
            Err(error) => tracing::warn!(error = chain(&error), "living connections not reported"),
        }
        std::future::pending::<()>().await;
    };
    let resyncing = async {
        loop {
            has_gap.notified().await;
            let generation = service.edge_info().generation;
            if let Err(error) = session.resync(generation).await {
                tracing::warn!(error = chain(&error), "full snapshot could not be asked for");
            }
        }
    };
    let silence = async {
        while heard.get().elapsed() < SILENCE_MAX {
            sleep(PING_INTERVAL).await;
        }
    };
    let mut driver = driver;
    tokio::select! {
        _ = &mut driver => {}
        () = silence => tracing::warn!("control fell silent"),
        () = reporting => {}
        () = resyncing => {}
    }
    driver.abort();
    service.set_session(None);
    Ok(())
}

fn reject(service: &Service, rejected: &[adit_control_api::edge_link::Rejection]) {
    for rejection in rejected {
        service.on_disconnect(&Disconnect {
            tunnel: rejection.key.tunnel,
            connector: Some(rejection.key.connector),
            connection: Some(rejection.key.connection),
            reason: rejection.refused.cause.clone(),
        });
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

struct Receiver {
    service: Rc<Service>,
    heard: Rc<Cell<Instant>>,
    has_gap: Rc<Notify>,
}

impl EdgeReceiver for Receiver {
    fn handle_snapshot(&self, snapshot: RouteSnapshot) {
        self.heard.set(Instant::now());
        self.service.on_snapshot(snapshot);
    }

    fn handle_delta(&self, delta: SnapshotDelta) {
        self.heard.set(Instant::now());
        if let Err(held) = self.service.on_delta(delta) {
            tracing::info!(held, "a delta did not fit; asking for the full snapshot");
            self.has_gap.notify_one();
        }
    }

    fn handle_disconnect(&self, target: Disconnect) {
        self.heard.set(Instant::now());
        self.service.on_disconnect(&target);
    }

    fn handle_ping(&self) {
        self.heard.set(Instant::now());
    }
}
