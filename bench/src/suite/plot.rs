//! Plots of a report as SVG: latency curves, CPU as bars stacked by process, cost by number of cores.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::scenario::ScenarioReport;
use super::series::TOTAL;

/// Size of a plot in pixels.
const SIZE: (u32, u32) = (900, 480);

const COLOURS: [RGBColor; 8] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0xff, 0x7f, 0x0e),
    RGBColor(0x2c, 0xa0, 0x2c),
    RGBColor(0xd6, 0x27, 0x28),
    RGBColor(0x94, 0x67, 0xbd),
    RGBColor(0x8c, 0x56, 0x4b),
    RGBColor(0x17, 0xbe, 0xcf),
    RGBColor(0x7f, 0x7f, 0x7f),
];

/// A named line.
type Line = (String, Vec<(f64, f64)>);

/// A bar per name, stacked from named parts.
#[derive(Debug, Default, PartialEq)]
struct Bars {
    parts: Vec<String>,
    bars: Vec<(String, Vec<f64>)>,
}

/// Draws every plot that the scenarios have figures for; returns file names and titles.
pub(crate) fn draw(folder: &Path, scenarios: &[ScenarioReport]) -> Result<Vec<(String, String)>> {
    let mut drawn = Vec::new();
    for scenario in scenarios {
        let name = scenario.name;
        let lines = curves(scenario);
        if !lines.is_empty() {
            let title = format!("{name}: latency at {}/s", scenario.rate.unwrap_or(0));
            let file = format!("{name}-latency.svg");
            curve_plot(&folder.join(&file), &title, &lines)?;
            drawn.push((file, title));
        }
        for (figure, unit) in [
            ("steady.cpu_us_per_request", "CPU us per request at a fixed rate"),
            ("busy.cpu_us_per_request", "CPU us per request, busy"),
            ("down.cpu_ms_per_gb", "CPU ms per GB down"),
            ("up.cpu_ms_per_gb", "CPU ms per GB up"),
        ] {
            let bars = bars(scenario, figure);
            if bars.bars.is_empty() {
                continue;
            }
            let title = format!("{name}: {unit}");
            let file = format!("{name}-{}.svg", figure.replace(['.', '_'], "-"));
            bar_plot(&folder.join(&file), &title, &bars)?;
            drawn.push((file, title));
        }
        for (figure, unit) in [
            ("steady.cpu_us_per_request", "CPU us per request by cores"),
            ("down.cpu_ms_per_gb", "CPU ms per GB down by cores"),
        ] {
            let lines = scaling(scenario, figure);
            if lines.is_empty() {
                continue;
            }
            let title = format!("{name}: {unit}");
            let file = format!("{name}-{}.svg", figure.replace(['.', '_'], "-"));
            scaling_plot(&folder.join(&file), &title, &lines)?;
            drawn.push((file, title));
        }
    }
    Ok(drawn)
}

/// A figure by number of cores, of subjects that were measured with several numbers.
fn scaling(scenario: &ScenarioReport, figure: &str) -> Vec<Line> {
    let line = |subject: &super::scenario::SubjectReport| {
        let point = |key: &super::series::Key| {
            let (cores, name) = key.name.split_once(" core")?;
            let is_ours = key.process == TOTAL && name.split_once(": ")?.1 == figure;
            let spread = subject.series.spread(&key.name, TOTAL).filter(|_| is_ours)?;
            Some((cores.parse::<f64>().ok()?, spread.median))
        };
        let mut points: Vec<(f64, f64)> = subject.series.keys().filter_map(point).collect();
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        (subject.name.to_string(), points)
    };
    scenario
        .subjects
        .iter()
        .map(line)
        .filter(|(_, points)| points.len() > 1)
        .collect()
}

/// Latency by "nines": 1 is the 90th percentile, 2 the 99th, 3 the 99.9th.
fn curves(scenario: &ScenarioReport) -> Vec<Line> {
    let with_points = scenario
        .subjects
        .iter()
        .filter(|subject| !subject.curve.is_empty());
    let line = |subject: &super::scenario::SubjectReport| {
        let points = subject.curve.iter();
        let points = points.map(|(share, us)| (-(1.0 - share).max(1e-5).log10(), us.max(1.0)));
        (subject.name.to_string(), points.collect())
    };
    with_points.map(line).collect()
}

fn bars(scenario: &ScenarioReport, figure: &str) -> Bars {
    let mut bars = Bars::default();
    for subject in &scenario.subjects {
        let keys = subject
            .series
            .keys()
            .filter(|key| key.name == figure && key.process != TOTAL);
        for key in keys {
            if !bars.parts.contains(&key.process) {
                bars.parts.push(key.process.clone());
            }
        }
    }
    for subject in &scenario.subjects {
        let value = |part: &String| {
            let spread = subject.series.spread(figure, part);
            spread.map_or(0.0, |spread| spread.median)
        };
        let values: Vec<f64> = bars.parts.iter().map(value).collect();
        if values.iter().any(|value| *value > 0.0) {
            bars.bars.push((subject.name.to_string(), values));
        }
    }
    bars
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

fn curve_plot(file: &Path, title: &str, lines: &[Line]) -> Result<()> {
    let values = || {
        lines
            .iter()
            .flat_map(|(_, points)| points.iter().map(|(_, us)| *us))
    };
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(1.0, f64::max),
    );
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .margin_right(36)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..4.0, (low * 0.9..high * 1.2).log_scale())?;
        chart
            .configure_mesh()
            .x_desc("share of requests")
            .y_desc("microseconds since due")
            .x_labels(5)
            .x_label_formatter(&|nines| share_label(*nines))
            .y_label_formatter(&whole)
            .draw()?;
        for (index, (name, points)) in lines.iter().enumerate() {
            let style = colour(index).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style))?
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style));
        }
        let legend = SeriesLabelPosition::UpperLeft;
        chart
            .configure_series_labels()
            .position(legend)
            .border_style(BLACK)
            .background_style(WHITE)
            .draw()?;
        Ok(area.present()?)
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

