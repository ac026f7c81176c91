//! Prometheus text, read as a test needs it: the sum of a metric over the labels that are not asked about.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::visitor::curl::Curl;

/// One scrape.
#[derive(Debug, Default, PartialEq)]
pub struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Scrapes `/metrics` at `address`.
    ///
    /// # Panics
    /// When it does not answer 200.
    #[track_caller]
    pub fn scrape(address: SocketAddr) -> Self {
        let response = Curl::get(&format!("http://{address}/metrics")).run();
        assert_eq!(response.status, 200, "{response:?}");
        Self::parse(&response.text())
    }

    /// Reads the text format.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self {
            samples: lines.filter_map(Sample::parse).collect(),
        }
    }

    /// The sum of metric `name` over all samples that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            labels
                .iter()
                .all(|(key, value)| sample.labels.get(*key).is_some_and(|found| found == value))
        };
        self.samples
            .iter()
            .filter(|sample| sample.name == name)
            .filter(has)
            .map(|sample| sample.value)
            .sum()
    }

    /// The values of metric `name` by the value of one label.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.name == name) {
            if let Some(key) = sample.labels.get(label) {
                *found.entry(key.clone()).or_default() += sample.value;
            }
        }
        found
    }

    /// Whether the metric is there at all.
    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }
}

impl Sample {
    /// Reads `name{key="value",…} 1.5`; label values of ours hold neither quotes nor commas.
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = line.trim().rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let pairs = labels
            .trim_end_matches('}')
            .split(',')
            .filter_map(|pair| pair.split_once('='));
        let labels = pairs
            .map(|(key, value)| (key.trim().to_owned(), value.trim_matches('"').to_owned()))
            .collect();
        Some(Self {
            name: name.to_owned(),
            labels,
            value: value.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_labels_not_asked_about() {
        let metrics = Metrics::parse("# HELP a b\na{core=\"0\",x=\"1\"} 1\na{core=\"1\",x=\"1\"} 2.5\nb 7\n");
        assert!((metrics.sum("a", &[]) - 3.5).abs() < 1e-9);
        assert!((metrics.sum("a", &[("core", "1")]) - 2.5).abs() < 1e-9);
        assert_eq!(metrics.by("a", "core").len(), 2);
        assert!(metrics.has("b") && !metrics.has("c"));
    }
}
