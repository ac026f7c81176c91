//! Origins: how a request or a flow comes to the service of a rule, and the connections kept for that.
//!
//! Everything here belongs to one core, so nothing is locked. The [`rules`](crate::rules) make the origins.
//!
//! Does not: match rules (`adit_proto::ingress` does), know data streams beyond their bytes.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use adit_driver::kernel::IoMode;
use adit_proto::exchange::reach::Reach;
use adit_proto::origin_pool::health::Outcome;

use group::Busy;
use tls::TlsConfigs;

// In the order a request meets them.
pub(crate) mod body;
pub(crate) mod dial;
mod race;
pub(crate) mod io_stream;
mod last_words;
pub(crate) mod tls;
pub(crate) mod pool;
pub(crate) mod head_limit;
pub(crate) mod http2;
pub(crate) mod member;
pub(crate) mod group;
pub(crate) mod http_origin;
pub(crate) mod interim;
pub(crate) mod websocket;
pub(crate) mod handshake;
pub(crate) mod tcp;
pub(crate) mod builtin;
pub(crate) mod echo;

/// How often idle connections are looked at; their timeout is met within this.
pub(crate) const EXPIRE_INTERVAL: Duration = Duration::from_secs(5);

/// Why an origin gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    #[error("cannot resolve {host}")]
    Resolve {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("TLS handshake failed")]
    Tls {
        #[source]
        source: io::Error,
    },
    #[error("{name} cannot be a TLS server name")]
    ServerName { name: String },
    #[error("cannot use caPool {}: {why}", path.display())]
    CaPool { path: PathBuf, why: String },
    #[error("the request failed")]
    Http {
        #[source]
        source: hyper::Error,
    },
    /// The connection was gone before any of the request was written to it.
    #[error("the request was not sent")]
    Unsent {
        #[source]
        source: hyper::Error,
    },
    #[error(transparent)]
    Busy(#[from] Busy),
}

impl OriginError {
    /// What it says about the address that was asked; `None` for what would be the same anywhere.
    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Tls { .. } => Some(Outcome::Unconnected),
            Self::Http { .. } | Self::Unsent { .. } => Some(Outcome::Unanswered),
            Self::ServerName { .. } | Self::CaPool { .. } | Self::Busy(_) => None,
        }
    }

    /// How far the request has come: no request goes out before its connection stands, TLS included.
    pub(crate) fn reach(&self) -> Reach {
        match self {
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::ServerName { .. }
            | Self::CaPool { .. }
            | Self::Unsent { .. } => Reach::Nowhere,
            Self::Http { .. } | Self::Busy(_) => Reach::Unknown,
        }
    }
}

/// The origins of one core.
pub(crate) struct CoreOrigins {
    io: IoMode,
    tls: TlsConfigs,
    started: Instant,
}

impl CoreOrigins {
    pub(crate) fn new(io: IoMode) -> Self {
        Self {
            io,
            tls: TlsConfigs::default(),
            started: Instant::now(),
        }
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn io_mode(&self) -> IoMode {
        self.io
    }

    pub(crate) fn tls(&self) -> &TlsConfigs {
        &self.tls
    }
}
