//! The decision on one registration, and its words.

use std::time::Duration;

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{Accepted, Connection, Refused, RegisterOutcome};
use adit_control_api::snapshot::{RouteSnapshot, TunnelEntry};

/// After how long a refused connector may try again. Stock connectors use their own back-off.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Whether a connection may serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Accepted(Accepted),
    /// It may not.
    Refused(Reason),
}

/// Why a connection may not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No living tunnel of that account has this id.
    UnknownTunnel,
    /// The secret is not the tunnel's.
    BadSecret,
    /// The tunnel has as many replicas as it may.
    TooManyReplicas {
        /// The limit.
        replicas_max: u32,
    },
    /// The edge has as many connections as one may.
    EdgeFull,
    /// The slot holds a newer connection, on this or another edge.
    Replaced,
}

impl Verdict {
    /// The answer in the edge link's words.
    pub fn outcome(&self) -> RegisterOutcome {
        match self {
            Self::Accepted(accepted) => RegisterOutcome::Accepted(*accepted),
            Self::Refused(reason) => RegisterOutcome::Refused(reason.refused()),
        }
    }
}

impl Reason {
    /// All kinds of reasons, for metrics.
    pub const CODES: [&'static str; 5] = [
        "unknown-tunnel",
        "bad-secret",
        "too-many-replicas",
        "edge-full",
        "replaced",
    ];

    /// Stable name in logs and metrics.
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownTunnel => "unknown-tunnel",
            Self::BadSecret => "bad-secret",
            Self::TooManyReplicas { .. } => "too-many-replicas",
            Self::EdgeFull => "edge-full",
            Self::Replaced => "replaced",
        }
    }

    /// The refusal an edge passes on.
    ///
    /// Texts begin with `Unauthorized` even where a later try may succeed: stock connectors retry those with
    /// back-off and end themselves on most others (cloudflared `connection/errors.go`).
    pub fn refused(self) -> Refused {
        let (cause, should_retry) = match self {
            // One answer for both, so that ids cannot be probed.
            Self::UnknownTunnel | Self::BadSecret => ("Unauthorized: Invalid tunnel secret".into(), false),
            Self::TooManyReplicas { replicas_max } => (
                format!("Unauthorized: Tunnel has {replicas_max} replicas, which is the limit"),
                true,
            ),
            Self::EdgeFull => ("Unauthorized: This edge is full, try another".into(), true),
            Self::Replaced => ("Unauthorized: Replaced by a newer connection".into(), true),
        };
        Refused {
            cause,
            code: self.code().into(),
            should_retry,
            retry_after: RETRY_AFTER,
        }
    }
}

/// Judges account, tunnel and secret. A secret is compared in any case, so that the time of the answer tells
/// nothing either.
pub fn judge_secret(snapshot: &RouteSnapshot, connection: &Connection, secret: &SecretDigest) -> Verdict {
    let entry = owned(snapshot, connection);
    let is_right = entry.map_or(secret, |entry| &entry.secret_digest).matches(secret);
    match entry {
        None => Verdict::Refused(Reason::UnknownTunnel),
        Some(_) if !is_right => Verdict::Refused(Reason::BadSecret),
        Some(entry) => accepted(entry),
    }
}

/// Judges account and tunnel only.
pub(super) fn judge_owner(snapshot: &RouteSnapshot, connection: &Connection) -> Verdict {
    owned(snapshot, connection).map_or(Verdict::Refused(Reason::UnknownTunnel), accepted)
}

fn owned<'a>(snapshot: &'a RouteSnapshot, connection: &Connection) -> Option<&'a TunnelEntry> {
    snapshot
        .tunnels
        .get(&connection.key.tunnel)
        .filter(|entry| entry.account == connection.account)
}

const fn accepted(entry: &TunnelEntry) -> Verdict {
    Verdict::Accepted(Accepted {
        remotely_managed: entry.remotely_managed,
        config_version: entry.config_version,
    })
}
