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
