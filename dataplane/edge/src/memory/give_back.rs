//! Has the allocator give freed memory back to the kernel while the process is near its budget.
//!
//! mimalloc keeps freed pages for a second and gives them back when it is next asked to free one. A core
//! whose visitors have left may free nothing for minutes, and would be refused memory that nobody uses. The
//! end of a thread makes the allocator look through all that any thread freed more than that second ago. So a
//! thread is started that does nothing.
//!
//! On the service thread, away from the cores. Below the line it costs a read of `/proc` four times a second.

use std::thread;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::resident;
use crate::config::LiveConfig;

/// How often is looked. With the allocator's second, memory is back well within two.
const INTERVAL: Duration = Duration::from_millis(250);

/// Resident memory above which it is given back, in quarters of the budget. What the allocator then needs
/// again it has to ask of the kernel, which costs a page fault per page.
const QUARTERS: u64 = 3;

/// Watches until the process ends.
pub(crate) async fn run(live: LiveConfig) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let budget_bytes = live.current().limits.memory_bytes;
        if resident().is_some_and(|resident| resident > budget_bytes / 4 * QUARTERS) {
            end_a_thread();
        }
    }
}

fn end_a_thread() {
    let work = || {
        // Only a thread that has allocated is known to the allocator.
        drop(std::hint::black_box(Box::new(0_u8)));
    };
    // It ends by itself, at once.
    let started = thread::Builder::new().name("give-back".into()).spawn(work);
    if let Err(error) = started {
        tracing::debug!(%error, "freed memory is not given back");
    }
}
