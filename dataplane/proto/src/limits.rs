//! Named limits of the dataplane: every table, message and wait has one, and each has a counter.

use std::time::Duration;

/// Exchanges of one tunnel connection at once; more go to another connection or are refused.
pub const EXCHANGES_PER_CONNECTION_MAX: u32 = 4_096;

/// A connector must have registered this long after its handshake.
pub const REGISTRATION_DEADLINE: Duration = Duration::from_secs(5);

/// Bytes of a visitor's request head.
pub const HEAD_BYTES_MAX: usize = 32 << 10;

/// Headers of a visitor's request.
pub const HEADERS_MAX: usize = 100;

/// A visitor must have sent its request head this long after its first byte.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Replicas of one tunnel when its entry says nothing else.
pub const REPLICAS_MAX: usize = 100;

/// Hostname patterns kept of one replica's ingress; a replica with more counts as serving every name.
pub const SERVED_HOSTS_MAX: usize = 1_000;

/// Rules with a path kept of one replica's ingress. With more, its paths count as unknown. Most ingresses
/// have a few, and each is an expression of up to 32 KiB.
pub const SERVED_PATHS_MAX: usize = 32;

/// Longest path that is compared with those rules, so that the worst expression costs little. No rule of a
/// real ingress needs more to tell one service from another.
pub const MATCHED_PATH_BYTES_MAX: usize = 1 << 10;

/// Silence after which a tunnel connection is lost if an answer is due, what stock connectors use too.
pub const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Interval of the PINGs on an idle connection between an edge and a connector of ours. Four connections of
/// one connector then exchange less than 1 MB a day. They take turns, so their common address at a translator
/// (NAT) is refreshed every 13 s.
pub const IDLE_PING_INTERVAL: Duration = Duration::from_secs(50);

/// Longest interval of those PINGs that a connector may choose.
pub const IDLE_PING_INTERVAL_MAX: Duration = Duration::from_secs(300);

/// The idle timeout that belongs to such an interval. It has room for a PING and for the time in which its
/// loss is noticed.
#[must_use]
pub const fn idle_timeout(ping_interval: Duration) -> Duration {
    ping_interval
        .saturating_add(SILENCE_MAX)
        .saturating_add(SILENCE_MAX)
}
