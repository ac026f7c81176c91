//! Files a connector writes for others: its addresses and its process id.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::ConnectorError;

/// Writes `{"metrics":"ip:port"}`. Readers see the whole file or none.
pub(super) fn write_addresses(path: &Path, metrics: SocketAddr) -> Result<(), ConnectorError> {
    let text = serde_json::json!({ "metrics": metrics.to_string() }).to_string();
    write(path, &text).map_err(|source| ConnectorError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Writes the process id.
pub(super) fn write_pid(path: &Path) -> io::Result<()> {
    write(path, &std::process::id().to_string())
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    fs::write(&unfinished, text)?;
    fs::rename(&unfinished, path)
}
