//! The edge: takes visitors' requests in and sends them down the tunnels that connectors opened.

#![forbid(unsafe_code)]
