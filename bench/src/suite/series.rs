//! Figures of one scenario: what each subject showed in each round, and the statistics over rounds.
//!
//! A figure has a name (`steady.p99_us`), sometimes a process (`edge`), and one value per round. Neighbouring
//! measurements share the state of the machine, so subjects are compared round by round: a ratio is the
//! median of the ratios of single rounds, not the ratio of medians.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer, ser::SerializeSeq as _};

/// The process of a figure that sums over all processes of the subject.
pub(crate) const TOTAL: &str = "total";

/// Name and process of a figure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// What it is, with its unit at the end.
    pub(crate) name: String,
    /// Whose it is; empty when it is the subject's as a whole.
    pub(crate) process: String,
}

/// One value of one round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    /// Its name and process.
    pub(crate) key: Key,
    /// The value.
    pub(crate) value: f64,
}

impl Figure {
    /// A figure of the subject as a whole.
    pub(crate) fn new(name: impl Into<String>, value: f64) -> Self {
        Self::of(name, "", value)
    }

    /// A figure of one process.
    pub(crate) fn of(name: impl Into<String>, process: impl Into<String>, value: f64) -> Self {
        let (name, process) = (name.into(), process.into());
        Self {
            key: Key { name, process },
            value,
        }
    }
}

/// All rounds of one subject; rounds in which a figure was not measured have none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series {
    values: BTreeMap<Key, BTreeMap<u32, f64>>,
}

/// Middle and range of some values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle value, or the mean of the two in the middle.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            min,
            max,
        })
    }
}

impl Series {
    /// Adds what one round showed.
    pub(crate) fn add(&mut self, round: u32, figures: Vec<Figure>) {
        for Figure { key, value } in figures {
            self.values.entry(key).or_default().insert(round, value);
        }
    }

    /// Every key there is, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.values.keys()
    }

    /// Statistics of one figure over its rounds.
    pub(crate) fn spread(&self, name: &str, process: &str) -> Option<Spread> {
        Spread::of(self.rounds(name, process)?.values().copied())
    }

    /// This subject's figure divided by another's, round by round.
    pub(crate) fn ratio(&self, mine: (&str, &str), other: &Self, theirs: (&str, &str)) -> Option<Spread> {
        let below = other.rounds(theirs.0, theirs.1)?;
        let pairs = self.rounds(mine.0, mine.1)?.iter();
        Spread::of(pairs.filter_map(|(round, value)| {
            let divisor = *below.get(round)?;
            (divisor > 0.0).then_some(value / divisor)
        }))
    }

    /// This subject's figure less another's, round by round.
    pub(crate) fn over(&self, name: &str, process: &str, other: &Self) -> Option<Spread> {
        let theirs = other.rounds(name, process)?;
        let pairs = self.rounds(name, process)?.iter();
        Spread::of(pairs.filter_map(|(round, value)| Some(value - theirs.get(round)?)))
    }

    fn rounds(&self, name: &str, process: &str) -> Option<&BTreeMap<u32, f64>> {
        self.values.get(&Key {
            name: name.to_owned(),
            process: process.to_owned(),
        })
    }
}

#[derive(Serialize)]
struct Row<'a> {
    figure: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    process: &'a str,
    rounds: Vec<f64>,
    #[serde(flatten)]
    spread: Option<Spread>,
}

impl Serialize for Series {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(self.values.len()))?;
        for (key, rounds) in &self.values {
            rows.serialize_element(&Row {
                figure: &key.name,
                process: &key.process,
                rounds: rounds.values().copied().collect(),
                spread: self.spread(&key.name, &key.process),
            })?;
        }
        rows.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(u32, f64)]) -> Series {
        let mut series = Series::default();
        for (round, value) in values {
            series.add(*round, vec![Figure::of("cpu", "edge", *value)]);
        }
        series
    }

    #[test]
    fn the_middle_of_an_even_number_is_between_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.5, 1.0, 4.0));
        assert_eq!(Spread::of([f64::NAN, 7.0]).unwrap().median, 7.0);
        assert!(Spread::of([]).is_none());
    }

    #[test]
    fn ratios_compare_neighbours_in_time() {
        // The machine got twice as slow in the second round; the ratio did not change.
        let (mine, theirs) = (series(&[(0, 10.0), (1, 20.0)]), series(&[(0, 20.0), (1, 40.0)]));
        let ratio = mine.ratio(("cpu", "edge"), &theirs, ("cpu", "edge")).unwrap();
        assert_eq!((ratio.min, ratio.median, ratio.max), (0.5, 0.5, 0.5));
        let over = mine.over("cpu", "edge", &theirs).unwrap();
        assert_eq!((over.min, over.median, over.max), (-20.0, -15.0, -10.0));
    }

    #[test]
    fn rounds_that_one_side_missed_are_left_out() {
        let (mine, theirs) = (series(&[(0, 1.0), (2, 9.0)]), series(&[(1, 5.0), (2, 3.0)]));
        assert_eq!(
            mine.ratio(("cpu", "edge"), &theirs, ("cpu", "edge"))
                .unwrap()
                .median,
            3.0
        );
        assert!(mine.ratio(("cpu", "edge"), &theirs, ("cpu", "other")).is_none());
    }

    #[test]
    fn json_names_each_figure_with_its_rounds() {
        let json = serde_json::to_value(series(&[(0, 1.0), (1, 3.0)])).unwrap();
        assert_eq!(json[0]["figure"], "cpu");
        assert_eq!(json[0]["process"], "edge");
        assert_eq!(json[0]["rounds"][1], 3.0);
        assert_eq!(json[0]["median"], 2.0);
    }
}
