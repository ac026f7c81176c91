//! Runs a test's future on a core of either I/O mode.

use std::future::Future;

use crate::core::{CoreContext, Cores};
use crate::kernel::{IoChoice, IoMode, probe};

/// The modes this machine can test. A mode that is skipped is named in the test's output.
pub(crate) fn modes() -> Vec<IoMode> {
    let probe = probe(IoChoice::Auto).unwrap();
    if probe.mode == IoMode::Portable {
        println!("skipped in uring mode: {}", probe.reason);
        return vec![IoMode::Portable];
    }
    vec![IoMode::Uring, IoMode::Portable]
}

/// Runs `main` on a fresh core and fails the test if it panics.
pub(crate) fn on_core<F, Fut>(io: IoMode, main: F)
where
    F: Fn() -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let cores = Cores::spawn(1, io, "test", move |_: CoreContext| main()).unwrap();
    if let Err(error) = cores.wait() {
        panic!("in {io} mode: {error}");
    }
}

/// Runs a future that needs no core on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
