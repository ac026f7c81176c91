//! Visitors: curl for requests, h2load for load, a WebSocket client, and a raw connection for what no tool
//! does.

pub mod access;
pub mod curl;
pub mod h2load;
pub mod raw;
pub mod tail;
pub mod websocket;
