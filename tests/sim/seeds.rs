//! Runs a simulation for many seeds and names the one that failed.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Replays one seed alone when set.
const SEED: &str = "ADIT_SIM_SEED";

/// How many seeds, in place of what a simulation runs by itself.
const SEEDS: &str = "ADIT_SIM_SEEDS";

/// Runs `simulate` for the seeds below `count` or `ADIT_SIM_SEEDS`, or for the one in `ADIT_SIM_SEED`.
pub(crate) fn for_seeds(count: u64, simulate: impl Fn(u64)) {
    for seed in seeds(count) {
        named(seed, &simulate);
    }
}

/// The same on all cores at once. The first seed that fails ends it.
pub(crate) fn for_seeds_at_once(count: u64, simulate: impl Fn(u64) + Sync) {
    let seeds = seeds(count);
    let (next, has_failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        while !has_failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let ended = catch_unwind(AssertUnwindSafe(|| named(seed, &simulate)));
            if let Err(panic) = ended {
                has_failed.store(true, Ordering::Relaxed);
                resume_unwind(panic);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

fn seeds(count: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count = number(SEEDS).unwrap_or(count);
    number(SEED).map_or(0..count, |seed: u64| seed..seed + 1)
}

fn named(seed: u64, simulate: impl Fn(u64)) {
    let guard = Named(seed);
    simulate(seed);
    drop(guard);
}

/// Runs `simulate` for seeds below `count` until one fails with these words, which one must: there is a fault
/// in it, put in on purpose.
pub(crate) fn must_find(count: u64, words: &str, simulate: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let is_found = (0..count).any(|seed| {
        let found = catch_unwind(|| simulate(seed));
        found.is_err_and(|panic| {
            let text = panic.downcast_ref::<String>().map_or("", String::as_str);
            assert!(text.contains(words), "seed {seed} finds something else: {text}");
            true
        })
    });
    assert!(is_found, "no seed below {count} finds that {words:?}");
}

/// Prints its seed when a panic passes.
struct Named(u64);

#[expect(
    clippy::print_stdout,
    reason = "the seed belongs to the failing test's output"
)]
impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed with seed {0}; {SEED}={0} replays it alone", self.0);
        }
    }
}
