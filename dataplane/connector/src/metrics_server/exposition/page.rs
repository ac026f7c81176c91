//! The text format: families, lines, labels.

use std::fmt::{Arguments, Display, Write as _};

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// A metric without labels.
    pub(super) fn single(&mut self, name: &str, kind: &str, value: impl Display) {
        self.family(name, kind);
        self.line::<&str>(name, &[], value);
    }

    /// Begins a metric; its lines follow.
    pub(super) fn family(&mut self, name: &str, kind: &str) {
        self.push(format_args!("# TYPE {name} {kind}\n"));
    }

    /// One value.
    pub(super) fn line<L: AsRef<str>>(&mut self, name: &str, labels: &[(&str, L)], value: impl Display) {
        self.push(format_args!("{name}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            self.push(format_args!("{before}{label}=\"{}\"", escape(text.as_ref())));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{after} {value}\n"));
    }

    /// The lines of a histogram: `counts` by bucket, the last one for everything above the last of `bounds`.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: impl IntoIterator<Item = impl ToString>,
        counts: &[u64],
        sum: impl Display,
    ) {
        let bounds = bounds.into_iter().map(|bound| bound.to_string());
        let mut below = 0_u64;
        for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(counts) {
            below = below.saturating_add(*count);
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.line(&format!("{name}_bucket"), &labels, below);
        }
        self.line(&format!("{name}_sum"), labels, sum);
        self.line(&format!("{name}_count"), labels, below);
    }

    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn push(&mut self, text: Arguments<'_>) {
        self.0.write_fmt(text).expect("writing to a String cannot fail");
    }
}

/// Label values may hold anything but these three.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
