//! The scenarios: what each measures, of whom, and the rounds in which it does.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::kind::{Kind, title};
use super::options::{ScenarioName, SubjectName};
use super::series::{Figure, Series, Spread};
use super::subject::{Origin, Running, Setup};
use super::{Bench, company, requests, say};

/// Share of the subject's CPUs that others may use before the report says so.
const COMPANY_NOTED_PERCENT: f64 = 5.0;

/// What one scenario found.
#[derive(Debug, Serialize)]
pub(crate) struct ScenarioReport {
    /// Its name.
    pub(crate) name: ScenarioName,
    /// What it measures, in a sentence.
    pub(crate) title: String,
    /// The fixed rate of its loads, if it has one.
    pub(crate) rate: Option<u32>,
    /// What each subject showed, in the order in which they were measured.
    pub(crate) subjects: Vec<SubjectReport>,
    /// What could not be measured and why, and what makes figures doubtful.
    pub(crate) notes: Vec<String>,
}

impl ScenarioReport {
    /// The figures of one subject.
    pub(crate) fn series(&self, name: SubjectName) -> Option<&Series> {
        let subject = self.subjects.iter().find(|subject| subject.name == name)?;
        Some(&subject.series)
    }
}

/// What one subject showed.
#[derive(Debug, Serialize)]
pub(crate) struct SubjectReport {
    /// Which one.
    pub(crate) name: SubjectName,
    /// Its command lines and one of each load.
    pub(crate) commands: Vec<String>,
    /// Its figures.
    pub(crate) series: Series,
    /// Latency by share of requests, over all rounds: the median of each point.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// What one measurement of one subject gave.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// The figures.
    pub(crate) figures: Vec<Figure>,
    /// Latency by share of requests in microseconds.
    pub(crate) curve: Vec<(f64, u64)>,
    /// The loads as one could type them.
    pub(crate) commands: Vec<String>,
    /// What makes the figures doubtful.
    pub(crate) notes: Vec<String>,
}

impl Measured {
    /// Takes everything of another measurement in, its figures under a name of their own.
    pub(crate) fn absorb(&mut self, name: &str, other: Self) {
        let prefix = if name.is_empty() {
            String::new()
        } else {
            format!("{name}: ")
        };
        for Figure { key, value } in other.figures {
            self.figures
                .push(Figure::of(format!("{prefix}{}", key.name), key.process, value));
        }
        self.commands.extend(other.commands);
        self.notes
            .extend(other.notes.into_iter().map(|note| format!("{prefix}{note}")));
    }
}

/// A scenario under way.
struct Course<'a> {
    bench: &'a Bench,
    kind: Kind,
    origin: Origin,
    /// The subjects, each where it runs already.
    subjects: Vec<(SubjectName, Option<Running>)>,
    curves: BTreeMap<SubjectName, Vec<Vec<(f64, u64)>>>,
    report: ScenarioReport,
}

/// Runs one scenario.
pub(crate) fn run(bench: &Bench, name: ScenarioName) -> Result<ScenarioReport> {
    let kind = Kind::of(name, &bench.settings);
    let rounds = if kind.is_long() {
        bench.settings.fresh_rounds
    } else {
        bench.settings.rounds
    };
    let mut course = Course {
        bench,
        kind,
        origin: Origin::start(bench)?,
        subjects: Vec::new(),
        curves: BTreeMap::new(),
        report: ScenarioReport {
            name,
            title: title(name).to_owned(),
            rate: None,
            subjects: Vec::new(),
            notes: Vec::new(),
        },
    };
    course.start_subjects()?;
    course.calibrate()?;
    for round in 0..rounds {
        course.round(round)?;
        say(&format!("   round {} of {rounds}", round + 1))?;
    }
    course.count_calls()?;
    Ok(course.finish())
}

