//! The accepted counts: their file, and the comparison of new ones with them.
//!
//! ```text
//! rustc 1.95.0 (…)
//! arch x86_64
//! valgrind-3.19.0
//! exchange_heads 12345 67
//! …
//! ```
//! A line per case: its name, instructions and allocations of one iteration.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, bail};

use crate::callgrind::Count;
use crate::platform::Platform;

/// Growth of a case, in instructions or in allocations, above which the guard fails.
const GROWTH_PERCENT_MAX: u64 = 5;

/// Counts by case, and where they were taken.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) platform: Platform,
    pub(crate) counts: BTreeMap<String, Count>,
}

/// New counts beside accepted ones.
pub(crate) struct Comparison {
    rows: Vec<Row>,
}

struct Row {
    case: String,
    accepted: Option<Count>,
    counted: Option<Count>,
}

impl Baseline {
    /// Reads the file.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut baseline = Self {
            platform: Platform::default(),
            counts: BTreeMap::new(),
        };
        for line in text.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["rustc", ..] => line.clone_into(&mut baseline.platform.rustc),
                ["arch", arch] => arch.clone_into(&mut baseline.platform.arch),
                [valgrind] if valgrind.starts_with("valgrind") => {
                    line.clone_into(&mut baseline.platform.valgrind);
                }
                [case, instructions, allocations] => {
                    let number = |text: &str| text.parse().with_context(|| format!("in the line of {case}"));
                    let count = Count {
                        instructions: number(instructions)?,
                        allocations: number(allocations)?,
                    };
                    baseline.counts.insert(case.to_owned(), count);
                }
                _ => bail!("the baseline has a line that is none: {line}"),
            }
        }
        Ok(baseline)
    }

    /// Puts new counts beside these.
    pub(crate) fn compare(&self, counted: &Self) -> Comparison {
        let mut cases: Vec<_> = self.counts.keys().chain(counted.counts.keys()).collect();
        cases.sort();
        cases.dedup();
        let row = |case: &String| Row {
            case: case.clone(),
            accepted: self.counts.get(case).copied(),
            counted: counted.counts.get(case).copied(),
        };
        Comparison {
            rows: cases.into_iter().map(row).collect(),
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Platform {
            rustc,
            arch,
            valgrind,
        } = &self.platform;
        writeln!(f, "{rustc}\narch {arch}\n{valgrind}")?;
        for (case, count) in &self.counts {
            writeln!(f, "{case} {} {}", count.instructions, count.allocations)?;
        }
        Ok(())
    }
}

impl Comparison {
    /// Whether nothing grew too much and both sides have the same cases.
    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good)
    }
}

impl Row {
    fn is_good(&self) -> bool {
        let (Some(accepted), Some(counted)) = (self.accepted, self.counted) else {
            return false;
        };
        let is_within = |accepted: u64, counted: u64| counted * 100 <= accepted * (100 + GROWTH_PERCENT_MAX);
        is_within(accepted.instructions, counted.instructions)
            && is_within(accepted.allocations, counted.allocations)
    }
}

fn growth_percent(accepted: u64, counted: u64) -> f64 {
    (counted as f64 / accepted as f64 - 1.0) * 100.0
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<26}{:>22}{:>9}{:>16}",
            "case", "instructions", "change", "allocations"
        )?;
        for row in &self.rows {
            let (Some(accepted), Some(counted)) = (row.accepted, row.counted) else {
                let where_from = match row.counted {
                    Some(_) => "not in the baseline",
                    None => "in the baseline, but no case",
                };
                writeln!(f, "{:<26}{where_from}", row.case)?;
                continue;
            };
            writeln!(
                f,
                "{:<26}{:>10} -> {:>8}{:>+8.2}%{:>8} -> {:>4}{}",
                row.case,
                accepted.instructions,
                counted.instructions,
                growth_percent(accepted.instructions, counted.instructions),
                accepted.allocations,
                counted.allocations,
                if row.is_good() { "" } else { "  GREW" }
            )?;
        }
        if !self.is_good() {
            writeln!(
                f,
                "instructions and allocations may grow by {GROWTH_PERCENT_MAX} %; a justified change is accepted \
                 with bench/guard/run --accept"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(instructions: u64, allocations: u64) -> Baseline {
        let text = format!(
            "rustc 1.2.3 (abc)\narch x86_64\nvalgrind-3.19.0\nexchange {instructions} {allocations}\n"
        );
        let baseline = Baseline::parse(&text).unwrap();
        assert_eq!(baseline.to_string(), text);
        baseline
    }

    #[test]
    fn only_growth_beyond_the_margin_fails() {
        for (instructions, allocations, is_good) in [
            (1_000, 10, true),
            (1_050, 10, true),
            (1_051, 10, false),
            (500, 9, true),
            (500, 11, false),
        ] {
            let comparison = baseline(1_000, 10).compare(&baseline(instructions, allocations));
            assert_eq!(comparison.is_good(), is_good, "{comparison}");
        }
    }

    #[test]
    fn a_case_on_one_side_only_fails() {
        let mut more = baseline(1, 1);
        let count = Count {
            instructions: 1,
            allocations: 0,
        };
        more.counts.insert("other".to_owned(), count);
        assert!(!baseline(1, 1).compare(&more).is_good());
        assert!(!more.compare(&baseline(1, 1)).is_good());
    }

    #[test]
    fn another_compiler_makes_another_platform_and_another_valgrind_does_not() {
        let here = baseline(1, 1).platform;
        let rustc = Platform {
            rustc: "rustc 9".to_owned(),
            ..here.clone()
        };
        let valgrind = Platform {
            valgrind: "valgrind-9".to_owned(),
            ..here.clone()
        };
        assert!(here.is_other(&rustc));
        assert!(!here.is_other(&valgrind));
    }
}
