//! The budgets, each with what this run measured for it.
//!
//! Ratios are ours divided by the peer's, both of this run; smaller is better everywhere.

use serde::Serialize;

use super::options::{ScenarioName, SubjectName};
use super::scenario::ScenarioReport;
use super::series::{Spread, TOTAL};

/// One line of the table of budgets.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// What is held to a limit.
    pub(crate) what: &'static str,
    /// The limit that must be kept.
    pub(crate) must: f64,
    /// The limit that is aimed at.
    pub(crate) aim: f64,
    /// What the limits count; `x` is a ratio.
    pub(crate) unit: &'static str,
    /// What this run measured; none when it measured nothing for it.
    pub(crate) measured: Option<Spread>,
    /// What follows.
    pub(crate) outcome: Outcome,
}

/// How a measurement stands to its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// At or below the aim.
    AimMet,
    /// At or below the limit.
    MustMet,
    /// Above the limit.
    NotMet,
    /// The run did not measure it.
    NotMeasured,
}

impl Outcome {
    fn of(measured: Option<Spread>, must: f64, aim: f64) -> Self {
        match measured.map(|spread| spread.median) {
            None => Self::NotMeasured,
            Some(value) if value <= aim => Self::AimMet,
            Some(value) if value <= must => Self::MustMet,
            Some(_) => Self::NotMet,
        }
    }

    /// As the table shows it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::AimMet => "**aim met**",
            Self::MustMet => "must met",
            Self::NotMet => "**not met**",
            Self::NotMeasured => "not measured",
        }
    }
}

/// Where the two sides of a ratio are found.
struct Ratio {
    scenario: ScenarioName,
    figure: &'static str,
    ours: &'static str,
    peer: SubjectName,
    theirs: &'static str,
}

struct Budget {
    what: &'static str,
    must: f64,
    aim: f64,
    ratio: Ratio,
}

const STEADY: &str = "steady.cpu_us_per_request";
const BUSY: &str = "busy.cpu_us_per_request";

const fn ratio(
    scenario: ScenarioName,
    figure: &'static str,
    ours: &'static str,
    peer: SubjectName,
    theirs: &'static str,
) -> Ratio {
    Ratio {
        scenario,
        figure,
        ours,
        peer,
        theirs,
    }
}

const BUDGETS: [Budget; 6] = [
    Budget {
        what: "connector CPU per 1 KB request, fixed rate, against the stock connector on our edge",
        must: 1.0 / 6.0,
        aim: 1.0 / 12.0,
        ratio: ratio(
            ScenarioName::RequestsH1,
            STEADY,
            "connector",
            SubjectName::Stock,
            "connector",
        ),
    },
    Budget {
        what: "the same, as fast as answers come",
        must: 1.0 / 6.0,
        aim: 1.0 / 12.0,
        ratio: ratio(
            ScenarioName::RequestsH1,
            BUSY,
            "connector",
            SubjectName::Stock,
            "connector",
        ),
    },
    Budget {
        what: "connector CPU per GB down, against the stock connector on our edge",
        must: 0.4,
        aim: 0.25,
        ratio: ratio(
            ScenarioName::Bulk1,
            "down.cpu_ms_per_gb",
            "connector",
            SubjectName::Stock,
            "connector",
        ),
    },
    Budget {
        what: "connector CPU per GB up, against the stock connector on our edge",
        must: 0.4,
        aim: 0.25,
        ratio: ratio(
            ScenarioName::Bulk1,
            "up.cpu_ms_per_gb",
            "connector",
            SubjectName::Stock,
            "connector",
        ),
    },
    Budget {
        what: "edge CPU per 1 KB TLS request, fixed rate, against nginx as TLS proxy to a TLS upstream",
        must: 1.0,
        aim: 0.6,
        ratio: ratio(
            ScenarioName::RequestsH1,
            STEADY,
            "edge",
            SubjectName::Nginx,
            TOTAL,
        ),
    },
    Budget {
        what: "the same, as fast as answers come",
        must: 1.0,
        aim: 0.6,
        ratio: ratio(ScenarioName::RequestsH1, BUSY, "edge", SubjectName::Nginx, TOTAL),
    },
];

/// Every budget, held against these scenarios.
pub(crate) fn all(scenarios: &[ScenarioReport]) -> Vec<Verdict> {
    let verdict = |budget: &Budget| {
        let Budget {
            what,
            must,
            aim,
            ratio,
        } = budget;
        let measured = measured(scenarios, ratio);
        Verdict {
            what,
            must: *must,
            aim: *aim,
            unit: "x",
            measured,
            outcome: Outcome::of(measured, *must, *aim),
        }
    };
    BUDGETS.iter().map(verdict).collect()
}

fn measured(scenarios: &[ScenarioReport], ratio: &Ratio) -> Option<Spread> {
    let scenario = scenarios.iter().find(|report| report.name == ratio.scenario)?;
    let ours = scenario.series(SubjectName::AditUring)?;
    let theirs = scenario.series(ratio.peer)?;
    ours.ratio((ratio.figure, ratio.ours), theirs, (ratio.figure, ratio.theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_meets_the_aim_the_must_or_neither() {
        let spread = |value| Spread::of([value]);
        assert_eq!(Outcome::of(spread(0.5), 1.0, 0.6), Outcome::AimMet);
        assert_eq!(Outcome::of(spread(0.7), 1.0, 0.6), Outcome::MustMet);
        assert_eq!(Outcome::of(spread(1.1), 1.0, 0.6), Outcome::NotMet);
        assert_eq!(Outcome::of(None, 1.0, 0.6), Outcome::NotMeasured);
        assert!(
            all(&[])
                .iter()
                .all(|verdict| verdict.outcome == Outcome::NotMeasured)
        );
    }
}
