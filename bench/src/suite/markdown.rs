//! The report as Markdown: verdicts, then per scenario the ratios, and after them the absolute values.

use std::fmt::Write as _;

use super::Report;
use super::scenario::{ScenarioReport, SubjectReport};
use super::series::{Key, Spread, TOTAL};
use super::verdict::Verdict;

/// Start of the names of figures that count system calls.
const CALLS: &str = "calls.";

/// Figures that fit beside each other.
const COLUMNS_MAX: usize = 10;

/// Renders the whole report; `plots` are file names with what they show.
pub(crate) fn render(report: &Report, plots: &[(String, String)]) -> String {
    let mut text = "# Benchmark report\n\n".to_owned();
    head(&mut text, report);
    verdicts(&mut text, &report.verdicts);
    for scenario in &report.scenarios {
        section(&mut text, scenario, plots);
    }
    commands(&mut text, &report.scenarios);
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _grown = text.write_fmt(line);
}

fn head(text: &mut String, report: &Report) {
    let (machine, layout, settings) = (&report.machine, &report.layout, &report.settings);
    push(
        text,
        format_args!(
            "- machine: {} x {}, {} GiB, Linux {}, load average {}\n",
            machine.cpus, machine.cpu, machine.memory_gib, machine.kernel, machine.load_average
        ),
    );
    push(
        text,
        format_args!("- loopback with an MTU of {}\n", machine.loopback_mtu),
    );
    push(text, format_args!("- commit: {}\n", machine.commit));
    for (name, version) in &machine.versions {
        push(text, format_args!("- {name}: {version}\n"));
    }
    push(
        text,
        format_args!(
            "- CPUs: load {:?}, origin {:?}, edge or proxy {:?}, connector {:?}\n",
            layout.load, layout.origin, layout.edge, layout.connector
        ),
    );
    push(
        text,
        format_args!(
            "- {} rounds, subjects in turn within each{}\n",
            settings.rounds,
            if settings.quick {
                "; a quick run: fewer and shorter rounds than a full one"
            } else {
                ""
            }
        ),
    );
    if layout.is_crowded() {
        text.push_str(
            "- one CPU only: subject and load take time from each other, and no figure here means much\n",
        );
    }
    text.push_str("\n**Ratios are the result.** Absolute values belong to this machine and this hour.\n");
}

fn verdicts(text: &mut String, verdicts: &[Verdict]) {
    text.push_str("\n## Budgets\n\n| what (io_uring mode; smaller is better) | must | aim | measured (min-max) | verdict |\n|---|---|---|---|---|\n");
    for verdict in verdicts {
        let unit = verdict.unit;
        let measured = verdict
            .measured
            .map_or_else(|| "-".to_owned(), |spread| range(spread) + unit);
        push(
            text,
            format_args!(
                "| {} | {}{unit} | {}{unit} | {measured} | {} |\n",
                verdict.what,
                number(verdict.must),
                number(verdict.aim),
                verdict.outcome.word()
            ),
        );
    }
}

fn section(text: &mut String, scenario: &ScenarioReport, plots: &[(String, String)]) {
    push(text, format_args!("\n## {}\n\n{}", scenario.name, scenario.title));
    if let Some(rate) = scenario.rate {
        push(
            text,
            format_args!("; `busy`: as fast as answers come, `steady`: {rate}/s offered"),
        );
    }
    text.push_str(".\n");
    for note in &scenario.notes {
        push(text, format_args!("\n> {note}\n"));
    }
    for (file, title) in plots {
        if file.starts_with(&scenario.name.to_string()) {
            push(text, format_args!("\n![{title}]({file})\n"));
        }
    }
    let Some(reference) = scenario.subjects.first() else {
        return;
    };
    let columns = columns(&scenario.subjects);
    if columns.is_empty() {
        processes(text, scenario);
        return;
    }
    push(
        text,
        format_args!(
            "\nRatios to `{}` (median over rounds of the ratio in each round):\n\n",
            reference.name
        ),
    );
    table(text, scenario, &columns, |subject, key| {
        let key = (key.name.as_str(), key.process.as_str());
        let ratio = subject.series.ratio(key, &reference.series, key);
        ratio.map_or_else(|| "-".to_owned(), |spread| number(spread.median))
    });
    text.push_str("\nAbsolute values on this machine, median (min-max):\n\n");
    table(text, scenario, &columns, |subject, key| {
        let spread = subject.series.spread(&key.name, &key.process);
        spread.map_or_else(|| "-".to_owned(), range)
    });
    processes(text, scenario);
}

