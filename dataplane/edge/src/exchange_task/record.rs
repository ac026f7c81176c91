//! What is known of an exchange while it runs, counted and logged once when it ends, however it ends.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use adit_driver::time::Instant;
use adit_proto::exchange::edge::RequestId;
use adit_proto::exchange::error_code::ErrorCode;
use adit_wire::{Hostname, TunnelId};
use http::request::Parts;
use http::{Method, StatusCode};

use crate::access_log::{AccessRecord, Protocol, Via};
use crate::core::Core;
use crate::tunnels::Choice;

/// Bytes moved so far, shared between the directions of one exchange.
#[derive(Debug)]
pub(super) struct Progress {
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// When the request last moved.
    active_at: Cell<Instant>,
    /// The origin's answer has begun.
    is_answered: Cell<bool>,
    /// How the request's body ended, if not in order.
    body_failed: Cell<Option<ErrorCode>>,
    /// Who took nothing for [`send_timeout`](Self::send_timeout), if somebody did.
    stalled: Cell<Option<ErrorCode>>,
    send_timeout: Duration,
}

impl Progress {
    pub(super) fn received(&self, count: usize) {
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.active_at.set(Instant::now());
    }

    pub(super) fn sent(&self, count: usize) {
        self.bytes_out.set(self.bytes_out.get() + count as u64);
    }

    pub(super) fn touch(&self) {
        self.active_at.set(Instant::now());
    }

    pub(super) fn is_answered(&self) -> bool {
        self.is_answered.get()
    }

    /// The request's body broke off.
    pub(super) fn fail_body(&self, code: ErrorCode) {
        self.body_failed.set(Some(code));
    }

    pub(super) fn active_at(&self) -> Instant {
        self.active_at.get()
    }

    /// How long bytes wait to be taken, by either side.
    pub(super) fn send_timeout(&self) -> Duration {
        self.send_timeout
    }

    /// The exchange ends because somebody takes nothing; `code` says who. The first stays.
    pub(super) fn stall(&self, code: ErrorCode) {
        self.stalled.set(self.stalled.get().or(Some(code)));
    }
}

/// Counts and logs what was refused before it was a request: who sent it, and its method and target as far as
/// they are known.
pub(crate) fn refuse(
    core: &Rc<Core>,
    (id, client, protocol): (RequestId, IpAddr, Protocol),
    (method, target): (Option<&str>, Option<&str>),
    code: ErrorCode,
) {
    let mut record = Record::begin_flow(core, id, client, protocol);
    record.method = method.and_then(|method| method.parse().ok());
    record.path = target.map(str::to_owned);
    record.answer_error(code);
}

/// The facts about one exchange. Dropping it counts and logs the exchange.
pub(crate) struct Record {
    core: Rc<Core>,
    id: RequestId,
    began: Instant,
    began_at: SystemTime,
    client: IpAddr,
    method: Option<Method>,
    path: Option<String>,
    protocol: Protocol,
    host: Option<Hostname>,
    tunnel: Option<TunnelId>,
    connection: Option<Via>,
    attempts: u32,
    status: Option<StatusCode>,
    code: Option<ErrorCode>,
    is_complete: bool,
    until_head: Option<Duration>,
    progress: Rc<Progress>,
}

impl Record {
    pub(super) fn begin(core: &Rc<Core>, id: RequestId, client: IpAddr, parts: &Parts) -> Self {
        // Text is copied only for a log that somebody reads.
        let path = core.log.is_on().then(|| {
            let path = parts.uri.path_and_query();
            path.map_or("/", |path| path.as_str()).to_owned()
        });
        let mut record = Self::begin_flow(core, id, client, Protocol::Http(parts.version));
        record.method = Some(parts.method.clone());
        record.path = path;
        record
    }

