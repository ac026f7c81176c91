//! Faults that a world can be given on purpose, to see that it finds them.
//!
//! Each stands for a mistake that somebody might make in the product. They live in the world's drivers, never
//! in the product.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A connection that has unregistered is chosen as any other.
    DrainingIgnored,
    /// A POST counts as harmless to send twice.
    PostRetried,
    /// An answer that breaks off is asked for again.
    AnsweredRetried,
    /// Which hostnames a replica serves is not looked at.
    HostsIgnored,
    /// A connector says over its first connection alone which hostnames it serves.
    HostsToldOnce,
    /// The loss of a connection is not told to its exchanges.
    LossForgotten,
    /// Failures are not tried elsewhere.
    NeverRetried,
    /// A write is acknowledged before it is on the disk.
    AcknowledgedTooEarly,
    /// A control whose disk is older than what an edge holds goes on counting from there.
    NeverRaised,
    /// The same, and the edge takes what it is told whatever it holds.
    OldTaken,
}
