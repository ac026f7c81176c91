//! The budgets, each with what this run measured for it.
//!
//! Ratios are ours divided by the peer's, both of this run; smaller is better everywhere.

mod budgets;

use serde::Serialize;

use self::budgets::{Against, BUDGETS, Budget, Ours};
use super::options::SubjectName;
use super::scenario::ScenarioReport;
use super::series::Spread;

/// One line of the table of budgets.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// What is held to a limit.
    pub(crate) what: &'static str,
    /// The limit that must be kept.
    pub(crate) must: f64,
    /// The limit that is aimed at.
    pub(crate) aim: f64,
    /// What the limits count; nothing for a ratio.
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

/// Every budget, held against these scenarios.
pub(crate) fn all(scenarios: &[ScenarioReport]) -> Vec<Verdict> {
    let verdict = |budget: &Budget| {
        let (must, aim) = budget.limits;
        let measured = measured(scenarios, budget);
        Verdict {
            what: budget.what,
            must,
            aim,
            unit: budget.unit,
            measured,
            outcome: Outcome::of(measured, must, aim),
        }
    };
    BUDGETS.iter().map(verdict).collect()
}

fn measured(scenarios: &[ScenarioReport], budget: &Budget) -> Option<Spread> {
    let Ours {
        scenario,
        figure,
        process,
    } = budget.ours;
    let scenario = scenarios.iter().find(|report| report.name == scenario)?;
    let series = scenario.series(SubjectName::AditUring)?;
    match budget.against {
        Against::Alone => series.spread(figure, process),
        Against::Ratio(peer, theirs) => {
            series.ratio((figure, process), scenario.series(peer)?, (figure, theirs))
        }
        Against::Own(other) => series.ratio((figure, process), series, (other, process)),
        Against::Over(peer) => series.over(figure, process, scenario.series(peer)?),
    }
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
