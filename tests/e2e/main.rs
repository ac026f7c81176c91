//! The real binaries on real sockets, as a user runs them: each module tells the stories of one promise.
//!
//! Every story runs in both I/O modes, as `module::story::in_uring_mode` and
//! `module::story::in_portable_mode`. Where io_uring does not work the story says so and passes. `ADIT_BIN`
//! names another binary than the one cargo built, `ADIT_BULK_MIB` the size of the big bodies.

// From the first page a visitor sees to what happens when things break.
mod up;
mod readme;
mod http;
mod http_kinds;
mod interim;
mod upgrades;
mod origins;
mod origin_keys;
mod origin_pools;
mod broken_origins;
mod reload;
mod replicas;
mod token_gate;
mod edits;
mod remote_rules;
mod bulk;
mod streaming;
mod slow;
mod websocket;
mod grpc;
mod tcp_services;
mod access;
mod raw_ports;
mod programs;
mod passthrough;
mod proxy_headers;
mod manage;
mod sdk;
mod quick;
mod tail;
mod diag;
mod refusal;
mod certificate;
mod cores;
mod outage;
mod transports;
mod edge_proxy;
mod shared_port;
mod control_loss;
mod two_edges;
mod remote_edge;
mod drain;
mod hostile;
mod unserved;
mod shares;
mod hosts;