    /// The same for an exchange that is not of HTTP.
    pub(super) fn begin_flow(core: &Rc<Core>, id: RequestId, client: IpAddr, protocol: Protocol) -> Self {
        core.metrics.exchanges_started.add(1);
        core.metrics.exchanges_in_flight.add(1);
        let now = Instant::now();
        let progress = Progress {
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            active_at: Cell::new(now),
            is_answered: Cell::new(false),
            body_failed: Cell::new(None),
            stalled: Cell::new(None),
            send_timeout: core.live().limits.send_timeout,
        };
        Self {
            core: core.clone(),
            id,
            began: now,
            began_at: SystemTime::now(),
            client: client.to_canonical(),
            method: None,
            path: None,
            protocol,
            host: None,
            tunnel: None,
            connection: None,
            attempts: 0,
            status: None,
            code: None,
            is_complete: false,
            until_head: None,
            progress: Rc::new(progress),
        }
    }

    pub(super) fn id(&self) -> RequestId {
        self.id
    }

    pub(super) fn progress(&self) -> &Rc<Progress> {
        &self.progress
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    pub(super) fn set_host(&mut self, host: &Hostname) {
        if self.core.log.is_on() {
            self.host = Some(host.clone());
        }
    }

    /// Keeps the query, which holds a secret, out of the log.
    pub(super) fn hide_query(&mut self) {
        if let Some(path) = &mut self.path {
            path.truncate(path.find('?').unwrap_or(path.len()));
        }
    }

    pub(super) fn set_tunnel(&mut self, tunnel: TunnelId) {
        self.tunnel = Some(tunnel);
    }

    pub(super) fn set_client(&mut self, client: IpAddr) {
        self.client = client;
    }

    pub(super) fn set_attempt(&mut self, choice: &Choice) {
        self.attempts += 1;
        self.connection = Some(Via {
            replica: choice.connector(),
            index: choice.index(),
            core: choice.core,
            transport: choice.transport,
        });
    }

    /// The origin's head is passed on.
    pub(super) fn answer(&mut self, status: StatusCode) {
        self.status = Some(status);
        self.progress.is_answered.set(true);
        self.until_head = Some(self.began.elapsed());
    }

    /// An error page is the whole answer.
    pub(super) fn answer_error(&mut self, code: ErrorCode) {
        self.status = Some(code.status());
        self.fail(code);
    }

    /// The exchange broke after its head.
    pub(super) fn fail(&mut self, code: ErrorCode) {
        self.code.get_or_insert(code);
        self.is_complete = true;
    }

    /// All that was to be sent is sent.
    pub(super) fn complete(&mut self) {
        self.is_complete = true;
    }

    fn count(&self, status: StatusCode, code: Option<ErrorCode>) {
        let metrics = &self.core.metrics;
        metrics.exchanges_in_flight.take();
        if let Some(counter) = code.and_then(|code| metrics.errors.get(code.index())) {
            counter.add(1);
        }
        let class = match status.as_u16() / 100 {
            class @ 1..=5 => usize::from(class),
            _ => 0,
        };
        if let Some(counter) = metrics.statuses.get(class) {
            counter.add(1);
        }
        metrics.bytes_from_visitors.add(self.progress.bytes_in.get());
        metrics.bytes_to_visitors.add(self.progress.bytes_out.get());
        metrics.durations.record(self.began.elapsed());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let gone = (!self.is_complete).then_some(ErrorCode::VisitorGone);
        let stalled = self.progress.stalled.get().or(self.code);
        let code = stalled.or_else(|| self.progress.body_failed.get()).or(gone);
        let status = self.status.unwrap_or(ErrorCode::VisitorGone.status());
        self.count(status, code);
        if !self.core.log.is_on() {
            return;
        }
        let record = AccessRecord {
            began: self.began_at,
            id: self.id,
            client: self.client,
            method: self.method.take(),
            host: self.host.take(),
            path: self.path.take(),
            protocol: self.protocol,
            tunnel: self.tunnel,
            connection: self.connection,
            attempts: self.attempts,
            core: self.core.context.id,
            status,
            code,
            bytes_in: self.progress.bytes_in.get(),
            bytes_out: self.progress.bytes_out.get(),
            until_head: self.until_head,
            duration: self.began.elapsed(),
        };
        if !self.core.log.write(Box::new(record)) {
            self.core.metrics.access_log_dropped.add(1);
        }
    }
}
