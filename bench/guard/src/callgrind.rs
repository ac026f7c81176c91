//! Runs one case under callgrind and reads its counts.
//!
//! The program starts itself anew under valgrind. Collection is on only inside
//! [`measured`](crate::cases::measured), which the symbol tells.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::cases::ITERATIONS;

/// Symbol between whose entry and return instructions are counted; a mangled name has it in it too.
const MEASURED: &str = "*adit_guard*cases*measured*";

/// The allocator's entries that take memory.
const ALLOCATING: [&str; 4] = ["mi_malloc", "mi_zalloc", "mi_realloc", "mi_calloc"];

/// What one iteration of a case takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count {
    /// Instructions executed.
    pub(crate) instructions: u64,
    /// Calls that ask the allocator for memory.
    pub(crate) allocations: u64,
}

/// Counts one iteration of the case, averaged.
pub(crate) fn count(case: &str) -> anyhow::Result<Count> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("callgrind.out");
    let program = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["work", case])
        // Nothing of the caller's environment shall move the stack or choose another code path.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .output()
        .context("starting valgrind")?;
    ensure!(
        output.status.success(),
        "{case} failed under valgrind: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let profile = std::fs::read_to_string(&file).context("reading callgrind's file")?;
    let total = read(&profile)?;
    ensure!(total.instructions > 0, "callgrind has not seen {MEASURED}");
    let each = |count: u64| (count + u64::from(ITERATIONS) / 2) / u64::from(ITERATIONS);
    Ok(Count {
        instructions: each(total.instructions),
        allocations: each(total.allocations),
    })
}

/// Reads callgrind's format: `totals:` has the instructions, and each `cfn=` names the callee of the
/// `calls=` behind it. A name is written out once, as `(7) name`, and is `(7)` from there on.
fn read(profile: &str) -> anyhow::Result<Count> {
    let mut names = BTreeMap::new();
    let (mut instructions, mut allocations) = (None, 0);
    let mut callee = "";
    for line in profile.lines() {
        if let Some(total) = line.strip_prefix("totals: ") {
            instructions = Some(total.trim().parse()?);
        } else if let Some(name) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (id, given) = name.split_once(' ').unwrap_or((name, ""));
            if !given.is_empty() {
                names.insert(id, given);
            }
            callee = names.get(id).copied().unwrap_or_default();
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ALLOCATING.iter().any(|name| callee.starts_with(name))
        {
            allocations += calls.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
    }
    let Some(instructions) = instructions else {
        bail!("callgrind's file has no totals");
    };
    Ok(Count {
        instructions,
        allocations,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_calls_of_the_allocator_are_read() {
        let profile = "fn=(1) work\n16 10\ncfn=(2) mi_malloc_aligned\ncalls=3 0\n16 90\ncfn=(4) memcpy\n\
                       calls=7 0\n16 1\nfn=(5) other\ncfn=(2)\ncalls=2 0\n16 9\ntotals: 12345\n";
        let count = read(profile).unwrap();
        assert_eq!((count.instructions, count.allocations), (12_345, 5));
        assert!(read("fn=(1) work\n").is_err());
    }
}
