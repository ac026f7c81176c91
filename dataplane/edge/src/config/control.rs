//! `control:` where control is.

use std::path::PathBuf;

/// Where control is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ControlAddress {
    /// On this machine.
    Socket(PathBuf),
    /// Elsewhere; the files come from `adit control issue-edge`.
    Remote {
        /// `HOST:PORT`.
        address: String,
        /// Root certificate of the private CA, PEM.
        ca: PathBuf,
        /// This edge's certificate chain, PEM.
        cert: PathBuf,
        /// Its private key, PEM.
        key: PathBuf,
    },
}
