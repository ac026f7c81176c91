//! What visitors asked, what origins saw and what came of it; and what must hold of that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use adit_proto::exchange::error_code::ErrorCode;
use adit_proto::exchange::retry::{ATTEMPTS_MAX, RETRY_DEADLINE};
use adit_wire::{ConnectorId, TunnelId};
use http::{HeaderName, Method};

/// Names a request towards origins.
pub(super) const REQUEST: HeaderName = HeaderName::from_static("x-request");

/// Replicas of one world at most.
pub(super) const REPLICAS_MAX: usize = 4;

/// Edges of one world at most.
pub(super) const EDGES_MAX: usize = 2;

/// Hostnames that lead to one tunnel all the time; others are written while the world goes on.
pub(super) const STEADY: [&str; 2] = ["a.test", "b.test"];

/// What a visitor asks.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) method: Method,
    pub(super) host: &'static str,
    pub(super) body_bytes: usize,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A whole answer of this replica.
    Answered { status: u16, replica: usize },
    /// The answer of this replica began and broke off.
    Broken { replica: usize },
    /// The edge said why there is no answer.
    Failed(ErrorCode),
    /// The edge itself went.
    Cut,
}

/// One request and its story.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) request: Request,
    /// The edge that was asked.
    edge: usize,
    /// Times it was sent to some replica.
    sent: u32,
    pub(super) began: Instant,
    pub(super) outcome: Option<(Instant, Outcome)>,
    /// Replicas that were sent it, with their process.
    pub(super) reached: Vec<(usize, ConnectorId)>,
    /// Replicas whose origin has seen it.
    executed: Vec<usize>,
    /// Answers whose head the visitor got.
    answers: u32,
}

/// All requests of a world.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) entries: BTreeMap<u64, Entry>,
    /// Those that have ended and are not checked yet.
    ended: Vec<u64>,
    /// Last moment at which a replica was not a sure way to an answer, by edge.
    pub(super) bad_at: [[Option<Instant>; REPLICAS_MAX]; EDGES_MAX],
    /// Hostnames that replicas serve.
    pub(super) hosts: [Vec<&'static str>; REPLICAS_MAX],
    /// Where hostnames lead by control's last word, if no write of them is under way.
    pub(super) acknowledged: BTreeMap<&'static str, Option<TunnelId>>,
}

impl Ledger {
    pub(super) fn begin(&mut self, now: Instant, edge: usize, request: Request) {
        let entry = Entry {
            edge,
            sent: 0,
            began: now,
            outcome: None,
            reached: Vec::new(),
            executed: Vec::new(),
            answers: 0,
            request,
        };
        self.entries.insert(entry.request.number, entry);
    }

    pub(super) fn reach(&mut self, request: u64, replica: usize, process: ConnectorId) {
        self.entry(request).reached.push((replica, process));
    }

    /// It is sent to a replica.
    pub(super) fn send(&mut self, request: u64) {
        self.entry(request).sent += 1;
    }

    /// An origin has got the request.
    pub(super) fn execute(&mut self, request: u64, replica: usize) {
        let entry = self.entry(request);
        entry.executed.push(replica);
        let Request { number, method, .. } = &entry.request;
        assert!(
            method.is_idempotent() || entry.executed.len() == 1,
            "request {number}, a {method}, reached origins {:?}",
            entry.executed
        );
    }

    pub(super) fn is_executed(&mut self, request: u64) -> bool {
        !self.entry(request).executed.is_empty()
    }

    /// The head of an answer is on its way to the visitor.
    pub(super) fn answer(&mut self, request: u64) {
        let entry = self.entry(request);
        entry.answers += 1;
        assert_eq!(entry.answers, 1, "request {request} is answered twice");
        assert_eq!(entry.outcome, None, "request {request} is answered after its end");
    }

    pub(super) fn end(&mut self, now: Instant, request: u64, outcome: Outcome) {
        let entry = self.entry(request);
        assert_eq!(entry.outcome, None, "request {request} ends twice");
        entry.outcome = Some((now, outcome));
        if let Outcome::Answered { status: 200, replica } = outcome {
            let host = entry.request.host;
            let serves = self.hosts[replica].contains(&host);
            assert!(
                serves,
                "request {request} for {host} is answered by replica {replica}"
            );
        }
        self.ended.push(request);
    }

    /// Checks what has ended; to be called when it is noted which replicas are good.
    pub(super) fn check_new(&mut self) {
        for request in std::mem::take(&mut self.ended) {
            self.check_kept(request);
        }
    }

    /// No request is older than `limit`.
    pub(super) fn check_ended(&self, now: Instant, limit: Duration) {
        for (number, entry) in &self.entries {
            assert!(
                entry.outcome.is_some() || now <= entry.began + limit,
                "request {number} has not ended after {:?}",
                now - entry.began
            );
        }
    }

    /// The replicas that were a sure way to an answer for as long as the request lived.
    fn sure<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = usize> + 'a {
        let Entry {
            began, request, edge, ..
        } = entry;
        let replicas = self.bad_at[*edge].iter().zip(&self.hosts).enumerate();
        replicas
            .filter(|(_, (bad, hosts))| bad.is_some_and(|bad| bad < *began) && hosts.contains(&request.host))
            .map(|(replica, _)| replica)
    }

    /// An idempotent request fails only if there was no sure way, or after the time in which it may be sent
    /// again.
    fn check_kept(&self, request: u64) {
        let entry = &self.entries[&request];
        let Some((at, outcome)) = entry.outcome else {
            return;
        };
        let sure: Vec<usize> = self.sure(entry).collect();
        let is_steady = STEADY.contains(&entry.request.host);
        if !is_steady || !entry.request.method.is_idempotent() || sure.is_empty() {
            return;
        }
        let is_kept = match outcome {
            Outcome::Answered { .. } | Outcome::Cut => true,
            // What has begun cannot be taken back.
            Outcome::Broken { replica } => !sure.contains(&replica),
            // What an origin may be at work on is not sent to another.
            Outcome::Failed(ErrorCode::OriginTimeout) => true,
            Outcome::Failed(_) => at >= entry.began + RETRY_DEADLINE || entry.sent >= ATTEMPTS_MAX,
        };
        assert!(is_kept, "{entry:?} had a way through replicas {sure:?}");
    }

    fn entry(&mut self, request: u64) -> &mut Entry {
        self.entries.get_mut(&request).expect("a visitor asked this")
    }
}
