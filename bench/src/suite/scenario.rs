//! The scenarios: what each measures, of whom, and the rounds in which it does.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::bulk::BulkShape;
use super::calls;
use super::options::{ScenarioName, SubjectName};
use super::requests::RequestShape;
use super::series::{Figure, Series};
use super::subject::{Origin, Running};
use super::{Bench, bulk, requests, say};

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

/// How a scenario measures.
#[derive(Debug, Clone)]
enum Kind {
    Requests(RequestShape),
    Bulk(BulkShape),
}

fn kind(name: ScenarioName) -> Kind {
    match name {
        ScenarioName::RequestsH1 => Kind::Requests(RequestShape::H1),
        ScenarioName::RequestsH2 => Kind::Requests(RequestShape::H2),
        ScenarioName::Bulk1 => Kind::Bulk(BulkShape { parallel: 1 }),
    }
}

fn title(name: ScenarioName) -> &'static str {
    match name {
        ScenarioName::RequestsH1 => "GET of 1 KB on 64 keep-alive HTTP/1.1 connections over TLS",
        ScenarioName::RequestsH2 => "GET of 1 KB on 4 HTTP/2 connections over TLS, up to 16 streams on each",
        ScenarioName::Bulk1 => "One transfer over TLS, down and then up",
    }
}

/// A scenario under way.
struct Course<'a> {
    bench: &'a Bench,
    kind: Kind,
    origin: Origin,
    running: Vec<Running>,
    curves: BTreeMap<SubjectName, Vec<Vec<(f64, u64)>>>,
    report: ScenarioReport,
}

/// Runs one scenario.
pub(crate) fn run(bench: &Bench, name: ScenarioName) -> Result<ScenarioReport> {
    let mut course = Course {
        bench,
        kind: kind(name),
        origin: Origin::start(bench)?,
        running: Vec::new(),
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
    for round in 0..bench.settings.rounds {
        course.round(round)?;
    }
    course.count_calls()?;
    Ok(course.finish())
}

impl Course<'_> {
    fn start_subjects(&mut self) -> Result<()> {
        for name in self.bench.settings.subjects.clone() {
            match Running::start(self.bench, name, &self.origin) {
                Ok(running) => {
                    self.report.subjects.push(SubjectReport {
                        name,
                        commands: running.commands.clone(),
                        series: Series::default(),
                        curve: Vec::new(),
                    });
                    self.running.push(running);
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
        let rate = match self.bench.settings.rate {
            Some(rate) => rate,
            None => requests::calibrate(self.bench, shape, &self.origin, &self.running)?,
        };
        say(&format!("   fixed rate {rate}/s"))?;
        self.report.rate = Some(rate);
        Ok(())
    }

    fn round(&mut self, round: u32) -> Result<()> {
        for index in 0..self.running.len() {
            let running = &self.running[index];
            let name = running.name;
            let measured = match &self.kind {
                Kind::Requests(shape) => requests::measure(
                    self.bench,
                    shape,
                    &self.origin,
                    running,
                    self.report.rate.unwrap_or(1),
                ),
                Kind::Bulk(shape) => bulk::measure(self.bench, shape, &self.origin, running),
            };
            match measured {
                Ok(measured) => self.keep(round, index, measured)?,
                Err(error) => self.note(format!("round {round}: {name} failed: {error:#}"))?,
            }
        }
        say(&format!(
            "   round {} of {}",
            round + 1,
            self.bench.settings.rounds
        ))
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
            self.note(format!("round {round}: {name}: {note}"))?;
        }
        Ok(())
    }

    /// Counts system calls in a run of its own, because counting them slows them down.
    fn count_calls(&mut self) -> Result<()> {
        for index in 0..self.running.len() {
            let running = &self.running[index];
            let counted = match &self.kind {
                Kind::Requests(shape) => {
                    calls::per_request(self.bench, shape, running, self.report.rate.unwrap_or(1))
                }
                Kind::Bulk(shape) => calls::per_gigabyte(self.bench, shape, running),
            };
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
        let spread = super::series::Spread::of(values.map(|(_, value)| *value as f64));
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
