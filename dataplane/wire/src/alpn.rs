//! Names of the tunnel protocol in ALPN (RFC 7301).

/// What every edge and connector speaks, stock ones too.
pub const STOCK: &[u8] = b"argotunnel";

/// Between an edge and a connector of ours. Both know that silence is no loss while neither waits for
/// anything.
pub const ADIT: &[u8] = b"adit/1";