/// One row per subject and one column per figure, or the other way round when there are many figures.
fn table(
    text: &mut String,
    scenario: &ScenarioReport,
    columns: &[Key],
    cell: impl Fn(&SubjectReport, &Key) -> String,
) {
    let (subjects, headings): (Vec<String>, Vec<String>) = (
        scenario
            .subjects
            .iter()
            .map(|subject| subject.name.to_string())
            .collect(),
        columns.iter().map(|key| heading(&key.name)).collect(),
    );
    let value = |row: usize, column: usize| cell(&scenario.subjects[row], &columns[column]);
    if columns.len() > COLUMNS_MAX {
        grid(text, "figure", &headings, &subjects, |row, column| {
            value(column, row)
        });
    } else {
        grid(text, "subject", &subjects, &headings, value);
    }
}

fn grid(
    text: &mut String,
    corner: &str,
    rows: &[String],
    columns: &[String],
    cell: impl Fn(usize, usize) -> String,
) {
    push(
        text,
        format_args!(
            "| {corner} | {} |\n|---|{}",
            columns.join(" | "),
            "---|".repeat(columns.len())
        ),
    );
    for (row, name) in rows.iter().enumerate() {
        let cells: Vec<String> = (0..columns.len()).map(|column| cell(row, column)).collect();
        push(text, format_args!("\n| {name} | {} |", cells.join(" | ")));
    }
    text.push('\n');
}

/// One row per process of each subject.
fn processes(text: &mut String, scenario: &ScenarioReport) {
    let mut names: Vec<&str> = scenario
        .subjects
        .iter()
        .flat_map(process_keys)
        .map(|key| key.name.as_str())
        .collect();
    names.sort_by_key(|name| rank(name));
    names.dedup();
    let (calls, others): (Vec<&str>, Vec<&str>) = names.into_iter().partition(|name| name.starts_with(CALLS));
    process_table(text, scenario, "Absolute values of each process, median", &others);
    process_table(
        text,
        scenario,
        "System calls of each process, counted in a run of their own",
        &calls,
    );
}

fn process_table(text: &mut String, scenario: &ScenarioReport, title: &str, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    push(text, format_args!("\n{title}:\n\n| subject | process |"));
    for name in names {
        push(
            text,
            format_args!(" {} |", heading(name.trim_start_matches(CALLS))),
        );
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat(names.len()));
    for subject in &scenario.subjects {
        let mut rows: Vec<&str> = process_keys(subject).map(|key| key.process.as_str()).collect();
        rows.sort_unstable();
        rows.dedup();
        let has_any = |process: &&str| {
            names
                .iter()
                .any(|name| subject.series.spread(name, process).is_some())
        };
        for process in rows.into_iter().filter(has_any) {
            push(text, format_args!("\n| {} | {process} |", subject.name));
            for name in names {
                let spread = subject.series.spread(name, process);
                let cell = spread.map_or_else(|| "-".to_owned(), |spread| number(spread.median));
                push(text, format_args!(" {cell} |"));
            }
        }
    }
    text.push('\n');
}

/// Figures of single processes.
fn process_keys(subject: &SubjectReport) -> impl Iterator<Item = &Key> {
    subject
        .series
        .keys()
        .filter(|key| !key.process.is_empty() && key.process != TOTAL)
}

