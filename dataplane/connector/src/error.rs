//! Why a connector ends.

use std::io;
use std::path::PathBuf;

use adit_driver::core::CoreError;
use adit_driver::cpus::CpusError;
use adit_driver::kernel::ProbeError;

use crate::config::ConfigError;

/// Why a connector could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ConnectorError {
    /// The asked-for I/O mode does not work here.
    #[error("cannot use the kernel as asked")]
    Probe(#[from] ProbeError),
    /// The CPUs that were named cannot be used.
    #[error("invalid value for --cpus")]
    Cpus(#[from] CpusError),
    /// The thread's runtime cannot be made.
    #[error("cannot start the service thread's runtime")]
    Runtime(#[source] io::Error),
    /// A file of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metrics listener cannot be opened.
    #[error("cannot serve metrics on {address}")]
    Metrics {
        /// As configured.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No edge has an address.
    #[error("failed to resolve any edge address")]
    NoEdgeAddress,
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A core cannot be started, or has panicked.
    #[error("a core failed")]
    Core(#[from] CoreError),
    /// A core cannot serve.
    #[error("a core cannot serve: {0}")]
    CoreSetup(String),
    /// Signals cannot be listened for.
    #[error("cannot listen for signals")]
    Signals(#[source] io::Error),
    /// A second signal came while draining.
    #[error("ended by a second signal before the drain was over")]
    Interrupted,
}
