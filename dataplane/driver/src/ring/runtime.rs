//! The completion runtime of one core: tokio's current-thread scheduler with tokio-uring's ring.

use std::io;

/// Submissions queued between two turns of the runtime; a full queue is flushed early, never dropped.
const SUBMISSIONS: u32 = 512;

/// Completions kept before the kernel falls back to its slower overflow list. Every idle connection has
/// one receive in flight, so a burst can complete thousands at once; 8,192 take 128 KiB.
const COMPLETIONS: u32 = 8192;

/// Makes a runtime on this thread, which must be the one that runs it.
///
/// The caller must not drop it while operations are in flight: tokio-uring 0.5 frees their buffers before
/// it cancels them. Cores never drop theirs.
///
/// DEFER_TASKRUN is left out on purpose: tokio-uring waits on the ring's descriptor, which does not become
/// readable in that mode.
pub(crate) fn uring() -> io::Result<tokio_uring::Runtime> {
    let mut flags = tokio_uring::uring_builder();
    flags
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS);
    let mut builder = tokio_uring::builder();
    builder.entries(SUBMISSIONS).uring_builder(&flags);
    tokio_uring::Runtime::new(&builder)
}

/// Waits until everything queued so far is in the kernel.
pub(crate) async fn turn() {
    if let Err(error) = tokio_uring::no_op().await {
        tracing::warn!(%error, "the ring refused an empty operation");
    }
}
