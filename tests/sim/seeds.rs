//! Runs a simulation for many seeds and names the one that failed.

/// Replays one seed alone when set.
const SEED: &str = "ADIT_SIM_SEED";

/// Runs `simulate` for the seeds below `count`, or for the one in `ADIT_SIM_SEED`.
pub(crate) fn for_seeds(count: u64, simulate: impl Fn(u64)) {
    let only = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    let seeds = only.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let guard = Named(seed);
        simulate(seed);
        drop(guard);
    }
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