impl Course<'_> {
    fn start(&self, name: SubjectName, cores: u16) -> Result<Running> {
        let setup = Setup {
            cores,
            way: self.kind.way(),
            connections: self.kind.connections(),
            is_apart: matches!(self.kind, Kind::Raw(_)),
            ..Setup::plain(&self.origin)
        };
        Running::start(self.bench, name, &setup)
    }

    fn start_subjects(&mut self) -> Result<()> {
        for name in self.bench.settings.subjects.clone() {
            if !self.kind.suits(name) {
                continue;
            }
            let started = if self.kind.is_fresh() {
                Ok(None)
            } else {
                self.start(name, 1).map(Some)
            };
            match started {
                Ok(running) => {
                    self.report.subjects.push(SubjectReport {
                        name,
                        commands: running
                            .as_ref()
                            .map_or_else(Vec::new, |running| running.commands.clone()),
                        series: Series::default(),
                        curve: Vec::new(),
                    });
                    self.subjects.push((name, running));
                }
                Err(error) => self.note(format!("{name} is left out: {error:#}"))?,
            }
        }
        Ok(())
    }

    /// Finds the rate of the fixed-rate loads: well below what the slowest subject takes, the same for all.
    fn calibrate(&mut self) -> Result<()> {
        let Kind::Requests(shape) = &self.kind else {
            return Ok(());
        };
        let rate = match shape.rate().or(self.bench.settings.rate) {
            Some(rate) => rate,
            None => {
                let running: Vec<&Running> = self
                    .subjects
                    .iter()
                    .filter_map(|(_, running)| running.as_ref())
                    .collect();
                requests::calibrate(self.bench, shape, &self.origin, &running)?
            }
        };
        say(&format!("   fixed rate {rate}/s"))?;
        self.report.rate = Some(rate);
        Ok(())
    }

    /// Every second round goes backwards, so that no subject always has the same one before it.
    fn round(&mut self, round: u32) -> Result<()> {
        let count = self.subjects.len();
        for turn in 0..count {
            let index = if round.is_multiple_of(2) {
                turn
            } else {
                count - 1 - turn
            };
            match self.measure(round, index) {
                Ok(measured) => self.keep(round, index, measured)?,
                Err(error) => {
                    let name = self.subjects[index].0;
                    self.note(format!("round {}: {name} failed: {error:#}", round + 1))?;
                }
            }
        }
        Ok(())
    }

    fn measure(&mut self, round: u32, index: usize) -> Result<Measured> {
        let (name, running) = &self.subjects[index];
        let (bench, rate) = (self.bench, self.report.rate);
        if let Some(running) = running {
            return self.kind.measure(bench, &self.origin, running, rate);
        }
        let name = *name;
        let several = self.kind.cores(bench);
        let mut all = Measured::default();
        for cores in &several {
            let running = self.start(name, *cores)?;
            if round == 0 {
                self.report.subjects[index]
                    .commands
                    .extend(running.commands.clone());
            }
            let measured = self.kind.measure(bench, &self.origin, &running, rate)?;
            let title = format!("{cores} core{}", if *cores == 1 { "" } else { "s" });
            all.absorb(if several.len() > 1 { &title } else { "" }, measured);
        }
        Ok(all)
    }

    fn keep(&mut self, round: u32, index: usize, measured: Measured) -> Result<()> {
        let subject = &mut self.report.subjects[index];
        let name = subject.name;
        subject.series.add(round, measured.figures);
        if round == 0 {
            subject.commands.extend(measured.commands);
        }
        self.curves.entry(name).or_default().push(measured.curve);
        for note in measured.notes {
            self.note(format!("round {}: {name}: {note}", round + 1))?;
        }
        Ok(())
    }

    /// Counts system calls in a run of its own, because counting them slows them down.
    fn count_calls(&mut self) -> Result<()> {
        let has_time = matches!(self.report.name, ScenarioName::RequestsH1 | ScenarioName::Bulk1);
        if self.bench.settings.quick && !has_time {
            return Ok(());
        }
        for (index, (_, running)) in self.subjects.iter().enumerate() {
            let Some(running) = running else { continue };
            let counted = self.kind.calls(self.bench, running, self.report.rate);
            match counted {
                Ok(figures) => self.report.subjects[index].series.add(0, figures),
                Err(error) => {
                    return self.note(format!("system calls are not available: {error:#}"));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, text: String) -> Result<()> {
        say(&format!("   {text}"))?;
        self.report.notes.push(text);
        Ok(())
    }

    fn finish(mut self) -> ScenarioReport {
        let shares = self.report.subjects.iter();
        let shares = shares.filter_map(|subject| subject.series.spread(company::FIGURE, ""));
        let others = Spread::of(shares.map(|spread| spread.median));
        if let Some(others) = others.filter(|others| others.max > COMPANY_NOTED_PERCENT) {
            let text = format!(
                "Other programs used up to {:.0} % of the subject's CPUs: take these figures as rough.",
                others.max
            );
            self.report.notes.push(text);
        }
        for subject in &mut self.report.subjects {
            let rounds = self.curves.remove(&subject.name).unwrap_or_default();
            subject.curve = middle_curve(&rounds);
        }
        self.report
    }
}

/// The median of each point over the rounds.
fn middle_curve(rounds: &[Vec<(f64, u64)>]) -> Vec<(f64, f64)> {
    let Some(first) = rounds.first() else {
        return Vec::new();
    };
    let point = |(index, (share, _)): (usize, &(f64, u64))| {
        let values = rounds.iter().filter_map(|curve| curve.get(index));
        let spread = Spread::of(values.map(|(_, value)| *value as f64));
        spread.map(|spread| (*share, spread.median))
    };
    first.iter().enumerate().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_over_rounds_is_the_median_of_each_point() {
        let rounds = vec![
            vec![(0.0, 1), (0.5, 10)],
            vec![(0.0, 3), (0.5, 30)],
            vec![(0.0, 2), (0.5, 900)],
        ];
        assert_eq!(middle_curve(&rounds), [(0.0, 2.0), (0.5, 30.0)]);
        assert!(middle_curve(&[]).is_empty());
    }
}
