//! The harness behind the end-to-end and interop tests: it starts the real binaries, real origins and real
//! visitors, and tells a test what each of them did.
//!
//! It owns processes, temp dirs, ports and deadlines; a test owns the story. Everything a test starts ends
//! when its handle drops, also when the test panics. A failing test prints what its processes logged.
//!
//! Does not: know wire formats (the binaries do), retry a failed step (a test that needs luck is broken).
#![forbid(unsafe_code)]

// In the order of a test's story: what it waits with, what it starts, who serves, who asks, what is measured.
pub mod deadline;
pub mod process;
pub mod binary;
pub mod content;
pub mod certificate;
pub mod relay;
pub mod tcp_relay;
pub mod proxy;
pub mod stranger;
pub mod origin;
pub mod site;
pub mod visitor;
pub mod grpc;
pub mod metrics;
pub mod namespaces;
