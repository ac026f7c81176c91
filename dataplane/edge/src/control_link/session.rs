//! Dials control, attaches, and starts over when the link ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use adit_control_api::edge_link::{Disconnect, EdgeReceiver, EdgeSession, Link, PING_INTERVAL, Rival};
use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};
use adit_proto::error_chain::chain;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use super::dial::dial;
use super::pause::{End, Pauses, UNCONTESTED};
use super::service::Service;

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
    /// At `warn` when it is news, or else at `debug`. `meanwhile` says what the edge does.
    fn log(&self, is_known: bool, meanwhile: &'static str) {
        match (self, is_known) {
            (Self::NotReached(error), false) => {
                tracing::warn!(error, meanwhile, "control is not reachable");
            }
            (Self::NotReached(error), true) => tracing::debug!(error, "control is still not reachable"),
            (Self::NotAttached(error), false) => {
                tracing::warn!(error, meanwhile, "control does not let this edge attach");
            }
            (Self::NotAttached(error), true) => {
                tracing::debug!(error, "control still does not let this edge attach");
            }
        }
    }
}

/// Runs for as long as the edge does.
pub(super) async fn keep(service: Rc<Service>) {
    let mut pauses = Pauses::new();
    let (mut told, mut is_contested) = (None, false);
    loop {
        service.metrics.link_attempts.add(1);
        let end = match once(&service, is_contested).await {
            Ok(Attached { held, replaced_by }) => {
                told = None;
                is_contested &= held < UNCONTESTED;
                match replaced_by {
                    Some(rival) => {
                        log_replaced(&rival, is_contested, service.meanwhile());
                        is_contested = true;
                        End::Replaced(held)
                    }
                    None => {
                        tracing::warn!(meanwhile = service.meanwhile(), "link to control lost");
                        End::Lost(held)
                    }
                }
            }
            Err(failure) => {
                failure.log(told.as_ref() == Some(&failure), service.meanwhile());
                told = Some(failure);
                End::NeverAttached
            }
        };
        sleep(pauses.after(end, uuid::Uuid::new_v4().as_u128() as u32)).await;
    }
}

/// Once at `warn`; while the two take turns at `debug`.
fn log_replaced(rival: &Rival, is_known: bool, meanwhile: &str) {
    let Rival { edge, address } = rival;
    if is_known {
        tracing::debug!(
            name = edge.name,
            address,
            "replaced by another edge of this name again"
        );
    } else {
        tracing::warn!(
            name = edge.name,
            other_address = address,
            other_colo = edge.colo,
            other_run = %edge.run,
            meanwhile,
            "another edge has this edge's name and took its place at control; give each edge its own `name`"
        );
    }
}

/// An attachment that has ended.
struct Attached {
    held: Duration,
    replaced_by: Option<Rival>,
}

/// One attachment from dial to loss; an error means that it never came about. It is told quietly while the
/// place is contested.
async fn once(service: &Rc<Service>, is_contested: bool) -> Result<Attached, Failure> {
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
        replaced_by: Rc::default(),
    };
    let (heard, has_gap) = (receiver.heard.clone(), receiver.has_gap.clone());
    let replaced_by = receiver.replaced_by.clone();
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
    let attached_at = Instant::now();
    if is_contested {
        tracing::debug!("attached to control, in turn with another edge of this name");
    } else {
        tracing::info!("attached to control");
    }
    service.set_session(Some(session.clone()));
    let reporting = async {
        report(service, &session).await;
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
    Ok(Attached {
        held: attached_at.elapsed(),
        replaced_by: replaced_by.take(),
    })
}

/// Tells all that control has to know of this edge.
async fn report(service: &Service, session: &EdgeSession) {
    match session.report_connections(&service.living()).await {
        Ok(rejected) => {
            reject(service, &rejected);
            service.tell_configurations();
        }
        Err(error) => tracing::warn!(error = chain(&error), "living connections not reported"),
    }
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

struct Receiver {
    service: Rc<Service>,
    heard: Rc<Cell<Instant>>,
    has_gap: Rc<Notify>,
    replaced_by: Rc<RefCell<Option<Rival>>>,
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

    fn handle_replaced(&self, by: Rival) {
        self.replaced_by.replace(Some(by));
    }

    fn handle_ping(&self) {
        self.heard.set(Instant::now());
    }
}
