//! Runs one target: over its corpus, then over mutations of it.
//!
//! An input that takes longer than [`TIME_MAX`] fails like one that panics, because its writer could stop a
//! process with it.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::mutate::Mutator;

/// Rounds of a target when the environment does not say: all targets together take a few seconds.
const ROUNDS: u64 = 50_000;

/// First seed when the environment does not say: the same every time, so that a run in CI repeats.
const SEED: u64 = 0x00ad_1700;

/// Time for one input: thousands of times what the slowest takes, so that a busy machine does not matter.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Bytes of an input shown on failure.
const SHOWN_BYTES_MAX: usize = 4096;

/// A decoder to be fuzzed.
pub(crate) struct Target {
    /// Name of its corpus folder.
    pub(crate) name: &'static str,
    /// Decodes the input; panics if what it decoded does not survive encoding.
    pub(crate) check: fn(&[u8]),
    /// How much memory it may hold at once.
    pub(crate) memory: MemoryBound,
}

/// A bound that grows with the input: `base + factor * input`.
pub(crate) struct MemoryBound {
    pub(crate) base_bytes: u64,
    pub(crate) factor: u64,
}

/// Runs the target to its end or to its first failure.
pub(crate) fn run(target: &Target) {
    run_slow(target, 1);
}

/// The same for a slow target, which gets one round of so many.
pub(crate) fn run_slow(target: &Target, share: u64) {
    let corpus = load(target.name);
    for (name, input) in &corpus {
        assert_holds(target, input, &format!("corpus file {name}"));
    }
    let first = environment("ADIT_FUZZ_SEED").unwrap_or(SEED);
    let rounds = environment("ADIT_FUZZ_ROUNDS").unwrap_or(ROUNDS);
    let inputs: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
    for seed in (0..rounds.div_ceil(share)).map(|round| first.wrapping_add(round)) {
        let input = Mutator::new(seed).input(&inputs);
        assert_holds(
            target,
            &input,
            &format!("ADIT_FUZZ_SEED={seed} ADIT_FUZZ_ROUNDS=1"),
        );
    }
}

fn assert_holds(target: &Target, input: &[u8], replay: &str) {
    let mut outcome = Ok(());
    let begin = Instant::now();
    let used = allocation_counter::measure(|| {
        outcome = catch_unwind(AssertUnwindSafe(|| (target.check)(input)));
    });
    let time = begin.elapsed();
    let bound = target.memory.base_bytes + target.memory.factor * input.len() as u64;
    let within_memory = used.bytes_max <= bound;
    assert!(
        outcome.is_ok() && within_memory && time <= TIME_MAX,
        "{} failed (held {} bytes at once, {bound} allowed; took {time:?})\nreplay: {replay}\ninput: {}",
        target.name,
        used.bytes_max,
        hex(input),
    );
}

fn environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

/// Name and content of every file of the target's corpus, in order of name.
fn load(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a readable folder").path();
            let input = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (
                path.file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
                input,
            )
        })
        .collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    files
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes.iter().take(SHOWN_BYTES_MAX) {
        write!(out, "{byte:02x}").expect("a String takes all");
    }
    if bytes.len() > SHOWN_BYTES_MAX {
        write!(out, "… ({} bytes)", bytes.len()).expect("a String takes all");
    }
    out
}
