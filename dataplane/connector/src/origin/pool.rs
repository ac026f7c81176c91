//! Idle keep-alive connections of one core to the origin of one ingress rule.
//!
//! The most recently used connection is taken first, so that surplus ones grow old and are closed. A pool
//! lives as long as its rule: a new configuration starts with empty pools.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::SendRequest;
use tokio::task::JoinHandle;

use super::body::RequestBody;
use super::head_limit::Allowance;

/// One HTTP/1.1 connection; dropping it closes it, whatever is going on on it.
pub(crate) struct OriginConnection {
    pub(crate) sender: SendRequest<RequestBody>,
    /// TLS server name it was opened with; differs between requests under `matchSNItoHost`.
    server_name: Option<Box<str>>,
    /// Moves its bytes.
    driver: JoinHandle<()>,
    /// What the origin may send before its answer.
    pub(crate) allowance: Allowance,
}

impl OriginConnection {
    pub(crate) fn new(
        sender: SendRequest<RequestBody>,
        server_name: Option<&str>,
        driver: JoinHandle<()>,
        allowance: Allowance,
    ) -> Self {
        Self {
            sender,
            server_name: server_name.map(Into::into),
            driver,
            allowance,
        }
    }
}

impl Drop for OriginConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connections waiting for a request.
pub(crate) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
    idle_max: usize,
    idle_timeout: Duration,
}

struct Idle {
    connection: OriginConnection,
    since: Instant,
}

impl Pool {
    /// Keeps up to `idle_max` connections for up to `idle_timeout`.
    pub(crate) fn new(idle_max: usize, idle_timeout: Duration) -> Self {
        Self {
            idle: RefCell::default(),
            idle_max,
            idle_timeout,
        }
    }

    /// The connection used last that is ready for a request; drops closed ones on the way.
    pub(crate) fn take(&self, server_name: Option<&str>) -> Option<OriginConnection> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|entry| !entry.connection.sender.is_closed());
        let fits = |entry: &Idle| {
            entry.connection.sender.is_ready() && entry.connection.server_name.as_deref() == server_name
        };
        let position = idle.iter().rposition(fits)?;
        idle.remove(position).map(|entry| entry.connection)
    }

    /// Keeps `connection` for a later request, in place of the oldest if there is no room.
    pub(crate) fn put(&self, connection: OriginConnection) {
        if self.idle_max == 0 || connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.idle_max {
            idle.pop_front();
        }
        idle.push_back(Idle {
            connection,
            since: Instant::now(),
        });
    }

    /// Closes connections that nobody has used for the rule's time.
    pub(crate) fn expire(&self, now: Instant) {
        let is_fresh = |entry: &Idle| now.saturating_duration_since(entry.since) < self.idle_timeout;
        self.idle
            .borrow_mut()
            .retain(|entry| is_fresh(entry) && !entry.connection.sender.is_closed());
    }
}