fn scaling_plot(file: &Path, title: &str, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points.iter());
    let widest = points().map(|(cores, _)| *cores).fold(1.0, f64::max);
    let highest = points().map(|(_, value)| *value).fold(0.0, f64::max);
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .margin_right(36)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(0.5..widest + 0.5, 0.0..highest * 1.2)?;
        chart
            .configure_mesh()
            .x_desc("cores")
            .x_labels(widest as usize + 1)
            .x_label_formatter(&whole)
            .y_label_formatter(&whole)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (index, (name, points)) in lines.iter().enumerate() {
            let style = colour(index).stroke_width(2);
            chart
                .draw_series(LineSeries::new(points.iter().copied(), style).point_size(4))?
                .label(name)
                .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .border_style(BLACK)
            .background_style(WHITE)
            .draw()?;
        Ok(area.present()?)
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

/// Of numbers on an axis only whole ones are named.
fn whole(value: &f64) -> String {
    let is_whole = (value - value.round()).abs() < 1e-6;
    if is_whole {
        format!("{value:.0}")
    } else {
        String::new()
    }
}

fn share_label(nines: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-nines));
    format!("{:.*} %", (nines - 2.0).max(0.0).ceil() as usize, percent)
}

fn bar_plot(file: &Path, title: &str, bars: &Bars) -> Result<()> {
    let highest = bars
        .bars
        .iter()
        .map(|(_, values)| values.iter().sum::<f64>())
        .fold(0.0, f64::max);
    let count = bars.bars.len() as f64;
    let name_at = |x: &f64| {
        let index = x.floor();
        let is_middle = (x - index - 0.5).abs() < 0.01;
        let bar = bars.bars.get(index as usize).filter(|_| is_middle);
        bar.map_or_else(String::new, |(name, _)| name.clone())
    };
    let draw = || -> Result<(), Box<dyn std::error::Error>> {
        let area = SVGBackend::new(file, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .margin_right(36)
            .x_label_area_size(30)
            .y_label_area_size(70)
            .build_cartesian_2d(0.0..count, 0.0..highest * 1.15)?;
        let mesh = bars.bars.len() * 2 + 1;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(mesh)
            .x_label_formatter(&name_at)
            .y_label_formatter(&whole)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (part, name) in bars.parts.iter().enumerate() {
            let rectangles = bars.bars.iter().enumerate().map(|(index, (_, values))| {
                let below: f64 = values[..part].iter().sum();
                let x = index as f64;
                Rectangle::new(
                    [(x + 0.2, below), (x + 0.8, below + values[part])],
                    colour(part).filled(),
                )
            });
            chart
                .draw_series(rectangles)?
                .label(name)
                .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour(part).filled()));
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::LowerRight)
            .border_style(BLACK)
            .background_style(WHITE)
            .draw()?;
        Ok(area.present()?)
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::options::{ScenarioName, SubjectName};
    use crate::suite::scenario::SubjectReport;
    use crate::suite::series::{Figure, Series};

    #[test]
    fn a_scenario_with_figures_gets_its_plots() {
        let folder = tempfile::tempdir().unwrap();
        let mut series = Series::default();
        series.add(
            0,
            vec![
                Figure::of("steady.cpu_us_per_request", "edge", 20.0),
                Figure::of("steady.cpu_us_per_request", "connector", 10.0),
                Figure::of("steady.cpu_us_per_request", TOTAL, 30.0),
            ],
        );
        let scenario = ScenarioReport {
            name: ScenarioName::RequestsH1,
            title: String::new(),
            rate: Some(100),
            subjects: vec![SubjectReport {
                name: SubjectName::AditUring,
                commands: Vec::new(),
                series,
                curve: vec![(0.0, 100.0), (0.9, 200.0), (0.99, 900.0)],
            }],
            notes: Vec::new(),
        };
        assert_eq!(
            bars(&scenario, "steady.cpu_us_per_request").bars[0].1,
            [10.0, 20.0]
        );
        let drawn = draw(folder.path(), &[scenario]).unwrap();
        assert_eq!(drawn.len(), 2);
        for (file, _) in drawn {
            let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        }
    }

    #[test]
    fn cores_become_points_of_a_line() {
        let mut series = Series::default();
        for (cores, value) in [("2 cores", 12.0), ("1 core", 10.0)] {
            series.add(
                0,
                vec![Figure::of(format!("{cores}: down.cpu_ms_per_gb"), TOTAL, value)],
            );
        }
        let scenario = ScenarioReport {
            name: ScenarioName::Cores,
            title: String::new(),
            rate: None,
            subjects: vec![SubjectReport {
                name: SubjectName::AditUring,
                commands: Vec::new(),
                series,
                curve: Vec::new(),
            }],
            notes: Vec::new(),
        };
        let lines = scaling(&scenario, "down.cpu_ms_per_gb");
        assert_eq!(lines[0].1, [(1.0, 10.0), (2.0, 12.0)]);
        assert!(scaling(&scenario, "up.cpu_ms_per_gb").is_empty());
    }

    #[test]
    fn shares_are_named_with_their_nines() {
        let shown: Vec<String> = [0.0, 1.0, 2.0, 3.0, 4.0].map(share_label).to_vec();
        assert_eq!(shown, ["0 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
    }
}