/// Figures of subjects as a whole, and CPU over all their processes; in the order of a reader's questions.
fn columns(subjects: &[SubjectReport]) -> Vec<Key> {
    let is_column =
        |key: &&Key| key.process.is_empty() || (key.process == TOTAL && key.name.contains(".cpu_"));
    let mut keys: Vec<Key> = subjects
        .iter()
        .flat_map(|subject| subject.series.keys().filter(is_column))
        .cloned()
        .collect();
    keys.sort_by_key(|key| (rank(&key.name), key.clone()));
    keys.dedup();
    keys
}

/// Order of figures in a table: rates, times, CPU, memory, switches, calls.
fn rank(name: &str) -> (usize, String) {
    const ORDER: [&str; 10] = [
        "_per_s", ".p50", ".p90", ".p99_", ".p99.9", ".cpu_", ".user_", ".system_", "rss", "switches",
    ];
    let place = ORDER.iter().position(|part| name.contains(part));
    (place.unwrap_or(ORDER.len()), name.to_owned())
}

/// A figure's name for people; what stands before a colon is one already.
fn heading(name: &str) -> String {
    let (prefix, name) = name
        .rsplit_once(": ")
        .map_or(("", name), |(prefix, name)| (prefix, name));
    let name = name
        .replace("_per_", "/")
        .replace(['_', '.'], " ")
        .replace("p99 9", "p99.9");
    if prefix.is_empty() {
        name
    } else {
        format!("{prefix}: {name}")
    }
}

fn range(spread: Spread) -> String {
    format!(
        "{} ({}-{})",
        number(spread.median),
        number(spread.min),
        number(spread.max)
    )
}

/// Three digits that matter.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || value == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

fn commands(text: &mut String, scenarios: &[ScenarioReport]) {
    text.push_str("\n## Commands\n");
    for scenario in scenarios {
        push(text, format_args!("\n{}:\n\n```\n", scenario.name));
        for subject in &scenario.subjects {
            for command in &subject.commands {
                push(text, format_args!("{}: {command}\n", subject.name));
            }
        }
        text.push_str("```\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::options::{ScenarioName, SubjectName};
    use crate::suite::series::{Figure, Series};

    fn subject(name: SubjectName, cpu: f64) -> SubjectReport {
        let mut series = Series::default();
        for round in 0..3 {
            series.add(
                round,
                vec![
                    Figure::new("busy.requests_per_s", 1000.0 * cpu),
                    Figure::of("busy.cpu_us_per_request", "edge", cpu),
                    Figure::of("busy.cpu_us_per_request", TOTAL, cpu),
                ],
            );
        }
        SubjectReport {
            name,
            commands: vec!["adit edge".to_owned()],
            series,
            curve: Vec::new(),
        }
    }

    #[test]
    fn a_section_has_ratios_before_absolute_values() {
        let scenario = ScenarioReport {
            name: ScenarioName::RequestsH1,
            title: "Requests".to_owned(),
            rate: Some(100),
            subjects: vec![
                subject(SubjectName::AditUring, 20.0),
                subject(SubjectName::Nginx, 50.0),
            ],
            notes: vec!["a note".to_owned()],
        };
        let mut text = String::new();
        section(&mut text, &scenario, &[]);
        let ratios = text.find("| nginx | 2.50 | 2.50 |").unwrap();
        let absolutes = text
            .find("| nginx | 50000 (50000-50000) | 50.0 (50.0-50.0) |")
            .unwrap();
        assert!(ratios < absolutes);
        assert!(
            text.contains("| subject | busy requests/s | busy cpu us/request |"),
            "{text}"
        );
        assert!(text.contains("| nginx | edge | 50.0 |"), "{text}");
        assert!(text.contains("> a note"));
    }

    #[test]
    fn numbers_have_three_digits_that_matter() {
        let shown: Vec<String> = [0.0, 0.0834, 1.234, 56.78, 1234.5].map(number).to_vec();
        assert_eq!(shown, ["0", "0.083", "1.23", "56.8", "1234"]);
    }
}
